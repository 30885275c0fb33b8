//! Mending lists in place: centres are moved to where the members of their lists are now; or, where that
//! is asked for, large lists are split into the room of small ones. Both can be taken back.
//!
//! Owns when that is tried, what it costs and in which steps it goes; and what a rebuild of lists
//! costs. Whether it helps is forecast before anything is written, and a rebuild follows where it
//! would not.

use super::in_place::{EXACT_NS_PER_COMPONENT, QUERIES, in_steps, pages_ms};
use super::plan::{Estimate, PlanFacts, RepairPlan, StepKind};
use crate::model::{IndexInfo, IndexIssue, Issue};
use crate::vector_index::PAGE_SIZE;
use crate::vector_index::ivfflat::IvfflatFigures;
use crate::vector_index::ivfflat::heal;

/// Rows that pgvector trains on for each list, and at least.
const TRAINED_ROWS_PER_LIST: u64 = 50;
const LEAST_TRAINED_ROWS: u64 = 10_000;
/// Iterations of its k-means that compare everything with everything, about: it leaves out what
/// cannot have changed.
const ITERATIONS: f64 = 10.0;
/// Time of one component of a distance in a build, in nanoseconds, and to sort and write a row, in
/// milliseconds, as measured on 100,000 × 128 with 100 lists (see `benches/lists.rs`).
const BUILD_NS_PER_COMPONENT: f64 = 0.35;
const BUILD_MS_PER_ROW: f64 = 0.005;
/// Time to compare a query with a component of a centre, in nanoseconds.
const RANK_NS_PER_COMPONENT: f64 = 2.0;

/// The steps that mend an issue of lists in place; none where it cannot be mended so. Entries move only
/// where they may: others wait for it, and searches take more probes afterwards.
fn steps(issue: &IndexIssue, may_move: bool) -> Option<Vec<StepKind>> {
    use StepKind::{Baseline, Forecast, InsertPages, Recenter, Regroup, Verify};
    match issue {
        IndexIssue::StaleTraining { .. } | IndexIssue::BuiltEmpty { .. } => {
            Some(vec![InsertPages, Baseline, Forecast, Recenter, Verify])
        }
        IndexIssue::CorruptPage { in_place: true, .. } => Some(vec![InsertPages, Verify]),
        IndexIssue::UnbalancedClusters { .. } if may_move => {
            Some(vec![InsertPages, Baseline, Forecast, Regroup, Verify])
        }
        // Whether a rebuild helps can be told.
        IndexIssue::UnbalancedClusters { .. } => Some(vec![Baseline, Forecast, Verify]),
        _ => None,
    }
}

/// The plan, if the issue can be mended in place, that was not tried in vain on this file of the
/// index, and the sums of its lists fit into memory.
pub fn plan(
    strategy: &str,
    issue: &Issue,
    index: &IndexInfo,
    facts: &PlanFacts,
) -> Option<RepairPlan> {
    let Issue::Index(kind) = issue;
    let steps = steps(kind, facts.may_move)?;
    let figures = facts.lists.as_ref()?;
    let (moves, disk_bytes) = match steps.contains(&StepKind::Regroup) {
        true => (
            heal::regrouping_memory(figures),
            heal::regrouping_bytes(figures),
        ),
        false => (0, 0),
    };
    let memory_bytes = heal::bytes_for(figures) + rows_asked_for(figures) + moves;
    let fits = memory_bytes <= facts.build_memory;
    if !index.valid || index.shape.is_none() || !fits || facts.in_place_failed {
        return None;
    }
    let costs: Vec<f64> = steps
        .iter()
        .map(|step| cost(*step, figures, facts))
        .collect();
    let mut plan = in_steps(strategy, issue, index, steps, costs, memory_bytes);
    plan.estimate.disk_bytes = disk_bytes;
    Some(plan)
}

/// Bytes of the rows by which recall is told.
fn rows_asked_for(figures: &IvfflatFigures) -> u64 {
    u64::from(QUERIES) * 10 * u64::from(figures.dimensions) * 4
}

/// What a step is expected to take, in milliseconds.
fn cost(step: StepKind, figures: &IvfflatFigures, facts: &PlanFacts) -> f64 {
    let pages = |count: f64| pages_ms(count, facts);
    let read = pages(figures.pages as f64);
    let dimensions = f64::from(figures.dimensions);
    let of_queries = f64::from(QUERIES) * dimensions;
    let of_lists = figures.lists as f64;
    match step {
        StepKind::InsertPages => read,
        StepKind::Baseline => {
            let table = figures.vectors as f64 * (dimensions * 4.0 + 32.0) / PAGE_SIZE as f64;
            let exact = figures.vectors as f64 * of_queries * EXACT_NS_PER_COMPONENT * 1e-6;
            pages(table) + exact
        }
        StepKind::Forecast => {
            let ranked = 3.0 * of_queries * of_lists * RANK_NS_PER_COMPONENT * 1e-6;
            read + ranked + heal::survey_ms(figures)
        }
        StepKind::Recenter => heal::recentering_ms(figures),
        StepKind::Regroup => 2.0 * read + heal::regrouping_ms(figures),
        StepKind::Verify => read + of_queries * of_lists * RANK_NS_PER_COMPONENT * 1e-6,
        _ => 0.0,
    }
}

/// What a rebuild of lists costs: from the last measured build of this index, else from the number
/// of distances that training and putting every row into a list take.
pub fn rebuild(figures: &IvfflatFigures, facts: &PlanFacts) -> Estimate {
    let (rows, lists) = (figures.vectors as f64, figures.lists as f64);
    let dimensions = f64::from(figures.dimensions);
    let trained = (figures.lists * TRAINED_ROWS_PER_LIST).max(LEAST_TRAINED_ROWS);
    let trained = figures.vectors.min(trained) as f64;
    let duration = match facts.build_ms_per_element {
        Some(per_element) => rows * per_element,
        None => {
            let compared = (rows + ITERATIONS * trained) * lists * dimensions;
            compared * BUILD_NS_PER_COMPONENT * 1e-6 + rows * BUILD_MS_PER_ROW
        }
    };
    let memory = (trained + 4.0 * lists) * dimensions * 4.0;
    Estimate {
        duration_ms: 500.0 + duration,
        disk_bytes: figures.predicted_pages * PAGE_SIZE as u64,
        memory_bytes: (memory as u64).min(facts.build_memory),
    }
}
