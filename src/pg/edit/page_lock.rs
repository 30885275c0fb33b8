//! pgvector's own locks on an index: one that its inserts hold from the first to the last of their
//! writes, and one that its searches hold while they go from element to element.

use std::time::{Duration, Instant};

use pgrx::pg_sys;
use ruvector_dag_healing_engine::ports::PortError;

use crate::pg::lifecycle;
use crate::pg::pages::{OpenIndex, SCAN_LOCK, UPDATE_LOCK};

/// How often a lock that is not free is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// One of them, until this goes out of scope.
pub struct PageLock {
    relation: pg_sys::Relation,
    page: u32,
    mode: i32,
}

impl PageLock {
    /// Takes that of inserts as they do, or so that none is under way, within `limit` and without
    /// ever standing in its queue. The index is open longer than this lives.
    pub fn of_inserts(
        index: &OpenIndex,
        exclusive: bool,
        limit: Duration,
    ) -> Result<Self, PortError> {
        let mode = match exclusive {
            true => pg_sys::ExclusiveLock,
            false => pg_sys::ShareLock,
        };
        Self::take(index, UPDATE_LOCK, mode, limit)
    }

    /// Takes that of searches so that none is under way, in the same manner.
    pub fn of_searches(index: &OpenIndex, limit: Duration) -> Result<Self, PortError> {
        Self::take(index, SCAN_LOCK, pg_sys::ExclusiveLock, limit)
    }

    fn take(index: &OpenIndex, page: u32, mode: u32, limit: Duration) -> Result<Self, PortError> {
        let (relation, mode, started) = (index.relation(), mode as i32, Instant::now());
        // SAFETY: the relation is open; nothing is looked up in the catalog until it is let go of.
        while !unsafe { pg_sys::ConditionalLockPage(relation, page, mode) } {
            if started.elapsed() >= limit {
                let who = if page == UPDATE_LOCK {
                    "inserts"
                } else {
                    "searches"
                };
                return Err(PortError::Busy(format!("{who} hold the index")));
            }
            lifecycle::wait(RETRY);
        }
        Ok(Self {
            relation,
            page,
            mode,
        })
    }
}

impl Drop for PageLock {
    fn drop(&mut self) {
        // While an error unwinds, the end of the transaction lets go of it.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: taken by `take`, once; the relation is still open.
        unsafe { pg_sys::UnlockPage(self.relation, self.page, self.mode) }
    }
}
