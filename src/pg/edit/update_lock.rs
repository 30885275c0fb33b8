//! pgvector's own lock on an index, which its inserts hold from the first to the last of their
//! writes.

use std::time::{Duration, Instant};

use pgrx::pg_sys;
use ruvector_dag_healing_engine::ports::PortError;

use crate::pg::lifecycle;
use crate::pg::pages::{OpenIndex, UPDATE_LOCK};

/// How often a lock that is not free is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// The lock, until this goes out of scope.
pub struct UpdateLock {
    relation: pg_sys::Relation,
    mode: i32,
}

impl UpdateLock {
    /// Takes it as inserts do, or so that none is under way, within `limit` and without ever
    /// standing in its queue. The index is open longer than this lives.
    pub fn take(index: &OpenIndex, exclusive: bool, limit: Duration) -> Result<Self, PortError> {
        let mode = match exclusive {
            true => pg_sys::ExclusiveLock,
            false => pg_sys::ShareLock,
        } as i32;
        let (relation, started) = (index.relation(), Instant::now());
        // SAFETY: the relation is open; nothing is looked up in the catalog until it is let go of.
        while !unsafe { pg_sys::ConditionalLockPage(relation, UPDATE_LOCK, mode) } {
            if started.elapsed() >= limit {
                return Err(PortError::Busy("inserts hold the index".into()));
            }
            lifecycle::wait(RETRY);
        }
        Ok(Self { relation, mode })
    }
}

impl Drop for UpdateLock {
    fn drop(&mut self) {
        // While an error unwinds, the end of the transaction lets go of it.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: taken by `take`, once; the relation is still open.
        unsafe { pg_sys::UnlockPage(self.relation, UPDATE_LOCK, self.mode) }
    }
}
