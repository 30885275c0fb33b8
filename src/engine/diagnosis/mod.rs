//! Diagnosis: a finding gets its cause, its impact and its place in the queue.

pub mod impact;
pub mod priority;
pub mod root_cause;

use crate::model::{Diagnosis, Finding};
use crate::repair::strategy::{RepairStrategy, strategy_for};

/// Diagnoses a finding.
pub fn diagnose(finding: Finding, strategies: &[Box<dyn RepairStrategy>]) -> Diagnosis {
    let priority = priority::compute_priority(&finding.issue);
    Diagnosis {
        root_cause: root_cause::name_cause(&finding),
        impact: impact::assess(&finding),
        severity: priority::severity(&finding.issue, priority),
        priority,
        recommended_repair: strategy_for(strategies, &finding.issue)
            .map_or("none", |strategy| strategy.name())
            .into(),
        finding,
    }
}
