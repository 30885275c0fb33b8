//! The healing loop: one check cycle, from detection to the repairs under way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::detection::index_health::{IndexHealthChecker, look_is_due};
use crate::detection::recall_watch::{self, RecallWatch};
use crate::diagnosis::diagnose;
use crate::model::{
    Diagnosis, Finding, IndexHealthCheck, IndexInfo, RepairId, Severity, Timestamp,
};
use crate::ports::{
    ActiveRepair, Catalog, Clock, IssueState, IssueStatus, Journal, PortError, World,
};
use crate::repair::guards::{Refusal, approve};
use crate::repair::strategy::{RepairStrategy, registry, strategy_for};
use crate::settings::HealingConfig;
use crate::vector_index::ReadError;
use crate::vector_index::inspection::{InspectError, InspectOptions};
use crate::workload;

/// What one check cycle did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HealingCycleResult {
    /// Issues seen.
    pub detected_issues: usize,
    /// Repairs started.
    pub repairs_initiated: usize,
    /// Repairs that ended since the last cycle.
    pub repairs_completed: usize,
    /// Repairs under way.
    pub active_repairs: usize,
    /// Time it took, in milliseconds.
    pub duration_ms: f64,
}

/// Counters since the extension was created. They survive restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealingMetrics {
    /// Check cycles.
    pub checks_performed: u64,
    /// Issues opened.
    pub issues_detected: u64,
    /// Repairs started.
    pub repairs_initiated: u64,
    /// Repairs whose outcome was kept.
    pub repairs_successful: u64,
    /// Repairs that could not be carried out.
    pub repairs_failed: u64,
    /// Repairs that did not help and were undone.
    pub repairs_rolled_back: u64,
    /// Time spent in finished repairs, in milliseconds.
    pub total_repair_time_ms: f64,
    /// End of the last check cycle.
    pub last_check_time: Option<Timestamp>,
}

impl HealingMetrics {
    /// Share of the repairs started whose outcome was kept; 1 before the first.
    pub fn success_rate(&self) -> f64 {
        match self.repairs_initiated {
            0 => 1.0,
            n => self.repairs_successful as f64 / n as f64,
        }
    }

    /// Mean time of a finished repair, in milliseconds; 0 before the first.
    pub fn avg_repair_time_ms(&self) -> f64 {
        match self.repairs_successful + self.repairs_failed + self.repairs_rolled_back {
            0 => 0.0,
            n => self.total_repair_time_ms / n as f64,
        }
    }
}

/// Detects, diagnoses, repairs and verifies, cycle after cycle.
pub struct SelfHealingEngine {
    index_health_checker: IndexHealthChecker,
    repair_strategies: Vec<Box<dyn RepairStrategy>>,
    config: HealingConfig,
    active_repairs: BTreeMap<RepairId, ActiveRepair>,
    repair_history: Vec<ActiveRepair>,
    metrics: HealingMetrics,
    /// When captured queries were last taken up.
    last_visit: Option<Timestamp>,
}

/// Ended repairs remembered in memory; the journal keeps them all.
const HISTORY_LENGTH: usize = 100;

impl SelfHealingEngine {
    /// An engine that goes on where the journal left off.
    pub fn new(config: HealingConfig) -> Self {
        Self {
            index_health_checker: IndexHealthChecker::default(),
            repair_strategies: registry(),
            config,
            active_repairs: BTreeMap::new(),
            repair_history: Vec::new(),
            metrics: HealingMetrics::default(),
            last_visit: None,
        }
    }

    /// Takes up changed settings.
    pub fn configure(&mut self, config: HealingConfig) {
        self.config = config;
    }

    /// The settings in force.
    pub fn config(&self) -> &HealingConfig {
        &self.config
    }

    /// The counters, as of the last cycle.
    pub fn metrics(&self) -> &HealingMetrics {
        &self.metrics
    }

    /// The last repairs that ended, oldest first.
    pub fn repair_history(&self) -> &[ActiveRepair] {
        &self.repair_history
    }

    /// Runs one check cycle.
    pub fn run_check_cycle(
        &mut self,
        world: &mut dyn World,
    ) -> Result<HealingCycleResult, PortError> {
        let start = world.now();

        // 1 to 4. Detection: what the sources of evidence show.
        let indexes = world.vector_indexes()?;
        self.take_up_queries(&indexes, world)?;
        let checked = self.check_indexes(&indexes, world)?;

        // 5. Diagnose and prioritise; the journal tells which issues are new.
        let findings = checked.iter().flat_map(|(_, findings)| findings.clone());
        let diagnoses = self.prioritize_issues(findings.collect());
        let mut states = Vec::new();
        for diagnosis in &diagnoses {
            states.push(world.file(diagnosis)?);
        }
        settle(&indexes, &checked, world)?;

        // 7 before 6: a repair that has ended makes room for the next.
        let completed = self.check_active_repairs(world)?;

        // 6. Initiate repairs.
        let mut initiated = 0;
        for (diagnosis, state) in diagnoses.iter().zip(&states) {
            initiated += usize::from(self.initiate_repair(diagnosis, state, world)?);
        }

        let result = HealingCycleResult {
            detected_issues: diagnoses.len(),
            repairs_initiated: initiated,
            repairs_completed: completed,
            active_repairs: self.active_repairs.len(),
            duration_ms: (world.now() - start) as f64 / 1000.0,
        };
        let opened = states.iter().filter(|state| state.is_new).count();
        self.metrics = world.close_cycle(&result, opened, self.config.history_retention_days)?;
        Ok(result)
    }

