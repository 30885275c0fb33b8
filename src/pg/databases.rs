//! Which databases there are, read from the shared catalog without a connection to any of them.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::ports::PortError;

use super::xact::{Snapshot, transaction};

/// `datconnlimit` of a database that is half dropped.
const INVALID: i32 = -2;

/// OIDs of the databases that accept connections.
pub fn connectable() -> Result<Vec<u32>, PortError> {
    transaction(Snapshot::Active, || {
        let mut found = Vec::new();
        // SAFETY: a plain scan of pg_database inside a transaction; tuples are read before the
        // scan moves on, as the autovacuum launcher does.
        unsafe {
            let lock = pg_sys::AccessShareLock as i32;
            let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
            let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
            loop {
                let forward = pg_sys::ScanDirection::ForwardScanDirection;
                let tuple = pg_sys::heap_getnext(scan, forward);
                if tuple.is_null() {
                    break;
                }
                let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
                // An interrupted DROP DATABASE leaves one that nobody can connect to.
                if (*row).datallowconn && (*row).datconnlimit != INVALID {
                    found.push((*row).oid.to_u32());
                }
            }
            pg_sys::table_endscan(scan);
            pg_sys::table_close(relation, lock);
        }
        Ok(found)
    })
}
