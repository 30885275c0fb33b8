//! How well two indexes answer one search.
//!
//! The truth is not known; the best `k` of what either index returned stands for it. That bounds
//! both recalls from above by the same amount, so their difference is fair.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF};

/// A row that a search returned: where it is and how far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The row, as block and offset in one number.
    pub row: u64,
    /// Its distance from the query.
    pub distance: f64,
}

/// What a search returned, and what that took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The rows.
    pub hits: Vec<Hit>,
    /// Buffers looked at, which does not depend on the machine's mood.
    pub buffers: u64,
}

/// One row searched for in both indexes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// The row whose value was the query.
    pub row: u64,
    /// Its distance from itself (not always the smallest: inner product).
    pub own_distance: f64,
    /// What the index in place returned; nothing where it cannot be searched.
    pub before: Found,
    /// What the replacement returned.
    pub after: Found,
}

/// Distances that differ by less than this share are ties.
const TIE: f64 = 1e-6;

impl Probe {
    /// Recall of the index in place and of the replacement among the best `k` that either found.
    pub fn recalls(&self, k: u32) -> (f64, f64) {
        let (worst, expected) = best_of_both(self, k as usize);
        let recall = |found: &Found| match expected {
            0 => 1.0,
            _ => {
                let near = found.hits.iter().filter(|hit| hit.distance <= worst);
                near.count().min(expected) as f64 / expected as f64
            }
        };
        (recall(&self.before), recall(&self.after))
    }

    /// 1 where a search found the row itself, or `k` rows that are as near.
    pub fn found_itself(&self, found: &Found, k: u32) -> f64 {
        let as_near = self.own_distance + self.own_distance.abs() * TIE;
        let hits = &found.hits;
        let all_nearer = hits.len() >= k as usize && hits.iter().all(|hit| hit.distance <= as_near);
        f64::from(u8::from(
            all_nearer || hits.iter().any(|hit| hit.row == self.row),
        ))
    }
}

/// The distance of the k-th best row that either index returned (ties included), and how many
/// rows that makes, at most k.
fn best_of_both(probe: &Probe, k: usize) -> (f64, usize) {
    let mut pool: Vec<Hit> = probe
        .before
        .hits
        .iter()
        .chain(&probe.after.hits)
        .copied()
        .collect();
    pool.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.row.cmp(&b.row)));
    pool.dedup_by_key(|hit| hit.row);
    pool.truncate(k);
    let worst = pool.last().map_or(0.0, |hit| hit.distance);
    (worst + worst.abs() * TIE, pool.len())
}

/// Rows searched for by their own values, at the session's settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SelfQuery {
    /// Rows searched for.
    pub queries: u32,
    /// Those found, or with all results as near.
    pub found: u32,
    /// Share of the rows that a search finds, at least and at most: the exact interval at 95 %
    /// (Clopper, Pearson, 1934).
    pub found_low: f32,
    /// See `found_low`.
    pub found_high: f32,
}

impl SelfQuery {
    /// What searches for `k` neighbours each found in the replacement's place.
    pub fn of(probes: &[Probe], k: u32) -> Self {
        let found = probes
            .iter()
            .filter(|probe| probe.found_itself(&probe.after, k) > 0.0)
            .count() as f64;
        let missed = probes.len() as f64 - found;
        let bound = |a: f64, b: f64, tail: f64, edge: f64| match Beta::new(a, b) {
            Ok(beta) => beta.inverse_cdf(tail),
            Err(_) => edge,
        };
        Self {
            queries: probes.len() as u32,
            found: found as u32,
            found_low: bound(found, missed + 1.0, 0.025, 0.0) as f32,
            found_high: bound(found + 1.0, missed, 0.975, 1.0) as f32,
        }
    }
}
