//! Mending a graph in place: pages of the index that is there are changed, edit by edit, and what
//! was linked can be unlinked again.
//!
//! Owns when that is possible, what it costs and in which steps it goes. A strategy falls back to
//! a rebuild where this gives no plan.

use super::plan::{Estimate, PlanFacts, RepairPlan, StepKind};
use crate::model::{IndexInfo, IndexIssue, Issue, UnreachableCause};
use crate::vector_index::PAGE_SIZE;
use crate::vector_index::hnsw::heal::{self, Rung};
use crate::vector_index::hnsw::{HnswFigures, bytes_per_element};
use crate::vector_index::shape::Metric;

/// What kind of repair it is, in the words of the history.
pub const REPAIR_TYPE: &str = "in_place";

/// The steps that mend an issue in place; none where it cannot be mended so.
fn steps(issue: &IndexIssue, metric: Option<Metric>) -> Option<Vec<StepKind>> {
    use StepKind::{Baseline, Detach, Detour, Entry, Link, Merge, Prune, Reinsert, Tuples, Verify};
    match issue {
        // What cannot be reached then is another issue, if it is one.
        IndexIssue::WrongLevel { .. } | IndexIssue::DeadEntryPoint { .. } => {
            Some(vec![Entry, Prune, Verify])
        }
        IndexIssue::DistantInsertPage { .. } => Some(vec![Entry, Verify]),
        // By inner product it may be nobody's nearest.
        IndexIssue::DanglingEdges { .. } if metric == Some(Metric::InnerProduct) => {
            Some(vec![Entry, Prune, Verify])
        }
        IndexIssue::CorruptPage { in_place: true, .. } => {
            let mut steps = vec![Tuples, Entry, Prune, Detach, Reinsert];
            if metric != Some(Metric::InnerProduct) {
                steps.extend([Baseline, Link]);
            }
            steps.push(Verify);
            Some(steps)
        }
        // What only the links that are taken out led to is linked.
        IndexIssue::DanglingEdges { .. } => Some(vec![Entry, Prune, Baseline, Link, Verify]),
        // What others cut off meanwhile is linked.
        IndexIssue::DuplicateSink { .. } => {
            Some(vec![Entry, Prune, Baseline, Merge, Detour, Link, Verify])
        }
        IndexIssue::OrphanNodes { .. }
        | IndexIssue::PoorConnectivity { .. }
        | IndexIssue::BornUnreachable {
            cause: UnreachableCause::TightClusters,
            ..
        } => Some(vec![Entry, Prune, Baseline, Link, Verify]),
        _ => None,
    }
}

/// Whether an issue is only ever mended in place: a rebuild would not help, or is not worth it.
pub fn is_only_way(issue: &IndexIssue) -> bool {
    matches!(
        issue,
        IndexIssue::WrongLevel { .. }
            | IndexIssue::DistantInsertPage { .. }
            | IndexIssue::BornUnreachable { .. }
            | IndexIssue::DuplicateSink { .. }
    )
}

/// Whether an issue is mended only when somebody asks for it.
fn is_asked_for(issue: &IndexIssue) -> bool {
    matches!(
        issue,
        IndexIssue::BornUnreachable { .. } | IndexIssue::DuplicateSink { .. }
    )
}

