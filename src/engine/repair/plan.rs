//! What a repair will do, written down before it is done: steps, locks, cost, undo.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::detection::damage::Damage;
use crate::model::{IndexInfo, Issue, issue_id};
use crate::recall::paired::Standing;
use crate::vector_index::hnsw::HnswFigures;
use crate::vector_index::ivfflat::IvfflatFigures;
use crate::vector_index::release::Release;
use crate::verification::forecast::Forecast;
use crate::verification::probe::SelfQuery;

/// One step of a repair. Each is atomic: after a crash it was taken or it was not, or its
/// half-done work is invisible to every query and removed by [`super::recovery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Catalog entry of an empty replacement that no query and no write uses yet.
    CreateCopy,
    /// Fill the replacement from the table; from its end on, writes keep it up.
    Build,
    /// Add what was written meanwhile and wait out older snapshots.
    Validate,
    /// Compare the replacement with the index in place.
    Check,
    /// Exchange the two, in one short transaction.
    Swap,
    /// Exchange them back.
    SwapBack,
    /// Remove the index that is not in place.
    Drop,
    /// Vacuum the table and its indexes.
    Vacuum,
    /// Find the smallest search setting that finds enough, by measuring.
    Tune,
    /// Give the setting to all new connections to the database.
    SetParameter,
    /// Give them again what they had.
    ResetParameter,
    /// Have neighbour tuples say of themselves what their elements say of them, in place.
    Tuples,
    /// Have searches start at a live element of the highest layer, in place.
    Entry,
    /// Take out links that must not be there, in place.
    Prune,
    /// Take out of elements the rows that must not be in them, in place.
    Detach,
    /// Put rows that are missing into the index, as an insert does.
    Reinsert,
    /// Have the index answer fresh queries, of which the exact answers are kept.
    Baseline,
    /// Give what no search can reach links to it, in place.
    Link,
    /// Lead links past elements all of whose rows are dead, in place.
    Relink,
    /// Bring the rows of a value into as few elements as hold them, in place.
    Merge,
    /// Have searches pass by a value that many rows share, in place.
    Detour,
    /// Have inserts into every list begin on one of its own pages, in place.
    InsertPages,
    /// Tell what moving the centres of lists, and what a rebuild, would do to recall.
    Forecast,
    /// Move the centres of lists to the means of their members, in place.
    Recenter,
    /// Split the largest lists into the room of the smallest, and move entries to where they then
    /// belong, in place.
    Regroup,
    /// Take the figures again, and have the index answer the same queries.
    Verify,
    /// Take out the links that were made, put back the centres and the entries.
    TakeBack,
}

