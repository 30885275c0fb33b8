//! The steps of a parameter tuning: a search setting is found, compared, given to the database, and
//! taken from it again.

use ruvector_dag_healing_engine::model::{IndexInfo, RepairId};
use ruvector_dag_healing_engine::ports::PortError;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::measuring::{self, Goal, Sparing, Target};
use super::xact::{Snapshot, transaction};
use super::{database_setting, guc, history, journal, lifecycle};

/// A search setting that was found for an index.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Its name.
    pub parameter: &'static str,
    /// Its value in force.
    pub current: u32,
    /// The value proposed.
    pub value: u32,
    /// Buffers that a search looks at with it, on average.
    buffers: f64,
}

/// A setting as the history remembers it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptSetting {
    /// Its name.
    pub name: String,
    /// What it was set to.
    pub value: String,
    /// What the database had set it to before, if it had.
    pub before: Option<String>,
    /// Recall before, as the watch had it.
    pub recall_before: f64,
    /// Buffers that a search looked at when it was set, on average.
    pub buffers: f64,
}

/// Finds the smallest setting that meets the target; an error says why there is none.
pub fn propose(
    id: RepairId,
    index: &IndexInfo,
    reachable: Option<f64>,
) -> Result<Proposal, PortError> {
    let config = guc::config();
    let goal = Goal {
        recall: config.target_recall,
        reachable,
    };
    let never = || false;
    let sparing = Sparing {
        limit_mb: config.io_limit_mb,
        stop: &never,
    };
    let target = Target::of(index)?;
    let seed = lifecycle::now() as u64;
    let tuned = measuring::background_tune(&target, &goal, seed, &sparing)?;
    let found = json!({
        "parameter": tuned.parameter,
        "current": tuned.current,
        "source": tuned.source.name(),
        "found": tuned.tuning,
    });
    transaction(Snapshot::Active, || history::note(id, "tuning", &found))?;
    if let Some(ceiling) = &tuned.tuning.ceiling {
        return Err(PortError::Failed(ceiling.to_string()));
    }
    match tuned.tuning.recommended {
        Some(value) if value > tuned.current => Ok(Proposal {
            parameter: tuned.parameter,
            current: tuned.current,
            value,
            buffers: tuned.buffers.unwrap_or_default(),
        }),
        _ => Err(PortError::Failed(format!(
            "{} = {} is enough for the queries it was tuned on",
            tuned.parameter, tuned.current
        ))),
    }
}

/// Gives a setting to the database, and records that and what it was, in one transaction.
pub fn set(id: RepairId, index: &IndexInfo, proposal: &Proposal) -> Result<(), PortError> {
    transaction(Snapshot::Active, || {
        let watch = journal::last_look(index)?.and_then(|look| look.recall);
        let recall = watch.and_then(|watch| watch.heartbeat.recent_recall());
        let kept = KeptSetting {
            name: proposal.parameter.into(),
            value: proposal.value.to_string(),
            before: database_setting::get(proposal.parameter)?,
            recall_before: recall.unwrap_or_default(),
            buffers: proposal.buffers,
        };
        database_setting::set(&kept.name, Some(&kept.value))?;
        history::note(id, "setting", &json!(kept))?;
        history::mark_made(id)?;
        // What was seen with the old setting says nothing about the new one.
        journal::forget_recall(index)
    })
}

/// Gives the database what it had before, and records that, in one transaction. Where somebody else
/// has set it since, that stands.
pub fn reset(id: RepairId, kept: &KeptSetting, asked_by: u32) -> Result<(), PortError> {
    transaction(Snapshot::Active, || {
        if database_setting::get(&kept.name)?.as_ref() != Some(&kept.value) {
            return Err(PortError::Gone(format!("the setting of {}", kept.name)));
        }
        database_setting::set(&kept.name, kept.before.as_deref())?;
        history::roll_back_ended(id, asked_by)
    })
}
