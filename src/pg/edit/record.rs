//! Pages that change together: one record of the log, made whole or not at all.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::vector_index::PAGE_SIZE;

use super::listed_page::ListedPage;
use crate::pg::pages::OpenIndex;

/// Pages that one record can be of.
const MOST_PAGES: usize = pg_sys::XLR_MAX_BLOCK_ID as usize;

/// A record that is being made of changes to pages, whole images of which are written to the log, as
/// PostgreSQL does with pages that it fills itself; nothing is changed unless it is finished. The
/// index is locked so that nobody else uses it, here or where the log is replayed.
pub struct Record<'a> {
    index: &'a OpenIndex,
    pages: Vec<Held>,
    looked_at: u64,
}

struct Held {
    block: u32,
    buffer: pg_sys::Buffer,
    page: ListedPage,
}

impl<'a> Record<'a> {
    /// Begins one.
    pub fn start(index: &'a OpenIndex) -> Self {
        Self {
            index,
            pages: Vec::new(),
            looked_at: 0,
        }
    }

    /// How many pages it and those finished before are of.
    pub fn pages(&self) -> u64 {
        self.looked_at
    }

    /// Finishes what there is where so many pages more could be too many.
    pub fn make_room(&mut self, more: usize) {
        if self.pages.len() + more > MOST_PAGES {
            self.finish();
        }
    }

    /// A page that is there.
    pub fn existing(&mut self, block: u32) -> &mut ListedPage {
        let nth = match self.pages.iter().position(|held| held.block == block) {
            Some(nth) => nth,
            None => self.hold(block),
        };
        &mut self.pages[nth].page
    }

    /// An empty page, the last of its chain: one that is in none, or at the end of the file. Tells where
    /// it is.
    pub fn added(&mut self, spare: Option<u32>) -> u32 {
        let block = match spare {
            Some(spare) => spare,
            None => {
                let nth = self.hold(pg_sys::InvalidBlockNumber);
                self.pages[nth].block
            }
        };
        self.existing(block).clear();
        block
    }

    /// Where the chain of a page goes on.
    pub fn next(&mut self, block: u32) -> Option<u32> {
        self.make_room(1);
        self.existing(block).next()
    }

    fn hold(&mut self, block: u32) -> usize {
        // SAFETY: the relation is open; a block past its end is an error, which aborts the transaction
        // and so lets go of the buffers. The page is read under its lock.
        let held = unsafe {
            let buffer = pg_sys::ReadBuffer(self.index.relation(), block);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
            Held {
                block: pg_sys::BufferGetBlockNumber(buffer),
                buffer,
                page: ListedPage::copied(|copy| copy.copy_from_slice(&*bytes(buffer))),
            }
        };
        self.pages.push(held);
        self.looked_at += 1;
        self.pages.len() - 1
    }

    /// Makes the changes, and begins anew.
    pub fn finish(&mut self) {
        let pages = self.pages.iter_mut();
        let changed: Vec<(pg_sys::Buffer, &[u8; PAGE_SIZE])> = pages
            .filter_map(|held| Some((held.buffer, held.page.changed()?)))
            .collect();
        if !changed.is_empty() {
            // SAFETY: the buffers are pinned and locked, and the copies are whole pages. Nothing between
            // the first byte written and the record can fail short of ending the server.
            unsafe {
                let images = pg_sys::REGBUF_FORCE_IMAGE | pg_sys::REGBUF_STANDARD;
                let is_logged = self.index.is_logged();
                pg_sys::XLogEnsureRecordSpace(MOST_PAGES as i32 - 1, 0);
                pg_sys::CritSectionCount += 1;
                for (buffer, page) in &changed {
                    (*bytes(*buffer)).copy_from_slice(*page);
                    pg_sys::MarkBufferDirty(*buffer);
                }
                if is_logged {
                    pg_sys::XLogBeginInsert();
                    for (nth, (buffer, _)) in (0..).zip(&changed) {
                        pg_sys::XLogRegisterBuffer(nth, *buffer, images as u8);
                    }
                    let image = pg_sys::XLOG_FPI as u8;
                    let end = pg_sys::XLogInsert(pg_sys::RmgrIds::RM_XLOG_ID as u8, image);
                    for (buffer, _) in &changed {
                        set_lsn(&mut *bytes(*buffer), end);
                    }
                }
                pg_sys::CritSectionCount -= 1;
            }
        }
        self.let_go();
    }

    fn let_go(&mut self) {
        for held in self.pages.drain(..) {
            // SAFETY: pinned and locked when it was asked for.
            unsafe { pg_sys::UnlockReleaseBuffer(held.buffer) };
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        // While an error unwinds, the end of the transaction lets go of everything.
        if !std::thread::panicking() {
            self.let_go();
        }
    }
}

/// The bytes of a page that is pinned.
///
/// # Safety
/// They are there as long as the buffer is pinned, and stand still as long as it is locked.
unsafe fn bytes(buffer: pg_sys::Buffer) -> *mut [u8; PAGE_SIZE] {
    // SAFETY: the caller has it pinned.
    unsafe { pg_sys::BufferGetPage(buffer).cast() }
}

/// Writes where the log ends that a page needs: the high half first.
fn set_lsn(page: &mut [u8; PAGE_SIZE], end: pg_sys::XLogRecPtr) {
    page[..4].copy_from_slice(&((end >> 32) as u32).to_ne_bytes());
    page[4..8].copy_from_slice(&(end as u32).to_ne_bytes());
}
