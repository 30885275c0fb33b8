//! Which figures of an index are issues, and when an index is due for another look.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::birth;
use super::damage::{Damage, examine, explains};
use crate::model::{Finding, IndexHealthCheck, IndexInfo, IndexIssue, Issue, Timestamp};
use crate::vector_index::finding::Breach;
use crate::vector_index::hnsw::{self, HnswFigures, MAX_PAGES_PER_INSERT};
use crate::vector_index::inspection::{InspectError, InspectOptions};
use crate::vector_index::ivfflat::{self, IvfflatFigures};
use crate::vector_index::shape::IndexShape;
use crate::vector_index::{HeapTid, PageSource};

/// Quality issues need this many elements; broken structure needs none.
const MIN_ELEMENTS: u64 = 1_000;
/// Fragmentation beyond this is an issue.
pub const MAX_FRAGMENTATION: f32 = 0.5;
/// More orphans than this are an issue, or more than this share of the live elements.
const MAX_ORPHANS: u64 = 100;
const MAX_ORPHAN_SHARE: f64 = 0.001;
/// A smaller reached share of the live elements is an issue.
pub const MIN_CONNECTIVITY: f32 = 0.8;
/// Lists are unbalanced past this standard deviation of their sizes / the mean, or, where there
/// are this many, past this imbalance factor.
const MAX_BALANCE: f32 = 2.0;
const MIN_LISTS: u64 = 16;
const MAX_IMBALANCE: f32 = 4.0;
/// Training is stale past this age, if moving the centres would remove more than the rest of 1 of
/// the distortion: an old index over data that has not changed is none.
const MAX_TRAINING_HOURS: f32 = 168.0;
/// See `MAX_TRAINING_HOURS`.
pub const MIN_CENTROID_QUALITY: f32 = 0.85;
/// Dead rows are an issue past this share of all rows, once there are this many. Autovacuum
/// acts at a fifth: a table past this is one that it does not reach.
pub const MAX_DEAD_SHARE: f64 = 0.3;
/// The same of a graph: to lead its links past them is cheap, and before autovacuum, which searches
/// anew for whoever links to one, is the time for it.
const MAX_DEAD_SHARE_OF_GRAPH: f64 = 0.1;
const MIN_DEAD_ROWS: u64 = 1_000;
/// A look is due when this share of the rows has changed since the last, or this many.
const CHANGED_SHARE: f64 = 0.01;
const CHANGED_ROWS: u64 = 50;
/// A look is due after a day in any case: counters may be off, or reset.
const MAX_AGE: i64 = 86_400_000_000;

/// Looks at indexes and tells what is wrong with them.
#[derive(Debug, Default)]
pub struct IndexHealthChecker {
    health: HashMap<String, IndexHealthCheck>,
}

impl IndexHealthChecker {
    /// Takes in a look at an index.
    pub fn observe(&mut self, look: IndexHealthCheck) {
        self.health.insert(look.index.identity(), look);
    }

    /// Forgets indexes that are no longer there.
    pub fn retain(&mut self, all: &[String]) {
        self.health.retain(|identity, _| all.contains(identity));
    }

    /// What an index needs repair for, by its last look. Most pressing kinds first.
    pub fn needs_repair(&self, identity: &str) -> Vec<Finding> {
        self.health.get(identity).map(findings).unwrap_or_default()
    }
}

