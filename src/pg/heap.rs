//! The table of an index, in one snapshot, for comparing the two.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ops::Range;

use pgrx::prelude::*;
use ruvector_dag_healing_engine::vector_index::heap::{Root, root};
use ruvector_dag_healing_engine::vector_index::page::RawPage;
use ruvector_dag_healing_engine::vector_index::table::{RowSink, RowSource};
use ruvector_dag_healing_engine::vector_index::{HeapTid, PAGE_SIZE, ReadError};

use super::pages::copy_block;
use super::privilege::as_table_owner;
use super::rows::{Rows, heap_tid};
use super::shmem::Phase;
use super::{compat, lifecycle, progress};

/// A table, open under `AccessShareLock` with a snapshot of its own until it is closed.
pub struct Table {
    rows: Rows,
    snapshot: pg_sys::Snapshot,
    /// Where values of rows are formed; emptied before each.
    memory: pg_sys::MemoryContext,
    value: Vec<u8>,
    strategy: pg_sys::BufferAccessStrategy,
    page: Box<[u8; PAGE_SIZE]>,
}

/// Runs `work` with a table as one of its indexes sees it, acting as its owner. `None`: its pages
/// are not PostgreSQL's own.
pub fn with_table<T>(table: u32, index: u32, work: impl FnOnce(&mut Table) -> T) -> Option<T> {
    // SAFETY: inside a transaction; what is opened here is closed here, or by its abort.
    unsafe {
        let heap = pg_sys::table_open(table.into(), pg_sys::AccessShareLock as i32);
        let is_heap = (*(*heap).rd_rel).relam == pg_sys::HEAP_TABLE_AM_OID;
        let done = is_heap.then(|| {
            as_table_owner(&*heap, || {
                let mut open = Table::open(heap, index);
                let done = work(&mut open);
                open.close();
                done
            })
        });
        // The lock stays until the transaction ends.
        pg_sys::table_close(heap, pg_sys::NoLock as i32);
        done
    }
}

impl Table {
    /// Opens the table for the rows of one of its indexes. The snapshot is the latest there is,
    /// whatever the transaction's: of an older one the index may lack rows by right.
    ///
    /// # Safety
    /// Inside a transaction, acting as the table's owner; `heap` is open until `close`, and is
    /// the index's table.
    unsafe fn open(heap: pg_sys::Relation, index: u32) -> Self {
        // SAFETY: as the caller promises; all of it goes by `close` or with the transaction.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            pg_sys::PushActiveSnapshot(snapshot);
            let rows = Rows::open(heap, index);
            // So that the scan takes the rows that a snapshot sees, as CREATE INDEX CONCURRENTLY.
            (*rows.info).ii_Concurrent = true;
            (*rows.info).ii_Unique = false;
            Self {
                rows,
                snapshot,
                memory: compat::new_memory_context(c"values of rows"),
                value: Vec::new(),
                strategy: pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD),
                page: Box::new([0; PAGE_SIZE]),
            }
        }
    }

    /// Closes what was opened, but for the table.
    ///
    /// # Safety
    /// In the same transaction.
    unsafe fn close(self) {
        // SAFETY: all of it was made by `open`.
        unsafe {
            pg_sys::FreeAccessStrategy(self.strategy);
            pg_sys::MemoryContextDelete(self.memory);
            self.rows.close();
            pg_sys::PopActiveSnapshot();
            pg_sys::UnregisterSnapshot(self.snapshot);
        }
    }

    /// Puts those of `rows` into the index that are visible and belong into it, as an insert does;
    /// returns how many. None of them is in the index, the lock on the table is held that keeps
    /// vacuum away, and the caller may write to the index.
    pub fn insert(&mut self, rows: &BTreeSet<HeapTid>) -> u64 {
        let mut blocks: Vec<u32> = rows.iter().map(|row| row.block).collect();
        blocks.dedup();
        let mut inserting = Inserting {
            rows,
            heap: self.rows.heap,
            info: self.rows.info,
            inserted: 0,
        };
        for block in blocks {
            if self.rows.has_block(block) {
                let state = (&raw mut inserting).cast();
                // SAFETY: the state outlives the scan.
                unsafe { self.scan(block..block + 1, Some(inserted), state) };
            }
        }
        inserting.inserted
    }

    /// Has `callback` hear of the rows on some blocks that the index should have.
    ///
    /// # Safety
    /// `callback` takes `state`, which outlives this.
    unsafe fn scan(
        &self,
        blocks: Range<u32>,
        callback: pg_sys::IndexBuildCallback,
        state: *mut c_void,
    ) {
        // SAFETY: the scan is of an MVCC snapshot that stays registered, and is ended by the
        // function that runs it.
        unsafe {
            let (allow_strategy, allow_sync) = (true, false);
            let scan = pg_sys::table_beginscan_strat(
                self.rows.heap,
                self.snapshot,
                0,
                std::ptr::null_mut(),
                allow_strategy,
                allow_sync,
            );
            pg_sys::table_index_build_range_scan(
                self.rows.heap,
                self.rows.index,
                self.rows.info,
                allow_sync,
                false,
                false,
                blocks.start,
                blocks.end - blocks.start,
                callback,
                state,
                scan,
            );
        }
    }

    /// The table itself, open as long as this is.
    pub fn relation(&self) -> pg_sys::Relation {
        self.rows.heap
    }
}