impl StepKind {
    /// The stable code of the step.
    pub fn code(self) -> &'static str {
        match self {
            Self::CreateCopy => "create_copy",
            Self::Build => "build",
            Self::Validate => "validate",
            Self::Check => "check",
            Self::Swap => "swap",
            Self::SwapBack => "swap_back",
            Self::Drop => "drop",
            Self::Vacuum => "vacuum",
            Self::Tune => "tune",
            Self::SetParameter => "set_parameter",
            Self::ResetParameter => "reset_parameter",
            Self::Tuples => "tuples",
            Self::Entry => "entry",
            Self::Prune => "prune",
            Self::Detach => "detach",
            Self::Reinsert => "reinsert",
            Self::Baseline => "baseline",
            Self::Link => "link",
            Self::Relink => "relink",
            Self::Merge => "merge",
            Self::Detour => "detour",
            Self::InsertPages => "insert_pages",
            Self::Forecast => "forecast",
            Self::Recenter => "recenter",
            Self::Regroup => "regroup",
            Self::Verify => "verify",
            Self::TakeBack => "take_back",
        }
    }

    /// The lock the step holds, on what, and whom that keeps waiting.
    pub fn lock(self) -> &'static str {
        match self {
            Self::Check => "AccessShareLock on what is compared: nobody waits",
            Self::Tune => "AccessShareLock on table and index, and one snapshot: nobody waits",
            Self::SetParameter | Self::ResetParameter => {
                "AccessShareLock on the database: only dropping it waits"
            }
            Self::Baseline | Self::Forecast | Self::Verify => {
                "AccessShareLock on the table and the index: nobody waits"
            }
            Self::Link | Self::InsertPages | Self::Recenter => {
                "ShareUpdateExclusiveLock on the table, let go of within 50 ms when somebody waits: \
                 reads and writes go on"
            }
            Self::Detach | Self::Reinsert => {
                "ShareUpdateExclusiveLock on the table from the first row taken out to the last put \
                 back: reads and writes go on, whoever waits for longer than \
                 ruvector.dag_healing_lock_timeout goes first"
            }
            Self::Tuples | Self::Entry | Self::Prune | Self::Relink | Self::TakeBack => {
                "ShareUpdateExclusiveLock on the table, let go of within 50 ms when somebody waits: \
                 reads and writes go on; inserts into the index wait for single pages"
            }
            Self::Merge => {
                "ShareUpdateExclusiveLock on the table, let go of within 50 ms when somebody waits: \
                 writes go on; inserts into the index and searches of it wait for single pages, and a \
                 search that goes on after its first rows may have a row of the value twice"
            }
            Self::Regroup => {
                "ShareUpdateExclusiveLock on the table, and AccessExclusiveLock on the index, taken only \
                 when nobody uses it and let go of within 50 ms, 20 ms when somebody waits: statements on \
                 the table that begin meanwhile wait as long"
            }
            Self::Swap | Self::SwapBack => {
                "ShareUpdateExclusiveLock on the table and both indexes for one short \
                 transaction: reads and writes go on, other schema changes and vacuum wait"
            }
            _ => {
                "ShareUpdateExclusiveLock on the table: reads and writes go on, other schema \
                 changes and vacuum wait"
            }
        }
    }

    /// Whether it holds the table's lock against schema changes and vacuum.
    pub fn locks_table(self) -> bool {
        !matches!(
            self,
            Self::Check
                | Self::Tune
                | Self::SetParameter
                | Self::ResetParameter
                | Self::Baseline
                | Self::Forecast
                | Self::Verify
        )
    }

    /// How the step is taken back.
    pub fn undo(self) -> &'static str {
        match self {
            Self::CreateCopy | Self::Build | Self::Validate => "drop the replacement",
            Self::SetParameter => "set back, unless somebody else has set it since",
            Self::ResetParameter => "set again",
            Self::Check | Self::Tune | Self::Baseline | Self::Forecast | Self::Verify => {
                "nothing to undo"
            }
            Self::Entry => "none: searches start where they start again after an insert",
            Self::Tuples => "none: the tuple's length proves what it says then",
            Self::Detach => "none: what must stay in the index is put back by the next step",
            Self::Reinsert => "none: every row belongs into the index",
            Self::Prune => "none: what goes is no link that pgvector lets stand",
            Self::InsertPages => "none: where inserts began was no page of their list",
            Self::Recenter => {
                "put the old centres back, byte by byte, where the new ones still are"
            }
            Self::Regroup => {
                "put the entries back into the lists they were in, and the old centres back"
            }
            Self::Link => "take the links out again, where they still are as they were made",
            Self::Relink => {
                "none: what goes leads to rows that no transaction can see; where recall is worse \
                 for it the index is rebuilt"
            }
            Self::Merge => {
                "put the rows back into the elements they were in, where these are there"
            }
            Self::Detour => "put the links back, where they still are as they were made",
            Self::TakeBack => "none",
            Self::Swap => "swap back, as long as the replaced index is kept",
            Self::SwapBack => "swap again",
            Self::Drop => "none: the index that goes is the one not in place",
            Self::Vacuum => "none: only what no transaction can see is removed",
        }
    }
}

/// What a repair is expected to cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Time until the outcome is in place, in milliseconds.
    pub duration_ms: f64,
    /// Disk taken at the peak, in bytes.
    pub disk_bytes: u64,
    /// Memory taken at the peak, in bytes.
    pub memory_bytes: u64,
}

/// Another vector index of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherIndex {
    /// Which.
    pub index: IndexInfo,
    /// Its figures if it is an HNSW index that was looked at.
    pub figures: Option<HnswFigures>,
}

/// What planning needs to know besides the issue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanFacts {
    /// Figures of the index, where it has any.
    pub figures: Option<HnswFigures>,
    /// Its figures if it is an IVFFlat index.
    #[serde(default)]
    pub lists: Option<IvfflatFigures>,
    /// `maintenance_work_mem`, in bytes.
    pub build_memory: u64,
    /// Measured milliseconds per element of the last build of this index.
    pub build_ms_per_element: Option<f64>,
    /// The other vector indexes of the table.
    #[serde(default)]
    pub others: Vec<OtherIndex>,
    /// Throttle for reading, in megabytes a second; 0 means none.
    #[serde(default)]
    pub io_limit_mb: u64,
    /// Whether mending this file of the index in place was tried and did not help.
    #[serde(default)]
    pub in_place_failed: bool,
    /// The release of pgvector whose library workers load, where that can be told.
    #[serde(default)]
    pub pgvector: Option<Release>,
    /// Whether entries may be moved from list to list: somebody asks for the repair, who accepts that
    /// others wait for it, and a healer stands by to end it whatever ends the worker.
    #[serde(default)]
    pub may_move: bool,
}

