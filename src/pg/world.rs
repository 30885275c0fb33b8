//! The engine's ports as the healer has them: every call is a transaction of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use pgrx::log;
use ruvector_dag_healing_engine::cycle::{HealingCycleResult, HealingMetrics};
use ruvector_dag_healing_engine::detection::recall_watch::{RecallSample, RecallWatch};
use ruvector_dag_healing_engine::model::{
    Diagnosis, IndexHealthCheck, IndexInfo, RepairId, Timestamp,
};
use ruvector_dag_healing_engine::ports::{
    ActiveRepair, Catalog, Clock, Executor, Gauge, IssueState, Journal, PortError, Workload,
};
use ruvector_dag_healing_engine::repair::guards::{Conditions, Refusal};
use ruvector_dag_healing_engine::repair::plan::{Approved, OtherIndex, PlanFacts, RepairPlan};
use ruvector_dag_healing_engine::vector_index::PageSource;
use ruvector_dag_healing_engine::verification::rollback::StandingSetting;
use ruvector_dag_healing_engine::workload::CapturedQuery;
use serde_json::json;

use super::measuring::{self, Sparing, Target, Wanted};
use super::pages::BackgroundPages;
use super::xact::{Snapshot, transaction};
use super::{captures, catalog, executor, guc, history, journal, lifecycle, query_sample};

/// A database as its healer sees it.
pub struct HealerWorld {
    /// Throttle for reading, in megabytes a second.
    pub io_limit_mb: u64,
    /// Whether to give up what is being done.
    pub stop: Box<dyn Fn() -> bool>,
}

fn in_transaction<T>(work: impl FnOnce() -> Result<T, PortError>) -> Result<T, PortError> {
    transaction(Snapshot::Active, work)
}

impl Clock for HealerWorld {
    fn now(&self) -> Timestamp {
        lifecycle::now()
    }
}

impl Catalog for HealerWorld {
    fn vector_indexes(&mut self) -> Result<Vec<IndexInfo>, PortError> {
        in_transaction(catalog::vector_indexes)
    }

    fn pages<'a>(&'a mut self, index: &IndexInfo) -> Result<Box<dyn PageSource + 'a>, PortError> {
        let pages = BackgroundPages::new(index, self.io_limit_mb, self.stop.as_ref());
        Ok(Box::new(pages))
    }

    fn memory_limit(&self) -> usize {
        guc::maintenance_work_mem()
    }
}

impl Gauge for HealerWorld {
    fn measure_recall(
        &mut self,
        index: &IndexInfo,
        queries: u32,
        k: u32,
    ) -> Result<RecallSample, PortError> {
        let target = Target::of(index)?;
        let seed = lifecycle::now() as u64;
        let wanted = Wanted::in_background(queries, k, self.io_limit_mb, seed);
        let sparing = Sparing {
            limit_mb: self.io_limit_mb,
            stop: self.stop.as_ref(),
        };
        measuring::background_recall(&target, &wanted, &sparing)
    }
}

impl Journal for HealerWorld {
    fn last_look(&mut self, index: &IndexInfo) -> Result<Option<IndexHealthCheck>, PortError> {
        in_transaction(|| journal::last_look(index))
    }

    fn record_look(&mut self, look: &IndexHealthCheck) -> Result<(), PortError> {
        in_transaction(|| journal::record_look(look))?;
        for notice in &look.notices {
            log!("ruvector_dag_healing: {}: {notice}", look.index.index_name);
        }
        Ok(())
    }

    fn record_recall(&mut self, index: &IndexInfo, watch: &RecallWatch) -> Result<(), PortError> {
        in_transaction(|| journal::record_recall(index, watch))
    }

    fn file(&mut self, diagnosis: &Diagnosis) -> Result<IssueState, PortError> {
        let state = in_transaction(|| journal::file(diagnosis))?;
        if state.is_new {
            log!(
                "ruvector_dag_healing: issue {} ({}) on {}: {}",
                diagnosis.finding.issue_id(),
                diagnosis.severity,
                diagnosis.finding.index.index_name,
                diagnosis.root_cause
            );
        }
        Ok(state)
    }

    fn settle(
        &mut self,
        checked: &[(String, Vec<String>)],
        all: Option<&[String]>,
    ) -> Result<u64, PortError> {
        in_transaction(|| journal::settle(checked, all))
    }

    fn note_refusal(&mut self, issue_id: &str, refusal: &Refusal) -> Result<(), PortError> {
        if in_transaction(|| journal::note_refusal(issue_id, refusal))? {
            let reason = &refusal.reason;
            log!("ruvector_dag_healing: no repair of {issue_id} for now: {reason}");
        }
        Ok(())
    }

