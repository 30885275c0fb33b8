//! Rows taken out of elements of an index and put back into the index, with nobody's vacuum in
//! between.
//!
//! From the first row taken out to the last put back the lock on the table is held that a vacuum
//! needs, so no row goes and no other takes its place. What is to be put back is committed to
//! `ruvector_dag_healing.detached` before it is taken out, and taken off that list in the
//! transaction that puts it back. Whatever ends the worker, somebody later does the rest by rule:
//! a row on the list that is visible and in no element is put back, one that is in some is not.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use ruvector_dag_healing_engine::model::{IndexInfo, RepairId};
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::vector_index::finding::Breach;
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{RowsPlan, plan_rows};
use ruvector_dag_healing_engine::vector_index::hnsw::links_per_layer;
use serde_json::json;

use super::locks::{SessionLocks, holds, lock_within};
use super::mending::{Mending, NEVER, PATIENCE, ROUNDS, unread};
use super::pages::{BackgroundPages, OpenIndex};
use super::xact::{Snapshot, transaction};
use super::{detached, heap, history, lifecycle, world};

/// Rows put back in one transaction.
const AT_ONCE: usize = 64;
/// Pause before elements with rows of transactions under way are looked at again.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause before the lock on the table is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Mending {
    /// Takes rows out of the elements that breaches name, and finds out which have to be put
    /// back: those, what breaches say is missing, and what earlier repairs of this index did not
    /// come to. `locks` holds the table from here on.
    pub fn detach(
        &mut self,
        id: RepairId,
        index: &IndexInfo,
        breaches: &[Breach],
        locks: &mut SessionLocks,
    ) -> Result<(), PortError> {
        self.survey = None;
        let owed = transaction(Snapshot::Active, || detached::of_index(index))?;
        let mut missing: BTreeSet<HeapTid> = owed.into_iter().collect();
        let (mut made, mut lost, mut rounds) = (0, 0, 0);
        let planned = loop {
            rounds += 1;
            // An edit that could not be made let go of it, and a vacuum may have been there.
            if !holds(index.table_oid) {
                hold(index, locks)?;
            }
            let wanted: Vec<HeapTid> = missing.iter().copied().collect();
            let planned = transaction(Snapshot::Active, || plan(index, breaches, &wanted))?;
            missing.extend(&planned.reinsert);
            transaction(Snapshot::Active, || detached::intend(id, &planned.reinsert))?;
            if planned.edits.is_empty() && (planned.waiting == 0 || rounds >= ROUNDS) {
                break planned;
            }
            // What is put back is what was found with nothing left to be taken out.
            if rounds > ROUNDS {
                return Err(PortError::Busy(format!("{} is in use", index.index_name)));
            }
            if !planned.edits.is_empty() {
                let mut pages = BackgroundPages::new(index, 0, NEVER);
                let m = links_per_layer(&mut pages).map_err(unread)?;
                let lost_now = self.make(id, index, m, &planned.edits)?;
                made += planned.edits.len() - lost_now;
                lost += lost_now;
            } else {
                lifecycle::wait(PAUSE);
            }
        };
        let tally = json!({
            "rounds": rounds, "made": made, "lost": lost, "waiting": planned.waiting,
            "to_put_back": planned.reinsert.len(),
        });
        self.detached = planned.reinsert;
        transaction(Snapshot::Active, || history::note(id, "detach", &tally))
    }

    /// Puts back what [`Self::detach`] found to be put back, and lets go of the table.
    pub fn reinsert(
        &mut self,
        id: RepairId,
        index: &IndexInfo,
        locks: &mut SessionLocks,
    ) -> Result<(), PortError> {
        let started = Instant::now();
        let rows = std::mem::take(&mut self.detached);
        let mut inserted = 0;
        for rows in rows.chunks(AT_ONCE) {
            let rows: BTreeSet<HeapTid> = rows.iter().copied().collect();
            inserted += transaction(Snapshot::Active, || {
                let inserted = insert(index, &rows)?;
                detached::settle(index, &rows)?;
                Ok(inserted)
            })?;
        }
        // What is in the index after all, or gone from the table.
        transaction(Snapshot::Active, || detached::forget(index))?;
        *locks = SessionLocks::default();
        let ms = (started.elapsed().as_secs_f64() * 1e4).round() / 10.0;
        let tally = json!({"rows": rows.len(), "inserted": inserted, "ms": ms});
        transaction(Snapshot::Active, || history::note(id, "reinsert", &tally))
    }
}

/// Locks the table as soon as it is free, if that is soon enough, until `locks` lets go.
fn hold(index: &IndexInfo, locks: &mut SessionLocks) -> Result<(), PortError> {
    let started = Instant::now();
    loop {
        let locked = transaction(Snapshot::None, || {
            let table = index.table_oid.into();
            let mode = pg_sys::ShareUpdateExclusiveLock;
            lock_within(table, mode, world::lock_timeout())?;
            locks.keep(index.table_oid);
            Ok(())
        });
        match locked {
            Err(PortError::Busy(_)) if started.elapsed() < PATIENCE => {
                lifecycle::wait(RETRY);
            }
            locked => return locked,
        }
    }
}

/// Opens the index that `info` describes, locked as for writing; `None` if it is another by now.
fn open(info: &IndexInfo) -> Result<OpenIndex, PortError> {
    let gone = || PortError::Gone(info.index_name.clone());
    let mode = pg_sys::RowExclusiveLock;
    lock_within(info.index_oid.into(), mode, world::lock_timeout())?;
    let open = OpenIndex::open(info.index_oid, true).ok_or_else(gone)?;
    match open.relfilenode() == info.relfilenode && open.is_kept_up() {
        true => Ok(open),
        false => Err(gone()),
    }
}

fn plan(
    index: &IndexInfo,
    breaches: &[Breach],
    missing: &[HeapTid],
) -> Result<RowsPlan, PortError> {
    let mut pages = open(index)?;
    let unknown = || PortError::Failed(format!("{} is of an unknown kind", index.index_name));
    let shape = index.shape.as_ref().ok_or_else(unknown)?;
    let planned = heap::with_table(index.table_oid, index.index_oid, |table| {
        plan_rows(&mut pages, table, shape, breaches, missing)
    });
    planned.ok_or_else(unknown)?.map_err(unread)
}

fn insert(index: &IndexInfo, rows: &BTreeSet<HeapTid>) -> Result<u64, PortError> {
    let _open = open(index)?;
    // Without it the places of rows may be others' by now.
    if !holds(index.table_oid) {
        return Err(PortError::Busy(format!("{} is in use", index.table_name)));
    }
    let inserted = heap::with_table(index.table_oid, index.index_oid, |table| table.insert(rows));
    Ok(inserted.unwrap_or_default())
}
