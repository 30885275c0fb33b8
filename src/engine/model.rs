//! The nouns of the engine: indexes, issues, severities, repairs.
//!
//! Plain values with stable text forms (they are stored, shown and sent). No behaviour beyond
//! naming and identity.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::detection::damage::Damage;
use crate::detection::recall_watch::RecallWatch;
use crate::vector_index::hnsw::HnswFigures;
use crate::vector_index::ivfflat::IvfflatFigures;
use crate::vector_index::shape::IndexShape;
use crate::verification::probe::{Probe, SelfQuery};

/// Microseconds since 1970-01-01 00:00 UTC.
pub type Timestamp = i64;

/// A repair's number, unique in its database.
pub type RepairId = i64;

/// How bad an issue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Worth repairing.
    Medium,
    /// Hurts.
    High,
    /// Hurts now.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// One vector index as the catalog shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexInfo {
    /// The index's OID, good only as long as nobody rebuilds it.
    pub index_oid: u32,
    /// The table's OID.
    pub table_oid: u32,
    /// Schema-qualified and quoted name of the index.
    pub index_name: String,
    /// Schema-qualified and quoted name of the table.
    pub table_name: String,
    /// `CREATE INDEX` statement that makes this index.
    pub definition: String,
    /// Access method: `hnsw` or `ivfflat`.
    pub access_method: String,
    /// File the index lives in; changes with every rebuild.
    pub relfilenode: u32,
    /// Whether the planner may use the index.
    pub valid: bool,
    /// Whether somebody holds a lock under which the index may be under construction.
    pub under_construction: bool,
    /// Size of the index, in 8 kB blocks.
    pub blocks: u64,
    /// Rows inserted, updated and deleted in the table since statistics began.
    pub modifications: u64,
    /// Vacuums of the table since statistics began.
    pub vacuums: u64,
    /// Rows believed live.
    pub live_rows: u64,
    /// Rows believed dead and not yet vacuumed.
    pub dead_rows: u64,
    /// A valid index of the same table and definition, of which this one is a leftover.
    pub valid_twin: Option<String>,
    /// The indexed column or expression, as SQL.
    #[serde(default)]
    pub key: String,
    /// What its values are and how they are compared; none where the operator class is not one
    /// of pgvector's.
    #[serde(default)]
    pub shape: Option<IndexShape>,
}

impl IndexInfo {
    /// The index's identity: its table and definition, not its OID, so that it outlives a
    /// rebuild. A stable 64-bit hash, in hexadecimal.
    pub fn identity(&self) -> String {
        format!("{:016x}", xxh3_64(self.definition.as_bytes()))
    }
}

