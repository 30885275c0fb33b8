//! Testing by betting: evidence against a hypothesis is the money made by betting against it at
//! fair odds.
//!
//! Owns the wealth of one gambler and how much is staked. Must not know what is bet on.
//!
//! The hypothesis is that gains `d` have a mean of at most 0, whatever came before. A stake λ,
//! chosen before `d` is seen, multiplies the wealth by 1 + λ·d; under the hypothesis it is
//! a supermartingale that starts at 1, so that it ever reaches 1/α has a probability of at most
//! α (Ville, 1939; Waudby-Smith and Ramdas, Estimating means of bounded random variables by
//! betting, JRSS B, 2024). No distribution is assumed, and looking at it at any time costs nothing.

use serde::{Deserialize, Serialize};

/// How a gambler stakes. Any choice is valid; a good one makes money sooner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strategy {
    /// Largest stake. Gains must be above −1 / `most_stake`.
    pub(super) most_stake: f64,
    /// Gains after which one has lost half its weight in the estimates; infinite: never.
    pub(super) half_life: f64,
    /// Mean and second moment of gains expected before any is seen.
    pub(super) expected: (f64, f64),
    /// Gains that the expectation weighs as much as.
    pub(super) expected_weight: f64,
    /// Standard errors taken off the mean before betting on it.
    pub(super) caution: f64,
}

/// A gambler's wealth and what is remembered of the gains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Gambler {
    /// Natural logarithm of the wealth.
    log_wealth: f64,
    /// The largest it ever was.
    log_peak: f64,
    weight: f64,
    sum: f64,
    squares: f64,
}

impl Gambler {
    /// Bets on a gain, then learns from it.
    pub(super) fn bet(&mut self, strategy: &Strategy, gain: f64) {
        if !gain.is_finite() {
            return;
        }
        let factor = 1.0 + self.stake(strategy) * gain;
        self.log_wealth += factor.max(f64::MIN_POSITIVE).ln();
        self.log_peak = self.log_peak.max(self.log_wealth);
        let keep = (-std::f64::consts::LN_2 / strategy.half_life).exp();
        self.weight = self.weight * keep + 1.0;
        self.sum = self.sum * keep + gain;
        self.squares = self.squares * keep + gain * gain;
    }

    /// The stake that makes wealth grow fastest to second order, mean / second moment.
    fn stake(&self, strategy: &Strategy) -> f64 {
        let (mean, square) = strategy.expected;
        let prior = strategy.expected_weight;
        let weight = self.weight + prior;
        let mean = (self.sum + prior * mean) / weight;
        let square = (self.squares + prior * square) / weight;
        let error = ((square - mean * mean).max(0.0) / weight).sqrt();
        let stake = (mean - strategy.caution * error) / square;
        if stake.is_finite() {
            stake.clamp(0.0, strategy.most_stake)
        } else {
            0.0
        }
    }

    /// Whether the hypothesis was ever rejected at level `alpha`.
    pub(super) fn has_won(&self, alpha: f64) -> bool {
        self.log_peak >= -alpha.ln()
    }

    /// A p-value that holds at any time: 1 / the largest wealth, at most 1.
    pub(super) fn p_value(&self) -> f64 {
        (-self.log_peak).exp().min(1.0)
    }

    /// Mean of the gains that are remembered.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}
