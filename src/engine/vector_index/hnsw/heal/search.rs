//! pgvector's search on a graph in memory: down the layers one element wide, on the ground as
//! wide as asked for (Malkov and Yashunin, 2018, algorithms 2 and 5).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::met::Met;
use super::survey::Survey;
use super::values::Values;
use crate::recall::exact::distance::Operand;
use crate::vector_index::{PageSource, ReadError};

/// An element that a search came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Near {
    pub(super) rank: f64,
    pub(super) slot: usize,
}

impl Eq for Near {}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_rank = self.rank.total_cmp(&other.rank);
        by_rank.then(self.slot.cmp(&other.slot))
    }
}

/// A graph that can be searched.
pub(super) trait Walked {
    /// What it was made of.
    fn survey(&self) -> &Survey;
    /// The elements that a search passes to from another on a layer.
    fn targets(&self, slot: usize, layer: u8) -> Vec<usize>;
}

/// Searches one after another.
pub(super) struct Search {
    met: Met,
}

impl Search {
    /// Bytes it takes for so many slots.
    pub(super) fn bytes_for(slots: usize) -> usize {
        Met::bytes_for(slots)
    }

    pub(super) fn new(slots: usize) -> Self {
        Self {
            met: Met::new(slots),
        }
    }

    /// The `width` nearest elements that a search for a value finds, nearest first; each of
    /// them was looked at for its links.
    pub(super) fn nearest(
        &mut self,
        walked: &impl Walked,
        values: &mut Values,
        source: &mut dyn PageSource,
        query: &Operand,
        width: usize,
    ) -> Result<Vec<Near>, ReadError> {
        let mut found = self.by_layer(walked, values, source, query, width, 0)?;
        Ok(found.pop().unwrap_or_default())
    }

    /// The same on each layer from `wide` down, the ground last: above it the search is one
    /// element wide. Of a layer that the entry point is not on, nothing.
    pub(super) fn by_layer(
        &mut self,
        walked: &impl Walked,
        values: &mut Values,
        source: &mut dyn PageSource,
        query: &Operand,
        width: usize,
        wide: u8,
    ) -> Result<Vec<Vec<Near>>, ReadError> {
        let graph = &walked.survey().graph;
        let mut by_layer = vec![Vec::new(); usize::from(wide) + 1];
        let Some(entry) = walked.survey().entry() else {
            return Ok(by_layer);
        };
        values.fetch(source, graph, &[entry])?;
        let mut found = vec![Near {
            rank: values.rank(query, entry),
            slot: entry,
        }];
        for layer in (0..=graph.level(entry)).rev() {
            let width = if layer <= wide { width } else { 1 };
            found = self.on_layer(walked, values, source, query, found, layer, width)?;
            if let Some(above_ground) = wide.checked_sub(layer) {
                by_layer[usize::from(above_ground)].clone_from(&found);
            }
        }
        Ok(by_layer)
    }

    #[expect(clippy::too_many_arguments, reason = "a search is of all of them")]
    fn on_layer(
        &mut self,
        walked: &impl Walked,
        values: &mut Values,
        source: &mut dyn PageSource,
        query: &Operand,
        starts: Vec<Near>,
        layer: u8,
        width: usize,
    ) -> Result<Vec<Near>, ReadError> {
        self.met.begin();
        let mut agenda = BinaryHeap::new();
        let mut best = BinaryHeap::new();
        for start in starts {
            self.met.meet(start.slot);
            agenda.push(Reverse(start));
            best.push(start);
        }
        while let Some(Reverse(next)) = agenda.pop() {
            let is_full = best.len() >= width;
            if is_full && best.peek().is_some_and(|worst| next.rank > worst.rank) {
                break;
            }
            let mut targets = walked.targets(next.slot, layer);
            targets.retain(|&target| self.met.meet(target));
            values.fetch(source, &walked.survey().graph, &targets)?;
            for slot in targets {
                let near = Near {
                    rank: values.rank(query, slot),
                    slot,
                };
                let is_full = best.len() >= width;
                if !near.rank.is_finite()
                    || is_full && best.peek().is_some_and(|worst| near.rank >= worst.rank)
                {
                    continue;
                }
                agenda.push(Reverse(near));
                best.push(near);
                if best.len() > width {
                    best.pop();
                }
            }
        }
        Ok(best.into_sorted_vec())
    }
}
