//! The elements of one value that so many rows share, and how they are parted: a front that
//! ordinary elements lead to, and the rest behind it.

use std::collections::HashMap;

use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::hnsw::graph::Graph;
use crate::vector_index::hnsw::layout::{MAX_HEAP_TIDS, Page};
use crate::vector_index::hnsw::reach::Pulse;
use crate::vector_index::hnsw::sink::key;
use crate::vector_index::{PageSource, ReadError};

/// Elements in front: their rows, ten each, are met by every search that comes near. Where searches
/// start at an element of the value that is one of them, for from those behind they get nowhere.
const FRONT: usize = 2;

/// The elements of a value. Those without rows, which wait for a vacuum, nothing leads to.
pub(super) struct Crowd {
    /// Those with rows: those in front, then the others in file order.
    pub(super) slots: Vec<usize>,
    is_in: Bitmap,
}

impl Crowd {
    /// Finds the elements of the value that `wanted` stands for; searches start at `entry`. Reads
    /// every page.
    pub(super) fn find(
        graph: &Graph,
        entry: Option<usize>,
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
            for (at, element) in Page::new(bytes).elements(block) {
                let rows = element.heap_tids().len();
                if let Some(slot) = graph.slot_of(at, &element)
                    && key(&element) == wanted
                    && crowd.is_in.insert(slot)
                    && (rows > 0 || entry == Some(slot))
                {
                    found.push((rows, slot));
                }
            }
        })?;
        let links = crowd.links_to(graph, source)?;
        // What ordinary elements lead to most is in front once this was done, and stays there.
        let merit = |&(rows, slot): &(usize, usize)| {
            let is_worth_it = 2 * rows >= MAX_HEAP_TIDS;
            let links = links.get(&slot).copied().unwrap_or(0);
            (entry == Some(slot), is_worth_it, links)
        };
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by_key(|&nth| std::cmp::Reverse(merit(&found[nth])));
        let front: Vec<usize> = order.into_iter().take(FRONT).collect();
        let behind = (0..found.len()).filter(|nth| !front.contains(nth));
        let order = front.iter().copied().chain(behind);
        crowd.slots = order.map(|nth| found[nth].1).collect();
        Ok(crowd)
    }

    /// Links from ordinary elements on the ground layer, by where they lead to.
    fn links_to(
        &self,
        graph: &Graph,
        source: &mut dyn PageSource,
    ) -> Result<HashMap<usize, u64>, ReadError> {
        let (mut links, mut pulse) = (HashMap::new(), Pulse::new(source));
        for slot in graph.live.iter().filter(|slot| !self.contains(*slot)) {
            pulse.beat()?;
            let targets = graph.links(slot, 0).iter();
            for target in targets.filter_map(|&link| graph.live_slot(link)) {
                if self.contains(target) {
                    *links.entry(target).or_default() += 1;
                }
            }
        }
        Ok(links)
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