/// What is wrong with an index. Thresholds: see [`crate::detection::index_health`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum IndexIssue {
    /// A fresh build would need far fewer pages.
    Fragmentation {
        /// Name of the index.
        index: String,
        /// 0 (none) to 1 (nothing but waste).
        level: f32,
    },
    /// Rows that no search can reach.
    OrphanNodes {
        /// Name of the index.
        index: String,
        /// Elements with rows that cannot be reached.
        count: u64,
    },
    /// A large part of the graph cannot be reached.
    PoorConnectivity {
        /// Name of the index.
        index: String,
        /// Reached share of the live elements.
        score: f32,
    },
    /// The index is kept up by every write and used by no query.
    InvalidIndex {
        /// Name of the index.
        index: String,
        /// The valid index of which it is a leftover, if it is one.
        twin: Option<String>,
    },
    /// Links to what is no element, or is deleted: searches and writes that follow them fail.
    DanglingEdges {
        /// Name of the index.
        index: String,
        /// How many.
        count: u64,
    },
    /// The entry point is missing or deleted: searches start nowhere.
    DeadEntryPoint {
        /// Name of the index.
        index: String,
    },
    /// The entry point is below other elements, whose upper layers no search uses.
    WrongLevel {
        /// Name of the index.
        index: String,
        /// Level of the entry point.
        entry: u8,
        /// Highest level of a live element.
        highest: u8,
    },
    /// Inserts go through many pages before they find room.
    DistantInsertPage {
        /// Name of the index.
        index: String,
        /// Through so many, on average.
        pages: f32,
    },
    /// Pages are not as pgvector leaves them.
    CorruptPage {
        /// Name of the index.
        index: String,
        /// Breaches of invariants that the structural check found.
        breaches: u64,
        /// Whether all of them can be mended in place.
        in_place: bool,
    },
    /// So many rows share one value that searches end among them.
    DuplicateSink {
        /// Name of the index.
        index: String,
        /// Rows with the value.
        rows: u64,
        /// Share of the live elements that have rows and cannot be reached.
        unreachable: f32,
    },
    /// Elements that no search can reach, as in a fresh build of the same rows.
    BornUnreachable {
        /// Name of the index.
        index: String,
        /// Elements with rows that cannot be reached.
        count: u64,
        /// Why.
        cause: UnreachableCause,
    },
    /// Lists were made when there was nothing to train them on.
    BuiltEmpty {
        /// Name of the index.
        index: String,
        /// Lists with centres drawn at random.
        lists: u64,
    },
    /// Some lists are so long that a probe into them costs what many should.
    UnbalancedClusters {
        /// Name of the index.
        index: String,
        /// Standard deviation of the sizes of lists / their mean.
        score: f32,
    },
    /// The centres of lists are no longer where their members are.
    StaleTraining {
        /// Name of the index.
        index: String,
        /// Since the lists were last trained, at least.
        hours: f32,
    },
    /// Searches find fewer of the true neighbours than they shall.
    LowRecall {
        /// Name of the index.
        index: String,
        /// The share they find of late.
        recall: f32,
        /// The share they shall find.
        target: f32,
    },
    /// Much of what a search visits belongs to rows that are gone.
    DeadTuples {
        /// Name of the index.
        index: String,
        /// Dead share of the table's rows, 0 to 1.
        share: f32,
    },
}

/// What makes a fresh graph leave elements out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnreachableCause {
    /// By inner product, those with short vectors are nobody's nearest.
    VariedNorms,
    /// Pruning keeps no link from one cluster to another.
    TightClusters,
}

impl IndexIssue {
    /// The stable code of the issue's type.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fragmentation { .. } => "fragmentation",
            Self::OrphanNodes { .. } => "orphan_nodes",
            Self::PoorConnectivity { .. } => "poor_connectivity",
            Self::InvalidIndex { .. } => "invalid_index",
            Self::DanglingEdges { .. } => "dangling_edges",
            Self::DeadEntryPoint { .. } => "dead_entry_point",
            Self::WrongLevel { .. } => "wrong_level",
            Self::DistantInsertPage { .. } => "distant_insert_page",
            Self::CorruptPage { .. } => "corrupt_page",
            Self::DuplicateSink { .. } => "duplicate_sink",
            Self::BornUnreachable { .. } => "born_unreachable",
            Self::BuiltEmpty { .. } => "built_empty",
            Self::UnbalancedClusters { .. } => "unbalanced_clusters",
            Self::StaleTraining { .. } => "stale_training",
            Self::LowRecall { .. } => "low_recall",
            Self::DeadTuples { .. } => "dead_tuples",
        }
    }
}

/// Anything the engine can find.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issue {
    /// Something is wrong with a vector index.
    Index(IndexIssue),
}

impl Issue {
    /// The stable code of the issue's type.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Index(issue) => issue.code(),
        }
    }

    /// The kind of evidence the issue rests on.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Index(IndexIssue::InvalidIndex { .. }) => "catalog",
            Self::Index(_) => "index",
        }
    }
}

/// An issue, the index it concerns, and what shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong.
    pub issue: Issue,
    /// Where.
    pub index: IndexInfo,
    /// The figures that show it.
    pub evidence: Value,
}

impl Finding {
    /// The same fault of the same index always has the same id.
    pub fn issue_id(&self) -> String {
        issue_id(&self.issue, &self.index)
    }
}

