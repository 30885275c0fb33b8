//! What was kept and turned out not to help after all: search settings that a repair has set are
//! watched for a while and set back.

use serde::{Deserialize, Serialize};

use super::validation::VALID_COST;
use crate::detection::recall_watch::RecallWatch;
use crate::model::{RepairId, Timestamp};
use crate::recall::paired::MARGIN;

/// Queries after which a setting is judged.
const MIN_QUERIES: u64 = 200;
/// How long it is judged, in microseconds: a day. After that it is the way things are.
const TRIAL: i64 = 86_400_000_000;

/// A search setting that a repair has given to a database, and what it was set for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StandingSetting {
    /// The repair that set it.
    pub repair_id: RepairId,
    /// When it was set.
    pub set_at: Timestamp,
    /// Identity of the index it was set for.
    pub identity: String,
    /// The setting, spelt out as in [`crate::recall::heartbeat::Circumstances::search`].
    pub search: String,
    /// Recall at the setting before it, as the watch had it.
    pub recall_before: f64,
    /// Buffers that a search was measured to look at, on average.
    pub buffers: f64,
}

impl StandingSetting {
    /// Why it is to be set back, by what the watch on its index has seen since, if it is.
    pub fn regret(&self, watch: &RecallWatch) -> Option<String> {
        let heartbeat = &watch.heartbeat;
        let queries = heartbeat.queries();
        let over = watch.measured_at.saturating_sub(self.set_at) > TRIAL;
        if over || queries < MIN_QUERIES || heartbeat.circumstances().search != self.search {
            return None;
        }
        let recall = heartbeat.recent_recall()?;
        if recall < self.recall_before - MARGIN {
            return Some(format!(
                "recall fell from {:.3} to {recall:.3} in the {queries} queries since",
                self.recall_before
            ));
        }
        let costs = watch.buffers;
        (self.buffers > 0.0 && costs > self.buffers * VALID_COST).then(|| {
            format!(
                "a search looks at {costs:.0} buffers where {:.0} were measured when it was set",
                self.buffers
            )
        })
    }
}