    /// Takes in a look that somebody else took, and files what it shows.
    pub fn file_look(
        &mut self,
        look: IndexHealthCheck,
        journal: &mut dyn Journal,
    ) -> Result<(), PortError> {
        let identity = look.index.identity();
        journal.record_look(&look)?;
        self.index_health_checker.observe(look);
        let findings = self.index_health_checker.needs_repair(&identity);
        let ids = findings.iter().map(Finding::issue_id).collect();
        for diagnosis in self.prioritize_issues(findings) {
            journal.file(&diagnosis)?;
        }
        journal.settle(&[(identity, ids)], None)?;
        Ok(())
    }

    /// Looks at every index that is due; where none is due the last look stands. Returns what was
    /// found, by the identity of each index that could be looked at.
    fn check_indexes(
        &mut self,
        indexes: &[IndexInfo],
        world: &mut dyn World,
    ) -> Result<Vec<(String, Vec<Finding>)>, PortError> {
        let begun = world.now();
        let identities: Vec<String> = indexes.iter().map(IndexInfo::identity).collect();
        self.index_health_checker.retain(&identities);
        let settings = world.standing_settings()?;
        let mut checked = Vec::new();
        for (index, identity) in indexes.iter().zip(identities) {
            // What is seen while pages change is neither what was there nor what will be.
            if self.in_repair(index.table_oid) {
                continue;
            }
            let last = world.last_look(index)?;
            let look = match last {
                Some(last) if !look_is_due(Some(&last), index, world.now()) => IndexHealthCheck {
                    index: index.clone(),
                    ..last
                },
                last => match take_look(index, world) {
                    Ok(look) => look.after(last.as_ref()),
                    // Dropped, rebuilt or locked while we looked: the next cycle sees what is.
                    Err(PortError::Gone(_) | PortError::Busy(_)) => continue,
                    // One unreadable index must not keep the others from being healed.
                    Err(PortError::Failed(reason)) => {
                        let blank = IndexHealthCheck::new(index.clone(), world.now());
                        IndexHealthCheck {
                            index: index.clone(),
                            checked_at: world.now(),
                            notices: vec![reason],
                            ..last.unwrap_or(blank)
                        }
                    }
                    Err(error) => return Err(error),
                },
            };
            if look.checked_at >= begun {
                world.record_look(&look)?;
            }
            let look = self.take_pulse(look, world)?;
            for setting in settings.iter().filter(|one| one.identity == identity) {
                let watch = look.recall.as_ref();
                if let Some(reason) = watch.and_then(|watch| setting.regret(watch)) {
                    world.take_back(setting.repair_id, &reason)?;
                }
            }
            self.index_health_checker.observe(look);
            let findings = self.index_health_checker.needs_repair(&identity);
            checked.push((identity, findings));
        }
        Ok(checked)
    }

    /// Takes up what statements have asked since the last cycle.
    fn take_up_queries(
        &mut self,
        indexes: &[IndexInfo],
        world: &mut dyn World,
    ) -> Result<(), PortError> {
        let now = world.now();
        let interval = i64::try_from(self.config.check_interval_ms * 1000).unwrap_or(i64::MAX);
        let elapsed = self.last_visit.map_or(interval, |last| now - last);
        workload::take_up(
            indexes,
            &self.config,
            u64::try_from(elapsed).unwrap_or_default(),
            world,
        )?;
        self.last_visit = Some(now);
        Ok(())
    }

    /// Measures the recall of an index if that is due.
    fn take_pulse(
        &self,
        look: IndexHealthCheck,
        world: &mut dyn World,
    ) -> Result<IndexHealthCheck, PortError> {
        let now = world.now();
        if !recall_watch::is_due(&look, self.config.check_interval_ms, now) {
            return Ok(look);
        }
        let (queries, k) = (recall_watch::QUERIES, recall_watch::NEIGHBORS);
        let sample = match world.measure_recall(&look.index, queries, k) {
            Ok(sample) => sample,
            Err(error @ PortError::Stopped(_)) => return Err(error),
            // In use, gone, or not to be searched: another cycle will see.
            Err(_) => return Ok(look),
        };
        let target = self.config.target_recall;
        let watch = RecallWatch::after(look.recall, &look.index, &sample, target, world.now());
        world.record_recall(&look.index, &watch)?;
        Ok(IndexHealthCheck {
            recall: Some(watch),
            ..look
        })
    }

