//! Watching the recall of each index: when to measure it, and when it is too low.
//!
//! Owns the pace of measurements and what an alarm means. Knows nothing of how recall is measured.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{IndexHealthCheck, IndexInfo, IndexIssue, Issue, Timestamp};
use crate::recall::heartbeat::{Circumstances, Heartbeat};
use crate::recall::interval::{QueryHits, RecallEstimate};

/// Queries of a measurement, and neighbours they ask for.
pub const QUERIES: u32 = 50;
/// See [`QUERIES`].
pub const NEIGHBORS: u32 = 10;
/// An index of fewer rows is not watched.
const MIN_ROWS: u64 = 1_000;
/// Rest after a measurement, as a multiple of what it took: a hundredth of the time at most.
const REST_FACTOR: f64 = 100.0;

/// What a measurement gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecallSample {
    /// Query by query.
    pub hits: Vec<QueryHits>,
    /// The settings of the search, spelt out.
    pub search: String,
    /// Where the queries came from.
    pub source: String,
    /// Buffers that a search looked at, on average.
    pub buffers: f64,
    /// What it took, in milliseconds.
    pub took_ms: f64,
}

/// The watch on one index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecallWatch {
    /// What all measurements say together.
    pub heartbeat: Heartbeat,
    /// What the last one says.
    pub last: RecallEstimate,
    /// When it was made.
    pub measured_at: Timestamp,
    /// What it took, in milliseconds.
    pub took_ms: f64,
    /// Buffers that a search looked at in it, on average.
    #[serde(default)]
    pub buffers: f64,
}

/// Whether an index is to be measured: it can be searched, has rows enough, and the last
/// measurement is an interval ago and a hundred times as long as it took.
pub fn is_due(look: &IndexHealthCheck, interval_ms: u64, now: Timestamp) -> bool {
    let rows = match (&look.hnsw, &look.ivfflat) {
        (Some(figures), _) => figures.heap_tids,
        (None, Some(figures)) => figures.vectors,
        (None, None) => 0,
    };
    if rows < MIN_ROWS || !look.may_be_searched() {
        return false;
    }
    look.recall.as_ref().is_none_or(|watch| {
        let rest_ms = (watch.took_ms * REST_FACTOR).max(interval_ms as f64);
        (now - watch.measured_at) as f64 >= rest_ms * 1000.0
    })
}

impl RecallWatch {
    /// Goes on with a watch, or begins one, by what a measurement gave.
    pub fn after(
        before: Option<Self>,
        index: &IndexInfo,
        sample: &RecallSample,
        target: f64,
        now: Timestamp,
    ) -> Self {
        let circumstances = Circumstances {
            storage: u64::from(index.relfilenode),
            search: sample.search.clone(),
            k: NEIGHBORS,
            source: sample.source.clone(),
            target,
        };
        // An alarm stands until the last hundred queries or so are answered as they should be.
        let kept = before.map(|before| before.heartbeat).filter(|kept| {
            !kept.is_alarmed() || kept.recent_recall().is_none_or(|recall| recall < target)
        });
        let (mut heartbeat, _) = Heartbeat::resume(kept, circumstances);
        heartbeat.observe(&sample.hits);
        Self {
            heartbeat,
            last: RecallEstimate::of(&sample.hits, NEIGHBORS),
            measured_at: now,
            took_ms: sample.took_ms,
            buffers: sample.buffers,
        }
    }

    /// What this file of the index was last measured to find; null where it was not.
    pub fn shown(&self, index: &IndexInfo) -> Value {
        let of = self.heartbeat.circumstances();
        match of.storage == u64::from(index.relfilenode) {
            true => json!({
                "recall": self.last.recall,
                "last": self.last,
                "search": of.search,
                "source": of.source,
            }),
            false => Value::Null,
        }
    }

    /// The issue, if recall was shown to be too low for this file of the index, and what shows it.
    pub fn issue(&self, index: &IndexInfo) -> Option<(Issue, Value)> {
        let of = self.heartbeat.circumstances();
        if !self.heartbeat.is_alarmed() || of.storage != u64::from(index.relfilenode) {
            return None;
        }
        let recall = self.heartbeat.recent_recall().unwrap_or(self.last.recall);
        let issue = IndexIssue::LowRecall {
            index: index.index_name.clone(),
            recall: recall as f32,
            target: of.target as f32,
        };
        let evidence = json!({
            "recall": recall,
            "target": of.target,
            "k": of.k,
            "queries": self.heartbeat.queries(),
            "p_value": self.heartbeat.p_value(),
            "search": of.search,
            "source": of.source,
            "last": self.last,
        });
        Some((Issue::Index(issue), evidence))
    }
}
