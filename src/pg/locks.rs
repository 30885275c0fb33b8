//! Table locks: taken without queueing, and watched for people waiting behind them.

use std::time::{Duration, Instant};

use pgrx::pg_sys;
use ruvector_dag_healing_engine::ports::PortError;

use super::{compat, lifecycle};

/// How often a lock that is not free is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Takes a lock on a relation within `limit`, without ever standing in its queue.
pub fn lock_within(relation: pg_sys::Oid, mode: u32, limit: Duration) -> Result<(), PortError> {
    let started = Instant::now();
    // SAFETY: inside a transaction, at whose end the lock goes.
    while !unsafe { pg_sys::ConditionalLockRelationOid(relation, mode as pg_sys::LOCKMODE) } {
        if started.elapsed() >= limit {
            return Err(PortError::Busy(format!(
                "relation {} is in use",
                relation.to_u32()
            )));
        }
        lifecycle::wait(RETRY);
    }
    Ok(())
}

/// Locks that outlive transactions, released when this goes out of scope or the process ends.
#[derive(Default)]
pub struct SessionLocks {
    held: Vec<pg_sys::LockRelId>,
}

impl SessionLocks {
    /// Keeps `ShareUpdateExclusiveLock` on a relation of this database. The transaction around
    /// this call holds that lock already, so nobody is waited for.
    pub fn keep(&mut self, relation: u32) {
        let mut id = pg_sys::LockRelId {
            relId: pg_sys::Oid::from(relation),
            dbId: pg_sys::Oid::from(lifecycle::my_database()),
        };
        let mode = pg_sys::ShareUpdateExclusiveLock as i32;
        // SAFETY: as the contract says.
        unsafe { pg_sys::LockRelationIdForSession(&raw mut id, mode) };
        self.held.push(id);
    }
}

/// Whether this process holds `ShareUpdateExclusiveLock` on a relation of this database: a
/// transaction that is aborted lets go of locks that outlive transactions, too.
pub fn holds(relation: u32) -> bool {
    let mode = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;
    compat::holds_lock(&tag_of(relation), mode)
}

/// Whether anybody waits for a relation of this database because this transaction holds it in a mode.
pub fn has_waiters(relation: u32, mode: u32) -> bool {
    // SAFETY: looks into the lock table; the mode is held, or a warning says so.
    unsafe { pg_sys::LockHasWaiters(&tag_of(relation), mode as pg_sys::LOCKMODE, false) }
}

fn tag_of(relation: u32) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: lifecycle::my_database(),
        locktag_field2: relation,
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}

impl Drop for SessionLocks {
    fn drop(&mut self) {
        // While an error unwinds, releasing could raise another; the end of the process releases
        // them too.
        if std::thread::panicking() {
            return;
        }
        let mode = pg_sys::ShareUpdateExclusiveLock as i32;
        for mut id in self.held.drain(..) {
            if !holds(id.relId.to_u32()) {
                continue;
            }
            // SAFETY: taken by `keep`, once each.
            unsafe { pg_sys::UnlockRelationIdForSession(&raw mut id, mode) };
        }
    }
}

/// The longest wait, in milliseconds, of anybody queued for a lock on each of some relations,
/// given as (database, relation). The holders' own requests are left out by `except`.
pub fn longest_waits(relations: &[(u32, u32)], except: &[i32]) -> Vec<Option<u64>> {
    let mut waits = vec![None; relations.len()];
    let relation_tag = pg_sys::LockTagType::LOCKTAG_RELATION as u8;
    // SAFETY: copies the lock table, one partition at a time under a shared lock, into the
    // current memory context; the copy is freed below.
    unsafe {
        let now = pg_sys::GetCurrentTimestamp();
        let data = pg_sys::GetLockStatusData();
        let count = usize::try_from((*data).nelements).unwrap_or_default();
        for place in 0..count {
            let lock = &*(*data).locks.add(place);
            if lock.waitLockMode == 0
                || lock.locktag.locktag_type != relation_tag
                || except.contains(&lock.pid)
            {
                continue;
            }
            let relation = (lock.locktag.locktag_field1, lock.locktag.locktag_field2);
            let Some(found) = relations.iter().position(|r| *r == relation) else {
                continue;
            };
            // Zero: it has only just begun to wait.
            let waited = match lock.waitStart {
                0 => 0,
                since => u64::try_from((now - since) / 1000).unwrap_or_default(),
            };
            waits[found] = waits[found].max(Some(waited));
        }
        if count > 0 {
            pg_sys::pfree((*data).locks.cast());
        }
        pg_sys::pfree(data.cast());
    }
    waits
}

/// Waits until nobody who could still conflict with `mode` on a table is in a transaction that
/// began before. In a transaction without a snapshot, so that it holds back nobody.
pub fn wait_for_lockers(table: u32, mode: u32) {
    let mut tag = tag_of(table);
    // SAFETY: the list lives in the transaction's memory and the tag until the call returns.
    unsafe {
        let tags = pg_sys::lappend(std::ptr::null_mut(), (&raw mut tag).cast());
        pg_sys::WaitForLockersMultiple(tags, mode as pg_sys::LOCKMODE, false);
    }
}
