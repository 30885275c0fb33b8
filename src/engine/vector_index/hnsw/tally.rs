//! What can be counted while pages go by, whatever the size of the index.
//!
//! Knows nothing of which element reaches which.

use super::layout::{Element, Links, MAX_OFFSET, Meta, Page, Tid};
use super::placement::Placement;
use super::room::InsertRoom;
use super::scan::Visitor;
use super::sink;
use crate::vector_index::HeapTid;
use crate::vector_index::frequent::Frequent;
use crate::vector_index::sample::Reservoir;

/// Counters of one pass over the index.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Element tuples, live and deleted.
    pub(crate) elements: u64,
    /// Live elements without rows.
    pub(crate) ghosts: u64,
    /// Rows of live elements.
    pub(crate) heap_tids: u64,
    /// Live elements by their highest layer.
    pub(crate) levels: [u64; 256],
    /// Live elements by their links on the ground layer.
    pub(crate) degrees: Vec<u64>,
    /// Live elements whose links pgvector would ignore: there is no neighbour tuple, or it is
    /// another version's, or of another size.
    pub(crate) unreadable_links: u64,
    /// Pages written by something else than pgvector's HNSW.
    pub(crate) foreign_pages: u64,
    /// Pages with more line pointers than an honest one can have.
    pub(crate) overfull_pages: u64,
    /// The live elements with rows as a fresh build would lay them down.
    pub(crate) placement: Placement,
    /// How far inserts look for room.
    pub(crate) room: InsertRoom,
    /// Values that stand in many elements, of the elements on every `value_step`-th block.
    pub(crate) values: Frequent,
    value_step: u32,
    /// Rows drawn at random.
    pub(crate) rows: Reservoir<HeapTid>,
}

/// Blocks on which values are compared, evenly spread; at most twice as many.
const VALUE_BLOCKS: u32 = 4_096;

impl Tally {
    /// Nothing counted yet, of an index of `blocks` blocks.
    pub(crate) fn new(blocks: u32, meta: &Meta, sample_rows: usize, seed: u64) -> Self {
        Self {
            value_step: (blocks / VALUE_BLOCKS).max(1),
            elements: 0,
            ghosts: 0,
            heap_tids: 0,
            levels: [0; 256],
            degrees: vec![0; 2 * usize::from(meta.m) + 1],
            unreadable_links: 0,
            foreign_pages: 0,
            overfull_pages: 0,
            placement: Placement::new(meta.m),
            room: InsertRoom::new(meta.m, meta.insert_page, blocks),
            values: Frequent::default(),
            rows: Reservoir::new(sample_rows, seed),
        }
    }

    /// What stands for the values that many elements have, those of most first.
    pub(crate) fn frequent_values(&self) -> Vec<u64> {
        let times = (sink::MIN_ELEMENTS / self.value_step).max(2);
        self.values.keys(times, sink::MAX_VALUES)
    }

    /// Live elements.
    pub(crate) fn live(&self) -> u64 {
        self.levels.iter().sum()
    }

    /// The highest layer a live element is on.
    pub(crate) fn highest_level(&self) -> Option<u8> {
        let highest = self.levels.iter().rposition(|&count| count > 0)?;
        u8::try_from(highest).ok()
    }

    /// Live elements with fewer than `degree` links on the ground layer.
    pub(crate) fn below_degree(&self, degree: u16) -> u64 {
        self.degrees.iter().take(usize::from(degree)).sum()
    }

    /// Mean over the live elements of their links on the ground layer as a share of what they
    /// could have, 2m or every other element; 1 where they could have none.
    pub(crate) fn mean_degree_fill(&self) -> f64 {
        let live = self.live();
        let most = (self.degrees.len() as u64 - 1).min(live.saturating_sub(1));
        if most == 0 {
            return 1.0;
        }
        let links: u64 = (0..)
            .zip(&self.degrees)
            .map(|(degree, count)| count * most.min(degree))
            .sum();
        links as f64 / (most * live) as f64
    }
}

impl Visitor for Tally {
    fn page(&mut self, block: u32, page: &Page<'_>) {
        self.room.page(block, page);
        self.foreign_pages += u64::from(!page.raw().is_new() && !page.has_hnsw_id());
        self.overfull_pages += u64::from(page.raw().line_pointers() > MAX_OFFSET);
    }

    fn element(&mut self, tid: Tid, element: &Element<'_>) {
        self.elements += 1;
        self.room.element(element);
        if element.deleted() {
            return;
        }
        self.levels[usize::from(element.level())] += 1;
        let rows = element.heap_tids();
        self.heap_tids += rows.len() as u64;
        if rows.len() == 0 {
            self.ghosts += 1;
        } else {
            if tid.block.is_multiple_of(self.value_step) {
                self.values.offer(sink::key(element));
            }
            self.placement.add(element.value_size(), element.level());
        }
        rows.for_each(|row| self.rows.offer(row));
    }

    fn links(&mut self, _tid: Tid, _level: u8, links: Option<Links<'_>>) {
        self.unreadable_links += u64::from(links.is_none());
        let degree = links.map_or(0, |links| links.layer(0).len());
        if let Some(count) = self.degrees.get_mut(degree) {
            *count += 1;
        }
    }
}
