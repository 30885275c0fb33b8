//! What the engine needs of the outside.
//!
//! The engine owns these traits; PostgreSQL implements them. Every call may fail with a
//! [`PortError`], which the engine passes on: it never retries and never guesses.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cycle::{HealingCycleResult, HealingMetrics};
use crate::detection::recall_watch::{RecallSample, RecallWatch};
use crate::model::{Diagnosis, IndexHealthCheck, IndexInfo, RepairId, Timestamp};
use crate::recall::interval::QueryHits;
use crate::repair::guards::{Conditions, Refusal};
use crate::repair::plan::{Approved, Measured, PlanFacts, RepairPlan, StepKind};
use crate::vector_index::{PageSource, ReadError};
use crate::verification::probe::Probe;
use crate::verification::rollback::StandingSetting;
use crate::workload::CapturedQuery;

/// Why the outside did not do what was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PortError {
    /// What was asked about is no longer there. Nothing is wrong.
    #[error("{0} is gone")]
    Gone(String),
    /// Somebody else is in the way, as it says; later is soon enough.
    #[error("{0}")]
    Busy(String),
    /// We were asked to stop.
    #[error("stopped: {0}")]
    Stopped(String),
    /// It went wrong, in PostgreSQL's words.
    #[error("{0}")]
    Failed(String),
}

impl From<ReadError> for PortError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::Gone("the index".into()),
            ReadError::Stopped => Self::Stopped("asked to leave".into()),
            unreadable => Self::Failed(unreadable.to_string()),
        }
    }
}

/// What time it is.
pub trait Clock {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;
}

/// What indexes there are.
pub trait Catalog {
    /// Every vector index to be watched, leftovers of our own repairs left out.
    fn vector_indexes(&mut self) -> Result<Vec<IndexInfo>, PortError>;
    /// The pages of one of them. Reading lets go of everything between batches and notices
    /// when the file is no longer the one described.
    fn pages<'a>(&'a mut self, index: &IndexInfo) -> Result<Box<dyn PageSource + 'a>, PortError>;
    /// Bytes a graph in memory may take.
    fn memory_limit(&self) -> usize;
}

/// Where an issue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueStatus {
    /// Found, not yet dealt with.
    Open,
    /// A repair is under way.
    Repairing,
    /// Gone.
    Resolved,
    /// A repair was tried and did not help.
    Unresolved,
    /// Somebody asked not to hear of it.
    Suppressed,
}

/// What the journal knows of an issue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IssueState {
    /// Where it stands.
    pub status: IssueStatus,
    /// Whether it was opened just now.
    pub is_new: bool,
    /// Repairs that failed in a row.
    pub failures: u32,
    /// When the last repair ended.
    pub last_repair: Option<Timestamp>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub last_repair_ms: f64,
}

/// A repair under way, or one that has just ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActiveRepair {
    /// Its number.
    pub id: RepairId,
    /// The issue it is to mend.
    pub issue_id: String,
    /// The index it works on, as an OID at the time.
    pub index_oid: u32,
    /// The table that index belongs to.
    pub table_oid: u32,
    /// The strategy that carries it out.
    pub strategy_name: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Whether it has ended.
    pub finished: bool,
}

/// What is remembered, committed by the time a call returns.
pub trait Journal {
    /// The last look at an index, if it was the same index.
    fn last_look(&mut self, index: &IndexInfo) -> Result<Option<IndexHealthCheck>, PortError>;
    /// Remembers a look.
    fn record_look(&mut self, look: &IndexHealthCheck) -> Result<(), PortError>;
    /// Remembers how the watch on the recall of an index stands.
    fn record_recall(&mut self, index: &IndexInfo, watch: &RecallWatch) -> Result<(), PortError>;
    /// Opens an issue or notes that it was seen again; tells where it stands.
    fn file(&mut self, diagnosis: &Diagnosis) -> Result<IssueState, PortError>;
    /// Resolves every issue of the checked indexes (by identity) but these ids; where `all`
    /// identities are given, issues of any other index are resolved too: it is gone. Issues
    /// under repair are left to the repair. Returns how many.
    fn settle(
        &mut self,
        checked: &[(String, Vec<String>)],
        all: Option<&[String]>,
    ) -> Result<u64, PortError>;
    /// Notes why nothing is done about an issue.
    fn note_refusal(&mut self, issue_id: &str, refusal: &Refusal) -> Result<(), PortError>;
    /// Repairs that have not ended, and those that ended since the last cycle.
    fn repairs(&mut self) -> Result<Vec<ActiveRepair>, PortError>;
    /// Search settings that repairs have set and that still stand.
    fn standing_settings(&mut self) -> Result<Vec<StandingSetting>, PortError>;
    /// Counts a cycle and the issues it opened, remembers its outcome, forgets what is past
    /// retention. Returns the counters.
    fn close_cycle(
        &mut self,
        result: &HealingCycleResult,
        opened: usize,
        retention_days: u32,
    ) -> Result<HealingMetrics, PortError>;
}

