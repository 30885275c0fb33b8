//! Rows of a table as one of its indexes sees them: what the index would hold for a row.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::vector_index::HeapTid;

/// A table, open to form the values that an index has for its rows.
pub struct Rows {
    pub heap: pg_sys::Relation,
    pub index: pg_sys::Relation,
    pub info: *mut pg_sys::IndexInfo,
    pub slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
    known_blocks: u32,
}

impl Rows {
    /// Opens an index for the rows of a table.
    ///
    /// # Safety
    /// Inside a transaction; `heap` is open and is the index's table. A missing index raises.
    pub unsafe fn open(heap: pg_sys::Relation, index: u32) -> Self {
        // SAFETY: as the caller promises.
        unsafe {
            let index = pg_sys::index_open(index.into(), pg_sys::AccessShareLock as i32);
            let estate = pg_sys::CreateExecutorState();
            pg_sys::MakePerTupleExprContext(estate);
            Self {
                heap,
                index,
                info: pg_sys::BuildIndexInfo(index),
                slot: pg_sys::table_slot_create(heap, std::ptr::null_mut()),
                estate,
                known_blocks: 0,
            }
        }
    }

    /// Closes what was opened.
    ///
    /// # Safety
    /// In the same transaction, none of it closed yet.
    pub unsafe fn close(self) {
        // SAFETY: all of it was made by `open`.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::FreeExecutorState(self.estate);
            pg_sys::index_close(self.index, pg_sys::AccessShareLock as i32);
        }
    }

    /// The indexed value of the row at the root of a HOT chain, as the snapshot sees it.
    ///
    /// # Safety
    /// Inside a transaction with an active snapshot.
    pub unsafe fn value_of(&mut self, row: &HeapTid) -> Option<pg_sys::Datum> {
        // SAFETY: as the caller promises.
        unsafe {
            let (found, _) = self.fetch(row);
            if found { self.slot_value() } else { None }
        }
    }

    /// Whether no row of a HOT chain can be seen by anybody, now or ever again.
    ///
    /// # Safety
    /// Inside a transaction with an active snapshot.
    pub unsafe fn is_dead(&mut self, row: &HeapTid) -> bool {
        // SAFETY: as the caller promises.
        let (found, all_dead) = unsafe { self.fetch(row) };
        !found && all_dead
    }

    /// How many blocks the table has.
    pub fn blocks(&self) -> u32 {
        let main = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: the table is open.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.heap, main) }
    }

    /// Whether the table has a block. Asks for its end only where it was not as far before.
    pub fn has_block(&mut self, block: u32) -> bool {
        if block >= self.known_blocks {
            self.known_blocks = self.blocks();
        }
        block < self.known_blocks
    }

    /// Puts the row of a HOT chain that the snapshot sees into the slot: whether there is one, and
    /// else whether all of them are dead to everybody. Past the end of the table there are none: an
    /// index may name any row, and to read there would raise an error.
    ///
    /// # Safety
    /// Inside a transaction with an active snapshot.
    unsafe fn fetch(&mut self, row: &HeapTid) -> (bool, bool) {
        if !self.has_block(row.block) {
            return (false, true);
        }
        // SAFETY: the fetch is ended below; the slot belongs to the heap, and keeps its row pinned.
        unsafe {
            let mut tid = item_pointer(row);
            let (mut again, mut all_dead) = (false, false);
            let fetch = pg_sys::table_index_fetch_begin(self.heap);
            let found = pg_sys::table_index_fetch_tuple(
                fetch,
                &raw mut tid,
                pg_sys::GetActiveSnapshot(),
                self.slot,
                &raw mut again,
                &raw mut all_dead,
            );
            pg_sys::table_index_fetch_end(fetch);
            (found, all_dead)
        }
    }

    /// The indexed value of the row in the slot, copied out of it.
    ///
    /// # Safety
    /// The slot holds a row.
    pub unsafe fn slot_value(&mut self) -> Option<pg_sys::Datum> {
        // SAFETY: FormIndexDatum evaluates expressions against the per-tuple context's slot and
        // fills arrays of INDEX_MAX_KEYS.
        unsafe {
            let context = (*self.estate).es_per_tuple_exprcontext;
            (*context).ecxt_scantuple = self.slot;
            let mut values = [pg_sys::Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize];
            let mut nulls = [true; pg_sys::INDEX_MAX_KEYS as usize];
            pg_sys::FormIndexDatum(
                self.info,
                self.slot,
                self.estate,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            if nulls[0] {
                return None;
            }
            let copy = pg_sys::pg_detoast_datum_copy(values[0].cast_mut_ptr());
            Some(pg_sys::Datum::from(copy))
        }
    }
}

/// The place of a row as PostgreSQL has it.
pub fn item_pointer(row: &HeapTid) -> pg_sys::ItemPointerData {
    pg_sys::ItemPointerData {
        ip_blkid: pg_sys::BlockIdData {
            bi_hi: (row.block >> 16) as u16,
            bi_lo: row.block as u16,
        },
        ip_posid: row.offset,
    }
}

/// The place of a row that PostgreSQL names.
pub fn heap_tid(tid: &pg_sys::ItemPointerData) -> HeapTid {
    HeapTid {
        block: u32::from(tid.ip_blkid.bi_hi) << 16 | u32::from(tid.ip_blkid.bi_lo),
        offset: tid.ip_posid,
    }
}
