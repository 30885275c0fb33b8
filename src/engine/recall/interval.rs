//! Recall from the hits of queries, with a 95 % interval that is honest where hits of one query
//! go together.
//!
//! Owns the estimate. Must not know where hits come from.
//!
//! The neighbours of one query are found or missed together, so `n` queries of `k` neighbours
//! are worth fewer than `n · k` trials. Korn and Graubard (Confidence intervals for proportions
//! with small expected number of positive counts estimated from survey data, Survey Methodology,
//! 1998) put the number they are worth, corrected for the degrees of freedom of its own estimate,
//! into the exact binomial interval of Clopper and Pearson.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF, StudentsT};

/// Error allowed on either side.
const TAIL: f64 = 0.025;
/// Standard normal quantile at 1 − [`TAIL`].
const Z: f64 = 1.959_963_984_540_054;
/// Correlation within a query assumed until enough misses have been seen to estimate it. At high
/// recall few queries miss anything, and an estimate from them alone covers 0.99 in 92 of 100
/// measurements only; with this it is 95 or more everywhere between 0.8 and 0.99.
const PRIOR_CORRELATION: f64 = 0.4;
/// Queries with a miss that the assumption weighs as much as.
const PRIOR_QUERIES: f64 = 4.0;

/// What a search found for one query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryHits {
    /// True neighbours among the results, ties in distance counted; more than `of` count as `of`.
    pub hits: u32,
    /// True neighbours there are: k, or fewer where the table has fewer rows.
    pub of: u32,
}

impl QueryHits {
    /// Hits / neighbours; none where there are no neighbours.
    pub fn recall(self) -> Option<f64> {
        (self.of > 0).then(|| f64::from(self.hits.min(self.of)) / f64::from(self.of))
    }
}

/// Recall, and between what it lies at 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecallEstimate {
    /// Mean over queries of hits / neighbours, 0 … 1; 1 without queries.
    pub recall: f64,
    /// Lower end, 0 … `recall`.
    pub ci_low: f64,
    /// Upper end, `recall` … 1.
    pub ci_high: f64,
    /// Queries that have neighbours at all.
    pub queries: u32,
    /// Neighbours asked for.
    pub k: u32,
}

impl RecallEstimate {
    /// The estimate from independent queries that asked for `k` neighbours each. Queries
    /// without neighbours say nothing and are left out; of none, nothing is known: 0 … 1.
    pub fn of(results: &[QueryHits], k: u32) -> Self {
        let shares = results
            .iter()
            .filter_map(|result| Some((result.recall()?, result.of)));
        Self::of_shares(shares, k)
    }

    /// The same from each query's recall and its number of neighbours, which must not be 0.
    pub(crate) fn of_shares(shares: impl Iterator<Item = (f64, u32)>, k: u32) -> Self {
        let mut sums = Sums::default();
        shares.for_each(|(recall, of)| sums.add(recall, of));
        let (ci_low, ci_high) = match sums.queries {
            0 => (0.0, 1.0),
            _ => clopper_pearson(sums.mean, sums.effective_trials()),
        };
        let recall = if sums.queries == 0 { 1.0 } else { sums.mean };
        Self {
            recall,
            ci_low: ci_low.min(recall),
            ci_high: ci_high.max(recall),
            queries: sums.queries,
            k,
        }
    }

    /// Queries, about, with which the lower end would be at `target` if recall stayed what it is. None
    /// where it is not above.
    pub fn queries_to_show(&self, target: f64) -> Option<u32> {
        if self.recall.is_nan() || self.recall <= target || self.queries == 0 {
            return None;
        }
        let ratio = trials_for(self.recall, target) / trials_for(self.recall, self.ci_low);
        let queries = (f64::from(self.queries) * ratio).ceil();
        Some((queries as u32).max(1))
    }

    /// Half the width of the interval.
    pub fn half_width(&self) -> f64 {
        (self.ci_high - self.ci_low) / 2.0
    }
}

/// What is needed of the queries' recalls (Welford, Note on a method for calculating corrected
/// sums of squares and products, 1962).
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    queries: u32,
    trials: f64,
    mean: f64,
    squares: f64,
    imperfect: u32,
    answered: u32,
}

impl Sums {
    fn add(&mut self, recall: f64, of: u32) {
        self.queries += 1;
        self.trials += f64::from(of);
        let before = recall - self.mean;
        self.mean = (self.mean + before / f64::from(self.queries)).clamp(0.0, 1.0);
        self.squares += before * (recall - self.mean);
        self.imperfect += u32::from(recall < 1.0);
        self.answered += u32::from(recall > 0.0);
    }

    /// Independent trials that the queries are worth. Queries that are all alike say nothing
    /// about their correlation: each counts for one.
    fn effective_trials(&self) -> f64 {
        let queries = f64::from(self.queries);
        let variance_of_mean = self.squares / (queries - 1.0).max(1.0) / queries;
        let seen = if variance_of_mean > f64::EPSILON * f64::EPSILON {
            let worth = self.mean * (1.0 - self.mean) / variance_of_mean;
            self.trials / worth.min(self.trials)
        } else {
            self.trials / queries
        };
        // What tells about correlation: queries with misses, at low recall those with hits.
        let telling = f64::from(self.imperfect.min(self.answered));
        let assumed = 1.0 + (self.trials / queries - 1.0) * PRIOR_CORRELATION;
        let shrunk = (seen * telling + assumed * PRIOR_QUERIES) / (telling + PRIOR_QUERIES);
        self.trials / seen.max(shrunk) * degrees_of_freedom(self.queries)
    }
}

/// The share of the trials that is left when the variance was itself estimated from so many
/// queries: (z / t)².
fn degrees_of_freedom(queries: u32) -> f64 {
    let freedom = f64::from(queries.saturating_sub(1).max(1));
    let t = StudentsT::new(0.0, 1.0, freedom).map_or(Z, |t| t.inverse_cdf(1.0 - TAIL));
    (Z / t).powi(2).min(1.0)
}

/// The exact binomial interval (Clopper, Pearson, 1934) for a share of a number of trials that
/// need not be whole.
fn clopper_pearson(share: f64, trials: f64) -> (f64, f64) {
    let hits = share * trials;
    let misses = trials - hits;
    let bound = |a: f64, b: f64, tail: f64, edge: f64| match Beta::new(a, b) {
        Ok(beta) => beta.inverse_cdf(tail),
        Err(_) => edge,
    };
    let low = bound(hits, misses + 1.0, TAIL, 0.0);
    let high = bound(hits + 1.0, misses, 1.0 - TAIL, 1.0);
    (low, high)
}

/// Trials with which the interval of a share begins at `low`.
fn trials_for(share: f64, low: f64) -> f64 {
    let (mut fewest, mut most) = (1e-3_f64, 1e9_f64);
    for _ in 0..50 {
        let middle = (fewest * most).sqrt();
        if clopper_pearson(share, middle).0 < low {
            fewest = middle;
        } else {
            most = middle;
        }
    }
    most
}
