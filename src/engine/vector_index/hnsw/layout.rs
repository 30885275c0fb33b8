//! pgvector's on-disk format of an HNSW index: metapage, pages, element and neighbour tuples.
//!
//! One format serves pgvector 0.5 to 0.8 (`src/hnsw.h` there) and every vector type: of a
//! value only its length word is read. Owns the bounds checks; what it hands out can be used
//! without any more of them. Knows nothing of what the graph means.

pub use crate::vector_index::page::Tid;
use crate::vector_index::page::{
    LINE_POINTER, NO_BLOCK, PAGE_HEADER, Pointed, RawPage, SPECIAL, TID, max_align, tid, u16_at,
    u32_at,
};
use crate::vector_index::{HeapTid, PAGE_SIZE};

/// First bytes of a metapage.
const MAGIC: u32 = 0xA953_A953;
/// The only format version there has been.
const VERSION: u32 = 1;
/// Where the contents of a metapage end.
pub(crate) const METAPAGE_END: usize = PAGE_HEADER + 28;
/// What the special area of every page of an HNSW index ends with.
pub(crate) const PAGE_ID: u16 = 0xFF90;
/// Rows that may share one element.
pub const MAX_HEAP_TIDS: usize = 10;
/// Where an element's heap TIDs begin.
pub(crate) const HEAP_TIDS: usize = 4;
/// Where an element says where its neighbour tuple is.
pub(crate) const NEIGHBOR_TID: usize = HEAP_TIDS + MAX_HEAP_TIDS * TID;
/// Where an element's value begins.
pub(crate) const VALUE: usize = 72;
/// Bytes of a value's length word.
pub(crate) const LENGTH_WORD: usize = 4;
/// Where a neighbour tuple's links begin.
pub(crate) const LINKS: usize = 4;

/// The highest line pointer an honest page can have: an element tuple and its neighbour tuple
/// of the smallest value there is (9 bytes, one bit) at the smallest m (2) take 128 bytes with
/// their line pointers, and always come in pairs.
pub const MAX_OFFSET: u16 = 127;

const _: () = {
    assert!(NEIGHBOR_TID + TID + 2 == VALUE);
    let pair = max_align(VALUE + 9) + max_align(LINKS + 2 * 2 * TID) + 2 * LINE_POINTER;
    assert!((PAGE_SIZE - PAGE_HEADER - SPECIAL) / pair * 2 < MAX_OFFSET as usize);
};

/// What the metapage says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Dimensions of the indexed column.
    pub dimensions: u32,
    /// Links of an element on every layer but the ground, where it has twice as many.
    pub m: u16,
    /// Breadth of the search that chose the links when the index was built.
    pub ef_construction: u16,
    /// The element every search starts from; none in an index that has never had a row.
    pub entry: Option<Tid>,
    /// The entry element's top layer as the metapage has it; −1 in an empty index.
    pub entry_level: i16,
    /// Where inserts begin to look for room.
    pub insert_page: u32,
}

impl Meta {
    /// Reads block 0. Fails with what is wrong with it.
    pub fn decode(page: &Page<'_>) -> Result<Self, String> {
        if !page.has_hnsw_id() {
            return Err("block 0 does not bear the page id of an HNSW index".into());
        }
        let page = page.0.bytes();
        let magic = u32_at(page, 24);
        if magic != MAGIC {
            return Err(format!(
                "the metapage begins with {magic:#010x}, not {MAGIC:#010x}"
            ));
        }
        let version = u32_at(page, 28);
        if version != VERSION {
            return Err(format!(
                "the metapage is of version {version}, not {VERSION}"
            ));
        }
        let m = u16_at(page, 36);
        if !(2..=100).contains(&m) {
            return Err(format!("the metapage has m = {m}, outside 2 to 100"));
        }
        let entry = Tid {
            block: u32_at(page, 40),
            offset: u16_at(page, 44),
        };
        Ok(Self {
            dimensions: u32_at(page, 32),
            m,
            ef_construction: u16_at(page, 38),
            entry: Some(entry).filter(|tid| tid.block != NO_BLOCK && tid.offset != 0),
            entry_level: u16_at(page, 46).cast_signed(),
            insert_page: u32_at(page, 48),
        })
    }
}

/// A page that holds tuples.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a>(RawPage<'a>);

/// A tuple of an HNSW index.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A vector.
    Element(Element<'a>),
    /// The links of a vector.
    Neighbors(Neighbors<'a>),
    /// Neither, or cut short.
    Malformed,
}

impl<'a> Page<'a> {
    /// Looks at a page; any bytes will do.
    pub fn new(bytes: &'a [u8; PAGE_SIZE]) -> Self {
        Self(RawPage::new(bytes))
    }

    /// The page without a look at its tuples.
    pub fn raw(&self) -> RawPage<'a> {
        self.0
    }

    /// Whether the special area has the id of an HNSW page.
    pub fn has_hnsw_id(&self) -> bool {
        self.0.page_id() == PAGE_ID
    }

    /// The tuple a line pointer leads to; none when it is unused or dead, and none past the
    /// last one or [`MAX_OFFSET`].
    pub fn item(&self, offset: u16) -> Option<Item<'a>> {
        if offset > MAX_OFFSET {
            return None;
        }
        let tuple = match self.0.pointed(offset)? {
            Pointed::NoTuple(_) => return None,
            Pointed::OutOfBounds => return Some(Item::Malformed),
            Pointed::Tuple(tuple) => tuple,
        };
        Some(match tuple.first() {
            Some(1) if tuple.len() >= VALUE + LENGTH_WORD => Item::Element(Element(tuple)),
            Some(2) if tuple.len() >= LINKS => {
                Neighbors::new(tuple).map_or(Item::Malformed, Item::Neighbors)
            }
            _ => Item::Malformed,
        })
    }

    /// The tuples of the page with their offsets, ascending; at most [`MAX_OFFSET`].
    pub fn items(&self) -> impl Iterator<Item = (u16, Item<'a>)> + use<'a> {
        let page = *self;
        (1..=page.0.line_pointers().min(MAX_OFFSET))
            .filter_map(move |offset| Some((offset, page.item(offset)?)))
    }
}

