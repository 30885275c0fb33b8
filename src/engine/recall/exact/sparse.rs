//! Sparse rows against all queries.
//!
//! Owns the queries' components, sorted by dimension, so that a row meets only the queries that
//! share a dimension with it. Must not know where rows come from.
//!
//! The sums over shared dimensions are the sieve; what passes is computed by merging.

use std::collections::HashMap;

use super::Offered;
use super::distance::{Operand, rounding_scale, sparse, sparse_norm};
use super::nearest::Nearest;
use crate::vector_index::HeapTid;
use crate::vector_index::shape::Metric;
use crate::vector_index::value::Value;

/// What sums in double precision are wrong by, at most, of the sums of their terms' sizes.
const SLACK: f64 = 1e-11;

/// A query.
#[derive(Debug)]
struct Query {
    components: Vec<(u32, f32)>,
    size: f64,
    void: bool,
}

/// All queries.
#[derive(Debug)]
pub(super) struct Sparse {
    metric: Metric,
    dimensions: u32,
    queries: Vec<Query>,
    /// For each dimension the queries that have it, with their component.
    postings: HashMap<u32, Vec<(u32, f32)>>,
    shared: Vec<f64>,
    row: Vec<(u32, f32)>,
}

/// Bytes taken, heaps apart, by queries of so many components each.
pub(super) fn bytes(components: u64, queries: u64) -> u64 {
    // A component with its query, in its list with room to grow, and its place in the map.
    queries * (components * 96 + size_of::<Query>() as u64 + 8)
}

impl Sparse {
    /// `queries`: none for those that have no neighbours; all others have so many dimensions.
    pub(super) fn new(metric: Metric, dimensions: u32, queries: Vec<Option<Operand>>) -> Self {
        let mut postings: HashMap<u32, Vec<(u32, f32)>> = HashMap::new();
        let queries: Vec<Query> = (0..)
            .zip(queries)
            .map(|(number, query)| {
                let (components, void) = match query {
                    Some(Operand::Sparse { components, .. }) => (components, false),
                    _ => (Vec::new(), true),
                };
                for &(index, x) in &components {
                    postings.entry(index).or_default().push((number, x));
                }
                Query {
                    size: size(metric, &components),
                    components,
                    void,
                }
            })
            .collect();
        Self {
            metric,
            dimensions,
            shared: vec![0.0; queries.len()],
            queries,
            postings,
            row: Vec::new(),
        }
    }

    /// Compares a row.
    pub(super) fn offer(
        &mut self,
        tid: HeapTid,
        value: &Value<'_>,
        nearest: &mut [Nearest],
    ) -> Offered {
        if value.dimensions() != self.dimensions {
            return Offered::OtherDimensions;
        }
        if value.fault().is_some() {
            return Offered::NotANumber;
        }
        self.row.clear();
        self.row.extend(value.indices().zip(value.components()));
        let size = size(self.metric, &self.row);
        if self.metric == Metric::Cosine && size == 0.0 {
            return Offered::ZeroNorm;
        }
        self.sum_shared();
        let pairs = self.queries.iter().zip(&self.shared).zip(nearest);
        for ((query, &shared), nearest) in pairs {
            if query.void || self.at_least(query, size, shared) > nearest.limit() {
                continue;
            }
            let norms = (size, query.size);
            if let Some(rank) = sparse(self.metric, &self.row, &query.components, norms) {
                nearest.offer(tid, rank, rounding_scale(self.metric, norms));
            }
        }
        Offered::Compared
    }

    /// For every query, over the dimensions that the row shares with it: Σxq, for L1 what the
    /// distance is less than Σ|x| + Σ|q|.
    fn sum_shared(&mut self) {
        self.shared.fill(0.0);
        for (index, x) in &self.row {
            let x = f64::from(*x);
            for &(query, q) in self.postings.get(index).into_iter().flatten() {
                let q = f64::from(q);
                let Some(sum) = self.shared.get_mut(query as usize) else {
                    continue;
                };
                *sum += match self.metric {
                    Metric::L1 => x.abs() + q.abs() - (x - q).abs(),
                    _ => x * q,
                };
            }
        }
    }

    /// What the rank is at least.
    fn at_least(&self, query: &Query, size: f64, shared: f64) -> f64 {
        let (rank, scale) = match self.metric {
            Metric::L2 => {
                let squares = size * size + query.size * query.size;
                (squares - 2.0 * shared, squares)
            }
            Metric::InnerProduct => (-shared, size * query.size),
            Metric::Cosine => (1.0 - shared / (size * query.size), 1.0),
            _ => (size + query.size - shared, size + query.size),
        };
        rank - SLACK * scale
    }
}

/// The Euclidean norm, for L1 the sum of sizes.
fn size(metric: Metric, components: &[(u32, f32)]) -> f64 {
    match metric {
        Metric::L1 => components.iter().map(|(_, x)| f64::from(x.abs())).sum(),
        _ => sparse_norm(components),
    }
}
