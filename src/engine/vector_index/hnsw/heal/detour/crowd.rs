//! The elements of one value that so many rows share, and how they are parted: a front that
//! ordinary elements lead to, and the rest behind it.

use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::hnsw::graph::Graph;
use crate::vector_index::hnsw::layout::{Item, Page, Tid};
use crate::vector_index::hnsw::sink::key;
use crate::vector_index::{PageSource, ReadError};

/// Elements in front: their rows, ten each, are met by every search that comes near.
const FRONT: usize = 2;

/// The elements of a value that have rows: those with most in front, else in file order.
pub(super) struct Crowd {
    pub(super) slots: Vec<usize>,
    is_in: Bitmap,
}

impl Crowd {
    /// Finds the elements of the value that `wanted` stands for. Reads every page.
    pub(super) fn find(
        graph: &Graph,
        wanted: u64,
        source: &mut dyn PageSource,
    ) -> Result<Self, ReadError> {
        let mut found = Vec::new();
        let mut crowd = Self {
            slots: Vec::new(),
            is_in: Bitmap::new(graph.slots.count()),
        };
        let blocks = source.block_count()?;
        source.read(&mut (1..blocks), &mut |block, bytes| {
            for (offset, item) in Page::new(bytes).items() {
                let Item::Element(element) = item else {
                    continue;
                };
                let rows = element.heap_tids().len();
                let slot = graph.find(Tid { block, offset });
                let same = |slot: &usize| graph.is_same(*slot, element.level(), element.version());
                if let Some(slot) = slot.filter(same)
                    && !element.deleted()
                    && rows > 0
                    && key(&element) == wanted
                    && crowd.is_in.insert(slot)
                {
                    found.push((rows, slot));
                }
            }
        })?;
        found.sort_by_key(|(rows, _)| std::cmp::Reverse(*rows));
        crowd.slots = found.into_iter().map(|(_, slot)| slot).collect();
        Ok(crowd)
    }

    /// Whether an element has the value.
    pub(super) fn contains(&self, slot: usize) -> bool {
        self.is_in.contains(slot)
    }

    /// Those in front.
    pub(super) fn front(&self) -> &[usize] {
        &self.slots[..self.slots.len().min(FRONT)]
    }

    /// Those behind.
    pub(super) fn rest(&self) -> &[usize] {
        &self.slots[self.slots.len().min(FRONT)..]
    }

    /// Whether an element is in front.
    pub(super) fn is_front(&self, slot: usize) -> bool {
        self.front().contains(&slot)
    }
}
