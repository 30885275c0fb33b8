use std::collections::{BTreeMap, BTreeSet};

use ruvector_dag_healing_engine::cycle::{HealingCycleResult, HealingMetrics};
use ruvector_dag_healing_engine::detection::recall_watch::{RecallSample, RecallWatch};
use ruvector_dag_healing_engine::model::{
    Diagnosis, IndexHealthCheck, IndexInfo, RepairId, Timestamp,
};
use ruvector_dag_healing_engine::ports::{
    ActiveRepair, Catalog, Clock, Executor, Gauge, IssueState, IssueStatus, Journal, PortError,
    Workload,
};
use ruvector_dag_healing_engine::recall::interval::QueryHits;
use ruvector_dag_healing_engine::repair::guards::{Conditions, Refusal};
use ruvector_dag_healing_engine::repair::plan::{Approved, PlanFacts, RepairPlan};
use ruvector_dag_healing_engine::vector_index::PageSource;
use ruvector_dag_healing_engine::verification::rollback::StandingSetting;
use ruvector_dag_healing_engine::workload::CapturedQuery;

/// A world in which indexes have looks prepared for them, and launched repairs are written down.
#[derive(Default)]
pub struct World {
    pub now: Timestamp,
    pub indexes: Vec<IndexInfo>,
    /// Looks the journal has, by identity. Reading pages is not part of this world.
    pub looks: BTreeMap<String, IndexHealthCheck>,
    pub issues: BTreeMap<String, IssueState>,
    pub refusals: BTreeMap<String, String>,
    pub repairs: Vec<ActiveRepair>,
    pub launched: Vec<RepairPlan>,
    pub conditions: Conditions,
    pub cycles: u64,
    /// Workers to be had.
    pub room: usize,
    /// Neighbours that every query asked misses, how long a measurement takes, and how many were made.
    pub missed: u32,
    pub measurement_ms: f64,
    pub measurements: u32,
    /// The search setting in force, buffers a search with it looks at, those that repairs have set, and
    /// what was taken back.
    pub ef_search: u32,
    pub buffers: f64,
    pub settings: Vec<StandingSetting>,
    pub taken_back: Vec<(RepairId, String)>,
    /// What reading any page gives.
    pub unreadable: Option<PortError>,
    /// What statements have asked.
    pub captured: Vec<CapturedQuery>,
    /// What is kept of it: by the identity of the index and the place.
    pub queries: BTreeMap<(String, u32), Vec<u8>>,
}

impl World {
    /// Adds an index whose last look is the one given.
    pub fn add(&mut self, look: IndexHealthCheck) {
        self.indexes.push(look.index.clone());
        self.looks.insert(look.index.identity(), look);
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.now
    }
}

impl Catalog for World {
    fn vector_indexes(&mut self) -> Result<Vec<IndexInfo>, PortError> {
        Ok(self.indexes.clone())
    }

    fn pages<'a>(&'a mut self, _index: &IndexInfo) -> Result<Box<dyn PageSource + 'a>, PortError> {
        Err(self
            .unreadable
            .clone()
            .expect("every look in this world is prepared"))
    }

    fn memory_limit(&self) -> usize {
        1 << 20
    }
}

impl Journal for World {
    fn last_look(&mut self, index: &IndexInfo) -> Result<Option<IndexHealthCheck>, PortError> {
        Ok(self.looks.get(&index.identity()).cloned())
    }

    fn record_recall(&mut self, index: &IndexInfo, watch: &RecallWatch) -> Result<(), PortError> {
        if let Some(look) = self.looks.get_mut(&index.identity()) {
            look.recall = Some(watch.clone());
        }
        Ok(())
    }

    fn record_look(&mut self, look: &IndexHealthCheck) -> Result<(), PortError> {
        self.looks.insert(look.index.identity(), look.clone());
        Ok(())
    }

    fn file(&mut self, diagnosis: &Diagnosis) -> Result<IssueState, PortError> {
        let id = diagnosis.finding.issue_id();
        let known = self
            .issues
            .get(&id)
            .filter(|state| state.status != IssueStatus::Resolved);
        let state = match known {
            Some(state) => IssueState {
                is_new: false,
                ..state.clone()
            },
            None => IssueState {
                status: IssueStatus::Open,
                is_new: true,
                failures: 0,
                last_repair: None,
                last_repair_ms: 0.0,
            },
        };
        self.issues.insert(id, state.clone());
        Ok(state)
    }

