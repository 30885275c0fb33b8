//! `index_rebalance`: orphans are linked and centres of lists moved in place; for all else, or where
//! that is dearer or did not help, a new index is built beside the old one, checked, and put in its
//! place.
//!
//! pgvector never gives pages back, so nothing less than a rebuild lowers fragmentation.

use super::plan::{Estimate, Measured, PlanFacts, RepairPlan, StepKind};
use super::strategy::RepairStrategy;
use super::{in_place, lists};
use crate::model::{IndexInfo, IndexIssue, Issue, UnreachableCause};
use crate::vector_index::PAGE_SIZE;
use crate::vector_index::hnsw::HnswFigures;
use crate::verification::{Verdict, validation};

/// Time of one distance component in a build (one core, no SIMD luck assumed), in nanoseconds.
/// 20,000 × 384 with m = 16 and ef_construction = 64 take 4 to 6 s by it, as measured.
const BUILD_NS_PER_COMPONENT: f64 = 0.35;
/// How much slower a build gets once its graph no longer fits in `maintenance_work_mem`.
const SPILLED_BUILD_FACTOR: f64 = 10.0;
/// Bytes pgvector's in-memory graph takes per element besides the value, and per neighbour slot.
const GRAPH_ELEMENT_BYTES: f64 = 160.0;
const GRAPH_SLOT_BYTES: f64 = 16.0;

/// Mends an index in place, or rebuilds it without taking it away.
pub struct IndexRebalanceStrategy;

impl RepairStrategy for IndexRebalanceStrategy {
    fn name(&self) -> &'static str {
        "index_rebalance"
    }

    fn can_repair(&self, issue: &Issue) -> bool {
        matches!(
            issue,
            Issue::Index(
                IndexIssue::Fragmentation { .. }
                    | IndexIssue::OrphanNodes { .. }
                    | IndexIssue::BornUnreachable {
                        cause: UnreachableCause::TightClusters,
                        ..
                    }
                    | IndexIssue::InvalidIndex { twin: None, .. }
                    | IndexIssue::BuiltEmpty { .. }
                    | IndexIssue::UnbalancedClusters { .. }
                    | IndexIssue::StaleTraining { .. }
            )
        )
    }

    fn plan(&self, issue: &Issue, index: &IndexInfo, facts: &PlanFacts) -> RepairPlan {
        let rebuild = rebuild(self.name(), issue, index, facts);
        in_place::plan(self.name(), issue, index, facts, &rebuild.estimate)
            .or_else(|| lists::plan(self.name(), issue, index, facts))
            .unwrap_or(rebuild)
    }

    fn validate(&self, issue: &Issue, before: &Measured, after: &Measured) -> Verdict {
        validation::rebuilt(issue, before, after)
    }
}

/// The plan of a rebuild.
pub fn rebuild(strategy: &str, issue: &Issue, index: &IndexInfo, facts: &PlanFacts) -> RepairPlan {
    RepairPlan {
        strategy: strategy.into(),
        repair_type: "index_rebuild".into(),
        issue: issue.clone(),
        index: index.clone(),
        steps: vec![
            StepKind::CreateCopy,
            StepKind::Build,
            StepKind::Validate,
            StepKind::Check,
            StepKind::Swap,
            StepKind::Drop,
        ],
        costs_ms: Vec::new(),
        estimate: estimate(index, facts),
        reversible: index.valid
            && !is_damaged(issue)
            && !facts.figures.as_ref().is_some_and(fails_writes),
        heavy: true,
        on_request: false,
        vacuum_fault: None,
    }
}

/// Whether writes, or a vacuum, may fail on the index for as long as it were kept, or never end.
fn is_damaged(issue: &Issue) -> bool {
    matches!(issue, Issue::Index(IndexIssue::CorruptPage { .. }))
}

/// Whether writes to the index raise errors, as they would for as long as it were kept for an undo.
fn fails_writes(figures: &HnswFigures) -> bool {
    let starts_nowhere = figures.live_elements > 0 && figures.entry_point_quality == 0.0;
    figures.dangling_edges > 0 || starts_nowhere
}

/// What a rebuild costs: from the last measured build of this index, else from the number of
/// distance computations HNSW needs (elements × ef_construction × 2m × dimensions).
pub(super) fn estimate(index: &IndexInfo, facts: &PlanFacts) -> Estimate {
    if let Some(figures) = &facts.lists {
        return lists::rebuild(figures, facts);
    }
    let figures = facts.figures.as_ref();
    let known = figures.filter(|f| f.live_elements > 0);
    let elements = known.map_or(index.live_rows, |f| f.live_elements) as f64;
    let m = known.map_or(16.0, |f| f64::from(f.m));
    let ef_construction = known.map_or(64.0, |f| f64::from(f.ef_construction));
    let dimensions = figures.map_or(1536.0, |f| f64::from(f.dimensions));

    let value_bytes = 8.0 + 4.0 * dimensions;
    let memory = elements * (value_bytes + GRAPH_ELEMENT_BYTES + 2.2 * m * GRAPH_SLOT_BYTES);
    let per_element = facts.build_ms_per_element.unwrap_or_else(|| {
        let components = ef_construction * 2.0 * m * dimensions.max(16.0);
        let spilled = memory > facts.build_memory as f64;
        components
            * BUILD_NS_PER_COMPONENT
            * 1e-6
            * if spilled { SPILLED_BUILD_FACTOR } else { 1.0 }
    });
    let disk = match known {
        Some(f) => f.predicted_pages as f64 * PAGE_SIZE as f64,
        None => elements * (value_bytes + 150.0 + 2.2 * m * 6.0),
    };
    Estimate {
        duration_ms: 500.0 + elements * per_element,
        disk_bytes: disk as u64,
        memory_bytes: memory.min(facts.build_memory as f64) as u64,
    }
}