/// A repair as planned. It cannot be carried out before it is [`Approved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepairPlan {
    /// Name of the strategy.
    pub strategy: String,
    /// What kind of repair it is, in the words of the history.
    pub repair_type: String,
    /// What it is to mend.
    pub issue: Issue,
    /// Where.
    pub index: IndexInfo,
    /// In which steps.
    pub steps: Vec<StepKind>,
    /// What each of them is expected to take, in milliseconds, where that is known.
    #[serde(default)]
    pub costs_ms: Vec<f64>,
    /// At what cost.
    pub estimate: Estimate,
    /// Whether the outcome can be undone.
    pub reversible: bool,
    /// Whether it takes so much that it waits for the maintenance window.
    pub heavy: bool,
    /// Whether it never starts by itself.
    #[serde(default)]
    pub on_request: bool,
    /// Why nothing may be vacuumed out of a graph with this release of pgvector, if that is so.
    #[serde(default)]
    pub vacuum_fault: Option<String>,
}

impl RepairPlan {
    /// The id of the issue to mend.
    pub fn issue_id(&self) -> String {
        issue_id(&self.issue, &self.index)
    }

    /// Whether any step holds the table's lock against schema changes and vacuum.
    pub fn locks_table(&self) -> bool {
        self.steps.iter().any(|step| step.locks_table())
    }

    /// The strongest lock on the table, and that on the index where it is stronger.
    fn locks(&self) -> Vec<&'static str> {
        let on_table = match self.locks_table() {
            true => "ShareUpdateExclusiveLock",
            false => "AccessShareLock",
        };
        let excludes = self.steps.contains(&StepKind::Regroup);
        let on_index = excludes.then_some("AccessExclusiveLock on the index");
        std::iter::once(on_table).chain(on_index).collect()
    }

    /// The plan as people read it: steps with lock and undo, and the estimate.
    pub fn to_json(&self) -> Value {
        let costs = self
            .costs_ms
            .iter()
            .map(Some)
            .chain(std::iter::repeat(None));
        let steps: Vec<Value> = self
            .steps
            .iter()
            .zip(costs)
            .map(|(step, cost)| {
                let mut shown =
                    json!({"step": step.code(), "lock": step.lock(), "undo": step.undo()});
                if let Some(cost) = cost {
                    shown["duration_ms"] = json!((cost * 10.0).round() / 10.0);
                }
                shown
            })
            .collect();
        json!({
            "strategy": self.strategy,
            "repair_type": self.repair_type,
            "steps": steps,
            "vacuum_fault": self.vacuum_fault,
            "estimate": {
                "duration_ms": self.estimate.duration_ms.round(),
                "bytes": self.estimate.disk_bytes,
                "memory_bytes": self.estimate.memory_bytes,
                "locks": self.locks(),
                "reversible": self.reversible,
            },
        })
    }
}

/// A plan that may be carried out. Only [`super::guards`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Approved(RepairPlan);

impl Approved {
    pub(super) fn new(plan: RepairPlan) -> Self {
        Self(plan)
    }

    /// The plan that was approved.
    pub fn plan(&self) -> &RepairPlan {
        &self.0
    }
}

/// How well an index answers, by searching for rows it should hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeFigures {
    /// Rows searched for.
    pub queries: u32,
    /// Neighbours asked for in each search.
    pub k: u32,
    /// Share of the best k known (from either index) that this index returned.
    pub recall: f64,
    /// At 95 %, at least and at most.
    #[serde(default)]
    pub recall_low: f64,
    /// See `recall_low`.
    #[serde(default)]
    pub recall_high: f64,
    /// Share of the rows that found themselves, ties counted.
    pub self_found: f64,
    /// Mean of this index's recall minus the other's, per query, and its standard error.
    /// Zero for the index in place.
    pub difference: f64,
    /// Standard error of `difference`.
    pub difference_se: f64,
    /// What the difference shows. None of the index in place, and where that does not answer.
    #[serde(default)]
    pub standing: Option<Standing>,
    /// Buffers that a search looks at, on average.
    #[serde(default)]
    pub buffers: f64,
}

impl ProbeFigures {
    /// Whether the queries there were did not show which of the two answers better.
    pub fn is_undecided(&self) -> bool {
        matches!(
            self.standing,
            Some(Standing::Undecided | Standing::UndecidedAtCap)
        )
    }
}

/// Everything measured of one side of a repair.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Figures of the graph.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hnsw: Option<HnswFigures>,
    /// Its figures if it is an IVFFlat index.
    #[serde(default)]
    pub ivfflat: Option<IvfflatFigures>,
    /// Figures of searching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeFigures>,
    /// Rows that no search could reach before, searched for by their own values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_orphans: Option<SelfQuery>,
    /// What the structural check found, where that is what the repair is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// What moving the centres of its lists was expected to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// Whether the planner may use the index.
    pub valid: bool,
    /// Rows believed dead in the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_rows: Option<u64>,
    /// Rows believed live in the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_rows: Option<u64>,
}
