//! Searches through the access method, on an index that the planner need not know.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::verification::probe::{Hit, Probe};

use super::compat;
use super::privilege::as_table_owner;
use super::rows::Rows;

/// Strategy of a distance operator in pgvector's operator classes.
const DISTANCE: i16 = 1;

/// Searches for each of `rows` in the index in place (where it can be searched) and in the
/// replacement, `k` neighbours each. Rows that are gone are left out. Inside a transaction with
/// an active snapshot; the indexes' functions run as the table's owner.
pub fn compare(
    table: u32,
    in_place: Option<u32>,
    replacement: u32,
    rows: &[HeapTid],
    k: usize,
) -> Result<Vec<Probe>, PortError> {
    // SAFETY: everything opened here is closed here, or by the abort of the transaction.
    unsafe {
        let heap = pg_sys::table_open(table.into(), pg_sys::AccessShareLock as i32);
        let probes = as_table_owner(&*heap, || {
            let mut searcher = Searcher::open(heap, replacement)?;
            let mut old = match in_place {
                Some(index) => Some(Searcher::open(heap, index)?),
                None => None,
            };
            let mut probes = Vec::with_capacity(rows.len());
            for row in rows {
                super::lifecycle::interrupts();
                let Some(query) = searcher.rows.value_of(row) else {
                    continue;
                };
                probes.push(Probe {
                    row: row_number(row),
                    own_distance: searcher.distance(query, query),
                    before: old
                        .as_mut()
                        .map(|s| s.nearest(query, k))
                        .unwrap_or_default(),
                    after: searcher.nearest(query, k),
                });
            }
            if let Some(old) = old {
                old.rows.close();
            }
            searcher.rows.close();
            Ok(probes)
        });
        pg_sys::table_close(heap, pg_sys::AccessShareLock as i32);
        probes
    }
}

fn row_number(row: &HeapTid) -> u64 {
    u64::from(row.block) << 16 | u64::from(row.offset)
}

/// One index, open for searching.
struct Searcher {
    rows: Rows,
    distance: pg_sys::Oid,
    collation: pg_sys::Oid,
}

impl Searcher {
    /// # Safety
    /// Inside a transaction; `heap` is open and is the index's table.
    unsafe fn open(heap: pg_sys::Relation, index: u32) -> Result<Self, PortError> {
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

    /// # Safety
    /// Both are values of the indexed type.
    unsafe fn distance(&self, a: pg_sys::Datum, b: pg_sys::Datum) -> f64 {
        // SAFETY: pgvector's distance operators take two values and return float8.
        unsafe {
            let distance = pg_sys::OidFunctionCall2Coll(self.distance, self.collation, a, b);
            f64::from_bits(distance.value() as u64)
        }
    }

    /// The `k` nearest rows that the index finds, with their distances.
    ///
    /// # Safety
    /// Inside a transaction with an active snapshot; `query` is a value of the indexed type.
    unsafe fn nearest(&mut self, query: pg_sys::Datum, k: usize) -> Vec<Hit> {
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
            let mut hits = Vec::with_capacity(k);
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            while hits.len() < k && pg_sys::index_getnext_slot(scan, forward, self.rows.slot) {
                // The chain's root, which is what both indexes store.
                let tid = (*scan).xs_heaptid;
                let block = u64::from(tid.ip_blkid.bi_hi) << 16 | u64::from(tid.ip_blkid.bi_lo);
                if let Some(value) = self.rows.slot_value() {
                    hits.push(Hit {
                        row: block << 16 | u64::from(tid.ip_posid),
                        distance: self.distance(query, value),
                    });
                }
            }
            pg_sys::index_endscan(scan);
            hits
        }
    }
}
