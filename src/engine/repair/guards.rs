//! Whether a repair may start: by itself, or because somebody asked.
//!
//! Every refusal has a code and a sentence that says what would have to change.

use serde::{Deserialize, Serialize};

use super::in_place;
use super::plan::{Approved, RepairPlan, StepKind};
use crate::detection::index_health::MAX_DEAD_SHARE;
use crate::model::{IndexIssue, Issue, Timestamp};
use crate::ports::IssueState;
use crate::settings::HealingConfig;

/// Rest after a repair, in microseconds: at least this, and this many times what it took, so
/// that an index which decays as fast as it is mended costs a twentieth of the time at most.
const COOLDOWN: i64 = 60_000_000;
const COOLDOWN_FACTOR: f64 = 20.0;
/// Wait after the first failure; doubled by each further one, up to a week.
const BACKOFF: i64 = 300_000_000;
const BACKOFF_LIMIT: i64 = 7 * 86_400_000_000;
/// Share of free disk and memory that a repair leaves untouched.
const HEADROOM: f64 = 0.1;
/// Share of the freeze limit beyond which the table belongs to anti-wraparound vacuum.
const FREEZE_LIMIT: f64 = 0.9;

/// The longest-running transaction that a concurrent build would have to wait for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OldestTransaction {
    /// Its age in seconds.
    pub seconds: f64,
    /// Who: a process or a prepared transaction.
    pub who: String,
}

/// What speaks for and against a heavy repair now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Minute of the day in the server's time zone.
    pub minute_of_day: u16,
    /// Free bytes where the index lives. Unknown: not judged.
    pub free_disk: Option<u64>,
    /// Bytes of memory the system can give. Unknown: not judged.
    pub free_memory: Option<u64>,
    /// The oldest transaction of the database.
    pub oldest_transaction: Option<OldestTransaction>,
    /// Age of the table's oldest unfrozen row as a share of the limit that forces a vacuum.
    pub freeze_age: f64,
    /// Whether another repair of the same table is under way or may still be undone.
    pub table_in_repair: bool,
    /// Who holds a lock on the table or the index that a repair would have to wait for.
    pub locked_by: Option<String>,
}

/// Why a repair does not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable code.
    pub code: String,
    /// The reason, with the figures.
    pub reason: String,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(code: &str, reason: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: reason.into(),
        }
    }
}

/// Approves a repair that starts by itself, or says why not.
pub fn approve(
    plan: RepairPlan,
    state: &IssueState,
    conditions: &Conditions,
    config: &HealingConfig,
    now: Timestamp,
) -> Result<Approved, Refusal> {
    if plan.on_request {
        let reason = "it is the nature of these rows; ruvector_dag_repair mends it on request";
        return Err(Refusal::new("on_request", reason));
    }
    if let Issue::Index(IndexIssue::DeadTuples { share, .. }) = &plan.issue
        && plan.repair_type != in_place::REPAIR_TYPE
    {
        if let Some(reason) = &plan.vacuum_fault
            && plan.steps == [StepKind::Vacuum]
        {
            return Err(Refusal::new("pgvector_release", reason));
        }
        if f64::from(*share) <= MAX_DEAD_SHARE {
            let reason = "links cannot be led past dead rows in place, or not for less";
            let reason = plan.vacuum_fault.as_deref().unwrap_or(reason);
            let reason = format!("{reason}; autovacuum sees to them as it is set");
            return Err(Refusal::new("left_to_autovacuum", reason));
        }
    }
    rested(state, now)?;
    approve_next(plan, conditions, config)
}