/// Everything a look shows to be wrong.
pub fn findings(look: &IndexHealthCheck) -> Vec<Finding> {
    let index = &look.index;
    let name = index.index_name.clone();
    let mut found = Vec::new();
    let mut add = |issue: IndexIssue, evidence: Value| {
        found.push(Finding {
            issue: Issue::Index(issue),
            index: index.clone(),
            evidence,
        });
    };
    if !index.valid {
        if !index.under_construction {
            let evidence = json!({
                "valid": false,
                "blocks": index.blocks,
                "leftover_of": index.valid_twin,
            });
            let twin = index.valid_twin.clone();
            add(IndexIssue::InvalidIndex { index: name, twin }, evidence);
        }
        return found;
    }
    let mut issues = Vec::new();
    if let Some(figures) = &look.hnsw {
        issues = graph_issues(name.clone(), figures, index.shape.as_ref());
        if issues.is_empty() {
            issues.extend(wrong_level(&name, figures));
            issues.extend(distant_insert_page(&name, figures));
        }
    }
    if let Some(figures) = &look.ivfflat {
        issues = list_issues(name.clone(), figures, look.hours_known() as f32);
    }
    let figures = match &look.hnsw {
        Some(figures) => json!(figures),
        None => look.ivfflat.as_ref().map_or(json!({}), |f| json!(f)),
    };
    let damage = look.damage.as_ref();
    if let Some(corrupt) = damage.and_then(|damage| damage.issue(index, &issues)) {
        issues.retain(|issue| !explains(issue));
        let mut evidence = figures.clone();
        evidence["damage"] = json!(damage);
        add(corrupt, evidence);
    }
    for issue in issues {
        let mut evidence = figures.clone();
        if let (IndexIssue::DuplicateSink { .. }, Some(watch)) = (&issue, &look.recall) {
            evidence["measured"] = watch.shown(index);
        }
        add(issue, evidence);
    }
    // Counters that name more dead rows than the index has entries are out of date: a vacuum has
    // been there, and a session told of its deletes later. Rows updated where they were have no
    // entry of their own.
    let entries = look
        .hnsw
        .as_ref()
        .map(|figures| figures.heap_tids)
        .or_else(|| look.ivfflat.as_ref().map(|figures| figures.vectors))
        .unwrap_or(u64::MAX);
    let dead = index.dead_rows.min(entries.saturating_sub(index.live_rows));
    if index.dead_rows <= entries
        && is_decayed_by_dead_rows(look.hnsw.is_some(), dead, index.live_rows)
    {
        let share = dead as f64 / (dead + index.live_rows) as f64;
        let evidence = json!({"dead_rows": dead, "live_rows": index.live_rows});
        let share = share as f32;
        add(IndexIssue::DeadTuples { index: name, share }, evidence);
    }
    if let Some((issue, evidence)) = look.recall.as_ref().and_then(|watch| watch.issue(index))
        && !found
            .iter()
            .any(|finding| explains_low_recall(&finding.issue))
    {
        found.push(Finding {
            issue,
            index: index.clone(),
            evidence,
        });
    }
    found
}

/// Whether an issue is a cause of low recall, which is then no issue of its own.
fn explains_low_recall(issue: &Issue) -> bool {
    matches!(
        issue,
        Issue::Index(
            IndexIssue::OrphanNodes { .. }
                | IndexIssue::PoorConnectivity { .. }
                | IndexIssue::DanglingEdges { .. }
                | IndexIssue::DeadEntryPoint { .. }
                | IndexIssue::CorruptPage { .. }
                | IndexIssue::DuplicateSink { .. }
                | IndexIssue::BuiltEmpty { .. }
                | IndexIssue::StaleTraining { .. }
        )
    )
}

/// Whether searches start too low. What mends any other fault of the graph mends that as well.
fn wrong_level(index: &str, figures: &HnswFigures) -> Option<IndexIssue> {
    let highest = figures.layer_distribution.len().saturating_sub(1) as u8;
    let entry = figures.entry_level.filter(|&entry| entry < highest)?;
    Some(IndexIssue::WrongLevel {
        index: index.to_owned(),
        entry,
        highest,
    })
}

/// Whether inserts look for room in too many places. What mends any other fault of the graph mends
/// that as well.
fn distant_insert_page(index: &str, figures: &HnswFigures) -> Option<IndexIssue> {
    let pages = figures.pages_per_insert;
    (pages > MAX_PAGES_PER_INSERT).then(|| IndexIssue::DistantInsertPage {
        index: index.to_owned(),
        pages,
    })
}

/// The lists' issues: `hours` since they were trained, at least.
fn list_issues(index: String, figures: &IvfflatFigures, hours: f32) -> Vec<IndexIssue> {
    let mut issues = Vec::new();
    if figures.vectors < MIN_ELEMENTS {
        return issues;
    }
    if let Some(born) = birth::of_lists(&index, figures) {
        issues.push(born);
        return issues;
    }
    if is_unbalanced(figures) {
        issues.push(IndexIssue::UnbalancedClusters {
            index: index.clone(),
            score: figures.cluster_balance,
        });
    }
    if hours > MAX_TRAINING_HOURS && figures.centroid_quality < MIN_CENTROID_QUALITY {
        issues.push(IndexIssue::StaleTraining { index, hours });
    }
    issues
}

/// Whether lists differ so much in size that a probe is dear.
pub fn is_unbalanced(figures: &IvfflatFigures) -> bool {
    let is_dear = figures.lists >= MIN_LISTS && figures.imbalance_factor > MAX_IMBALANCE;
    figures.cluster_balance > MAX_BALANCE || is_dear
}

