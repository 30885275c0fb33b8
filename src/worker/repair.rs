//! The repair worker: carries out one task of one repair, and ends.

use std::time::Duration;

use pgrx::log;
use ruvector_dag_healing_engine::detection::index_health::findings;
use ruvector_dag_healing_engine::model::{IndexHealthCheck, IndexInfo, Issue};
use ruvector_dag_healing_engine::ports::{PortError, Workbench};
use ruvector_dag_healing_engine::repair::guards::{approve_next, approve_on_request};
use ruvector_dag_healing_engine::repair::in_place;
use ruvector_dag_healing_engine::repair::plan::{Approved, Measured, PlanFacts, StepKind};
use ruvector_dag_healing_engine::repair::runner::{Ending, carry_out};
use ruvector_dag_healing_engine::repair::strategy::{RepairStrategy, registry, strategy_for};

use crate::pg::history::RepairRow;
use crate::pg::shmem::{self, Cancel, RepairState, Request, Task};
use crate::pg::workbench::{self, RepairBench};
use crate::pg::world;
use crate::pg::xact::{Snapshot, transaction};
use crate::pg::{catalog, compat, detached, executor, guc, history, journal, lifecycle};

/// The issue of which the index is compared with its table as well.
const DAMAGE: &str = "corrupt_page";
/// Removing an index waits for every transaction that uses the table, and holds its lock
/// meanwhile; the healer asks again later.
const CLEAR_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// A repair worker's life: at a place of the board, or with a request where there is no board.
pub fn run(order: Result<usize, Request>) {
    lifecycle::take_signals();
    let (place, request) = match order {
        Err(request) => (None, Some(request)),
        Ok(place) => (Some(place), take_place(place)),
    };
    let Some(request) = request else {
        return;
    };
    lifecycle::connect(Some(request.database));
    let worker = Worker { place, request };
    if let Err(error) = worker.work() {
        log!(
            "ruvector_dag_healing: repair {}: {error}",
            request.repair_id
        );
    }
}

/// Comes up at a place of the board.
fn take_place(place: usize) -> Option<Request> {
    let me = lifecycle::my_pid();
    let request = shmem::write(|board| {
        let repair = board.repairs.get_mut(place)?;
        if repair.state != RepairState::Starting {
            return None;
        }
        (repair.state, repair.pid) = (RepairState::Running, me);
        Some(repair.request)
    });
    lifecycle::on_exit(lifecycle::repair_farewell, place as u32);
    request.flatten()
}

struct Worker {
    place: Option<usize>,
    request: Request,
}

impl Worker {
    fn work(&self) -> Result<(), PortError> {
        let config = guc::config();
        let timeout = Duration::from_secs(config.repair_timeout_secs);
        compat::cancel_after(match self.request.task {
            Task::Retire => timeout.min(CLEAR_UP_TIMEOUT),
            Task::Repair | Task::RollBack | Task::PutBack => timeout,
        });
        if self.request.ef_search > 0 {
            let ef_search = self.request.ef_search.to_string();
            guc::set("hnsw.ef_search", &ef_search, false);
        }
        match self.request.task {
            Task::Repair => self.repair(),
            Task::Retire => self.retire(),
            Task::RollBack => self.roll_back(),
            Task::PutBack => self.put_back(),
        }
    }

    /// Looks at the index, plans, and carries the plan out. Where it does not come to that, the
    /// history says why.
    fn repair(&self) -> Result<(), PortError> {
        let id = self.request.repair_id;
        let repaired = self.attempt();
        if let Err(error) = &repaired {
            let reason = self.reason(error.clone());
            transaction(Snapshot::Active, || {
                history::record_failure(id, &self.request, self.code(), &reason)
            })?;
        }
        repaired
    }