/// The plan, if the issue can be mended in place, that was not tried in vain on this file of the
/// index, its graph fits into memory, and a rebuild would take longer.
pub fn plan(
    strategy: &str,
    issue: &Issue,
    index: &IndexInfo,
    facts: &PlanFacts,
    rebuild: &Estimate,
) -> Option<RepairPlan> {
    let Issue::Index(kind) = issue;
    let steps = steps(kind, index.shape.as_ref().map(|shape| shape.metric))?;
    let figures = facts.figures.as_ref();
    let passes_by = steps.contains(&StepKind::Detour);
    let memory_bytes = figures.map_or(0, |figures| memory(figures, passes_by));
    let costs: Vec<f64> = steps
        .iter()
        .map(|step| match figures {
            None => 0.0,
            Some(figures) if *step == StepKind::Reinsert => put_back(kind, figures, rebuild),
            Some(figures) => cost(*step, figures, index, facts),
        })
        .collect();
    let fits =
        figures.is_some_and(|figures| !figures.sampled) && memory_bytes <= facts.build_memory;
    let is_graph = index.access_method == "hnsw" && index.valid && index.shape.is_some();
    let pays = work_ms(&steps, &costs) <= rebuild.duration_ms;
    let helps = is_graph && fits && pays && !facts.in_place_failed;
    if !helps && !is_only_way(kind) {
        return None;
    }
    let mut plan = in_steps(strategy, issue, index, steps, costs, memory_bytes);
    plan.estimate.disk_bytes = figures.filter(|_| passes_by).map_or(0, written);
    plan.on_request = is_asked_for(kind);
    Some(plan)
}

/// The plan of a repair in place, which starts by itself, waits for no window, writes little, and is
/// taken back where it did not help.
pub(super) fn in_steps(
    strategy: &str,
    issue: &Issue,
    index: &IndexInfo,
    steps: Vec<StepKind>,
    costs_ms: Vec<f64>,
    memory_bytes: u64,
) -> RepairPlan {
    RepairPlan {
        strategy: strategy.into(),
        repair_type: REPAIR_TYPE.into(),
        issue: issue.clone(),
        index: index.clone(),
        estimate: Estimate {
            duration_ms: costs_ms.iter().sum(),
            disk_bytes: 0,
            memory_bytes,
        },
        steps,
        costs_ms,
        reversible: true,
        heavy: false,
        on_request: false,
        vacuum_fault: None,
    }
}

/// The plan by which a vacuum finds nothing to search for: links are led past dead rows first, in
/// every graph of the table. None where that is not possible, was tried in vain on this file of the
/// index, or does not take less than `limit_ms`.
pub fn relinked(
    strategy: &str,
    issue: &Issue,
    index: &IndexInfo,
    facts: &PlanFacts,
    limit_ms: f64,
) -> Option<RepairPlan> {
    use StepKind::{Baseline, Link, Relink, Vacuum, Verify};
    let figures = facts.figures.as_ref()?;
    if index.access_method != "hnsw" || facts.in_place_failed {
        return None;
    }
    let others = facts
        .others
        .iter()
        .map(|other| (&other.index, &other.figures));
    let all = std::iter::once((index, &facts.figures)).chain(others);
    let (mut memory_bytes, mut relink_ms) = (0, 0.0);
    for (graph, figures) in all.filter(|(index, _)| index.access_method == "hnsw") {
        let figures = figures.as_ref().filter(|figures| !figures.sampled)?;
        let bytes = memory(figures, false) + figures.heap_tids * heal::BYTES_PER_ROW;
        let room = facts.build_memory.checked_sub(bytes)?;
        if !graph.valid || graph.shape.is_none() {
            return None;
        }
        relink_ms += heal::relink_ms(figures, room);
        memory_bytes = memory_bytes.max(bytes);
    }
    let steps = vec![Baseline, Relink, Vacuum, Link, Verify];
    let costs = steps.iter().map(|step| match step {
        Relink => relink_ms,
        Vacuum => super::vacuum::untouched_ms(index, facts),
        step => cost(*step, figures, index, facts),
    });
    let costs: Vec<f64> = costs.collect();
    if work_ms(&steps, &costs) >= limit_ms {
        return None;
    }
    Some(RepairPlan {
        reversible: false,
        ..in_steps(strategy, issue, index, steps, costs, memory_bytes)
    })
}

/// What steps are expected to take, comparing aside: a rebuild is compared with what was there too,
/// which its estimate leaves out.
fn work_ms(steps: &[StepKind], costs: &[f64]) -> f64 {
    let works = |step: &StepKind| !matches!(step, StepKind::Baseline | StepKind::Verify);
    let work = steps.iter().zip(costs).filter(|(step, _)| works(step));
    work.map(|(_, cost)| cost).sum()
}

