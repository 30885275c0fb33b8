//! A page of a list, copied to be changed.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::moves::entry_of;
use ruvector_dag_healing_engine::vector_index::ivfflat::layout::{
    INSERT_PAGE, PAGE_ID, has_id, lists,
};
use ruvector_dag_healing_engine::vector_index::page::RawPage;
use ruvector_dag_healing_engine::vector_index::{HeapTid, PAGE_SIZE};

/// Bytes at the end of a page: the next block of its chain, nothing, and the id.
const SPECIAL: usize = 8;

/// The bytes of a page, aligned as PostgreSQL wants them.
#[repr(C, align(8))]
struct Bytes([u8; PAGE_SIZE]);

/// A copy of a page. What is taken out of it stands there until it is settled, so that what is on it
/// stays where it was seen.
pub struct ListedPage {
    bytes: Box<Bytes>,
    is_changed: bool,
    gone: Vec<u16>,
}

impl ListedPage {
    /// The bytes that `read` fills in.
    pub fn copied(read: impl FnOnce(&mut [u8; PAGE_SIZE])) -> Self {
        let mut bytes = Box::new(Bytes([0; PAGE_SIZE]));
        read(&mut bytes.0);
        Self {
            bytes,
            is_changed: false,
            gone: Vec::new(),
        }
    }

    /// Makes it empty, and the last of its chain.
    pub fn clear(&mut self) {
        // SAFETY: a whole page.
        unsafe { pg_sys::PageInit(self.page(), PAGE_SIZE, SPECIAL) };
        self.gone.clear();
        self.lead_to(pg_sys::InvalidBlockNumber);
        self.write(PAGE_SIZE - 4, &[0, 0]);
        self.write(PAGE_SIZE - 2, &PAGE_ID.to_le_bytes());
    }

    fn page(&mut self) -> pg_sys::Page {
        self.is_changed = true;
        self.bytes.0.as_mut_ptr().cast()
    }

    /// As it is, with what was taken out and not settled.
    pub fn raw(&self) -> RawPage<'_> {
        RawPage::new(&self.bytes.0)
    }

    /// Whether it is a page of an IVFFlat index whose header makes sense.
    pub fn is_sound(&self) -> bool {
        has_id(&self.raw()) && self.raw().has_sane_header()
    }

    /// Whether half of it or more is free.
    pub fn is_half_empty(&self) -> bool {
        self.free() >= PAGE_SIZE / 2
    }

    fn free(&self) -> usize {
        // SAFETY: a whole page, which is not changed.
        unsafe { pg_sys::PageGetFreeSpace(self.bytes.0.as_ptr().cast_mut().cast()) }
    }

    /// Where its chain goes on.
    pub fn next(&self) -> Option<u32> {
        self.raw().next_block()
    }

    /// Has its chain go on at a block.
    pub fn lead_to(&mut self, block: u32) {
        self.write(PAGE_SIZE - SPECIAL, &block.to_le_bytes());
    }

    /// Of a page of lists: has inserts into one begin at another page if they begin at `block`. `false`:
    /// it is no such page.
    pub fn inserts_begin_elsewhere(&mut self, list: u16, block: u32, other: u32) -> bool {
        if !self.is_sound() {
            return false;
        }
        let found = lists(&self.raw()).find(|(offset, _)| *offset == list);
        let begins = found.map(|(_, list)| list.insert);
        let (Some(begins), Some((start, ..))) = (begins, self.raw().line_pointer(list)) else {
            return false;
        };
        if begins == block {
            self.write(start + INSERT_PAGE, &other.to_le_bytes());
        }
        true
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.is_changed = true;
        self.bytes.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The entry of a row, if it is there; most likely where it was seen.
    pub fn entry(&self, row: HeapTid, seen: u16) -> Option<Entry> {
        let (offset, bytes) = entry_of(&self.raw(), row, seen)?;
        let is_there = self.is_sound() && !self.gone.contains(&offset);
        is_there.then(|| Entry::new(offset, bytes))
    }

    /// Adds an entry if there is room.
    pub fn add(&mut self, entry: &Entry) -> bool {
        if self.free() < entry.words.len() * 8 {
            return false;
        }
        let tuple = entry.words.as_ptr().cast_mut().cast();
        let last = pg_sys::InvalidOffsetNumber;
        // SAFETY: the page is whole, and its header was looked at.
        let added =
            unsafe { pg_sys::PageAddItemExtended(self.page(), tuple, entry.length, last, 0) };
        added != pg_sys::InvalidOffsetNumber
    }

    /// Takes an entry out that is there.
    pub fn remove(&mut self, entry: &Entry) {
        self.is_changed = true;
        self.gone.push(entry.offset);
    }

    /// What stands behind entries that were taken out moves up.
    pub fn settle(&mut self) {
        let mut gone = std::mem::take(&mut self.gone);
        if gone.is_empty() {
            return;
        }
        gone.sort_unstable();
        // SAFETY: the entries were found there, each once; a damaged page is an error.
        unsafe {
            pg_sys::PageIndexMultiDelete(self.page(), gone.as_mut_ptr(), gone.len() as i32);
        }
    }

    /// What is to be written, if it was changed.
    pub fn changed(&mut self) -> Option<&[u8; PAGE_SIZE]> {
        self.settle();
        self.is_changed.then_some(&self.bytes.0)
    }
}

/// An entry copied out of its page, aligned as PostgreSQL wants it.
pub struct Entry {
    offset: u16,
    words: Vec<u64>,
    length: usize,
}

impl Entry {
    fn new(offset: u16, bytes: &[u8]) -> Self {
        let (whole, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let words = whole.iter().chain((!rest.is_empty()).then_some(&last));
        Self {
            offset,
            words: words.map(|word| u64::from_ne_bytes(*word)).collect(),
            length: bytes.len(),
        }
    }
}
