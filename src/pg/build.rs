//! Building an index beside another and exchanging the two: PostgreSQL's own steps of
//! `REINDEX INDEX CONCURRENTLY`, with room for a check before the exchange.
//!
//! The replacement is never valid before the exchange, so the planner never uses it; the
//! replaced index stays ready, so writes keep it up and the exchange can be taken back. Every
//! function is called outside a transaction by a worker that holds `ShareUpdateExclusiveLock` on
//! the table for its session (see [`super::locks::SessionLocks`]), save where it says otherwise.

use std::time::Duration;

use pgrx::pg_sys;
use ruvector_dag_healing_engine::ports::PortError;

use super::locks::{self, SessionLocks};
use super::xact::{Snapshot, transaction};
use super::{catalog, compat, guc};

const SUE: u32 = pg_sys::ShareUpdateExclusiveLock;

/// A table and one of its indexes, as OIDs.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The table.
    pub table: u32,
    /// The index.
    pub index: u32,
}

/// Inside a transaction: locks the table and the index within `limit` and keeps the locks for
/// the session.
pub fn lock(target: Target, limit: Duration, locks: &mut SessionLocks) -> Result<(), PortError> {
    let gone = || PortError::Gone(format!("index {}", target.index));
    locks::lock_within(target.table.into(), SUE, limit)?;
    if catalog::table_of(target.index) != Some(target.table) {
        return Err(gone());
    }
    locks::lock_within(target.index.into(), SUE, limit)?;
    locks.keep(target.table);
    locks.keep(target.index);
    Ok(())
}

/// Makes the catalog entry of an empty replacement, and calls `record` with its OID and name in
/// the same transaction.
pub fn create_copy(
    target: Target,
    locks: &mut SessionLocks,
    record: impl FnOnce(u32, &str) -> Result<(), PortError>,
) -> Result<u32, PortError> {
    transaction(Snapshot::Active, || {
        // SAFETY: both are locked by this session; everything opened is closed; the role and the
        // settings switched are restored before the transaction ends, or by its abort.
        unsafe {
            let table = pg_sys::table_open(target.table.into(), pg_sys::NoLock as i32);
            let index = pg_sys::index_open(target.index.into(), pg_sys::NoLock as i32);
            let class = (*index).rd_rel;

            let (mut role, mut context) = (pg_sys::InvalidOid, 0);
            pg_sys::GetUserIdAndSecContext(&raw mut role, &raw mut context);
            pg_sys::SetUserIdAndSecContext(
                (*(*table).rd_rel).relowner,
                context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32,
            );
            let level = pg_sys::NewGUCNestLevel();
            let name = pg_sys::ChooseRelationName(
                (*class).relname.data.as_ptr(),
                std::ptr::null(),
                c"ccnew".as_ptr(),
                (*class).relnamespace,
                false,
            );
            let space = (*class).reltablespace;
            let copy =
                pg_sys::index_concurrently_create_copy(table, target.index.into(), space, name);
            pg_sys::AtEOXact_GUC(false, level);
            pg_sys::SetUserIdAndSecContext(role, context);

            locks::lock_within(copy, SUE, Duration::ZERO)?;
            locks.keep(copy.to_u32());
            pg_sys::index_close(index, pg_sys::NoLock as i32);
            pg_sys::table_close(table, pg_sys::NoLock as i32);
            record(copy.to_u32(), &compat::text(name))?;
            Ok(copy.to_u32())
        }
    })
}

/// Fills the replacement; from the end of this on, writes keep it up.
pub fn build(table: u32, copy: u32) -> Result<(), PortError> {
    wait_out(table, pg_sys::ShareLock)?;
    transaction(Snapshot::Active, || {
        // SAFETY: the copy was made by `create_copy`; the build takes its own locks and runs the
        // index's functions as the table's owner.
        unsafe {
            let command = pg_sys::ProgressCommandType::PROGRESS_COMMAND_CREATE_INDEX;
            pg_sys::pgstat_progress_start_command(command, table.into());
            // PROGRESS_CREATEIDX_INDEX_OID
            pg_sys::pgstat_progress_update_param(6, i64::from(copy));
            pg_sys::index_concurrently_build(table.into(), copy.into());
            pg_sys::pgstat_progress_end_command();
        }
        Ok(())
    })
}