    fn attempt(&self) -> Result<(), PortError> {
        let id = self.request.repair_id;
        lifecycle::report(Some("repairing a vector index"));
        let index = self.index(self.request.index_oid)?;
        let mut bench = RepairBench::new(id, index.clone(), self.announce());
        if self.code() == DAMAGE {
            bench.be_thorough();
        }
        let before = bench.measure()?;
        let issue = match self.issue(&index, &before) {
            Err(gone @ PortError::Gone(_)) => {
                // So that nobody is sent for it again.
                self.record(&bench)?;
                return Err(gone);
            }
            issue => issue?,
        };
        let strategies = registry();
        let strategy = strategy_for(&strategies, &issue)
            .ok_or_else(|| PortError::Failed(format!("nothing mends {}", issue.code())))?;
        let approved = transaction(Snapshot::Active, || {
            let facts = PlanFacts {
                figures: before.hnsw.clone(),
                lists: before.ivfflat.clone(),
                may_move: self.request.asked_by != 0 && shmem::preloaded(),
                ..world::plan_facts(&index)?
            };
            let plan = strategy.plan(&issue, &index, &facts);
            let mut conditions = executor::conditions(&plan)?;
            // On the board stands this very repair.
            conditions.table_in_repair = history::table_in_repair(index.table_oid)?;
            let approved = approve_on_request(plan, &conditions)
                .map_err(|refusal| PortError::Busy(refusal.reason))?;
            history::begin_repair(id, approved.plan(), self.request.asked_by)?;
            Ok(approved)
        })?;
        let config = guc::config();
        let carry = |approved: &Approved, bench: &mut RepairBench, before| {
            carry_out(approved, strategy, bench, before, config.rollback_enabled)
        };
        let mut outcome = carry(&approved, &mut bench, before);
        let mut in_place = approved.plan().repair_type == in_place::REPAIR_TYPE;
        if in_place
            && let Some(reason) = outcome.calls_for_rebuild()
            && let Some(rebuild) = self.rebuild(strategy, &issue, &bench, reason)?
        {
            bench.release();
            in_place = false;
            let before = bench.measure()?;
            outcome = carry(&rebuild, &mut bench, before);
        }
        // Whoever waits behind the table lock goes first; a spare index is removed later.
        bench.release();
        let mended = in_place && outcome.ending == Ending::Succeeded;
        let keep_ms =
            (outcome.kept_old || mended).then(|| config.grace_period().as_millis() as u64);
        if mended {
            self.record(&bench)?;
        }
        let failed = outcome.ending.counts_as_failure();
        let (status, error) = match outcome.ending {
            Ending::Succeeded => ("succeeded", None),
            Ending::RolledBack(reason) => ("rolled_back", Some(reason)),
            Ending::Failed(error) => ("failed", Some(self.reason(error))),
        };
        let ended = transaction(Snapshot::Active, || {
            history::end_repair(id, status, error.as_deref(), keep_ms, failed)
        });
        if let Err(PortError::Gone(_)) = &ended {
            // The extension was dropped meanwhile, and nobody will come after us.
            bench.discard()?;
        }
        ended?;
        let reason = error.map_or(String::new(), |error| format!(": {error}"));
        log!("ruvector_dag_healing: repair {id} {status}{reason}");
        Ok(())
    }

    /// The plan of the rebuild that follows where mending in place did not help, if it may start.
    fn rebuild(
        &self,
        strategy: &dyn RepairStrategy,
        issue: &Issue,
        bench: &RepairBench,
        reason: &str,
    ) -> Result<Option<Approved>, PortError> {
        let (id, index) = (self.request.repair_id, bench.index());
        let config = guc::config();
        transaction(Snapshot::Active, || {
            history::note_in_place_failed(id, index)?;
            let plan = strategy.plan(issue, index, &world::plan_facts(index)?);
            if plan.repair_type == in_place::REPAIR_TYPE {
                return Ok(None);
            }
            let mut conditions = executor::conditions(&plan)?;
            // On the board, and in the history, stands this very repair.
            conditions.table_in_repair = false;
            let approved = match self.request.asked_by {
                0 => approve_next(plan, &conditions, &config),
                _ => approve_on_request(plan, &conditions),
            };
            match approved {
                Ok(approved) => {
                    history::change_plan(id, approved.plan(), reason)?;
                    Ok(Some(approved))
                }
                Err(refusal) => {
                    history::note(id, "rebuild_refused", &serde_json::json!(refusal))?;
                    Ok(None)
                }
            }
        })
    }

    /// Remembers what the index in place looks like now.
    fn record(&self, bench: &RepairBench) -> Result<(), PortError> {
        let Some(look) = bench.last_look() else {
            return Ok(());
        };
        transaction(Snapshot::Active, || {
            let before = journal::last_look(&look.index)?;
            journal::record_look(&look.clone().after(before.as_ref()))
        })
    }

    /// Removes the index that is not in place.
    fn retire(&self) -> Result<(), PortError> {
        let (row, index, spare) = self.ended()?;
        let mut bench = workbench::resume(row.repair_id, index, spare, self.announce())?;
        bench.begin(StepKind::Drop)?;
        bench.execute(StepKind::Drop)
    }

