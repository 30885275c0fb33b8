//! What the structural check finds, as an issue: which breaches are damage, which of them the
//! figures show already, and which can be mended in place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{IndexInfo, IndexIssue};
use crate::vector_index::finding::{Breach, Gravity};
use crate::vector_index::inspection::InspectError;
use crate::vector_index::{PageSource, hnsw, ivfflat};

/// Breaches that are told word for word; of the others only the number is kept.
const TOLD: usize = 5;

/// What is no damage: options that a rebuild has not taken up yet, and pages that a crash left
/// empty. Where such a page was part of the index, something else is wrong as well.
const HARMLESS: [&str; 2] = ["pending_rebuild", "page_zeroed"];

/// What only a comparison with the table shows.
const SEEN_FROM_TABLE: [&str; 3] = ["row_missing", "row_of_entry_missing", "value_differs"];

/// What figures of a graph show: edges that lead nowhere, and a missing place to start from.
const DANGLING: [&str; 3] = [
    "edge_to_nothing",
    "edge_to_neighbor_tuple",
    "edge_to_deleted",
];
const NO_ENTRY: [&str; 3] = ["entry_missing", "entry_invalid", "entry_deleted"];

/// What else of a graph is mended in place. All other damage takes a rebuild.
const MENDED_IN_PLACE: [&str; 14] = [
    "insert_page",
    "entry_level",
    "heap_tids_gap",
    "heap_tids_repeated",
    "row_claimed_twice",
    "value",
    "unit_length",
    "deleted_not_empty",
    "neighbor_version",
    "neighbor_count",
    "neighbor_hole",
    "edge_above_level",
    "edge_to_itself",
    "no_links",
];

/// What of lists is mended in place.
const OF_LISTS_MENDED_IN_PLACE: [&str; 1] = ["insert_page"];

/// What a structural check found, in numbers and examples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Damage {
    /// Breaches by the name of the check.
    pub checks: BTreeMap<String, u64>,
    /// The first of them, in words.
    pub first: Vec<String>,
    /// Whether the index was compared with its table as well.
    pub compared: bool,
}

impl Damage {
    /// Takes in a breach. What pgvector makes itself, or is harmless, is none.
    pub fn add(&mut self, breach: &Breach) {
        if breach.gravity == Gravity::Notice || HARMLESS.contains(&breach.check) {
            return;
        }
        *self.checks.entry(breach.check.into()).or_default() += 1;
        if self.first.len() < TOLD {
            let at = match (breach.block, breach.item) {
                (Some(block), Some(item)) => format!("({block},{item}): "),
                (Some(block), None) => format!("block {block}: "),
                _ => String::new(),
            };
            self.first.push(format!("{at}{}", breach.message));
        }
    }

    /// Breaches in all.
    pub fn count(&self) -> u64 {
        self.checks.values().sum()
    }

    /// The checks that found any, as people read them.
    pub fn in_words(&self) -> String {
        let each = self.checks.iter().map(|(check, n)| format!("{n} {check}"));
        each.collect::<Vec<_>>().join(", ")
    }

    /// The same with what an earlier look at the same file saw from the table, where this one did
    /// not compare the two.
    #[must_use]
    pub fn after(mut self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.compared && !self.compared) else {
            return self;
        };
        for check in SEEN_FROM_TABLE {
            if let Some(count) = before.checks.get(check) {
                self.checks.insert(check.into(), *count);
            }
        }
        if self.first.is_empty() && !self.checks.is_empty() {
            self.first.clone_from(&before.first);
        }
        Self {
            compared: true,
            ..self
        }
    }

    fn has(&self, checks: &[&str]) -> bool {
        checks.iter().any(|check| self.checks.contains_key(*check))
    }

    /// Whether all of it can be mended in place.
    fn is_mended_in_place(&self, access_method: &str) -> bool {
        let kinds: [&[&str]; 4] = [&MENDED_IN_PLACE, &SEEN_FROM_TABLE, &DANGLING, &NO_ENTRY];
        let known = |check: &String| kinds.iter().any(|kind| kind.contains(&check.as_str()));
        let of_lists = |check: &String| OF_LISTS_MENDED_IN_PLACE.contains(&check.as_str());
        match access_method {
            "hnsw" => self.checks.keys().all(known),
            _ => self.checks.keys().all(of_lists),
        }
    }

    /// Whether searches may raise errors, or never end.
    pub fn may_be_searched(&self) -> bool {
        let harmful = |check: &String| !SEEN_FROM_TABLE.contains(&check.as_str());
        !self.checks.keys().any(harmful)
    }

    /// The issue, if there is more wrong than `others` name.
    pub(super) fn issue(&self, index: &IndexInfo, others: &[IndexIssue]) -> Option<IndexIssue> {
        let named = |check: &String| {
            others.iter().any(|issue| match issue {
                IndexIssue::DanglingEdges { .. } => DANGLING.contains(&check.as_str()),
                IndexIssue::DeadEntryPoint { .. } => NO_ENTRY.contains(&check.as_str()),
                _ => false,
            })
        };
        let unnamed = self.checks.keys().any(|check| !named(check));
        unnamed.then(|| IndexIssue::CorruptPage {
            index: index.index_name.clone(),
            breaches: self.count(),
            in_place: self.is_mended_in_place(&index.access_method),
        })
    }

    /// Whether pages could not be read, or not be made sense of.
    pub fn is_unreadable(&self) -> bool {
        self.has(&["page_unreadable", "metapage"])
    }
}

/// Whether an issue is a symptom of damage to pages, which then stands for it.
pub(super) fn explains(issue: &IndexIssue) -> bool {
    matches!(
        issue,
        IndexIssue::DanglingEdges { .. }
            | IndexIssue::DeadEntryPoint { .. }
            | IndexIssue::WrongLevel { .. }
            | IndexIssue::OrphanNodes { .. }
            | IndexIssue::PoorConnectivity { .. }
    )
}

/// Checks the structure of an index, where its operator class is one of pgvector's; see
/// [`hnsw::check`]. `false`: it was not checked.
pub fn examine(
    index: &IndexInfo,
    pages: &mut dyn PageSource,
    memory_limit: usize,
    report: &mut dyn FnMut(Breach),
) -> Result<bool, InspectError> {
    let Some(shape) = &index.shape else {
        return Ok(false);
    };
    let check = match index.access_method.as_str() {
        "hnsw" => hnsw::check,
        _ => ivfflat::check,
    };
    check(pages, shape, memory_limit, report)?;
    Ok(true)
}
