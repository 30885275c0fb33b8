//! What every page of a pgvector index has: PostgreSQL's page header and line pointers, and a
//! special area with a link to the next page and the access method's id.
//!
//! Owns the bounds checks of a page; any bytes will do. Knows nothing of what tuples mean.

use serde::{Deserialize, Serialize};

use super::PAGE_SIZE;

/// Where line pointers begin, and the contents of a metapage.
pub(crate) const PAGE_HEADER: usize = 24;
/// Bytes of the special area at the end of a page.
pub(crate) const SPECIAL: usize = 8;
/// Bytes of a line pointer.
pub(crate) const LINE_POINTER: usize = 4;
/// Bytes of a tuple identifier.
pub(crate) const TID: usize = 6;
/// The block number that stands for none.
pub(crate) const NO_BLOCK: u32 = u32::MAX;

/// Where a tuple of the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "(u32, u16)", from = "(u32, u16)")]
pub struct Tid {
    /// Block of the index.
    pub block: u32,
    /// Line pointer on it, from 1.
    pub offset: u16,
}

impl From<Tid> for (u32, u16) {
    fn from(tid: Tid) -> Self {
        (tid.block, tid.offset)
    }
}

impl From<(u32, u16)> for Tid {
    fn from((block, offset): (u32, u16)) -> Self {
        Self { block, offset }
    }
}

/// A page of any kind.
#[derive(Debug, Clone, Copy)]
pub struct RawPage<'a>(&'a [u8; PAGE_SIZE]);

/// What a line pointer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointed<'a> {
    /// A tuple.
    Tuple(&'a [u8]),
    /// Nothing: it is unused, dead or a redirection (the two bits of its state).
    NoTuple(u8),
    /// Bytes outside the room for tuples.
    OutOfBounds,
}

impl<'a> RawPage<'a> {
    /// Looks at a page.
    pub fn new(bytes: &'a [u8; PAGE_SIZE]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8; PAGE_SIZE] {
        self.0
    }

    /// Where line pointers end (`pd_lower`).
    pub fn lower(&self) -> usize {
        usize::from(u16_at(self.0, 12))
    }

    /// Where tuples begin (`pd_upper`).
    pub fn upper(&self) -> usize {
        usize::from(u16_at(self.0, 14))
    }

    /// Where the special area begins (`pd_special`).
    pub fn special(&self) -> usize {
        usize::from(u16_at(self.0, 16))
    }

    /// Whether header, line pointers, tuples and special area lie one after another as
    /// PostgreSQL and pgvector lay them.
    pub fn has_sane_header(&self) -> bool {
        PAGE_HEADER <= self.lower()
            && self.lower() <= self.upper()
            && self.upper() <= self.special()
            && self.special() == PAGE_SIZE - SPECIAL
    }

    /// The id of the access method that wrote the page.
    pub fn page_id(&self) -> u16 {
        u16_at(self.0, PAGE_SIZE - 2)
    }

    /// The next page of the chain.
    pub fn next_block(&self) -> Option<u32> {
        Some(u32_at(self.0, PAGE_SIZE - SPECIAL)).filter(|&block| block != NO_BLOCK)
    }

    /// Whether nothing was ever written to the page, as a crash can leave it.
    pub fn is_new(&self) -> bool {
        self.upper() == 0
    }

    /// Whether it is nothing but zeroes.
    pub fn is_zeroed(&self) -> bool {
        self.0.iter().all(|&byte| byte == 0)
    }

    /// Line pointers the page says it has, as far as they fit on it.
    pub fn line_pointers(&self) -> u16 {
        let end = self.lower().min(PAGE_SIZE);
        (end.saturating_sub(PAGE_HEADER) / LINE_POINTER) as u16
    }

    /// Where the tuple of a line pointer begins, its length, and the pointer's state; none past
    /// the last pointer.
    pub fn line_pointer(&self, offset: u16) -> Option<(usize, usize, u8)> {
        if offset == 0 || offset > self.line_pointers() {
            return None;
        }
        let at = PAGE_HEADER + LINE_POINTER * (usize::from(offset) - 1);
        let pointer = u32_at(self.0, at);
        let (start, state, length) = (pointer & 0x7FFF, pointer >> 15 & 3, pointer >> 17);
        Some((start as usize, length as usize, state as u8))
    }

    /// What a line pointer leads to; none past the last.
    pub fn pointed(&self, offset: u16) -> Option<Pointed<'a>> {
        let (start, length, state) = self.line_pointer(offset)?;
        if state != 1 {
            return Some(Pointed::NoTuple(state));
        }
        Some(match self.0.get(start..start + length) {
            Some(tuple) => Pointed::Tuple(tuple),
            None => Pointed::OutOfBounds,
        })
    }
}

/// Rounds a length up to PostgreSQL's strictest alignment.
pub(crate) const fn max_align(bytes: usize) -> usize {
    bytes.saturating_add(7) & !7
}

/// A tuple identifier: block, high half first, and offset.
pub(crate) fn tid(bytes: &[u8]) -> Tid {
    Tid {
        block: u32::from(u16_at(bytes, 0)) << 16 | u32::from(u16_at(bytes, 2)),
        offset: u16_at(bytes, 4),
    }
}

/// A tuple identifier as it is stored; none as pgvector stores an invalid one.
pub(crate) fn tid_bytes(tid: Option<Tid>) -> [u8; TID] {
    let Tid { block, offset } = tid.unwrap_or(Tid {
        block: NO_BLOCK,
        offset: 0,
    });
    let (high, low, offset) = (
        ((block >> 16) as u16).to_le_bytes(),
        (block as u16).to_le_bytes(),
        offset.to_le_bytes(),
    );
    [high[0], high[1], low[0], low[1], offset[0], offset[1]]
}

/// Two bytes as a number.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes as a number.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
