//! `parameter_tuning`: the smallest search setting with which searches find enough, set for the
//! whole database.
//!
//! What it finds is judged like a rebuild: the same index at the setting proposed stands for the
//! replacement, at the setting in force for what is in place.

use super::plan::{Estimate, Measured, PlanFacts, RepairPlan, StepKind};
use super::strategy::RepairStrategy;
use crate::model::{IndexInfo, IndexIssue, Issue};
use crate::settings::ParameterTuning;
use crate::verification::{Verdict, validation};

/// Queries a setting is tuned on: enough to tell a recall of 0.95 to a point.
pub const QUERIES: u32 = 400;
/// Neighbours they ask for.
pub const NEIGHBORS: u32 = 10;
/// Settings that are searched with before one is found, about.
const SETTINGS_TRIED: f64 = 12.0;
/// Time of one search, in milliseconds, on a graph of a million rows.
const SEARCH_MS: f64 = 3.0;
/// Time of one component of a distance in the pass over the table, in nanoseconds.
const NS_PER_COMPONENT: f64 = 0.1;

/// Tunes `hnsw.ef_search` or `ivfflat.probes`.
pub struct ParameterTuningStrategy;

impl RepairStrategy for ParameterTuningStrategy {
    fn name(&self) -> &'static str {
        "parameter_tuning"
    }

    fn can_repair(&self, issue: &Issue) -> bool {
        matches!(issue, Issue::Index(IndexIssue::LowRecall { .. }))
    }

    fn plan(&self, issue: &Issue, index: &IndexInfo, facts: &PlanFacts) -> RepairPlan {
        let dimensions = facts.figures.as_ref().map_or(1536, |f| f.dimensions);
        let components = index.live_rows as f64 * f64::from(dimensions) * f64::from(QUERIES);
        let searches = f64::from(QUERIES) * SETTINGS_TRIED;
        RepairPlan {
            strategy: self.name().into(),
            repair_type: "set_parameter".into(),
            issue: issue.clone(),
            index: index.clone(),
            steps: vec![StepKind::Tune, StepKind::Check, StepKind::SetParameter],
            estimate: Estimate {
                duration_ms: 500.0 + components * NS_PER_COMPONENT * 1e-6 + searches * SEARCH_MS,
                disk_bytes: 0,
                memory_bytes: u64::from(QUERIES) * u64::from(dimensions) * 8,
            },
            costs_ms: Vec::new(),
            reversible: true,
            heavy: false,
            on_request: false,
            vacuum_fault: None,
        }
    }

    fn validate(&self, _issue: &Issue, before: &Measured, after: &Measured) -> Verdict {
        validation::tuned(before, after)
    }

    fn held_back(&self, tuning: ParameterTuning) -> Option<(&'static str, &'static str)> {
        match tuning {
            ParameterTuning::Off => {
                Some(("tuning_off", "ruvector.dag_healing_parameter_tuning is off"))
            }
            ParameterTuning::Advise => Some((
                "advice_only",
                "ruvector.dag_healing_parameter_tuning = advise leaves it to you: ruvector_dag_tune() \
                 finds the setting, and ruvector_dag_repair() sets it for the database",
            )),
            ParameterTuning::Apply => None,
        }
    }
}