    fn settle(
        &mut self,
        checked: &[(String, Vec<String>)],
        all: Option<&[String]>,
    ) -> Result<u64, PortError> {
        let mut settled = 0;
        for (id, state) in &mut self.issues {
            let identity = id.rsplit('-').next().unwrap();
            let gone = checked
                .iter()
                .any(|(known, ids)| known == identity && !ids.contains(id))
                || all.is_some_and(|all| all.iter().all(|known| known != identity));
            if gone && matches!(state.status, IssueStatus::Open | IssueStatus::Unresolved) {
                state.status = IssueStatus::Resolved;
                settled += 1;
            }
        }
        Ok(settled)
    }

    fn note_refusal(&mut self, issue_id: &str, refusal: &Refusal) -> Result<(), PortError> {
        self.refusals.insert(issue_id.into(), refusal.code.clone());
        Ok(())
    }

    fn repairs(&mut self) -> Result<Vec<ActiveRepair>, PortError> {
        Ok(self.repairs.clone())
    }

    fn standing_settings(&mut self) -> Result<Vec<StandingSetting>, PortError> {
        Ok(self.settings.clone())
    }

    fn close_cycle(
        &mut self,
        _result: &HealingCycleResult,
        opened: usize,
        _retention_days: u32,
    ) -> Result<HealingMetrics, PortError> {
        self.cycles += 1;
        Ok(HealingMetrics {
            checks_performed: self.cycles,
            issues_detected: opened as u64,
            ..HealingMetrics::default()
        })
    }
}

impl Gauge for World {
    fn measure_recall(
        &mut self,
        _index: &IndexInfo,
        queries: u32,
        k: u32,
    ) -> Result<RecallSample, PortError> {
        self.measurements += 1;
        let hits = QueryHits {
            hits: k - self.missed,
            of: k,
        };
        Ok(RecallSample {
            hits: vec![hits; queries as usize],
            search: format!("hnsw.ef_search = {}", self.ef_search),
            source: "sampled rows".into(),
            buffers: self.buffers,
            took_ms: self.measurement_ms,
        })
    }
}

impl Workload for World {
    fn captured(&mut self) -> Vec<CapturedQuery> {
        std::mem::take(&mut self.captured)
    }

    fn places_taken(&mut self, index: &IndexInfo) -> Result<BTreeSet<u32>, PortError> {
        let identity = index.identity();
        let of = |(known, _): &&(String, u32)| *known == identity;
        Ok(self.queries.keys().filter(of).map(|key| key.1).collect())
    }

    fn keep_queries(
        &mut self,
        index: &IndexInfo,
        queries: &[(u32, Vec<u8>)],
    ) -> Result<(), PortError> {
        for (place, value) in queries {
            self.queries
                .insert((index.identity(), *place), value.clone());
        }
        Ok(())
    }

    fn forget_queries(&mut self, all_but: &[String], _days: u32) -> Result<(), PortError> {
        self.queries
            .retain(|(identity, _), _| all_but.contains(identity));
        Ok(())
    }
}

impl Executor for World {
    fn plan_facts(&mut self, index: &IndexInfo) -> Result<PlanFacts, PortError> {
        let figures = self
            .looks
            .get(&index.identity())
            .and_then(|look| look.hnsw.clone());
        Ok(PlanFacts {
            figures,
            build_memory: 1 << 30,
            build_ms_per_element: None,
            ..PlanFacts::default()
        })
    }

    fn conditions(&mut self, _plan: &RepairPlan) -> Result<Conditions, PortError> {
        Ok(self.conditions.clone())
    }

    fn launch(&mut self, plan: &Approved) -> Result<Option<RepairId>, PortError> {
        if self.launched.len() >= self.room {
            return Ok(None);
        }
        self.launched.push(plan.plan().clone());
        Ok(Some(self.launched.len() as RepairId))
    }

    fn take_back(&mut self, repair: RepairId, reason: &str) -> Result<(), PortError> {
        self.taken_back.push((repair, reason.into()));
        Ok(())
    }
}
