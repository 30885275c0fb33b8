//! The strategies and how one is found for an issue.

use std::time::Duration;

use super::index_rebalance::IndexRebalanceStrategy;
use super::parameter_tuning::ParameterTuningStrategy;
use super::plan::{Measured, PlanFacts, RepairPlan};
use super::topology_repair::TopologyRepairStrategy;
use super::vacuum::VacuumStrategy;
use crate::model::{IndexInfo, Issue};
use crate::settings::ParameterTuning;
use crate::verification::Verdict;

/// One way of mending.
pub trait RepairStrategy: Send + Sync {
    /// Strategy identifier.
    fn name(&self) -> &'static str;
    /// Whether this strategy can handle the issue.
    fn can_repair(&self, issue: &Issue) -> bool;
    /// The steps it would take. Pure: planning changes nothing.
    fn plan(&self, issue: &Issue, index: &IndexInfo, facts: &PlanFacts) -> RepairPlan;
    /// Whether the outcome is better than what was there.
    fn validate(&self, issue: &Issue, before: &Measured, after: &Measured) -> Verdict;
    /// Why it does not start by itself under a setting, as a code and a sentence, if it does not.
    fn held_back(&self, _tuning: ParameterTuning) -> Option<(&'static str, &'static str)> {
        None
    }
    /// Estimated repair time.
    fn estimated_duration(&self, issue: &Issue, index: &IndexInfo, facts: &PlanFacts) -> Duration {
        Duration::from_secs_f64(self.plan(issue, index, facts).estimate.duration_ms / 1000.0)
    }
}

/// Every strategy there is, in order of preference.
pub fn registry() -> Vec<Box<dyn RepairStrategy>> {
    vec![
        Box::new(IndexRebalanceStrategy),
        Box::new(TopologyRepairStrategy),
        Box::new(ParameterTuningStrategy),
        Box::new(VacuumStrategy),
    ]
}

/// The first strategy that can handle an issue.
pub fn strategy_for<'a>(
    strategies: &'a [Box<dyn RepairStrategy>],
    issue: &Issue,
) -> Option<&'a dyn RepairStrategy> {
    strategies
        .iter()
        .map(Box::as_ref)
        .find(|strategy| strategy.can_repair(issue))
}