/// The id under which an issue of an index is known.
pub fn issue_id(issue: &Issue, index: &IndexInfo) -> String {
    format!("{}-{}", issue.code(), index.identity())
}

/// A finding with its cause, its impact and its place in the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// What was found.
    pub finding: Finding,
    /// Why it is so, in a sentence.
    pub root_cause: String,
    /// What it costs.
    pub impact: Value,
    /// Higher is sooner.
    pub priority: u32,
    /// How bad.
    pub severity: Severity,
    /// Name of the strategy that would mend it, or `none`.
    pub recommended_repair: String,
}

impl IndexHealthCheck {
    /// A look at an index of which there are no figures.
    pub fn new(index: IndexInfo, checked_at: Timestamp) -> Self {
        Self {
            index,
            hnsw: None,
            ivfflat: None,
            self_query: None,
            damage: None,
            recall: None,
            first_seen: None,
            checked_at,
            notices: Vec::new(),
        }
    }

    /// Hours since this file of the index was first seen, which is since its lists were trained
    /// at the latest.
    pub fn hours_known(&self) -> f64 {
        let since = self.first_seen.unwrap_or(self.checked_at);
        self.checked_at.saturating_sub(since).max(0) as f64 / 3_600_000_000.0
    }

    /// Whether searches can do no harm: nothing was seen that they could stumble over.
    pub fn may_be_searched(&self) -> bool {
        let sound = |f: &HnswFigures| {
            f.dangling_edges == 0 && f.live_elements > 0 && f.entry_level.is_some()
        };
        let lists = self.ivfflat.as_ref().is_some_and(|f| f.vectors > 0);
        let whole = self.damage.as_ref().is_none_or(Damage::may_be_searched);
        self.index.valid && whole && (lists || self.hnsw.as_ref().is_some_and(sound))
    }

    /// Takes in searches for rows by their own values, for `k` neighbours each. Where the graph
    /// did not fit into memory they tell how much of it can be reached.
    pub fn searched(&mut self, probes: &[Probe], k: u32) {
        let result = SelfQuery::of(probes, k);
        if let Some(figures) = self.hnsw.as_mut().filter(|figures| figures.sampled)
            && result.queries > 0
        {
            figures.connectivity_score = result.found as f32 / result.queries as f32;
        }
        self.self_query = Some(result);
    }

    /// Takes over from the look before when this file was first seen.
    pub fn after(self, before: Option<&Self>) -> Self {
        let same = before.filter(|before| before.index.relfilenode == self.index.relfilenode);
        let first_seen = same.map_or(self.checked_at, |before| {
            before.first_seen.unwrap_or(before.checked_at)
        });
        let watched = before.and_then(|before| before.recall.clone());
        let damage_before = same.and_then(|before| before.damage.as_ref());
        let damage = match self.damage {
            Some(damage) => Some(damage.after(damage_before)),
            None => damage_before.cloned(),
        };
        Self {
            damage,
            first_seen: Some(first_seen),
            recall: self.recall.or(watched),
            ..self
        }
    }
}

/// What was seen of an index: its figures and where they were taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexHealthCheck {
    /// The index as the catalog showed it.
    pub index: IndexInfo,
    /// Its figures, absent where the index has no pages worth reading.
    pub hnsw: Option<HnswFigures>,
    /// Its figures if it is an IVFFlat index.
    #[serde(default)]
    pub ivfflat: Option<IvfflatFigures>,
    /// Rows searched for by their own values, where that was asked for.
    #[serde(default)]
    pub self_query: Option<SelfQuery>,
    /// What the structural check found, where it was made.
    #[serde(default)]
    pub damage: Option<Damage>,
    /// The watch on its recall.
    #[serde(default)]
    pub recall: Option<RecallWatch>,
    /// When this file of the index was first seen.
    #[serde(default)]
    pub first_seen: Option<Timestamp>,
    /// When the look ended.
    pub checked_at: Timestamp,
    /// What the reader should know about the figures.
    #[serde(default)]
    pub notices: Vec<String>,
}
