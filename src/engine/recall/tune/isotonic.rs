//! Smoothing a curve that is known to rise.
//!
//! Owns the pooling of settings that fell below smaller ones. Must not know what the settings are.

use std::ops::Range;

use super::CurvePoint;
use crate::recall::interval::{QueryHits, RecallEstimate};

/// Runs of values to be replaced by their mean, so that the means rise: pool adjacent violators
/// (Ayer et al., An empirical distribution function for sampling with incomplete information, 1955).
fn pools(values: &[f64]) -> Vec<Range<usize>> {
    let mut pools: Vec<(Range<usize>, f64)> = Vec::new();
    for (at, &value) in values.iter().enumerate() {
        let mut pool = (at..at + 1, value);
        while let Some((before, sum)) =
            pools.pop_if(|(before, sum)| *sum / before.len() as f64 > pool.1 / pool.0.len() as f64)
        {
            pool = (before.start..pool.0.end, sum + pool.1);
        }
        pools.push(pool);
    }
    pools.into_iter().map(|(pool, _)| pool).collect()
}

/// The rising curve of settings, ascending, each with what the same queries found at it and its
/// cost. A query's recall in a pool is its mean over the pool.
pub(super) fn rising(measured: &[(u32, &[QueryHits], f64)], k: u32) -> Vec<CurvePoint> {
    let means: Vec<f64> = measured
        .iter()
        .map(|(_, results, _)| RecallEstimate::of(results, k).recall)
        .collect();
    let mut curve = Vec::with_capacity(measured.len());
    for pool in pools(&means) {
        let pool = &measured[pool];
        let estimate = pooled(pool, k);
        curve.extend(pool.iter().map(|&(setting, _, cost)| CurvePoint {
            setting,
            estimate,
            cost,
        }));
    }
    carry_bounds(&mut curve);
    curve
}

fn pooled(pool: &[(u32, &[QueryHits], f64)], k: u32) -> RecallEstimate {
    let queries = pool.iter().map(|(_, results, _)| results.len()).max();
    let shares = (0..queries.unwrap_or(0)).filter_map(|query| {
        let results = pool.iter().filter_map(|(_, results, _)| results.get(query));
        let (mut sum, mut count, mut of) = (0.0, 0.0, 0);
        for result in results {
            if let Some(recall) = result.recall() {
                (sum, count, of) = (sum + recall, count + 1.0, of.max(result.of));
            }
        }
        (of > 0).then(|| (sum / count, of))
    });
    RecallEstimate::of_shares(shares, k)
}

/// What a smaller setting reaches at least, a larger one does; what a larger one reaches at
/// most, bounds a smaller one.
pub(super) fn carry_bounds(curve: &mut [CurvePoint]) {
    let mut low = 0.0_f64;
    for CurvePoint { estimate, .. } in curve.iter_mut() {
        low = low.max(estimate.ci_low);
        estimate.ci_low = low.min(estimate.recall);
    }
    let mut high = 1.0_f64;
    for CurvePoint { estimate, .. } in curve.iter_mut().rev() {
        high = high.min(estimate.ci_high);
        estimate.ci_high = high.max(estimate.recall);
    }
}