/// Adds what was written while the replacement was built, and waits until every snapshot that
/// could miss something in it is gone.
pub fn validate(table: u32, copy: u32) -> Result<(), PortError> {
    wait_out(table, pg_sys::ShareLock)?;
    let limit = transaction(Snapshot::None, || {
        // SAFETY: the reference snapshot is registered and active while it is used.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot());
            pg_sys::PushActiveSnapshot(snapshot);
            pg_sys::validate_index(table.into(), copy.into(), snapshot);
            let limit = (*snapshot).xmin;
            pg_sys::PopActiveSnapshot();
            pg_sys::UnregisterSnapshot(snapshot);
            Ok(limit)
        }
    })?;
    transaction(Snapshot::None, || {
        // SAFETY: this transaction has no snapshot, so two of us cannot wait for each other.
        unsafe { pg_sys::WaitForOlderSnapshots(limit, false) };
        Ok(())
    })
}

/// Puts `entering` in the place of `leaving`: name, constraints, dependencies, comments,
/// partition attachment and statistics go over, validity too. One short transaction that waits
/// at most `limit` for a lock; `record` runs in it with the name that `leaving` gets.
pub fn swap(
    table: u32,
    entering: u32,
    leaving: u32,
    limit: Duration,
    record: impl FnOnce(&str) -> Result<(), PortError>,
) -> Result<(), PortError> {
    transaction(Snapshot::Active, || {
        limit_lock_waits(limit);
        // SAFETY: both indexes belong to the table and are locked by this session.
        unsafe {
            let old = pg_sys::get_rel_name(leaving.into());
            if old.is_null() {
                return Err(PortError::Gone(format!("index {leaving}")));
            }
            let name = pg_sys::ChooseRelationName(
                old,
                std::ptr::null(),
                c"ccold".as_ptr(),
                pg_sys::get_rel_namespace(leaving.into()),
                false,
            );
            pg_sys::index_concurrently_swap(entering.into(), leaving.into(), name);
            pg_sys::CacheInvalidateRelcacheByRelid(table.into());
            pg_sys::CommandCounterIncrement();
            record(&compat::text(name))
        }
    })
}

/// Removes an index that is not in place: first no scan, then no write can be using it.
/// `record` runs in the transaction that removes it, which waits at most `limit` for a lock.
pub fn drop_spare(
    table: u32,
    spare: u32,
    limit: Duration,
    record: impl FnOnce() -> Result<(), PortError>,
) -> Result<(), PortError> {
    // Should it be valid after all, it is somebody's index now and not ours to remove.
    let dead = transaction(Snapshot::Active, || index_flags(spare))?;
    let Some(live) = dead else {
        return transaction(Snapshot::Active, record);
    };
    if live {
        wait_out(table, pg_sys::AccessExclusiveLock)?;
        transaction(Snapshot::Active, || {
            // SAFETY: the index is not valid, so no new scan begins on it.
            unsafe { pg_sys::index_concurrently_set_dead(table.into(), spare.into()) };
            Ok(())
        })?;
    }
    wait_out(table, pg_sys::AccessExclusiveLock)?;
    transaction(Snapshot::Active, || {
        limit_lock_waits(limit);
        let object = pg_sys::ObjectAddress {
            classId: pg_sys::RelationRelationId,
            objectId: spare.into(),
            objectSubId: 0,
        };
        let flags = pg_sys::PERFORM_DELETION_INTERNAL | pg_sys::PERFORM_DELETION_CONCURRENT_LOCK;
        // SAFETY: nobody can be using the index any more.
        unsafe {
            let restrict = pg_sys::DropBehavior::DROP_RESTRICT;
            pg_sys::performDeletion(&raw const object, restrict, flags as i32);
        }
        record()
    })
}

/// Whether an index is live; `None` where it is gone. An error where it is valid.
fn index_flags(index: u32) -> Result<Option<bool>, PortError> {
    // SAFETY: the cached tuple is released after its flags were read.
    unsafe {
        let id = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
        let tuple = pg_sys::SearchSysCache1(id, pg_sys::Datum::from(index));
        if tuple.is_null() {
            return Ok(None);
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_index>();
        let (valid, live) = ((*form).indisvalid, (*form).indislive);
        pg_sys::ReleaseSysCache(tuple);
        match valid {
            true => Err(PortError::Failed(format!(
                "index {index} is valid: not removed"
            ))),
            false => Ok(Some(live)),
        }
    }
}

/// For the rest of the transaction.
fn limit_lock_waits(limit: Duration) {
    guc::set("lock_timeout", &limit.as_millis().max(1).to_string(), true);
}

fn wait_out(table: u32, mode: u32) -> Result<(), PortError> {
    transaction(Snapshot::None, || {
        locks::wait_for_lockers(table, mode);
        Ok(())
    })
}