/// Who carries repairs out.
pub trait Executor {
    /// What planning a repair of this index needs to know.
    fn plan_facts(&mut self, index: &IndexInfo) -> Result<PlanFacts, PortError>;
    /// What speaks for and against a heavy repair of this index now.
    fn conditions(&mut self, plan: &RepairPlan) -> Result<Conditions, PortError>;
    /// Hands an approved repair to a worker. `None`: no room now.
    fn launch(&mut self, plan: &Approved) -> Result<Option<RepairId>, PortError>;
    /// Has a worker undo a repair that was kept, for a reason. Does nothing where that has been asked
    /// for already.
    fn take_back(&mut self, repair: RepairId, reason: &str) -> Result<(), PortError>;
}

/// Who measures how well an index answers.
pub trait Gauge {
    /// Measures the recall of an index against exact search, by queries drawn anew, at the
    /// settings that statements have by default.
    fn measure_recall(
        &mut self,
        index: &IndexInfo,
        queries: u32,
        k: u32,
    ) -> Result<RecallSample, PortError>;
}

/// What statements ask.
pub trait Workload {
    /// The queries captured since this was last called, or a sample of those of each index.
    fn captured(&mut self) -> Vec<CapturedQuery>;
    /// The places taken in the sample of queries kept of an index.
    fn places_taken(&mut self, index: &IndexInfo) -> Result<BTreeSet<u32>, PortError>;
    /// Keeps queries of an index, each at a place, instead of what was there.
    fn keep_queries(
        &mut self,
        index: &IndexInfo,
        queries: &[(u32, Vec<u8>)],
    ) -> Result<(), PortError>;
    /// Forgets the queries of all indexes but these (by identity), and those kept for longer.
    fn forget_queries(&mut self, all_but: &[String], days: u32) -> Result<(), PortError>;
}

/// Everything a check cycle needs.
pub trait World: Clock + Catalog + Gauge + Journal + Executor + Workload {}
impl<T: Clock + Catalog + Gauge + Journal + Executor + Workload> World for T {}

/// Answers of the index in place and of its replacement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Searched {
    /// Row by row.
    pub probes: Vec<Probe>,
    /// Whether the index in place answers at all.
    pub in_place_answers: bool,
    /// Whether there are no more rows to search for. Rows that are gone are left out, so that
    /// there can be fewer than were asked for while there are more.
    pub exhausted: bool,
}

/// Answers of an index before it was mended in place, and after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AskedTwice {
    /// Of the same queries, one by one.
    pub hits: Vec<(QueryHits, QueryHits)>,
    /// Neighbours asked for.
    pub k: u32,
    /// Buffers looked at, before and after.
    pub buffers: (u64, u64),
}

/// What a repair worker can do, one step at a time.
pub trait Workbench {
    /// Commits the intent to take a step.
    fn begin(&mut self, step: StepKind) -> Result<(), PortError>;
    /// Takes it. The effect of a step that changes the catalog and its mark in the journal are
    /// one transaction.
    fn execute(&mut self, step: StepKind) -> Result<(), PortError>;
    /// Figures of the index in place.
    fn measure(&mut self) -> Result<Measured, PortError>;
    /// Takes the figures of the replacement.
    fn measure_replacement(&mut self) -> Result<Measured, PortError>;
    /// Searches both indexes for `k` neighbours of `count` rows that were not searched for
    /// before, drawn at random.
    fn search_both(&mut self, count: u32, k: u32) -> Result<Searched, PortError>;
    /// Has an index that was mended in place answer the queries of its baseline again. None where
    /// there was nothing to compare.
    fn ask_again(&mut self) -> Result<Option<AskedTwice>, PortError>;
    /// Commits figures to the journal.
    fn note(&mut self, key: &str, value: &Value) -> Result<(), PortError>;
    /// Time since the repair began.
    fn elapsed(&self) -> Duration;
}
