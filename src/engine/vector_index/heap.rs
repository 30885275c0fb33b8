//! The table's side of an index entry: whether the row it points at can be one, and which rows
//! have an entry at all.
//!
//! Knows nothing of visibility: which rows count is for the caller, who has the snapshot.

use roaring::RoaringTreemap;

use super::HeapTid;
use super::page::{Pointed, RawPage, u16_at};

/// More line pointers than a page of a table can have (`MaxHeapTuplesPerPage` of 8 kB pages).
pub const MAX_ROWS_PER_PAGE: u16 = 291;
/// Where a row's `t_infomask2` is, and its flag for a row that only a chain leads to.
const INFOMASK2: usize = 18;
const HEAP_ONLY: u16 = 0x8000;
/// Bytes of memory a row takes in a set of rows at most, and a page's share of what keeps 65,536
/// numbers, the rows of 225 pages. A number takes 2 bytes in an array that may be growing.
const BYTES_PER_ROW: usize = 4;
const BYTES_PER_PAGE: usize = 1;

/// What a line pointer of a table's page can be to an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// A row, the head of a chain of updates, or what is left of one: an index may point at it.
    Sound,
    /// Nothing.
    Unused,
    /// A row in the middle of a chain of updates, which no index points at.
    HeapOnly,
    /// Past the last line pointer.
    PastEnd,
}

/// What an index entry finds at `offset` of a table's page.
pub fn root(page: &RawPage<'_>, offset: u16) -> Root {
    match page.pointed(offset) {
        None => Root::PastEnd,
        Some(Pointed::NoTuple(0)) => Root::Unused,
        Some(Pointed::Tuple(row))
            if row.len() >= INFOMASK2 + 2 && u16_at(row, INFOMASK2) & HEAP_ONLY != 0 =>
        {
            Root::HeapOnly
        }
        Some(_) => Root::Sound,
    }
}

/// Rows of a table, in some two bytes each.
#[derive(Debug, Default)]
pub struct TidSet(RoaringTreemap);

impl TidSet {
    /// How many pages of a table with `rows` rows on `pages` pages a set of at most `limit`
    /// bytes can hold the rows of; at least one.
    pub fn pages_for(limit: usize, pages: u32, rows: u64) -> u32 {
        let per_page = BYTES_PER_PAGE as u64
            + BYTES_PER_ROW as u64
                * rows
                    .div_ceil(u64::from(pages.max(1)))
                    .clamp(1, u64::from(MAX_ROWS_PER_PAGE));
        u32::try_from(limit as u64 / per_page)
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// How many rows a set of at most `limit` bytes can hold, wherever in the table they are.
    pub fn rows_for(limit: usize) -> u64 {
        // Alone on its 225 pages a row takes what keeps 65,536 numbers.
        (limit / (BYTES_PER_ROW + 225 * BYTES_PER_PAGE)).max(1) as u64
    }

    /// Takes the second half of the rows out and returns the first of them, as
    /// [`TidSet::ordinal`] counts.
    pub fn split_off_half(&mut self) -> u64 {
        let middle = self.0.select(self.0.len() / 2).unwrap_or(u64::MAX);
        self.0.remove_range(middle..);
        middle
    }

    /// The place of a row among all that a table can have.
    pub fn ordinal(row: HeapTid) -> u64 {
        let dense = u64::from(row.block) * u64::from(MAX_ROWS_PER_PAGE) + u64::from(row.offset);
        // What cannot be on a page must not be taken for a row of another.
        if row.offset > MAX_ROWS_PER_PAGE {
            u64::MAX - (u64::from(row.block) << 16 | u64::from(row.offset))
        } else {
            dense
        }
    }

    /// Adds a row and tells whether it is new.
    pub fn insert(&mut self, row: HeapTid) -> bool {
        self.0.insert(Self::ordinal(row))
    }

    /// Whether a row is in.
    pub fn contains(&self, row: HeapTid) -> bool {
        self.0.contains(Self::ordinal(row))
    }

    /// Takes a row out and tells whether it was in.
    pub fn remove(&mut self, row: HeapTid) -> bool {
        self.0.remove(Self::ordinal(row))
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
