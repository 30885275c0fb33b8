//! Numbers for the places of elements, without holes between pages, so that what is known of
//! elements fits into arrays and bitmaps.
//!
//! A place is a block and an offset packed into 4 bytes. A page has as many slots as the
//! offset of its last live element, so that finding a slot takes two neighbouring words. The
//! neighbour tuples between elements have a slot each that stays empty.

use std::collections::BTreeMap;
use std::ops::Range;

use super::layout::{MAX_OFFSET, Tid};

/// Bits of a place that are the offset.
const OFFSET_BITS: u32 = 7;
/// Blocks an index may have for its places to be packed: 256 GiB of pages.
pub(crate) const MAX_BLOCKS: u32 = (1 << (32 - OFFSET_BITS)) - 1;
/// The place of what cannot be an element: past [`MAX_BLOCKS`] or [`MAX_OFFSET`].
const NOWHERE: u32 = u32::MAX;

const _: () = assert!((MAX_OFFSET as u32) < 1 << OFFSET_BITS);

/// A block and an offset in 4 bytes, in the same order.
#[inline]
pub(crate) fn pack(tid: Tid) -> u32 {
    if tid.block < MAX_BLOCKS && tid.offset <= MAX_OFFSET {
        tid.block << OFFSET_BITS | u32::from(tid.offset)
    } else {
        NOWHERE
    }
}

/// The place that was packed.
pub(crate) fn unpack(place: u32) -> Tid {
    Tid {
        block: block_of(place),
        offset: (place & ((1 << OFFSET_BITS) - 1)) as u16,
    }
}

/// The block of a place.
pub(crate) fn block_of(place: u32) -> u32 {
    place >> OFFSET_BITS
}

/// Which slot is which place.
#[derive(Debug)]
pub(crate) struct Slots {
    /// The first slot of each block, and the end of the last.
    base: Vec<u32>,
    blocks: usize,
    count: usize,
    /// Slots for places that had none after the first look.
    late: BTreeMap<u32, u32>,
}

impl Slots {
    /// No slots yet on `blocks` blocks.
    pub(crate) fn new(blocks: u32) -> Self {
        Self {
            base: Vec::with_capacity(blocks as usize + 1),
            blocks: blocks as usize,
            count: 0,
            late: BTreeMap::new(),
        }
    }

    /// Bytes it takes for `blocks` blocks.
    pub(crate) fn bytes_for(blocks: u32) -> usize {
        (blocks as usize + 1) * size_of::<u32>()
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        // A pair of words in a map takes less than 24 bytes.
        (self.blocks + 1) * size_of::<u32>() + self.late.len() * 24
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The slot of an element of the first look; they come in file order. None past the blocks
    /// there are.
    pub(crate) fn append(&mut self, tid: Tid) -> Option<usize> {
        let (block, offset) = (tid.block as usize, usize::from(tid.offset));
        if block >= self.blocks || offset == 0 || tid.offset > MAX_OFFSET {
            return None;
        }
        if self.base.len() <= block {
            self.base.resize(block + 1, self.count as u32);
        }
        let slot = self.base[block] as usize + offset - 1;
        self.count = self.count.max(slot + 1);
        Some(slot)
    }

    /// Ends the first look.
    pub(crate) fn finish(&mut self) {
        self.base.resize(self.blocks + 1, self.count as u32);
    }

    /// A slot for a place that has none. None for what cannot be an element.
    pub(crate) fn append_late(&mut self, place: u32) -> Option<usize> {
        if place == NOWHERE {
            return None;
        }
        let slot = self.count;
        self.late.insert(place, u32::try_from(slot).ok()?);
        self.count += 1;
        Some(slot)
    }

    /// The slots of a block, but for late ones.
    #[inline]
    pub(crate) fn range(&self, block: u32) -> Range<u32> {
        let block = block as usize;
        match self.base.get(block) {
            Some(&from) => from..self.base.get(block + 1).map_or(self.count as u32, |&to| to),
            None => 0..0,
        }
    }

    /// The slot of a place.
    #[inline]
    pub(crate) fn of(&self, place: u32) -> Option<usize> {
        let range = self.range(block_of(place));
        let offset = place & ((1 << OFFSET_BITS) - 1);
        let slot = range.start.saturating_add(offset.wrapping_sub(1));
        if slot < range.end {
            return Some(slot as usize);
        }
        match self.late.is_empty() {
            true => None,
            false => self.late.get(&place).map(|&slot| slot as usize),
        }
    }

    /// The place of a slot of the first look.
    pub(crate) fn tid(&self, slot: usize) -> Option<Tid> {
        let next = self.base.partition_point(|&base| base as usize <= slot);
        let block = next.checked_sub(1)?;
        let offset = slot - self.base[block] as usize + 1;
        Some(Tid {
            block: u32::try_from(block).ok()?,
            offset: u16::try_from(offset).ok()?,
        })
    }

    /// The place of any slot, late ones too.
    pub(crate) fn place(&self, slot: usize) -> Option<Tid> {
        if self.base.last().is_some_and(|&end| slot < end as usize) {
            return self.tid(slot);
        }
        let late = self.late.iter().find(|(_, late)| **late as usize == slot);
        late.map(|(&place, _)| unpack(place))
    }

    /// The slots of a block.
    pub(crate) fn on_block(&self, block: u32) -> impl Iterator<Item = usize> + '_ {
        let place = |offset| pack(Tid { block, offset });
        let late = self
            .late
            .range(place(0)..=place(MAX_OFFSET))
            .map(|(_, &slot)| slot);
        self.range(block).chain(late).map(|slot| slot as usize)
    }

    /// Every slot with its block, in file order but for the late ones.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, usize)> + '_ {
        let early = (0..self.blocks as u32)
            .flat_map(|block| self.range(block).map(move |slot| (block, slot as usize)));
        early.chain(
            self.late
                .iter()
                .map(|(&place, &slot)| (block_of(place), slot as usize)),
        )
    }
}
