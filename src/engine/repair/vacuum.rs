//! `vacuum`: dead rows are taken out of the graph, by pgvector's own vacuum or, where that would take
//! longer, by a rebuild that leaves them out and a vacuum after it.

use super::plan::{Measured, PlanFacts, RepairPlan, StepKind};
use super::strategy::RepairStrategy;
use super::{in_place, index_rebalance};
use crate::detection::index_health::MAX_FRAGMENTATION;
use crate::model::{IndexInfo, IndexIssue, Issue};
use crate::vector_index::PAGE_SIZE;
use crate::vector_index::release::vacuum_fault;
use crate::verification::{Verdict, validation};

/// Links on the ground layer that a live element has, as a share of those there is room for.
const FILL: f64 = 0.8;
/// Time to link an element anew in a vacuum, as a multiple of what it took to build it in. By it
/// 20,000 × 64 took 0.9 of a build at 2 % dead, 1.9 at 10 % and 2.8 at 32 %, measured the same.
const RELINK_BUILDS: f64 = 2.0;
/// Time to go through an index without relinking anything, in milliseconds a page.
const PAGE_MS: f64 = 0.05;

/// Vacuums a table whose dead rows nobody else takes away.
pub struct VacuumStrategy;

impl RepairStrategy for VacuumStrategy {
    fn name(&self) -> &'static str {
        "vacuum"
    }

    fn can_repair(&self, issue: &Issue) -> bool {
        matches!(issue, Issue::Index(IndexIssue::DeadTuples { .. }))
    }

    fn plan(&self, issue: &Issue, index: &IndexInfo, facts: &PlanFacts) -> RepairPlan {
        let mut rebuild = index_rebalance::rebuild(self.name(), issue, index, facts);
        rebuild.vacuum_fault = fault_with_graphs(index, facts);
        let in_place_ms = vacuum_ms(index, facts);
        // With other indexes the table's vacuum goes through those in any case. Of an index that was built
        // without dead rows it deletes nothing.
        let is_cheaper = rebuild.estimate.duration_ms < in_place_ms;
        let is_rebuilt = facts.others.is_empty() && (is_cheaper || rebuild.vacuum_fault.is_some());
        let least_ms = match is_rebuilt {
            true => rebuild.estimate.duration_ms,
            false => in_place_ms,
        };
        // Its pages stay: where most of them would be empty they are better built anew.
        if rebuild.vacuum_fault.is_none()
            && dead_share(index, facts) <= f64::from(MAX_FRAGMENTATION)
            && let Some(relinked) = in_place::relinked(self.name(), issue, index, facts, least_ms)
        {
            return relinked;
        }
        if is_rebuilt {
            // Kept, the old index would be vacuumed as well.
            rebuild.reversible = false;
            rebuild.repair_type = "index_rebuild_and_vacuum".into();
            rebuild.steps.push(StepKind::Vacuum);
            return rebuild;
        }
        rebuild.repair_type = "vacuum".into();
        rebuild.steps = vec![StepKind::Vacuum];
        rebuild.reversible = false;
        rebuild.estimate.duration_ms = in_place_ms;
        rebuild.estimate.disk_bytes = 0;
        rebuild.estimate.memory_bytes = facts.build_memory.min(index.blocks * PAGE_SIZE as u64);
        rebuild
    }

    fn validate(&self, issue: &Issue, before: &Measured, after: &Measured) -> Verdict {
        // What was rebuilt is not valid before it is in place.
        match after.valid {
            true => validation::vacuumed(before, after),
            false => validation::rebuilt(issue, before, after),
        }
    }
}

/// Why nothing is to be vacuumed out of a graph of the table, if that is so.
fn fault_with_graphs(index: &IndexInfo, facts: &PlanFacts) -> Option<String> {
    let others = facts.others.iter().map(|other| &other.index);
    let has_graph = std::iter::once(index)
        .chain(others)
        .any(|index| index.access_method == "hnsw");
    let release = facts.pgvector.as_ref().filter(|_| has_graph);
    release.and_then(vacuum_fault)
}

/// What a vacuum of the table takes, in milliseconds.
fn vacuum_ms(index: &IndexInfo, facts: &PlanFacts) -> f64 {
    let of_others = facts.others.iter().map(|other| {
        let facts = PlanFacts {
            figures: other.figures.clone(),
            ..PlanFacts::default()
        };
        searches_ms(&other.index, &facts)
    });
    untouched_ms(index, facts) + searches_ms(index, facts) + of_others.sum::<f64>()
}

/// What pgvector's vacuum takes to search anew for the neighbours of each element that stays and has a
/// link to one that goes, in a graph that still has all of them, in milliseconds.
fn searches_ms(index: &IndexInfo, facts: &PlanFacts) -> f64 {
    if index.access_method != "hnsw" {
        return 0.0;
    }
    // However little memory a build has, a vacuum searches the index as it is.
    let roomy = PlanFacts {
        build_memory: u64::MAX,
        ..facts.clone()
    };
    let build_ms = index_rebalance::estimate(index, &roomy).duration_ms;
    let figures = facts.figures.as_ref();
    let live = (index.live_rows as f64).max(1.0);
    let dead = dead_share(index, facts);
    let links = FILL * 2.0 * figures.map_or(16.0, |f| f64::from(f.m));
    let relinked = live * (1.0 - (1.0 - dead).powf(links));
    // Shrinks to the live ones, but is searched with the dead ones in it.
    relinked * build_ms / live * RELINK_BUILDS / (1.0 - dead).max(0.1)
}

/// Share of the index's entries whose rows are dead.
fn dead_share(index: &IndexInfo, facts: &PlanFacts) -> f64 {
    let live = (index.live_rows as f64).max(1.0);
    let figures = facts.figures.as_ref();
    let entries = figures.map_or(live + index.dead_rows as f64, |f| f.heap_tids as f64);
    ((entries - live) / entries.max(1.0)).clamp(0.0, 1.0)
}

/// What a vacuum takes that finds nothing to link anew in any index of the table, in milliseconds.
pub(super) fn untouched_ms(index: &IndexInfo, facts: &PlanFacts) -> f64 {
    let of_others = facts.others.iter().map(|other| other.index.blocks);
    500.0 + (index.blocks + of_others.sum::<u64>()) as f64 * PAGE_MS
}
