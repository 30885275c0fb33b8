//! The lock on a table under which pages of one of its indexes may be changed.

use std::time::{Duration, Instant};

use pgrx::pg_sys;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::PageSource;

use crate::pg::pages::OpenIndex;
use crate::pg::xact::{Snapshot, transaction};
use crate::pg::{catalog, guc, lifecycle, locks};

/// How a table is held, and an index that others use meanwhile. Weaker locks, which inserts and
/// vacuums have on an index, do not conflict; whoever waits for either is seen.
const SHARED: u32 = pg_sys::ShareUpdateExclusiveLock;
/// How an index is held that nobody else uses meanwhile.
const ALONE: u32 = pg_sys::AccessExclusiveLock;

/// `ShareUpdateExclusiveLock` on a table: no vacuum runs, nobody alters it, and everybody reads
/// and writes; or nobody uses the index. One transaction without a snapshot, at whose end it goes.
pub struct Hold {
    index: OpenIndex,
    /// The table and the index, and how each is held.
    relations: [(u32, u32); 2],
    since: Instant,
}

impl Hold {
    /// Runs `work` under the lock if it can be had within `limit` and the index is still the file
    /// described, valid, and kept up by writes.
    pub fn with<T>(
        index: &IndexInfo,
        limit: Duration,
        work: impl FnOnce(&mut Self) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        Self::held_so(SHARED, index, limit, work)
    }

    /// The same if nobody uses the index, and whoever begins to waits until the end: neither
    /// searches nor writes are under way. Its commit is not waited for.
    pub fn alone<T>(
        index: &IndexInfo,
        limit: Duration,
        work: impl FnOnce(&mut Self) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        Self::held_so(ALONE, index, limit, |hold| {
            guc::set("synchronous_commit", "off", true);
            work(hold)
        })
    }

    fn held_so<T>(
        mode: u32,
        index: &IndexInfo,
        limit: Duration,
        work: impl FnOnce(&mut Self) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        if lifecycle::in_recovery() {
            return Err(PortError::Failed(
                "a standby's pages are not its own".into(),
            ));
        }
        let gone = || PortError::Gone(index.index_name.clone());
        transaction(Snapshot::None, || {
            let (table, oid) = (index.table_oid.into(), index.index_oid);
            locks::lock_within(table, SHARED, limit)?;
            let since = Instant::now();
            if catalog::table_of(oid) != Some(index.table_oid) {
                return Err(gone());
            }
            locks::lock_within(oid.into(), mode, limit)?;
            let open = OpenIndex::open(oid, true).ok_or_else(gone)?;
            if open.relfilenode() != index.relfilenode || !open.is_kept_up() {
                return Err(gone());
            }
            work(&mut Self {
                index: open,
                relations: [(index.table_oid, SHARED), (oid, mode)],
                since,
            })
        })
    }

    /// For how long the lock has been held.
    pub fn held(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether anybody waits for the table or the index.
    pub fn is_waited_for(&self) -> bool {
        let has_waiters = |&(relation, mode): &(u32, u32)| locks::has_waiters(relation, mode);
        self.relations.iter().any(has_waiters)
    }

    /// The pages of the index.
    pub fn pages(&mut self) -> &mut dyn PageSource {
        &mut self.index
    }

    pub(super) fn index(&self) -> &OpenIndex {
        &self.index
    }
}
