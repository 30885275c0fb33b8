//! A page of a list, copied to be changed.

use crate::vector_index::HeapTid;
use crate::vector_index::PAGE_SIZE;
use crate::vector_index::ivfflat::layout::{INSERT_PAGE, PAGE_ID, entry, has_id, lists};
use crate::vector_index::page::{
    LINE_POINTER, NO_BLOCK, PAGE_HEADER, Pointed, RawPage, SPECIAL, max_align,
};

/// Bytes for entries and their line pointers.
pub const ROOM: usize = PAGE_SIZE - PAGE_HEADER - SPECIAL;
/// What PostgreSQL writes behind the size of a page: the version of its layout.
const LAYOUT_VERSION: u16 = 4;

/// Bytes that an entry takes with its line pointer.
pub fn taken(entry: usize) -> usize {
    max_align(entry) + LINE_POINTER
}

/// A copy of a page. What is taken out of it stands there until it is settled, so that what is on it
/// stays where it was seen.
pub struct ListedPage {
    bytes: Box<[u8; PAGE_SIZE]>,
    is_changed: bool,
    gone: Vec<u16>,
}

impl ListedPage {
    /// Of a page with these bytes.
    pub fn of(bytes: &[u8; PAGE_SIZE]) -> Self {
        Self {
            bytes: Box::new(*bytes),
            is_changed: false,
            gone: Vec::new(),
        }
    }

    /// An empty one, the last of its chain.
    pub fn empty() -> Self {
        let bytes = vec![0; PAGE_SIZE].into_boxed_slice().try_into();
        let mut page = Self {
            bytes: bytes.unwrap_or_else(|_| Box::new([0; PAGE_SIZE])),
            is_changed: true,
            gone: Vec::new(),
        };
        let special = (PAGE_SIZE - SPECIAL) as u16;
        page.write(12, &(PAGE_HEADER as u16).to_le_bytes());
        page.write(14, &special.to_le_bytes());
        page.write(16, &special.to_le_bytes());
        let version = PAGE_SIZE as u16 | LAYOUT_VERSION;
        page.write(18, &version.to_le_bytes());
        page.lead_to(None);
        page.write(PAGE_SIZE - 2, &PAGE_ID.to_le_bytes());
        page
    }

    /// As it is, with what was taken out and not settled.
    pub fn raw(&self) -> RawPage<'_> {
        RawPage::new(&self.bytes)
    }

    /// Whether it is a page of an IVFFlat index whose header makes sense.
    pub fn is_sound(&self) -> bool {
        has_id(&self.raw()) && self.raw().has_sane_header()
    }

    /// Where its chain goes on.
    pub fn next(&self) -> Option<u32> {
        self.raw().next_block()
    }

    /// Has its chain go on at a block, or end.
    pub fn lead_to(&mut self, block: Option<u32>) {
        let block = block.unwrap_or(NO_BLOCK);
        self.write(PAGE_SIZE - SPECIAL, &block.to_le_bytes());
    }

    /// Of a page of lists: has inserts into one begin at another page if they begin at one of `gone`.
    /// `false`: it is no such page.
    pub fn inserts_begin_elsewhere(&mut self, list: u16, gone: &[u32], other: u32) -> bool {
        if !self.is_sound() {
            return false;
        }
        let found = lists(&self.raw()).find(|(offset, _)| *offset == list);
        let begins = found.map(|(_, list)| list.insert);
        let (Some(begins), Some((start, ..))) = (begins, self.raw().line_pointer(list)) else {
            return false;
        };
        if gone.contains(&begins) {
            self.write(start + INSERT_PAGE, &other.to_le_bytes());
        }
        true
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.is_changed = true;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The line pointer of a row's entry, if it is there, most likely that where it was seen, and the
    /// bytes of the entry.
    pub fn entry(&self, row: HeapTid, seen: u16) -> Option<(u16, &[u8])> {
        let page = self.raw();
        let is_of = |offset: u16| match page.pointed(offset)? {
            Pointed::Tuple(tuple) => (entry(tuple)?.row == row).then_some((offset, tuple)),
            _ => None,
        };
        let others = || (1..=page.line_pointers()).find_map(is_of);
        let found = is_of(seen).or_else(others);
        found.filter(|(offset, _)| self.is_sound() && !self.gone.contains(offset))
    }

    /// What is on it.
    pub fn tuples(&self) -> Vec<Vec<u8>> {
        let page = self.raw();
        let pointed = (1..=page.line_pointers()).filter_map(|offset| page.pointed(offset));
        let tuples = pointed.filter_map(|pointed| match pointed {
            Pointed::Tuple(tuple) => Some(tuple.to_vec()),
            _ => None,
        });
        tuples.collect()
    }

    /// Whether there is room for all of these on the page, which is sound.
    pub fn has_room_for(&self, entries: &[Vec<u8>]) -> bool {
        let wanted: usize = entries.iter().map(|entry| taken(entry.len())).sum();
        self.raw().upper() - self.raw().lower() >= wanted
    }

    /// Adds an entry behind the others if there is room on the page, which is sound.
    pub fn add(&mut self, entry: &[u8]) -> bool {
        let (lower, upper) = (self.raw().lower(), self.raw().upper());
        if upper - lower < taken(entry.len()) {
            return false;
        }
        let start = upper - max_align(entry.len());
        let (used, length) = (1 << 15, (entry.len() as u32) << 17);
        let pointer = start as u32 | used | length;
        self.write(lower, &pointer.to_le_bytes());
        self.write(start, entry);
        self.write(12, &((lower + LINE_POINTER) as u16).to_le_bytes());
        self.write(14, &(start as u16).to_le_bytes());
        true
    }

    /// Takes an entry out that is there.
    pub fn remove(&mut self, offset: u16) {
        self.is_changed = true;
        self.gone.push(offset);
    }

    /// What stands behind entries that were taken out moves up. `false`: not all of it is entries beside one
    /// another, of which each would have room.
    pub fn settle(&mut self) -> bool {
        if self.gone.is_empty() {
            return true;
        }
        let gone = std::mem::take(&mut self.gone);
        let mut left = Self::empty();
        left.write(0, &self.bytes[..12]);
        left.lead_to(self.next());
        for offset in (1..=self.raw().line_pointers()).filter(|offset| !gone.contains(offset)) {
            match self.raw().pointed(offset) {
                Some(Pointed::Tuple(tuple)) if left.add(tuple) => {}
                _ => return false,
            }
        }
        *self = left;
        true
    }

    /// What is to be written, if it was changed.
    pub fn changed(&self) -> Option<&[u8; PAGE_SIZE]> {
        self.is_changed.then_some(&self.bytes)
    }
}