    /// Puts back rows that a repair which did not come to its end has taken out of an index.
    fn put_back(&self) -> Result<(), PortError> {
        let id = self.request.repair_id;
        let row = self.row()?;
        match self.index(row.index_oid) {
            Ok(index) => RepairBench::new(id, index, self.announce()).put_back(),
            // What is built anew has all rows.
            Err(PortError::Gone(_)) => {
                transaction(Snapshot::Active, || detached::forget_repair(id))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes back what was changed in place. `false`: this is not how the repair is undone.
    fn take_back(&self) -> Result<bool, PortError> {
        let id = self.request.repair_id;
        let row = transaction(Snapshot::Active, || history::repair(id))?;
        let Some(row) = row.filter(RepairRow::can_take_back) else {
            return Ok(false);
        };
        let index = self.index(row.index_oid)?;
        let mut bench = RepairBench::new(id, index, self.announce());
        bench.begin(StepKind::TakeBack)?;
        bench.execute(StepKind::TakeBack)?;
        bench.measure()?;
        self.record(&bench)?;
        transaction(Snapshot::Active, || {
            history::roll_back_ended(id, self.request.asked_by)
        })?;
        Ok(true)
    }

    /// Puts the replaced index back and removes the replacement.
    fn roll_back(&self) -> Result<(), PortError> {
        if self.take_back()? {
            return Ok(());
        }
        let row = self.row()?;
        if !row.undoable() {
            return Err(PortError::Gone(format!(
                "the undo of repair {}",
                row.repair_id
            )));
        }
        if row.setting.is_some() {
            let index = self.index(row.index_oid)?;
            let mut bench = RepairBench::new(row.repair_id, index, self.announce());
            bench.undone_by = self.request.asked_by;
            bench.begin(StepKind::ResetParameter)?;
            return bench.execute(StepKind::ResetParameter);
        }
        let (row, index, spare) = self.ended()?;
        let mut bench = workbench::resume(row.repair_id, index, spare, self.announce())?;
        bench.undone_by = self.request.asked_by;
        bench.begin(StepKind::SwapBack)?;
        bench.execute(StepKind::SwapBack)?;
        bench.begin(StepKind::Drop)?;
        bench.execute(StepKind::Drop)
    }

    /// The repair that the task is about.
    fn row(&self) -> Result<RepairRow, PortError> {
        let id = self.request.repair_id;
        transaction(Snapshot::Active, || history::repair(id))?
            .ok_or_else(|| PortError::Gone(format!("repair {id}")))
    }

    /// A repair that has ended, the index in place, and the one that is not.
    fn ended(&self) -> Result<(RepairRow, IndexInfo, u32), PortError> {
        let row = self.row()?;
        let spare = row.spare_index.filter(|_| row.ours && row.leftover);
        let index = self.index(row.index_oid)?;
        match spare {
            Some(spare) => Ok((row, index, spare)),
            None => Err(PortError::Gone(format!(
                "the second index of repair {}",
                row.repair_id
            ))),
        }
    }

    fn index(&self, oid: u32) -> Result<IndexInfo, PortError> {
        transaction(Snapshot::Active, || catalog::index(oid))?
            .ok_or_else(|| PortError::Gone(format!("index {oid}")))
    }

    /// The issue as it is now: what was seen when the repair was asked for may be over.
    fn issue(&self, index: &IndexInfo, measured: &Measured) -> Result<Issue, PortError> {
        let last = transaction(Snapshot::Active, || journal::last_look(index))?;
        let look = IndexHealthCheck {
            hnsw: measured.hnsw.clone(),
            ivfflat: measured.ivfflat.clone(),
            damage: measured.damage.clone(),
            ..IndexHealthCheck::new(index.clone(), lifecycle::now())
        };
        // With the time since when its lists are trained, and how its recall is watched.
        let look = look.after(last.as_ref());
        let mut issues = findings(&look).into_iter().map(|finding| finding.issue);
        issues
            .find(|issue| issue.code() == self.code())
            .ok_or_else(|| PortError::Gone(format!("{} of {}", self.code(), index.index_name)))
    }

    /// Code of the issue's type.
    fn code(&self) -> &'static str {
        let codes = executor::ISSUE_CODES;
        codes
            .get(usize::from(self.request.issue_type))
            .unwrap_or(&"unknown")
    }

    /// Tells the launcher from when on people may be waiting behind us.
    fn announce(&self) -> Box<dyn Fn(u32)> {
        let place = self.place;
        let limit = world::lock_timeout().as_millis() as u32;
        Box::new(move |table| {
            let Some(place) = place else {
                return;
            };
            shmem::write(|board| {
                board.repairs[place].watched_table = table;
                board.repairs[place].lock_timeout_ms = limit;
            });
            shmem::wake_launcher();
        })
    }

    /// Why a repair failed: a cancellation says only that it was one.
    fn reason(&self, error: PortError) -> String {
        let PortError::Stopped(_) = error else {
            return error.to_string();
        };
        let place = self.place.unwrap_or(usize::MAX);
        let cancel = shmem::read(|board| board.repairs.get(place).map(|repair| repair.cancel));
        match cancel.flatten() {
            Some(Cancel::Yield) => "gave way: somebody waited behind its table lock for longer \
                                    than ruvector.dag_healing_lock_timeout"
                .into(),
            Some(Cancel::Asked) => "cancelled on request".into(),
            _ => "took longer than ruvector.dag_healing_repair_timeout".into(),
        }
    }
}
