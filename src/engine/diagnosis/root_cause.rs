//! The cause of an issue, in a sentence, from the figures that show it.

use serde_json::Value;

use crate::model::{Finding, IndexIssue, Issue, UnreachableCause};

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
        IndexIssue::DeadEntryPoint { .. } => {
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
        IndexIssue::DanglingEdges { count, .. } => dangling(*count),
        IndexIssue::CorruptPage { breaches, .. } => {
            let first = finding.evidence["damage"]["first"][0].as_str();
            let by = match finding.evidence["dangling_edges"].as_u64() {
                Some(count) if count > 0 => dangling(count),
                _ => "storage, a copy of files made while the server ran, or a bug of pgvector makes \
                      them"
                    .into(),
            };
            format!(
                "{breaches} breaches of what pgvector's pages must be like, such as: {}; {by}",
                first.unwrap_or_default()
            )
        }
        IndexIssue::WrongLevel { entry, highest, .. } => format!(
            "searches start on level {entry} of {highest}: a server stopped between an insert and \
             its change of the entry point"
        ),
        IndexIssue::DistantInsertPage { pages, .. } => format!(
            "inserts go through {pages:.0} pages before they find room: a vacuum had them begin at \
             the first of {} deleted elements, whose places are too small for what is inserted now \
             (issue 1025 of pgvector)",
            figure("deleted_elements")
        ),
        IndexIssue::DuplicateSink { rows, .. } => {
            let sink = &finding.evidence["duplicate_sink"];
            let value = match sink["is_zero"].as_bool() {
                Some(true) => "the zero vector".into(),
                _ => format!("the value of the row at ctid {}", ctid(sink)),
            };
            let edges = sink["edge_share"].as_f64().unwrap_or_default() * 100.0;
            let measured = &finding.evidence["measured"];
            let found = measured["recall"].as_f64().map_or(String::new(), |recall| {
                let search = measured["search"].as_str().unwrap_or_default();
                format!(
                    " ({:.0} % of the neighbours are found with {search})",
                    recall * 100.0
                )
            });
            format!(
                "{rows} rows share {value}: they stand in {} elements, {edges:.0} % of all links \
                 lead to these, and searches end among them{found}; a rebuild gives the same graph",
                sink["elements"]
            )
        }
        IndexIssue::BornUnreachable {
            count,
            cause: UnreachableCause::VariedNorms,
            ..
        } => format!(
            "by inner product the {count} elements that cannot be reached are hardly ever \
             anybody's nearest, because their vectors are short; a rebuild leaves them out again"
        ),
        IndexIssue::BornUnreachable {
            count,
            cause: UnreachableCause::TightClusters,
            ..
        } => format!(
            "rows lie in tight clusters, between which pruning keeps hardly any links: {count} \
             elements cannot be reached, and a rebuild leaves others out"
        ),
        IndexIssue::BuiltEmpty { lists, .. } => format!(
            "{lists} of {} lists have centres drawn at random: the index was made when the table \
             was empty or had fewer rows than lists",
            figure("lists")
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
        IndexIssue::LowRecall { recall, target, .. } => format!(
            "searches with {} find {:.1} % of the true neighbours, {:.1} % are wanted; nothing is \
             seen to be wrong with the index itself",
            finding.evidence["search"].as_str().unwrap_or_default(),
            recall * 100.0,
            target * 100.0
        ),
        IndexIssue::DeadTuples { .. } => {
            "rows were deleted or updated faster than vacuum took them out of the index".into()
        }
    }
}

/// Where the example of a sink's rows is.
pub(super) fn ctid(sink: &Value) -> String {
    let row = &sink["example_row"];
    format!("({},{})", row[0], row[1])
}

/// What makes edges that lead nowhere.
fn dangling(count: u64) -> String {
    format!(
        "{count} edges lead to elements that are gone: pgvector before 0.8.4 could delete an \
         element while an insert linked to it"
    )
}
