//! The cause of an issue, in a sentence, from the figures that show it.

use crate::model::{Finding, IndexIssue, Issue};

/// Names the cause.
pub fn name_cause(finding: &Finding) -> String {
    let Issue::Index(issue) = &finding.issue;
    let figure = |key: &str| finding.evidence[key].as_u64().unwrap_or_default();
    match issue {
        IndexIssue::Fragmentation { .. } => format!(
            "{} of {} elements have no rows any more: pgvector reuses their slots for new rows but \
             never gives pages back",
            figure("deleted_elements") + figure("ghosts"),
            figure("elements")
        ),
        IndexIssue::OrphanNodes { .. } => format!(
            "{} of {} live elements lost their last incoming edge, or hang together only among \
             themselves: pruning and vacuum drop edges without looking at what they cut off",
            figure("orphan_count"),
            figure("live_elements")
        ),
        IndexIssue::PoorConnectivity { .. } if finding.evidence["entry_point_quality"] == 0.0 => {
            "the entry point of the graph is missing or deleted, so searches start nowhere".into()
        }
        IndexIssue::PoorConnectivity { .. } => {
            "the graph has fallen apart: searches from the entry point see only a part of it".into()
        }
        IndexIssue::InvalidIndex {
            twin: Some(twin), ..
        } => format!(
            "a concurrent build did not finish and left this copy of {twin} behind; every write \
             maintains it and no query uses it"
        ),
        IndexIssue::InvalidIndex { .. } => {
            "a concurrent build was cancelled or failed: writes may maintain the index, no query \
             uses it"
                .into()
        }
        IndexIssue::DanglingEdges { count, .. } => format!(
            "{count} edges lead to elements that are gone: pgvector before 0.8.4 could delete an \
             element while an insert linked to it"
        ),
        IndexIssue::UnbalancedClusters { .. } => format!(
            "{} of {} entries are in one list of {}: the lists were trained on other data, or on \
             too little, or many rows are alike",
            figure("largest_cluster"),
            figure("vectors"),
            figure("lists")
        ),
        IndexIssue::StaleTraining { hours, .. } => format!(
            "the rows have moved away from where they were when the lists were trained, at least \
             {hours:.0} hours ago"
        ),
        IndexIssue::DeadTuples { .. } => {
            "rows were deleted or updated faster than vacuum took them out of the index".into()
        }
    }
}
