//! The gate: whether searching is as good after a repair as it was before.
//!
//! Owns the comparison of recalls measured on the same queries, query after query, until it is
//! decided or the queries allowed are used up. Must not know what was repaired.
//!
//! Two gamblers bet, one on the mean difference being above −[`MARGIN`], one on its being below;
//! the first to show its point ends the comparison. Bets rather than a group-sequential normal
//! test because a difference may be rare and total: where two queries in a thousand lose
//! everything, two hundred queries without a loss look like certainty to a normal test. That no
//! difference of −1 hides in them takes 600 queries to say, ln 20 / [`MARGIN`], and about as many
//! are used on an equal rebuild.

use serde::{Deserialize, Serialize};

use super::betting::{Gambler, Strategy};

/// Recall may differ by this much before it counts as worse.
pub const MARGIN: f64 = 0.005;
/// Queries after which the comparison ends undecided, unless another number is asked for.
pub const DEFAULT_CAP: u32 = 1_600;
/// Probability of a wrong verdict, at most.
const ERROR: f64 = 0.05;

/// What is known so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Recall went up.
    Better,
    /// Recall did not fall by more than the margin.
    NotWorse,
    /// Recall fell by more than the margin.
    Worse,
    /// Neither was shown: more queries are wanted.
    Undecided,
    /// Neither was shown with all the queries allowed.
    UndecidedAtCap,
}

/// A comparison under way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    cap: u32,
    queries: u32,
    sum: f64,
    squares: f64,
    before: f64,
    /// Against "worse by the margin or more".
    not_worse: Gambler,
    /// Against "worse by the margin at most".
    worse: Gambler,
    /// Against "not better".
    better: Gambler,
}

impl Gate {
    /// A comparison that ends after `cap` queries.
    pub fn new(cap: u32) -> Self {
        Self {
            cap,
            queries: 0,
            sum: 0.0,
            squares: 0.0,
            before: 0.0,
            not_worse: Gambler::default(),
            worse: Gambler::default(),
            better: Gambler::default(),
        }
    }

    /// Takes in the recalls (before, after), 0 … 1, of fresh queries, as many at a time as is
    /// convenient, until it is decided. Once it is, the rest of the pairs at hand only tell
    /// better from no worse. Pairs without numbers are left out.
    pub fn observe(&mut self, pairs: &[(f64, f64)]) -> Standing {
        for &(before, after) in pairs {
            match self.standing() {
                Standing::Undecided | Standing::NotWorse if self.queries < self.cap => {
                    self.compare(before, after);
                }
                _ => break,
            }
        }
        self.standing()
    }

    fn compare(&mut self, before: f64, after: f64) {
        if !(before.is_finite() && after.is_finite()) {
            return;
        }
        let (before, after) = (before.clamp(0.0, 1.0), after.clamp(0.0, 1.0));
        let difference = after - before;
        self.queries += 1;
        self.sum += difference;
        self.squares += difference * difference;
        self.before += before;
        self.better.bet(&strategy(1.0, 0.01), difference);
        // What was shown first stands.
        if !self.not_worse.has_won(ERROR) {
            let kept = strategy(1.0 - MARGIN, MARGIN);
            self.not_worse.bet(&kept, difference + MARGIN);
            let lost = strategy(1.0 + MARGIN, 0.01);
            self.worse.bet(&lost, -difference - MARGIN);
        }
    }

    /// What is known so far.
    pub fn standing(&self) -> Standing {
        if self.worse.has_won(ERROR) {
            Standing::Worse
        } else if self.better.has_won(ERROR) {
            Standing::Better
        } else if self.not_worse.has_won(ERROR) {
            Standing::NotWorse
        } else if self.queries >= self.cap {
            Standing::UndecidedAtCap
        } else {
            Standing::Undecided
        }
    }

    /// Whether what was done may be kept: it was shown to be no worse, or neither was shown and
    /// the mean difference is within the margin. Without any query it may.
    pub fn may_be_kept(&self) -> bool {
        match self.standing() {
            Standing::Better | Standing::NotWorse => true,
            Standing::Worse => false,
            Standing::Undecided | Standing::UndecidedAtCap => self.difference() >= -MARGIN,
        }
    }

    /// Queries still allowed; 0 once decided.
    pub fn wanted(&self) -> u32 {
        match self.standing() {
            Standing::Undecided => self.cap.saturating_sub(self.queries),
            _ => 0,
        }
    }

    /// Queries taken in.
    pub fn queries(&self) -> u32 {
        self.queries
    }

    /// Mean of after − before.
    pub fn difference(&self) -> f64 {
        self.sum / f64::from(self.queries.max(1))
    }

    /// Standard error of [`difference`](Self::difference), as of a fixed number of queries.
    pub fn standard_error(&self) -> f64 {
        let n = f64::from(self.queries.max(1));
        let variance = (self.squares - self.sum * self.sum / n).max(0.0) / (n - 1.0).max(1.0);
        (variance / n).sqrt()
    }

    /// Mean recall before.
    pub fn before(&self) -> f64 {
        self.before / f64::from(self.queries.max(1))
    }
}

/// Stakes where the largest loss is `loss` and a mean gain of `mean` is expected, with the
/// standard deviation of 0.035 that equal rebuilds differ by from query to query.
fn strategy(loss: f64, mean: f64) -> Strategy {
    Strategy {
        most_stake: 0.98 / loss,
        half_life: f64::INFINITY,
        expected: (mean, 0.035 * 0.035),
        expected_weight: 10.0,
        caution: 0.0,
    }
}
