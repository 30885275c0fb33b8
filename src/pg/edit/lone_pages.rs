//! Pages of an index that nobody else uses: several change together, whole or not at all.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::relocation::Alone;
use ruvector_dag_healing_engine::vector_index::{PAGE_SIZE, PageSource, ReadError};

use super::hold::Hold;
use crate::pg::pages::OpenIndex;

/// Pages that a generic record of the log can be of.
const MOST_GENERIC: usize = pg_sys::MAX_GENERIC_XLOG_PAGES as usize;

/// The pages of an index under the lock with which nobody else uses it.
pub struct LonePages<'a> {
    hold: &'a mut Hold,
    /// How often one was read or written.
    pub touched: u64,
}

impl<'a> LonePages<'a> {
    /// Of an index that is held alone.
    pub fn of(hold: &'a mut Hold) -> Self {
        Self { hold, touched: 0 }
    }

    /// Whether somebody waits for it.
    pub fn are_waited_for(&self) -> bool {
        self.hold.is_waited_for()
    }
}

impl PageSource for LonePages<'_> {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        self.hold.pages().block_count()
    }

    fn read(
        &mut self,
        blocks: &mut dyn Iterator<Item = u32>,
        sink: &mut dyn FnMut(u32, &[u8; PAGE_SIZE]),
    ) -> Result<(), ReadError> {
        let touched = &mut self.touched;
        self.hold.pages().read(blocks, &mut |block, bytes| {
            *touched += 1;
            sink(block, bytes);
        })
    }
}

impl Alone for LonePages<'_> {
    /// Few pages in a generic record, of how they differ; many as whole images, as PostgreSQL logs
    /// pages that it fills itself.
    fn write(&mut self, pages: &[(u32, &[u8; PAGE_SIZE])]) -> Result<(), ReadError> {
        let index = self.hold.index();
        let end = index.blocks();
        let has_new = pages.iter().any(|(block, _)| *block >= end);
        let mut held = Vec::with_capacity(pages.len());
        for (block, page) in pages {
            held.push((hold(index, *block, end)?, *page));
        }
        match pages.len() <= MOST_GENERIC && !has_new {
            true => write_differences(index, &held),
            false => write_images(index, &held),
        }
        for (buffer, _) in held {
            // SAFETY: pinned and locked when it was asked for.
            unsafe { pg_sys::UnlockReleaseBuffer(buffer) };
        }
        self.touched += pages.len() as u64;
        Ok(())
    }
}

/// Has a page under its exclusive lock, one behind the end as a new one.
fn hold(index: &OpenIndex, block: u32, end: u32) -> Result<pg_sys::Buffer, ReadError> {
    let asked = match block < end {
        true => block,
        false => pg_sys::InvalidBlockNumber,
    };
    // SAFETY: the relation is open, and nobody else adds pages to it. An error aborts the transaction
    // and so lets go of the buffers.
    let (buffer, found) = unsafe {
        let buffer = pg_sys::ReadBuffer(index.relation(), asked);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
        (buffer, pg_sys::BufferGetBlockNumber(buffer))
    };
    match found == block {
        true => Ok(buffer),
        false => Err(ReadError::Unreadable {
            block,
            reason: format!("the next new page is {found}"),
        }),
    }
}

type Held<'a> = (pg_sys::Buffer, &'a [u8; PAGE_SIZE]);

fn write_differences(index: &OpenIndex, pages: &[Held<'_>]) {
    // SAFETY: the relation is open, the buffers are pinned and locked, and the copies that are changed
    // are whole pages.
    unsafe {
        let record = pg_sys::GenericXLogStart(index.relation());
        for (buffer, page) in pages {
            let copy = pg_sys::GenericXLogRegisterBuffer(record, *buffer, 0);
            *copy.cast::<[u8; PAGE_SIZE]>() = **page;
        }
        pg_sys::GenericXLogFinish(record);
    }
}

fn write_images(index: &OpenIndex, pages: &[Held<'_>]) {
    // SAFETY: the buffers are pinned and locked, and the copies are whole pages. Nothing between the
    // first byte written and the record can fail short of ending the server.
    unsafe {
        let images = pg_sys::REGBUF_FORCE_IMAGE | pg_sys::REGBUF_STANDARD;
        let is_logged = index.is_logged();
        pg_sys::XLogEnsureRecordSpace(pages.len() as i32 - 1, 0);
        pg_sys::CritSectionCount += 1;
        for (buffer, page) in pages {
            *bytes(*buffer) = **page;
            pg_sys::MarkBufferDirty(*buffer);
        }
        if is_logged {
            pg_sys::XLogBeginInsert();
            for (nth, (buffer, _)) in (0..).zip(pages) {
                pg_sys::XLogRegisterBuffer(nth, *buffer, images as u8);
            }
            let image = pg_sys::XLOG_FPI as u8;
            let end = pg_sys::XLogInsert(pg_sys::RmgrIds::RM_XLOG_ID as u8, image);
            for (buffer, _) in pages {
                set_lsn(&mut *bytes(*buffer), end);
            }
        }
        pg_sys::CritSectionCount -= 1;
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
