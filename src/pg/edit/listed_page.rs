//! Pages of lists that change together: one record of the log, made whole or not at all.

use std::cell::RefCell;
use std::marker::PhantomData;

use pgrx::pg_sys;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::moves::entry_of;
use ruvector_dag_healing_engine::vector_index::ivfflat::layout::{
    INSERT_PAGE, PAGE_ID, has_id, lists,
};
use ruvector_dag_healing_engine::vector_index::page::RawPage;
use ruvector_dag_healing_engine::vector_index::{HeapTid, PAGE_SIZE};

use crate::pg::pages::OpenIndex;

/// Bytes at the end of a page: the next block of its chain, nothing, and the id.
const SPECIAL: usize = 8;

/// A record that is being made of changes to a few pages, four at most; nothing is changed unless it
/// is finished. The index is locked so that nobody else uses it.
pub struct Record<'a> {
    index: &'a OpenIndex,
    state: *mut pg_sys::GenericXLogState,
    buffers: RefCell<Vec<pg_sys::Buffer>>,
}

impl<'a> Record<'a> {
    /// Begins one.
    pub fn start(index: &'a OpenIndex) -> Self {
        // SAFETY: the relation is open longer than this lives.
        let state = unsafe { pg_sys::GenericXLogStart(index.relation()) };
        Self {
            index,
            state,
            buffers: RefCell::default(),
        }
    }

    /// A page that is there, each asked for once.
    pub fn existing(&self, block: u32) -> ListedPage<'_> {
        self.page(block, 0)
    }

    /// An empty page, the last of its chain: one that is in none, or at the end of the file.
    pub fn added(&self, spare: Option<u32>) -> ListedPage<'_> {
        let block = spare.unwrap_or(pg_sys::InvalidBlockNumber);
        let page = self.page(block, pg_sys::GENERIC_XLOG_FULL_IMAGE as i32);
        // SAFETY: the copy is a whole page.
        unsafe { pg_sys::PageInit(page.copy, PAGE_SIZE, SPECIAL) };
        page.lead_to(pg_sys::InvalidBlockNumber);
        page.write(PAGE_SIZE - 4, &[0, 0]);
        page.write(PAGE_SIZE - 2, &PAGE_ID.to_le_bytes());
        page
    }

    fn page(&self, block: u32, flags: i32) -> ListedPage<'_> {
        // SAFETY: the relation is open; a block past its end is an error, which aborts the transaction
        // and so lets go of the buffers.
        unsafe {
            let buffer = pg_sys::ReadBuffer(self.index.relation(), block);
            self.buffers.borrow_mut().push(buffer);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
            ListedPage {
                block: pg_sys::BufferGetBlockNumber(buffer),
                copy: pg_sys::GenericXLogRegisterBuffer(self.state, buffer, flags),
                of: PhantomData,
            }
        }
    }

    /// Makes the changes.
    pub fn finish(mut self) {
        // SAFETY: begun and not ended; nothing looks at the copies any more.
        unsafe {
            pg_sys::GenericXLogFinish(std::mem::replace(&mut self.state, std::ptr::null_mut()))
        };
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        // While an error unwinds, the end of the transaction lets go of everything.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: begun, and ended once; the buffers were locked and pinned when they were asked for.
        unsafe {
            if !self.state.is_null() {
                pg_sys::GenericXLogAbort(self.state);
            }
            for buffer in self.buffers.get_mut().drain(..) {
                pg_sys::UnlockReleaseBuffer(buffer);
            }
        }
    }
}

/// A page, and the copy of it that is changed.
pub struct ListedPage<'a> {
    block: u32,
    copy: pg_sys::Page,
    of: PhantomData<&'a ()>,
}

impl ListedPage<'_> {
    /// Where it is.
    pub fn block(&self) -> u32 {
        self.block
    }

    /// Its bytes.
    pub fn raw(&self) -> RawPage<'_> {
        // SAFETY: a whole page, which lives as long as the record.
        RawPage::new(unsafe { &*self.copy.cast::<[u8; PAGE_SIZE]>() })
    }

    /// Whether it is a page of an IVFFlat index whose header makes sense.
    pub fn is_sound(&self) -> bool {
        has_id(&self.raw()) && self.raw().has_sane_header()
    }

    /// Whether half of it or more is free.
    pub fn is_half_empty(&self) -> bool {
        // SAFETY: a whole page.
        unsafe { pg_sys::PageGetFreeSpace(self.copy) >= PAGE_SIZE / 2 }
    }

    /// Where its chain goes on.
    pub fn next(&self) -> Option<u32> {
        self.raw().next_block()
    }

    /// Has its chain go on at a block.
    pub fn lead_to(&self, block: u32) {
        self.write(PAGE_SIZE - SPECIAL, &block.to_le_bytes());
    }

    /// Of a page of lists: has inserts into one begin at another page if they begin at `block`. `false`:
    /// it is no such page.
    pub fn inserts_begin_elsewhere(&self, list: u16, block: u32, other: u32) -> bool {
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

    /// Writes where there is nothing that `raw` shows to anybody meanwhile.
    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= PAGE_SIZE);
        // SAFETY: within the page, of which nobody holds a view.
        unsafe {
            let to = self.copy.cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Adds an entry if there is room.
    pub fn add(&self, entry: &Entry) -> bool {
        // SAFETY: the page is whole, and its header was looked at.
        unsafe {
            if pg_sys::PageGetFreeSpace(self.copy) < entry.words.len() * 8 {
                return false;
            }
            let tuple = entry.words.as_ptr().cast_mut().cast();
            let last = pg_sys::InvalidOffsetNumber;
            let added = pg_sys::PageAddItemExtended(self.copy, tuple, entry.length, last, 0);
            added != pg_sys::InvalidOffsetNumber
        }
    }

    /// Takes an entry out that is there; those behind it move up.
    pub fn remove(&self, entry: &Entry) {
        // SAFETY: the entry was found there; a damaged page is an error.
        unsafe { pg_sys::PageIndexTupleDelete(self.copy, entry.offset) }
    }
}

/// An entry copied out of its page, aligned as PostgreSQL wants it.
pub struct Entry {
    offset: u16,
    words: Vec<u64>,
    length: usize,
}

impl Entry {
    /// That of a row, if it is there.
    pub fn copied(page: &ListedPage<'_>, row: HeapTid) -> Option<Self> {
        let page = page.raw();
        let (offset, bytes) = entry_of(&page, row)?;
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        for (word, eight) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..eight.len()].copy_from_slice(eight);
            *word = u64::from_ne_bytes(padded);
        }
        Some(Self {
            offset,
            words,
            length: bytes.len(),
        })
    }
}
