//! Searches through the access method, on an index that the planner need not know.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::HeapTid;

use super::compat;
use super::rows::{Rows, heap_tid};

/// Strategy of a distance operator in pgvector's operator classes.
const DISTANCE: i16 = 1;

/// One index, open for searching.
pub struct Searcher {
    pub rows: Rows,
    distance: pg_sys::Oid,
    collation: pg_sys::Oid,
}

impl Searcher {
    /// Opens an index of a table.
    ///
    /// # Safety
    /// Inside a transaction; `heap` is open and is the index's table.
    pub unsafe fn open(heap: pg_sys::Relation, index: u32) -> Result<Self, PortError> {
        // SAFETY: as the caller promises; a missing index raises an error.
        unsafe {
            let rows = Rows::open(heap, index);
            let index = rows.index;
            let input = *(*index).rd_opcintype;
            let operator =
                pg_sys::get_opfamily_member(*(*index).rd_opfamily, input, input, DISTANCE);
            if operator == pg_sys::InvalidOid {
                return Err(PortError::Failed(
                    "the index has no distance operator".into(),
                ));
            }
            Ok(Self {
                distance: pg_sys::get_opcode(operator),
                collation: *(*index).rd_indcollation,
                rows,
            })
        }
    }

    /// Closes what was opened.
    ///
    /// # Safety
    /// In the same transaction.
    pub unsafe fn close(self) {
        // SAFETY: opened by `open`.
        unsafe { self.rows.close() }
    }

    /// The distance that statements see.
    ///
    /// # Safety
    /// Both are values of the indexed type.
    pub unsafe fn distance(&self, a: pg_sys::Datum, b: pg_sys::Datum) -> f64 {
        // SAFETY: pgvector's distance operators take two values and return float8.
        unsafe {
            let distance = pg_sys::OidFunctionCall2Coll(self.distance, self.collation, a, b);
            f64::from_bits(distance.value() as u64)
        }
    }

    /// Shows `each` the nearest rows that the index finds, `k` at most, by the heads of their
    /// chains, which is what an index stores; the row itself is in the slot.
    ///
    /// # Safety
    /// Inside a transaction with an active snapshot; `query` is a value of the indexed type.
    pub unsafe fn nearest(
        &mut self,
        query: pg_sys::Datum,
        k: usize,
        each: &mut dyn FnMut(&mut Self, HeapTid),
    ) {
        // SAFETY: the scan is ended below; the key is copied by the rescan.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            let scan = compat::begin_ordered_scan(self.rows.heap, self.rows.index, snapshot);
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyEntryInitialize(
                &raw mut key,
                pg_sys::SK_ORDER_BY as i32,
                1,
                DISTANCE as u16,
                pg_sys::InvalidOid,
                self.collation,
                self.distance,
                query,
            );
            pg_sys::index_rescan(scan, std::ptr::null_mut(), 0, &raw mut key, 1);
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let mut found = 0;
            while found < k {
                let tid = pg_sys::index_getnext_tid(scan, forward);
                if tid.is_null() {
                    break;
                }
                // Before it is made the one in the chain that the snapshot sees.
                let head = heap_tid(&*tid);
                if pg_sys::index_fetch_heap(scan, self.rows.slot) {
                    each(self, head);
                    found += 1;
                }
            }
            pg_sys::index_endscan(scan);
        }
    }
}
