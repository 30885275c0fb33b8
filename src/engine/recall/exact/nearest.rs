//! The rows nearest to one query, in bounded memory, and which distances are as near.
//!
//! Owns the heap and the ties. Must not know how distances are computed.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use super::distance::{TIE, from_rank};
use crate::recall::interval::QueryHits;
use crate::vector_index::HeapTid;
use crate::vector_index::shape::Metric;

/// Rows kept for each neighbour asked for, so that rows as near as the last one are known.
const KEPT_PER_NEIGHBOUR: usize = 2;

/// A row and how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The row.
    pub row: HeapTid,
    /// Its distance, as pgvector's operator gives it.
    pub distance: f64,
}

/// A row kept, by rank, then by place: which rows are kept does not depend on the order they
/// came in.
#[derive(Debug, Clone, Copy)]
struct Kept {
    rank: f64,
    row: HeapTid,
    /// What the distance's rounding is relative to, besides itself.
    scale: f64,
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_rank = self.rank.total_cmp(&other.rank);
        by_rank.then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Kept {}

/// Collects the nearest rows of one query.
#[derive(Debug, Clone)]
pub(super) struct Nearest {
    own_row: Option<HeapTid>,
    capacity: usize,
    heap: BinaryHeap<Kept>,
}

impl Nearest {
    /// For `k` neighbours; `own_row` is never one.
    pub(super) fn new(k: u32, own_row: Option<HeapTid>) -> Self {
        Self {
            own_row,
            capacity: (k as usize).saturating_mul(KEPT_PER_NEIGHBOUR),
            heap: BinaryHeap::new(),
        }
    }

    /// Bytes it takes, at most.
    pub(super) fn bytes(k: u32) -> u64 {
        let kept = u64::from(k) * (KEPT_PER_NEIGHBOUR * size_of::<Kept>()) as u64;
        // A heap grows by doubling.
        2 * kept + size_of::<Self>() as u64
    }

    /// Rows of a higher rank need not be offered.
    pub(super) fn limit(&self) -> f64 {
        match self.heap.peek() {
            _ if self.capacity == 0 => f64::NEG_INFINITY,
            Some(worst) if self.heap.len() >= self.capacity => worst.rank,
            _ => f64::INFINITY,
        }
    }

    /// Offers a row. Returns whether the limit may have changed.
    pub(super) fn offer(&mut self, row: HeapTid, rank: f64, scale: f64) -> bool {
        if rank.is_nan() || self.own_row == Some(row) {
            return false;
        }
        // Negative zero would come before zero.
        let kept = Kept {
            rank: rank + 0.0,
            row,
            scale,
        };
        if self.heap.len() < self.capacity {
            self.heap.push(kept);
            return self.heap.len() == self.capacity;
        }
        match self.heap.peek_mut() {
            Some(mut worst) if kept < *worst => {
                *worst = kept;
                true
            }
            _ => false,
        }
    }

    /// The neighbours.
    pub(super) fn into_neighbours(self, metric: Metric, k: u32) -> Neighbours {
        let sorted = self.heap.into_sorted_vec();
        let expected = sorted.len().min(k as usize);
        let last = expected.checked_sub(1).and_then(|last| sorted.get(last));
        let limit = last.map_or(f64::NEG_INFINITY, |last| {
            let distance = from_rank(metric, last.rank);
            distance + TIE * distance.abs().max(last.scale)
        });
        let mut nearest: Vec<Neighbour> = sorted
            .iter()
            .map(|kept| Neighbour {
                row: kept.row,
                distance: from_rank(metric, kept.rank),
            })
            .collect();
        nearest.retain(|neighbour| neighbour.distance <= limit);
        Neighbours {
            nearest,
            expected: u32::try_from(expected).unwrap_or(u32::MAX),
            limit,
        }
    }
}

/// The true neighbours of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    nearest: Vec<Neighbour>,
    expected: u32,
    limit: f64,
}

impl Neighbours {
    /// The k nearest rows, nearest first, equally near ones by place; fewer where the table has
    /// fewer.
    pub fn nearest(&self) -> &[Neighbour] {
        &self.nearest[..self.nearest.len().min(self.expected as usize)]
    }

    /// Those and the rows after them that are as near as the last of them, as many again at most.
    pub fn as_near(&self) -> &[Neighbour] {
        &self.nearest
    }

    /// How many a search should return: k, or as many rows as there are.
    pub fn expected(&self) -> u32 {
        self.expected
    }

    /// Distance of the k-th nearest row.
    pub fn kth_distance(&self) -> Option<f64> {
        Some(self.nearest().last()?.distance)
    }

    /// Whether a row at this distance is as good as a neighbour: no farther than the k-th but
    /// for one part in a million. Of inner products and cosines the part is also one of the norms
    /// multiplied, for pgvector sums them in single precision.
    pub fn is_hit(&self, distance: f64) -> bool {
        distance <= self.limit
    }

    /// What a search for `k` neighbours found, where only one row of `every` was compared: the rows
    /// it returned are known all the same, and of those that it missed each one compared stands for
    /// `every`, as long as it is among the k nearest by that count.
    pub fn hits_of_sample(&self, found: &[Neighbour], k: u32, every: u32) -> QueryHits {
        let farthest = match found.len() < k as usize {
            true => f64::INFINITY,
            false => found
                .iter()
                .map(|one| one.distance)
                .fold(f64::MIN, f64::max),
        };
        let mut missed = 0;
        for near in &self.nearest {
            if found.iter().any(|one| one.row == near.row) {
                continue;
            }
            let closer = found.iter().filter(|one| one.distance < near.distance);
            if near.distance >= farthest || closer.count() as u32 + missed >= k {
                break;
            }
            missed += every;
        }
        QueryHits {
            hits: k.saturating_sub(missed),
            of: k,
        }
    }

    /// What a search found, from the distances of different rows that it returned, the query's
    /// own row not among them.
    pub fn hits(&self, distances: impl IntoIterator<Item = f64>) -> QueryHits {
        let found = distances.into_iter().filter(|&d| self.is_hit(d)).count();
        QueryHits {
            hits: u32::try_from(found).unwrap_or(u32::MAX).min(self.expected),
            of: self.expected,
        }
    }
}
