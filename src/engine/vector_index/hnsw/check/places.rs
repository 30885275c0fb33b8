//! What is at each place of the index: element or neighbour tuple, of which level and version.
//!
//! 4 bytes a line pointer and 4 a block. An index of which not all fits into memory is taken in
//! runs of blocks.

use std::ops::Range;

use super::super::layout::{Item, LINKS, MAX_OFFSET, Page, Tid};
use crate::vector_index::examination::{Suspects, each_page};
use crate::vector_index::page::{Pointed, u16_at};
use crate::vector_index::{PAGE_SIZE, PageSource, ReadError};

/// What is at a place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// No tuple, or none that is known.
    #[default]
    Nothing,
    /// An element that is there.
    Live {
        /// Its highest layer.
        level: u8,
    },
    /// A deleted element.
    Deleted {
        /// Of its place.
        version: u8,
    },
    /// A neighbour tuple.
    Neighbors {
        /// Of its place.
        version: u8,
        /// Its count of slots as the level of its element, where it can be one's and there is
        /// room for it.
        level: Option<u8>,
    },
}

const _: () = assert!(size_of::<Place>() <= 4);

/// What is at the places of a run of blocks.
pub(super) struct Places {
    pub(super) blocks: Range<u32>,
    /// Where the index ends.
    pub(super) end: u32,
    base: Vec<u32>,
    places: Vec<Place>,
    /// Whether a page that went by did not fit.
    is_full: bool,
}

impl Places {
    /// Before the first block of a run.
    pub(super) fn new(start: u32, end: u32) -> Self {
        Self {
            blocks: start..start,
            end,
            base: vec![0],
            places: Vec::new(),
            is_full: false,
        }
    }

    /// Takes in a page as it goes by, in ascending order, as long as what is known fits into
    /// `limit` bytes. Where one did not, the run ends before it.
    pub(super) fn see(&mut self, m: u16, block: u32, bytes: &[u8; PAGE_SIZE], limit: usize) {
        let most = usize::from(MAX_OFFSET) * size_of::<Place>() + size_of::<u32>();
        let is_whole = self.is_full || self.bytes() + most > limit && !self.blocks.is_empty();
        self.is_full = is_whole;
        if !is_whole {
            self.skip_to(block);
            self.take(m, bytes);
        }
    }

    /// After the last page that went by.
    pub(super) fn ended(mut self) -> Self {
        if !self.is_full {
            self.skip_to(self.end);
        }
        self
    }

    /// Reads the longest run of blocks from `start` that fits into `limit` bytes; at least one
    /// block.
    pub(super) fn read(
        source: &mut dyn PageSource,
        m: u16,
        start: u32,
        end: u32,
        limit: usize,
    ) -> Result<Self, ReadError> {
        let mut run = Self::new(start, end);
        // What is wrong with pages is told elsewhere.
        let mut ignored = Suspects::default();
        // Read a little at a time, so that a run ends where memory does.
        while run.blocks.end < end {
            let most = usize::from(MAX_OFFSET) * size_of::<Place>() + size_of::<u32>();
            let room = limit.saturating_sub(run.bytes()) / most;
            let step = u32::try_from(room)
                .unwrap_or(u32::MAX)
                .min(end - run.blocks.end);
            let step = match run.blocks.is_empty() {
                true => step.max(1),
                false if step == 0 => break,
                false => step,
            };
            let next = run.blocks.end..run.blocks.end + step;

            each_page(
                source,
                next.clone(),
                &mut ignored,
                &mut |block, bytes, _| {
                    run.skip_to(block);
                    run.take(m, bytes);
                },
            )?;
            run.skip_to(next.end);
        }
        Ok(run)
    }

    fn bytes(&self) -> usize {
        self.base.capacity() * size_of::<u32>() + self.places.capacity() * size_of::<Place>()
    }

    /// Blocks that were not read have nothing.
    fn skip_to(&mut self, block: u32) {
        let count = self.places.len() as u32;
        let known = (block - self.blocks.start) as usize + 1;
        if self.base.len() < known {
            self.base.resize(known, count);
        }
        self.blocks.end = block;
    }

    fn take(&mut self, m: u16, bytes: &[u8; PAGE_SIZE]) {
        let page = Page::new(bytes);
        for offset in 1..=page.raw().line_pointers().min(MAX_OFFSET) {
            self.places.push(place(&page, offset, m));
        }
        self.blocks.end += 1;
        self.base.push(self.places.len() as u32);
    }

    /// What is at a place of these blocks.
    pub(super) fn at(&self, tid: Tid) -> Place {
        self.number(tid)
            .and_then(|number| self.places.get(number).copied())
            .unwrap_or_default()
    }

    /// A number for a place of these blocks that has a line pointer.
    pub(super) fn number(&self, tid: Tid) -> Option<usize> {
        let nth = tid.block.checked_sub(self.blocks.start)? as usize;
        let (from, to) = (*self.base.get(nth)?, *self.base.get(nth + 1)?);
        let number = from.checked_add(u32::from(tid.offset).checked_sub(1)?)?;
        (number < to).then_some(number as usize)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }
}

fn place(page: &Page<'_>, offset: u16, m: u16) -> Place {
    let Some(Pointed::Tuple(tuple)) = page.raw().pointed(offset) else {
        return Place::Nothing;
    };
    match page.item(offset) {
        Some(Item::Element(element)) => match element.deleted() {
            true => Place::Deleted {
                version: element.version(),
            },
            false => Place::Live {
                level: element.level(),
            },
        },
        _ if tuple.first() == Some(&2) && tuple.len() >= LINKS => {
            let count = usize::from(u16_at(tuple, 2));
            let fits = tuple.len() >= LINKS + 6 * count && count.is_multiple_of(usize::from(m));
            let level = (count / usize::from(m)).checked_sub(2).filter(|_| fits);
            Place::Neighbors {
                version: tuple[1],
                level: level.and_then(|level| u8::try_from(level).ok()),
            }
        }
        _ => Place::Nothing,
    }
}