impl RowSource for Table {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        Ok(self.rows.blocks())
    }

    fn row_count(&self) -> u64 {
        // SAFETY: the relation is open. Unknown before the first vacuum or analyze: then as many
        // as there may be.
        let rows = unsafe { (*(*self.rows.heap).rd_rel).reltuples };
        if rows < 0.0 { u64::MAX } else { rows as u64 }
    }

    fn rows(&mut self, blocks: Range<u32>, sink: &mut RowSink<'_>) -> Result<(), ReadError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let mut listener = Listener {
            sink,
            memory: self.memory,
            // SAFETY: the index is open.
            index: unsafe { (*self.rows.index).rd_id.to_u32() },
            total: u64::from(self.rows.blocks()),
            noted: 0,
        };
        // SAFETY: the listener outlives the scan.
        unsafe { self.scan(blocks, Some(heard), (&raw mut listener).cast()) };
        Ok(())
    }

    fn value(&mut self, row: HeapTid) -> Result<Option<&[u8]>, ReadError> {
        lifecycle::interrupts();
        // SAFETY: the context is switched back; what is formed in it is copied before it is
        // emptied.
        unsafe {
            pg_sys::MemoryContextReset(self.memory);
            let before = pg_sys::MemoryContextSwitchTo(self.memory);
            let value = self.rows.value_of(&row);
            pg_sys::MemoryContextSwitchTo(before);
            Ok(value.map(|value| {
                self.value.clear();
                self.value.extend_from_slice(contents(value));
                &self.value[..]
            }))
        }
    }

    fn is_dead(&mut self, row: HeapTid) -> Result<bool, ReadError> {
        // SAFETY: the table is open, its snapshot active.
        Ok(unsafe { self.rows.is_dead(&row) })
    }

    fn root(&mut self, row: HeapTid) -> Result<Root, ReadError> {
        if !self.rows.has_block(row.block) {
            return Ok(Root::PastEnd);
        }
        // SAFETY: the table is open and has the block.
        unsafe { copy_block(self.rows.heap, self.strategy, row.block, &mut self.page) };
        Ok(root(&RawPage::new(&self.page), row.offset))
    }
}

/// What follows the length word of a value that is not packed, compressed or elsewhere.
///
/// # Safety
/// `value` points to such a value, which stays where it is for `'a`.
unsafe fn contents<'a>(value: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: as the caller promises.
    unsafe {
        let value = value.cast_mut_ptr::<pg_sys::varlena>();
        let size = pgrx::varsize_any_exhdr(value);
        std::slice::from_raw_parts(pgrx::vardata_any(value).cast(), size)
    }
}

/// Who hears of the rows of a scan.
struct Listener<'a> {
    sink: &'a mut RowSink<'a>,
    memory: pg_sys::MemoryContext,
    index: u32,
    total: u64,
    noted: u32,
}

/// Pages of the table after which progress is noted.
const NOTED_EACH: u32 = 128;

#[pg_guard]
unsafe extern "C-unwind" fn heard(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    _alive: bool,
    listener: *mut c_void,
) {
    lifecycle::interrupts();
    // SAFETY: called by the scan above with a row's place and the values formed for it.
    unsafe {
        if *nulls {
            return;
        }
        let listener = &mut *listener.cast::<Listener>();
        let (value, memory) = (*values, listener.memory);
        let contents = || {
            pg_sys::MemoryContextReset(memory);
            let before = pg_sys::MemoryContextSwitchTo(memory);
            let plain = pg_sys::pg_detoast_datum_copy(value.cast_mut_ptr());
            pg_sys::MemoryContextSwitchTo(before);
            contents(pg_sys::Datum::from(plain)).to_vec()
        };
        let row = heap_tid(&*tid);
        if row.block >= listener.noted.saturating_add(NOTED_EACH) {
            listener.noted = row.block;
            let done = u64::from(row.block);
            progress::note(listener.index, Phase::Table, done, listener.total);
        }
        (listener.sink)(row, &contents);
    }
}

/// Rows being put into an index.
struct Inserting<'a> {
    rows: &'a BTreeSet<HeapTid>,
    heap: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    inserted: u64,
}

#[pg_guard]
unsafe extern "C-unwind" fn inserted(
    index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    _alive: bool,
    state: *mut c_void,
) {
    lifecycle::interrupts();
    // SAFETY: called by the scan above with a row's place and the values formed for it; neither a
    // lock on a page nor one on a buffer is held.
    unsafe {
        let state = &mut *state.cast::<Inserting>();
        if *nulls || !state.rows.contains(&heap_tid(&*tid)) {
            return;
        }
        pg_sys::index_insert(
            index,
            values,
            nulls,
            tid,
            state.heap,
            pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
            false,
            state.info,
        );
        state.inserted += 1;
    }
}