impl<'a> Page<'a> {
    /// The elements of the page, live and deleted, with where they are if it is this block.
    pub fn elements(&self, block: u32) -> impl Iterator<Item = (Tid, Element<'a>)> + use<'a> {
        self.items().filter_map(move |(offset, item)| match item {
            Item::Element(element) => Some((Tid { block, offset }, element)),
            _ => None,
        })
    }
}

/// An element tuple: a vector, the rows that have it, and where its links are.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a>(&'a [u8]);

impl<'a> Element<'a> {
    /// The highest layer the element is on.
    pub fn level(&self) -> u8 {
        self.0[1]
    }

    /// Whether vacuum has taken the element out; the slot waits for another.
    pub fn deleted(&self) -> bool {
        self.0[2] != 0
    }

    /// Counts the uses of the slot since pgvector 0.8.0; 0 before.
    pub fn version(&self) -> u8 {
        self.0[3]
    }

    /// The rows that have this vector, up to the first invalid slot, as pgvector reads them.
    pub fn heap_tids(&self) -> impl ExactSizeIterator<Item = HeapTid> + use<'a> {
        tids(&self.0[HEAP_TIDS..NEIGHBOR_TID])
            .map(|Tid { block, offset }| HeapTid { block, offset })
    }

    /// Where the links of the element are.
    pub fn neighbor_tid(&self) -> Tid {
        tid(&self.0[NEIGHBOR_TID..NEIGHBOR_TID + TID])
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether the value's length word can be true.
    pub fn has_sane_length(&self) -> bool {
        let word = u32_at(self.0, VALUE);
        let size = (word >> 2) as usize;
        word & 3 == 0 && (LENGTH_WORD..=self.0.len() - VALUE).contains(&size)
    }

    /// What follows the length word of the value, as far as the word says.
    pub fn value(&self) -> &'a [u8] {
        let size = self.value_size();
        &self.0[VALUE + LENGTH_WORD..VALUE + size.max(LENGTH_WORD)]
    }

    /// Bytes of the value by its own length word; what the tuple has room for where the word
    /// cannot be true.
    pub fn value_size(&self) -> usize {
        if self.has_sane_length() {
            (u32_at(self.0, VALUE) >> 2) as usize
        } else {
            self.0.len() - VALUE
        }
    }
}

/// A neighbour tuple: the links of an element, layer by layer.
#[derive(Debug, Clone, Copy)]
pub struct Neighbors<'a> {
    version: u8,
    slots: &'a [u8],
}

impl<'a> Neighbors<'a> {
    fn new(tuple: &'a [u8]) -> Option<Self> {
        let count = usize::from(u16_at(tuple, 2));
        Some(Self {
            version: tuple[1],
            slots: tuple.get(LINKS..LINKS + count * TID)?,
        })
    }

    /// Counts the uses of the slot since pgvector 0.8.0; 0 before.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Slots for links, on all layers together.
    pub fn count(&self) -> usize {
        self.slots.len() / TID
    }

    /// The tuple as the links of an element of `level` and `version`. None where pgvector 0.8
    /// would ignore it: the version differs, or the number of slots is not the level's.
    pub fn of(&self, level: u8, version: u8, m: u16) -> Option<Links<'a>> {
        let fits =
            self.version == version && self.count() == (usize::from(level) + 2) * usize::from(m);
        fits.then_some(Links {
            slots: self.slots,
            level,
            m,
        })
    }
}

/// The links of one element.
#[derive(Debug, Clone, Copy)]
pub struct Links<'a> {
    slots: &'a [u8],
    level: u8,
    m: u16,
}

impl<'a> Links<'a> {
    /// The highest layer the links are on.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The links of a layer, up to the first invalid slot, as pgvector 0.8 reads them. Nothing
    /// on a layer above the element's.
    pub fn layer(&self, layer: u8) -> impl ExactSizeIterator<Item = Tid> + Clone + use<'a> {
        let m = usize::from(self.m);
        let slots = match self.level.checked_sub(layer) {
            Some(above) => {
                let start = usize::from(above) * m * TID;
                let slots = if layer == 0 { 2 * m } else { m };
                &self.slots[start..start + slots * TID]
            }
            None => &[],
        };
        tids(slots)
    }
}

impl Links<'_> {
    /// Whether a layer has a link after its first invalid slot, which pgvector 0.8 never sees.
    pub fn has_hole(&self, layer: u8) -> bool {
        let m = usize::from(self.m);
        let Some(above) = self.level.checked_sub(layer) else {
            return false;
        };
        let start = usize::from(above) * m * TID;
        let slots = if layer == 0 { 2 * m } else { m };
        self.slots[start..start + slots * TID]
            .chunks_exact(TID)
            .skip(self.layer(layer).len())
            .any(|slot| u16_at(slot, 4) != 0)
    }
}

/// Tuple identifiers side by side, up to the first invalid one.
fn tids(bytes: &[u8]) -> impl ExactSizeIterator<Item = Tid> + Clone + use<'_> {
    let valid = |slot: &[u8]| u16_at(slot, 4) != 0;
    // Counted first, so that what follows knows how many there are.
    let count = bytes
        .chunks_exact(TID)
        .take_while(|slot| valid(slot))
        .count();
    bytes[..count * TID].chunks_exact(TID).map(tid)
}
