//! pgvector's on-disk format of an IVFFlat index: metapage, list tuples, entries.
//!
//! One format serves pgvector 0.5 to 0.8 (`src/ivfflat.h` there). Owns the bounds checks.

use std::borrow::Cow;

use crate::vector_index::HeapTid;
use crate::vector_index::page::{PAGE_HEADER, Pointed, RawPage, TID, tid, u16_at, u32_at};
use crate::vector_index::varlena;

/// First bytes of a metapage.
const MAGIC: u32 = 0x014F_F1A7;
/// The only format version there has been.
const VERSION: u32 = 1;
/// What the special area of every page of an IVFFlat index ends with.
pub const PAGE_ID: u16 = 0xFF84;
/// Where a list tuple has the page at which inserts begin.
pub const INSERT_PAGE: usize = 4;
/// Where a list tuple's centre begins.
pub(super) const CENTER: usize = 8;
/// Where an entry's value begins.
const VALUE: usize = 8;
/// Flag of an entry that has nulls, and the bits of its size, in `t_info`.
const HAS_NULLS: u16 = 0x8000;

/// What the metapage says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Dimensions of the indexed column.
    pub dimensions: u16,
    /// Lists.
    pub lists: u16,
}

impl Meta {
    /// Reads block 0. Fails with what is wrong with it.
    pub fn decode(page: &RawPage<'_>) -> Result<Self, String> {
        if !has_id(page) {
            return Err("block 0 does not bear the page id of an IVFFlat index".into());
        }
        let bytes = page.bytes();
        let (magic, version) = (u32_at(bytes, PAGE_HEADER), u32_at(bytes, PAGE_HEADER + 4));
        if magic != MAGIC {
            return Err(format!(
                "the metapage begins with {magic:#010x}, not {MAGIC:#010x}"
            ));
        }
        if version != VERSION {
            return Err(format!(
                "the metapage is of version {version}, not {VERSION}"
            ));
        }
        Ok(Self {
            dimensions: u16_at(bytes, PAGE_HEADER + 8),
            lists: u16_at(bytes, PAGE_HEADER + 10),
        })
    }
}

/// Whether the special area has the id of an IVFFlat page.
pub fn has_id(page: &RawPage<'_>) -> bool {
    page.page_id() == PAGE_ID
}

/// A list.
#[derive(Debug, Clone)]
pub struct List<'a> {
    /// The first page of its entries.
    pub start: u32,
    /// Where inserts begin to look for room.
    pub insert: u32,
    /// What follows the length word of its centre, if it can be read.
    pub center: Option<Cow<'a, [u8]>>,
    /// The centre with its length word, and what fills the tuple up.
    pub(super) stored: &'a [u8],
    /// Bytes of the tuple.
    pub size: usize,
}

/// The lists on a page of lists, with their line pointers.
pub fn lists<'a>(page: &RawPage<'a>) -> impl Iterator<Item = (u16, List<'a>)> + use<'a> {
    tuples(page)
        .filter(|(_, tuple)| tuple.len() >= CENTER)
        .map(|(offset, tuple)| {
            let list = List {
                start: u32_at(tuple, 0),
                insert: u32_at(tuple, INSERT_PAGE),
                center: varlena::contents(&tuple[CENTER..]),
                stored: &tuple[CENTER..],
                size: tuple.len(),
            };
            (offset, list)
        })
}

/// A row in a list.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// The row.
    pub row: HeapTid,
    /// Bytes of the tuple.
    pub size: usize,
    tuple: &'a [u8],
}

impl<'a> Entry<'a> {
    /// What follows the length word of its value, if it can be read.
    pub fn value(&self) -> Option<Cow<'a, [u8]>> {
        let has_nulls = u16_at(self.tuple, TID) & HAS_NULLS != 0;
        let value = self.tuple.get(VALUE..).filter(|_| !has_nulls)?;
        varlena::contents(value)
    }
}

/// The entries on a page of a list, with their line pointers.
pub fn entries<'a>(page: &RawPage<'a>) -> impl Iterator<Item = (u16, Entry<'a>)> + use<'a> {
    tuples(page).filter_map(|(offset, tuple)| Some((offset, entry(tuple)?)))
}

/// The entry that a tuple on a page of a list is.
pub fn entry(tuple: &[u8]) -> Option<Entry<'_>> {
    let at = tid(tuple.get(..VALUE)?);
    Some(Entry {
        row: HeapTid {
            block: at.block,
            offset: at.offset,
        },
        size: tuple.len(),
        tuple,
    })
}

fn tuples<'a>(page: &RawPage<'a>) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
    let page = *page;
    (1..=page.line_pointers()).filter_map(move |offset| match page.pointed(offset) {
        Some(Pointed::Tuple(tuple)) => Some((offset, tuple)),
        _ => None,
    })
}