    fn repairs(&mut self) -> Result<Vec<ActiveRepair>, PortError> {
        let mut repairs = in_transaction(history::repairs)?;
        // Queued repairs have no row yet.
        for queued in executor::on_board() {
            let id = queued.request.repair_id;
            if repairs.iter().all(|repair| repair.id != id) {
                repairs.push(ActiveRepair {
                    id,
                    issue_id: String::new(),
                    index_oid: queued.request.index_oid,
                    table_oid: queued.request.table_oid,
                    strategy_name: String::new(),
                    started_at: queued.queued_at,
                    finished: false,
                });
            }
        }
        Ok(repairs)
    }

    fn standing_settings(&mut self) -> Result<Vec<StandingSetting>, PortError> {
        in_transaction(history::standing_settings)
    }

    fn close_cycle(
        &mut self,
        result: &HealingCycleResult,
        opened: usize,
        retention_days: u32,
    ) -> Result<HealingMetrics, PortError> {
        in_transaction(|| journal::close_cycle(result, opened, retention_days))
    }
}

impl Workload for HealerWorld {
    fn captured(&mut self) -> Vec<CapturedQuery> {
        let database = lifecycle::my_database();
        captures::listen(database);
        captures::collect(database)
    }

    fn places_taken(&mut self, index: &IndexInfo) -> Result<BTreeSet<u32>, PortError> {
        in_transaction(|| query_sample::places_taken(index))
    }

    fn keep_queries(
        &mut self,
        index: &IndexInfo,
        queries: &[(u32, Vec<u8>)],
    ) -> Result<(), PortError> {
        in_transaction(|| query_sample::keep(index, queries))
    }

    fn forget_queries(&mut self, all_but: &[String], days: u32) -> Result<(), PortError> {
        in_transaction(|| query_sample::forget(all_but, days))
    }
}

impl Executor for HealerWorld {
    fn plan_facts(&mut self, index: &IndexInfo) -> Result<PlanFacts, PortError> {
        in_transaction(|| plan_facts(index))
    }

    fn conditions(&mut self, plan: &RepairPlan) -> Result<Conditions, PortError> {
        in_transaction(|| executor::conditions(plan))
    }

    fn launch(&mut self, approved: &Approved) -> Result<Option<RepairId>, PortError> {
        let id = in_transaction(history::next_repair_id)?;
        let request = executor::request(approved.plan(), id, 0, 0);
        Ok(executor::enqueue(request).then_some(id))
    }

    fn take_back(&mut self, repair: RepairId, reason: &str) -> Result<(), PortError> {
        let on_board = executor::on_board();
        if on_board.iter().any(|one| one.request.repair_id == repair) {
            return Ok(());
        }
        let row = in_transaction(|| {
            history::note(repair, "regret", &json!(reason))?;
            history::repair(repair)
        })?;
        let Some(row) = row else {
            return Ok(());
        };
        let request = executor::undo(&row, 0);
        if executor::enqueue(request) {
            log!("ruvector_dag_healing: repair {repair} is taken back: {reason}");
        }
        Ok(())
    }
}

/// What planning a repair needs to know, from the last look. Inside a transaction.
pub fn plan_facts(index: &IndexInfo) -> Result<PlanFacts, PortError> {
    let look = journal::last_look(index)?;
    let (figures, lists) = look.map(|look| (look.hnsw, look.ivfflat)).unzip();
    Ok(PlanFacts {
        figures: figures.flatten(),
        lists: lists.flatten(),
        build_memory: guc::maintenance_work_mem() as u64,
        build_ms_per_element: journal::build_rate(index)?,
        others: others(index)?,
        io_limit_mb: guc::config().io_limit_mb,
        in_place_failed: history::in_place_failed(index)?,
        pgvector: catalog::pgvector()?,
        may_move: false,
    })
}

/// The other vector indexes of its table.
fn others(index: &IndexInfo) -> Result<Vec<OtherIndex>, PortError> {
    let of_table = catalog::indexes_of(index.table_oid)?.into_iter();
    let others = of_table.filter(|other| other.index_oid != index.index_oid);
    let look = |other: IndexInfo| {
        Ok(OtherIndex {
            figures: journal::last_look(&other)?.and_then(|look| look.hnsw),
            index: other,
        })
    };
    others.map(look).collect()
}

/// How long to wait for a lock.
pub fn lock_timeout() -> Duration {
    Duration::from_millis(guc::config().lock_timeout_ms)
}