/// Bytes of the graph in memory and of what is planned on it.
fn memory(figures: &HnswFigures, passes_by: bool) -> u64 {
    let passing = match passes_by {
        true => heal::bytes_to_pass_by(figures.m, figures.dimensions),
        false => 0,
    };
    let element = bytes_per_element(figures.m) + heal::bytes_per_element() + passing;
    figures.live_elements * element as u64
}

/// Bytes that passing by a value writes: every page to the log, as far as none was written to since
/// the last checkpoint, and every element's links, as they were and as they will be, to the list of
/// edits.
fn written(figures: &HnswFigures) -> u64 {
    let links = 2 * u64::from(figures.m) * 2;
    figures.pages * PAGE_SIZE as u64 + figures.live_elements * links * EDIT_BYTES_PER_LINK
}

/// Bytes of a link in the list of edits, the log of it among them, as measured on 20,000 × 384.
const EDIT_BYTES_PER_LINK: u64 = 16;

/// Inserting a row after the build as a multiple of its share of the build, as measured on
/// 30,000 × 128 with m = 16: 1.4 ms.
const INSERT_FACTOR: f64 = 8.0;

/// What putting rows back is expected to take, in milliseconds: each breach may be a row's.
fn put_back(issue: &IndexIssue, figures: &HnswFigures, rebuild: &Estimate) -> f64 {
    let IndexIssue::CorruptPage { breaches, .. } = issue else {
        return 0.0;
    };
    let share = rebuild.duration_ms / figures.live_elements.max(1) as f64;
    *breaches as f64 * share * INSERT_FACTOR
}

/// Queries that recall is compared on.
pub const QUERIES: u32 = 800;
/// Time to search an index once, in milliseconds, and to compare a query with a component of a
/// row, in nanoseconds, as measured on 100,000 × 128 with m = 16 (see `benches/healing.rs`).
const SEARCH_MS: f64 = 0.5;
pub(super) const EXACT_NS_PER_COMPONENT: f64 = 0.1;

/// What reading so many pages takes, as fast as it may, in milliseconds.
pub(super) fn pages_ms(count: f64, facts: &PlanFacts) -> f64 {
    let throttled = match facts.io_limit_mb {
        0 => 0.0,
        limit => count * PAGE_SIZE as f64 / (limit as f64 * 1000.0),
    };
    throttled.max(count * heal::PAGE_MS)
}

/// What a step is expected to take, in milliseconds.
fn cost(step: StepKind, figures: &HnswFigures, index: &IndexInfo, facts: &PlanFacts) -> f64 {
    let pages = |count: f64| pages_ms(count, facts);
    let read = pages(figures.pages as f64);
    let queries = f64::from(QUERIES);
    match step {
        // The graph is read for the first rung and kept as long as nothing changes it.
        StepKind::Entry => read + heal::cost_ms(Rung::Entry, figures),
        StepKind::Tuples => heal::cost_ms(Rung::Tuples, figures),
        // The index is gone over twice: judged, and seen to need nothing more.
        StepKind::Detach => 2.0 * figures.pages as f64 * heal::PAGE_MS,
        StepKind::Prune => heal::cost_ms(Rung::Prune, figures),
        // Without a place to start from nothing is reached, and nearly all will be once there is.
        StepKind::Link if figures.entry_point_quality == 0.0 => 0.0,
        StepKind::Link => heal::cost_ms(Rung::Link, figures),
        StepKind::Merge => heal::cost_ms(Rung::Merge { key: 0 }, figures),
        StepKind::Detour => heal::cost_ms(Rung::Detour { key: 0 }, figures),
        StepKind::Baseline => {
            let rows = index.live_rows.max(figures.heap_tids) as f64;
            let components = rows * f64::from(figures.dimensions) * queries;
            let table = rows * (f64::from(figures.dimensions) * 4.0 + 32.0) / PAGE_SIZE as f64;
            pages(table) + components * EXACT_NS_PER_COMPONENT * 1e-6 + queries * SEARCH_MS
        }
        StepKind::Verify => read + queries * SEARCH_MS,
        _ => 0.0,
    }
}