    fn prioritize_issues(&self, findings: Vec<Finding>) -> Vec<Diagnosis> {
        let mut diagnoses: Vec<Diagnosis> = findings
            .into_iter()
            .map(|finding| diagnose(finding, &self.repair_strategies))
            .collect();
        diagnoses.sort_by_key(|d| std::cmp::Reverse((d.severity, d.priority)));
        diagnoses
    }

    /// Whether a repair of a table was under way when that was last looked up.
    fn in_repair(&self, table: u32) -> bool {
        let repairing = |repair: &ActiveRepair| repair.table_oid == table;
        self.active_repairs.values().any(repairing)
    }

    /// Starts the repair of an issue if it may start by itself; says why where it may not.
    fn initiate_repair(
        &mut self,
        diagnosis: &Diagnosis,
        state: &IssueState,
        world: &mut dyn World,
    ) -> Result<bool, PortError> {
        let index = &diagnosis.finding.index;
        if state.status == IssueStatus::Suppressed || self.in_repair(index.table_oid) {
            return Ok(false);
        }
        let id = diagnosis.finding.issue_id();
        let issue = &diagnosis.finding.issue;
        let Some(strategy) = strategy_for(&self.repair_strategies, issue) else {
            let refusal = Refusal::new("advice_only", "nothing is done about this by itself");
            world.note_refusal(&id, &refusal)?;
            return Ok(false);
        };
        if !self.config.auto_heal_enabled {
            let refusal = Refusal::new("disabled", "ruvector.dag_healing_enabled is off");
            world.note_refusal(&id, &refusal)?;
            return Ok(false);
        }
        if let Some((code, reason)) = strategy.held_back(self.config.parameter_tuning) {
            world.note_refusal(&id, &Refusal::new(code, reason))?;
            return Ok(false);
        }
        if self.active_repairs.len() >= self.config.max_concurrent_repairs {
            return Ok(false);
        }
        let facts = world.plan_facts(index)?;
        let plan = strategy.plan(issue, index, &facts);
        let conditions = world.conditions(&plan)?;
        match approve(plan, state, &conditions, &self.config, world.now()) {
            Err(refusal) => world.note_refusal(&id, &refusal)?,
            Ok(approved) => {
                if let Some(id) = world.launch(&approved)? {
                    let repair = ActiveRepair {
                        id,
                        issue_id: approved.plan().issue_id(),
                        index_oid: index.index_oid,
                        table_oid: index.table_oid,
                        strategy_name: approved.plan().strategy.clone(),
                        started_at: world.now(),
                        finished: false,
                    };
                    self.active_repairs.insert(id, repair);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Sees which repairs have ended.
    fn check_active_repairs(&mut self, world: &mut dyn World) -> Result<usize, PortError> {
        self.active_repairs.clear();
        let mut completed = 0;
        for repair in world.repairs()? {
            if !repair.finished {
                self.active_repairs.insert(repair.id, repair);
                continue;
            }
            completed += 1;
            self.repair_history.push(repair);
        }
        let excess = self.repair_history.len().saturating_sub(HISTORY_LENGTH);
        self.repair_history.drain(..excess);
        Ok(completed)
    }
}

/// Has every issue resolved that was looked for and not found again.
fn settle(
    indexes: &[IndexInfo],
    checked: &[(String, Vec<Finding>)],
    world: &mut dyn World,
) -> Result<(), PortError> {
    let all: Vec<String> = indexes.iter().map(IndexInfo::identity).collect();
    let found: Vec<(String, Vec<String>)> = checked
        .iter()
        .map(|(identity, findings)| {
            let ids = findings.iter().map(Finding::issue_id).collect();
            (identity.clone(), ids)
        })
        .collect();
    world.settle(&found, Some(&all))?;
    Ok(())
}

/// Reads an index and takes its figures.
pub fn take_look<W: Catalog + Clock + ?Sized>(
    index: &IndexInfo,
    world: &mut W,
) -> Result<IndexHealthCheck, PortError> {
    let mut look = IndexHealthCheck::new(index.clone(), world.now());
    // An invalid index may be half built: its pages say nothing yet.
    if index.valid {
        let options = InspectOptions {
            memory_limit: world.memory_limit(),
            ..InspectOptions::default()
        };
        let limit = options.memory_limit;
        match look.inspect(world.pages(index)?.as_mut(), &options) {
            Ok(_) => {}
            // The check tells which pages they are.
            Err(InspectError::Read(ReadError::Unreadable { reason, .. })) => {
                look.notices.push(reason);
            }
            Err(InspectError::Read(error)) => return Err(error.into()),
            Err(InspectError::NotSuch { reason }) => look.notices.push(reason),
        }
        match look.check(world.pages(index)?.as_mut(), limit, &mut |_| {}) {
            Err(InspectError::Read(error)) => return Err(error.into()),
            Ok(()) | Err(InspectError::NotSuch { .. }) => {}
        }
    }
    look.checked_at = world.now();
    Ok(look)
}

/// The verdict on a relation, from the severities of its open issues.
pub fn overall_status(open: impl IntoIterator<Item = Severity>) -> &'static str {
    match open.into_iter().max() {
        None => "healthy",
        Some(Severity::Critical) => "critical",
        Some(_) => "degraded",
    }
}
