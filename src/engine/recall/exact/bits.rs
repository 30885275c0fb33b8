//! Bit strings against all queries.
//!
//! Owns the queries' words. Must not know where rows come from. Counts are whole: there is
//! nothing to be looked at twice.

use pulp::Arch;

use super::Offered;
use super::distance::{Operand, bitwise, words_into};
use super::nearest::Nearest;
use crate::vector_index::HeapTid;
use crate::vector_index::shape::Metric;
use crate::vector_index::value::Value;

/// All queries.
#[derive(Debug)]
pub(super) struct Bits {
    metric: Metric,
    bits: u32,
    arch: Arch,
    /// None for those that have no neighbours.
    queries: Vec<Option<Vec<u64>>>,
    row: Vec<u64>,
    ranks: Vec<f64>,
}

/// Bytes taken, heaps apart.
pub(super) fn bytes(bits: u64, queries: u64) -> u64 {
    (queries + 1) * (bits.div_ceil(64) * 8 + size_of::<Vec<u64>>() as u64 + 8)
}

impl Bits {
    /// `queries`: none for those that have no neighbours; all others have so many bits.
    pub(super) fn new(metric: Metric, bits: u32, queries: Vec<Option<Operand>>) -> Self {
        let words = |query| match query {
            Some(Operand::Bits { words, .. }) => Some(words),
            _ => None,
        };
        Self {
            metric,
            bits,
            arch: Arch::new(),
            ranks: Vec::with_capacity(queries.len()),
            queries: queries.into_iter().map(words).collect(),
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
        let &Value::Bit { bits, bytes } = value else {
            return Offered::OtherDimensions;
        };
        if bits != self.bits {
            return Offered::OtherDimensions;
        }
        if value.fault().is_some() {
            return Offered::NotANumber;
        }
        self.row.clear();
        words_into(bytes, &mut self.row);
        self.ranks.clear();
        let (metric, row, ranks) = (self.metric, &self.row, &mut self.ranks);
        self.arch.dispatch(
            #[inline(always)]
            || {
                for query in &self.queries {
                    let rank = query.as_ref().and_then(|query| bitwise(metric, row, query));
                    ranks.push(rank.unwrap_or(f64::NAN));
                }
            },
        );
        for (&rank, nearest) in self.ranks.iter().zip(nearest) {
            if rank <= nearest.limit() {
                nearest.offer(tid, rank, 0.0);
            }
        }
        Offered::Compared
    }
}