/// Approves a repair that starts by itself after another that did not help.
pub fn approve_next(
    plan: RepairPlan,
    conditions: &Conditions,
    config: &HealingConfig,
) -> Result<Approved, Refusal> {
    if plan.heavy && !config.window.contains(conditions.minute_of_day) {
        let reason = format!(
            "outside the maintenance window {} (ruvector.dag_healing_window)",
            config.window
        );
        return Err(Refusal::new("outside_window", reason));
    }
    let timeout_ms = config.repair_timeout_secs as f64 * 1000.0;
    if plan.estimate.duration_ms > timeout_ms {
        let needed = (plan.estimate.duration_ms / 1000.0 * 1.2).ceil();
        let reason = format!(
            "estimated at {:.0} s, more than ruvector.dag_healing_repair_timeout = {} s; \
             set it to {needed:.0} s or more to let this repair start",
            plan.estimate.duration_ms / 1000.0,
            config.repair_timeout_secs
        );
        return Err(Refusal::new("estimate_over_timeout", reason));
    }
    if let Some(free) = conditions.free_memory {
        room("memory", plan.estimate.memory_bytes, free)?;
    }
    if let Some(oldest) = &conditions.oldest_transaction
        && plan.heavy
    {
        let limit = config.repair_timeout_secs as f64 / 4.0;
        if oldest.seconds > limit {
            let reason = format!(
                "{} has been running for {:.0} s; a concurrent build would wait for it and hold \
                 back vacuum meanwhile (limit here: {limit:.0} s)",
                oldest.who, oldest.seconds
            );
            return Err(Refusal::new("old_transaction", reason));
        }
    }
    approve_on_request(plan, conditions)
}

/// Approves a repair that somebody asked for: what would do harm in any case is still refused.
pub fn approve_on_request(plan: RepairPlan, conditions: &Conditions) -> Result<Approved, Refusal> {
    if conditions.table_in_repair {
        return Err(Refusal::new(
            "table_in_repair",
            "another repair of this table is under way, or may still be undone",
        ));
    }
    if let Some(holder) = &conditions.locked_by
        && plan.locks_table()
    {
        let reason = format!("the table is locked by {holder}");
        return Err(Refusal::new("table_locked", reason));
    }
    let hinders = plan.locks_table() && plan.strategy != "vacuum";
    if hinders && conditions.freeze_age > FREEZE_LIMIT {
        let reason = format!(
            "the table is at {:.0} % of the age that forces an anti-wraparound vacuum, which \
             goes first",
            conditions.freeze_age * 100.0
        );
        return Err(Refusal::new("wraparound", reason));
    }
    if let Some(free) = conditions.free_disk {
        room("disk", plan.estimate.disk_bytes, free)?;
    }
    Ok(Approved::new(plan))
}

fn rested(state: &IssueState, now: Timestamp) -> Result<(), Refusal> {
    let Some(last) = state.last_repair else {
        return Ok(());
    };
    let (code, pause) = match state.failures {
        0 => (
            "cooldown",
            COOLDOWN.max((state.last_repair_ms * 1000.0 * COOLDOWN_FACTOR) as i64),
        ),
        n => (
            "backoff",
            BACKOFF
                .saturating_mul(1 << (n - 1).min(20))
                .min(BACKOFF_LIMIT),
        ),
    };
    let wait = last.saturating_add(pause) - now;
    if wait > 0 {
        let reason = format!(
            "the last repair ended {:.0} s ago{}; the next may start in {:.0} s",
            (now - last) as f64 / 1e6,
            match state.failures {
                0 => String::new(),
                n => format!(" and did not help ({n} in a row)"),
            },
            wait as f64 / 1e6
        );
        return Err(Refusal::new(code, reason));
    }
    Ok(())
}

fn room(what: &str, needed: u64, free: u64) -> Result<(), Refusal> {
    if needed as f64 > free as f64 * (1.0 - HEADROOM) {
        const MB: f64 = 1_048_576.0;
        let reason = format!(
            "needs {:.0} MB of {what}, {:.0} MB are free (a tenth is left untouched)",
            needed as f64 / MB,
            free as f64 / MB
        );
        return Err(Refusal::new(&format!("no_{what}"), reason));
    }
    Ok(())
}