fn graph_issues(
    index: String,
    figures: &HnswFigures,
    shape: Option<&IndexShape>,
) -> Vec<IndexIssue> {
    let mut issues = Vec::new();
    let has_entry = figures.live_elements == 0 || figures.entry_point_quality > 0.0;
    if !has_entry {
        issues.push(IndexIssue::DeadEntryPoint {
            index: index.clone(),
        });
    }
    if figures.dangling_edges > 0 {
        issues.push(IndexIssue::DanglingEdges {
            index: index.clone(),
            count: figures.dangling_edges,
        });
    }
    if figures.elements < MIN_ELEMENTS {
        return issues;
    }
    if figures.fragmentation > MAX_FRAGMENTATION {
        issues.push(IndexIssue::Fragmentation {
            index: index.clone(),
            level: figures.fragmentation,
        });
    }
    // A sampled answer bounds reachability; only an exact one counts orphans. Without an entry
    // point nothing is reached, which is named already.
    if figures.sampled || !has_entry {
        return issues;
    }
    let orphans = figures.orphans_with_rows;
    let unreachable =
        orphans > MAX_ORPHANS || orphans as f64 > figures.live_elements as f64 * MAX_ORPHAN_SHARE;
    if let Some(born) = birth::of_graph(&index, figures, shape, unreachable) {
        issues.push(born);
        return issues;
    }
    if unreachable {
        issues.push(IndexIssue::OrphanNodes {
            index: index.clone(),
            count: orphans,
        });
    }
    let score = figures.reachable();
    if score < MIN_CONNECTIVITY {
        issues.push(IndexIssue::PoorConnectivity { index, score });
    }
    issues
}

impl IndexHealthCheck {
    /// Reads the pages of the index and takes its figures, those of its kind.
    pub fn inspect(
        &mut self,
        pages: &mut dyn PageSource,
        options: &InspectOptions,
    ) -> Result<Vec<HeapTid>, InspectError> {
        let (rows, notices) = match (self.index.access_method.as_str(), &self.index.shape) {
            ("hnsw", shape) => {
                let report = hnsw::inspect(pages, options)?;
                let mut figures = report.figures;
                if let Some(IndexShape { value_type, .. }) = *shape {
                    let (m, missed, reached) = (figures.m, &report.unreachable, &report.reached);
                    figures.duplicate_sink =
                        hnsw::duplicate_sink(pages, value_type, &report.frequent)?;
                    figures.origin = hnsw::origin(pages, value_type, m, missed, reached)?;
                }
                self.hnsw = Some(figures);
                (report.sampled_rows, report.notices)
            }
            ("ivfflat", Some(shape)) => {
                let report = ivfflat::inspect(pages, shape, options)?;
                self.ivfflat = Some(report.figures);
                (report.sampled_rows, report.notices)
            }
            (method, _) => {
                let notice = format!("{method} indexes of this operator class are not read");
                (Vec::new(), vec![notice])
            }
        };
        self.notices.extend(notices);
        Ok(rows)
    }

    /// Checks the structure of the index; every breach is reported, too.
    pub fn check(
        &mut self,
        pages: &mut dyn PageSource,
        memory_limit: usize,
        report: &mut dyn FnMut(Breach),
    ) -> Result<(), InspectError> {
        let mut damage = Damage::default();
        let checked = examine(&self.index, pages, memory_limit, &mut |breach| {
            damage.add(&breach);
            report(breach);
        })?;
        self.damage = checked.then_some(damage);
        Ok(())
    }
}

/// Whether dead rows are so many that something is to be done about them.
pub fn is_decayed_by_dead_rows(is_graph: bool, dead: u64, live: u64) -> bool {
    let most = match is_graph {
        true => MAX_DEAD_SHARE_OF_GRAPH,
        false => MAX_DEAD_SHARE,
    };
    dead >= MIN_DEAD_ROWS && dead as f64 > (dead + live) as f64 * most
}

/// Whether an index is worth reading again, given the last look and what the catalog shows.
pub fn look_is_due(last: Option<&IndexHealthCheck>, index: &IndexInfo, now: Timestamp) -> bool {
    let Some(last) = last else {
        return true;
    };
    let then = &last.index;
    let changed = index.modifications.abs_diff(then.modifications);
    let limit = CHANGED_ROWS.max((then.live_rows as f64 * CHANGED_SHARE) as u64);
    then.relfilenode != index.relfilenode
        || then.valid != index.valid
        || then.vacuums != index.vacuums
        || changed > limit
        || index.blocks.abs_diff(then.blocks) > then.blocks / 100
        || now.saturating_sub(last.checked_at) > MAX_AGE
}
