//! Which rows of a table are gone for good, asked in the background.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::hnsw::heal::Graveyard;
use ruvector_dag_healing_engine::vector_index::{HeapTid, ReadError};

use super::pages::not_read;
use super::rows::item_pointer;
use super::throttle::Throttle;
use super::xact::{Snapshot, transaction};

/// Pages of the table looked at before everything is let go of.
const BATCH: usize = 256;

/// A table, looked at in batches, each a transaction of its own.
pub struct BackgroundTable<'a> {
    table: u32,
    throttle: Throttle,
    /// Whether to give up, asked between batches.
    stop: &'a dyn Fn() -> bool,
}

impl<'a> BackgroundTable<'a> {
    /// The table of an index, of which at most `limit_mb` megabytes a second are read (0: as fast
    /// as it can).
    pub fn new(index: &IndexInfo, limit_mb: u64, stop: &'a dyn Fn() -> bool) -> Self {
        Self {
            table: index.table_oid,
            throttle: Throttle::new(limit_mb),
            stop,
        }
    }
}

impl Graveyard for BackgroundTable<'_> {
    fn are_gone(&mut self, rows: &[HeapTid], gone: &mut Vec<bool>) -> Result<(), ReadError> {
        let mut pages = rows.chunk_by(|a, b| a.block == b.block).peekable();
        while pages.peek().is_some() {
            let read = look(self.table, pages.by_ref().take(BATCH), gone);
            self.throttle.read(read.map_err(not_read)?, self.stop)?;
        }
        Ok(())
    }
}

/// Looks at rows, page by page; tells how many pages were read.
fn look<'a>(
    table: u32,
    pages: impl Iterator<Item = &'a [HeapTid]>,
    gone: &mut Vec<bool>,
) -> Result<u64, PortError> {
    transaction(Snapshot::Active, || {
        let mode = pg_sys::AccessShareLock as i32;
        // SAFETY: inside a transaction, at whose end the lock goes. Never queues.
        if !unsafe { pg_sys::ConditionalLockRelationOid(table.into(), mode) } {
            return Err(PortError::Busy("the table is in use".into()));
        }
        // SAFETY: locked above; closed below, or by an abort.
        let heap = unsafe { pg_sys::try_relation_open(table.into(), pg_sys::NoLock as i32) };
        if heap.is_null() {
            return Err(PortError::Gone("the table".into()));
        }
        // SAFETY: the relation is open.
        let (is_heap, blocks) = unsafe {
            let main = pg_sys::ForkNumber::MAIN_FORKNUM;
            (
                (*(*heap).rd_rel).relam == pg_sys::HEAP_TABLE_AM_OID,
                pg_sys::RelationGetNumberOfBlocksInFork(heap, main),
            )
        };
        let mut read = 0;
        for rows in pages {
            let block = rows.first().map_or(u32::MAX, |row| row.block);
            if !is_heap || block >= blocks {
                // Of other tables nothing is known, and what is past the end is no row's place.
                gone.extend(rows.iter().map(|_| false));
                continue;
            }
            // SAFETY: the relation is open and has the block.
            unsafe { look_at_page(heap, block, rows, gone) };
            read += 1;
        }
        // SAFETY: opened above; its lock goes with the transaction.
        unsafe { pg_sys::relation_close(heap, pg_sys::NoLock as i32) };
        Ok(read)
    })
}

/// Looks at the rows of one page.
///
/// # Safety
/// Inside a transaction with an active snapshot; `heap` is an open heap that has the block.
unsafe fn look_at_page(heap: pg_sys::Relation, block: u32, rows: &[HeapTid], gone: &mut Vec<bool>) {
    // SAFETY: as the caller promises; the buffer is pinned and locked while rows are looked at,
    // and an error lets go of it with the transaction.
    unsafe {
        let snapshot = pg_sys::GetActiveSnapshot();
        let buffer = pg_sys::ReadBuffer(heap, block);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        for row in rows {
            let mut tid = item_pointer(row);
            let mut tuple = pg_sys::HeapTupleData::default();
            let mut all_dead = false;
            let found = pg_sys::heap_hot_search_buffer(
                &raw mut tid,
                heap,
                buffer,
                snapshot,
                &raw mut tuple,
                &raw mut all_dead,
                true,
            );
            gone.push(!found && all_dead);
        }
        pg_sys::UnlockReleaseBuffer(buffer);
    }
}
