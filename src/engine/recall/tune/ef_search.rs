//! Choosing `hnsw.ef_search` by measuring.
//!
//! Owns which settings are measured: from the current one by doubling or halving until the target
//! lies between two, then by bisection. Must not know how a measurement is made.

use std::collections::BTreeMap;

use super::isotonic::rising;
use super::{CurvePoint, Tuning, choose};
use crate::recall::interval::QueryHits;

/// The largest `hnsw.ef_search` that pgvector takes.
pub const LARGEST_EF: u32 = 1_000;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EfRequest {
    /// The recall to be reached, 0 … 1.
    pub target: f64,
    /// Neighbours asked for.
    pub k: u32,
    /// The setting that is in force: where the search begins.
    pub current: u32,
    /// Measurements allowed. Twenty are always enough to find the setting to the last unit.
    pub calls: u32,
    /// Share of the rows that a search can reach, where that is known.
    pub reachable: Option<f64>,
}

/// What the queries found at one setting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurement {
    /// Of the same queries in the same order at every setting.
    pub results: Vec<QueryHits>,
    /// Mean cost of a query.
    pub cost: f64,
}

/// Settings measured so far.
struct Search<'a> {
    request: &'a EfRequest,
    measured: BTreeMap<u32, Measurement>,
}

/// Finds the smallest `hnsw.ef_search` of 1 … 1,000 whose lower bound meets the target. `measure`
/// is called with one setting after another, none twice; its error ends the search.
pub fn tune_ef<E>(
    request: &EfRequest,
    mut measure: impl FnMut(u32) -> Result<Measurement, E>,
) -> Result<Tuning, E> {
    let mut search = Search {
        request,
        measured: BTreeMap::new(),
    };
    while let Some(setting) = search.next() {
        let measurement = measure(setting)?;
        search.measured.insert(setting, measurement);
    }
    let calls = search.calls();
    let curve = search.curve();
    let (target, reachable) = (request.target, request.reachable);
    Ok(choose(curve, target, LARGEST_EF, reachable, calls))
}

impl Search<'_> {
    fn calls(&self) -> u32 {
        u32::try_from(self.measured.len()).unwrap_or(u32::MAX)
    }

    fn curve(&self) -> Vec<CurvePoint> {
        let measured: Vec<_> = self
            .measured
            .iter()
            .map(|(&setting, found)| (setting, found.results.as_slice(), found.cost))
            .collect();
        rising(&measured, self.request.k)
    }

    /// The setting to measure next. None when there is nothing more to learn, or no call left.
    fn next(&self) -> Option<u32> {
        if self.calls() >= self.request.calls {
            return None;
        }
        let curve = self.curve();
        let met = |point: &&CurvePoint| point.estimate.ci_low >= self.request.target;
        let above = curve.iter().find(met).map(|point| point.setting);
        // The curve rises: what does not meet the target comes before what does.
        let below = curve.iter().rev().find(|point| !met(point));
        match (below.map(|point| point.setting), above) {
            (None, None) => Some(self.request.current.clamp(1, LARGEST_EF)),
            (Some(below), None) => (below < LARGEST_EF).then(|| (2 * below).min(LARGEST_EF)),
            (None, Some(above)) => (above > 1).then_some(above / 2),
            (Some(below), Some(above)) => (below + 1 < above).then(|| below + (above - below) / 2),
        }
    }
}
