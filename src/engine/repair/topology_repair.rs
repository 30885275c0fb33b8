//! `topology_repair`: what a graph hangs together by is mended in place: where searches start,
//! links that lead nowhere, parts that have come off, what tuples say of themselves and of rows, a
//! value that searches end at. By a rebuild where that is not possible, or
//! is dearer.

use super::index_rebalance::rebuild;
use super::plan::{Measured, PlanFacts, RepairPlan};
use super::strategy::RepairStrategy;
use super::{in_place, lists};
use crate::model::{IndexInfo, IndexIssue, Issue};
use crate::verification::{Verdict, validation};

/// Mends the topology of a graph.
pub struct TopologyRepairStrategy;

impl RepairStrategy for TopologyRepairStrategy {
    fn name(&self) -> &'static str {
        "topology_repair"
    }

    fn can_repair(&self, issue: &Issue) -> bool {
        matches!(
            issue,
            Issue::Index(
                IndexIssue::PoorConnectivity { .. }
                    | IndexIssue::DanglingEdges { .. }
                    | IndexIssue::DeadEntryPoint { .. }
                    | IndexIssue::WrongLevel { .. }
                    | IndexIssue::DistantInsertPage { .. }
                    | IndexIssue::DuplicateSink { .. }
                    | IndexIssue::CorruptPage { .. }
            )
        )
    }

    fn plan(&self, issue: &Issue, index: &IndexInfo, facts: &PlanFacts) -> RepairPlan {
        if let Some(plan) = lists::plan(self.name(), issue, index, facts) {
            return plan;
        }
        let rebuild = rebuild(self.name(), issue, index, facts);
        in_place::plan(self.name(), issue, index, facts, &rebuild.estimate).unwrap_or(rebuild)
    }

    fn validate(&self, issue: &Issue, before: &Measured, after: &Measured) -> Verdict {
        validation::rebuilt(issue, before, after)
    }
}
