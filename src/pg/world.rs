//! The engine's ports as the healer has them: every call is a transaction of its own.

use std::time::Duration;

use pgrx::log;
use ruvector_dag_healing_engine::cycle::{HealingCycleResult, HealingMetrics};
use ruvector_dag_healing_engine::detection::recall_watch::{RecallSample, RecallWatch};
use ruvector_dag_healing_engine::model::{
    Diagnosis, IndexHealthCheck, IndexInfo, RepairId, Timestamp,
};
use ruvector_dag_healing_engine::ports::{
    ActiveRepair, Catalog, Clock, Executor, Gauge, IssueState, Journal, PortError,
};
use ruvector_dag_healing_engine::repair::guards::{Conditions, Refusal};
use ruvector_dag_healing_engine::repair::plan::{Approved, PlanFacts, RepairPlan};
use ruvector_dag_healing_engine::vector_index::PageSource;

use super::measuring::{self, Target, Wanted};
use super::pages::BackgroundPages;
use super::xact::{Snapshot, transaction};
use super::{catalog, executor, guc, history, journal, lifecycle};

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
        let target = Target {
            info: index.clone(),
            shape: index
                .shape
                .clone()
                .ok_or_else(|| PortError::Failed("how the index compares is not known".into()))?,
        };
        let wanted = Wanted {
            k,
            queries,
            mirrored: false,
            seed: lifecycle::now() as u64,
        };
        measuring::background(&target, &wanted, self.io_limit_mb, self.stop.as_ref())
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

    fn close_cycle(
        &mut self,
        result: &HealingCycleResult,
        opened: usize,
        retention_days: u32,
    ) -> Result<HealingMetrics, PortError> {
        in_transaction(|| journal::close_cycle(result, opened, retention_days))
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
}

/// What planning a repair needs to know, from the last look. Inside a transaction.
pub fn plan_facts(index: &IndexInfo) -> Result<PlanFacts, PortError> {
    Ok(PlanFacts {
        figures: journal::last_look(index)?.and_then(|look| look.hnsw),
        build_memory: guc::maintenance_work_mem() as u64,
        build_ms_per_element: journal::build_rate(index)?,
        io_limit_mb: guc::config().io_limit_mb,
        in_place_failed: history::in_place_failed(index)?,
    })
}

/// How long to wait for a lock.
pub fn lock_timeout() -> Duration {
    Duration::from_millis(guc::config().lock_timeout_ms)
}
