//! How far inserts look for room.
//!
//! pgvector begins at the page that the metapage names and goes through the chain until both tuples
//! of an element fit: into free space, or over a deleted element and its links. A vacuum has
//! inserts begin at the first deleted element, and they keep beginning there as long as it is not
//! used, even if it is too small for all that comes; each page that one goes through is locked
//! and copied (`AddElementOnDisk` in pgvector's `src/hnswinsert.c`).
//!
//! Follows that page by page. Memory: 8 bytes for each size a tuple can have, on each of a few levels.

use super::layout::{Element, LINKS, Page};
use crate::vector_index::PAGE_SIZE;
use crate::vector_index::page::{LINE_POINTER, TID, max_align};

/// Pages that an insert may go through on average: with as many it reads a tenth more than it
/// does to find its neighbours.
pub const MAX_PAGES_PER_INSERT: f32 = 200.0;

/// Levels that are told apart; elements above are counted with the highest.
const LEVELS: usize = 5;
/// Sizes of tuples are multiples of this.
const STEP: usize = 8;
const SIZES: usize = PAGE_SIZE / STEP;
/// What is inserted is like what stands on this last part of the pages.
const RECENT: u32 = 10;

/// Where there is room for elements of each size, and of which sizes they come.
#[derive(Debug)]
pub(crate) struct InsertRoom {
    m: usize,
    begin: u32,
    blocks: u32,
    /// The page that goes by, and its free bytes.
    block: u32,
    free: usize,
    levels: [Sizes; LEVELS],
}

/// Elements of a level, by the size of their tuple.
#[derive(Debug, Clone)]
struct Sizes {
    /// Where the first room for each size is, as far as any was seen.
    room: Vec<u32>,
    /// How many there are.
    count: Vec<u32>,
}

impl InsertRoom {
    /// Nothing seen yet of an index of so many blocks, in which inserts begin at block `begin`.
    pub(crate) fn new(m: u16, begin: u32, blocks: u32) -> Self {
        let sizes = Sizes {
            room: Vec::new(),
            count: vec![0; SIZES],
        };
        Self {
            m: usize::from(m),
            begin,
            blocks,
            block: 0,
            free: 0,
            levels: std::array::from_fn(|_| sizes.clone()),
        }
    }

    /// A page, before its elements; they come in the order of the file, which is the chain's.
    pub(crate) fn page(&mut self, block: u32, page: &Page<'_>) {
        let raw = page.raw();
        (self.block, self.free) = (block, raw.upper().saturating_sub(raw.lower()));
        let pair = self.free.saturating_sub(2 * LINE_POINTER);
        for level in 0..LEVELS {
            self.offer(level, pair.saturating_sub(self.links(level)));
        }
    }

    /// An element of the page.
    pub(crate) fn element(&mut self, element: &Element<'_>) {
        let own = usize::from(element.level()).min(LEVELS - 1);
        if !element.deleted() {
            if self.block >= self.blocks - self.blocks / RECENT {
                let size = max_align(element.bytes().len()) / STEP;
                self.levels[own].count[size.min(SIZES - 1)] += 1;
            }
            return;
        }
        let room = element.bytes().len() + self.free;
        let both = room + self.links(own);
        let is_together = element.neighbor_tid().block == self.block;
        for level in 0..LEVELS {
            let links = self.links(level);
            if is_together {
                self.offer(level, room.min(both.saturating_sub(links)));
            } else if links <= self.links(own) {
                self.offer(level, room);
            }
        }
    }

    /// Bytes of the neighbour tuple of an element of a level.
    fn links(&self, level: usize) -> usize {
        max_align(LINKS + TID * (level + 2) * self.m)
    }

    /// Room for an element tuple of so many bytes on the page that goes by.
    fn offer(&mut self, level: usize, bytes: usize) {
        if self.block >= self.begin {
            let room = &mut self.levels[level].room;
            let sizes = (bytes / STEP + 1).min(SIZES).max(room.len());
            room.resize(sizes, self.block);
        }
    }

    /// Pages that an insert goes through, on average over what was inserted last; none where inserts
    /// do not begin on a page of the index.
    pub(crate) fn pages_per_insert(&self) -> f32 {
        let (mut pages, mut inserts) = (0.0, 0.0);
        for Sizes { room, count } in &self.levels {
            for (size, &count) in count.iter().enumerate().filter(|(_, count)| **count > 0) {
                let end = room.get(size).map_or(self.blocks, |block| block + 1);
                pages += f64::from(count) * f64::from(end.saturating_sub(self.begin));
                inserts += f64::from(count);
            }
        }
        if inserts > 0.0 {
            (pages / inserts) as f32
        } else {
            0.0
        }
    }
}
