//! What an issue costs, in the figures that a user feels.

use serde_json::{Value, json};

use crate::model::{Finding, IndexIssue, Issue};
use crate::vector_index::PAGE_SIZE;

/// Assesses the impact.
pub fn assess(finding: &Finding) -> Value {
    let Issue::Index(issue) = &finding.issue;
    let evidence = &finding.evidence;
    let figure = |key: &str| evidence[key].as_u64().unwrap_or_default();
    let page = PAGE_SIZE as u64;
    match issue {
        IndexIssue::Fragmentation { .. } => {
            let waste = figure("pages").saturating_sub(figure("predicted_pages"));
            json!({"wasted_bytes": waste * page})
        }
        IndexIssue::OrphanNodes { count, .. } => {
            json!({"elements_never_found": count, "recall_ceiling": ceiling(evidence)})
        }
        IndexIssue::PoorConnectivity { .. } => json!({"recall_ceiling": ceiling(evidence)}),
        IndexIssue::InvalidIndex {
            twin: Some(twin), ..
        } => json!({
            "wasted_bytes": finding.index.blocks * page,
            "advice": format!(
                "DROP INDEX CONCURRENTLY {}; -- {twin} is valid and the same",
                finding.index.index_name
            ),
        }),
        IndexIssue::InvalidIndex { .. } => json!({
            "queries": "sequential scan, unless another index serves them",
            "wasted_bytes": finding.index.blocks * page,
        }),
        IndexIssue::DeadTuples { share, .. } => json!({"dead_share": share}),
    }
}

/// No search can find more than what it can reach.
fn ceiling(evidence: &Value) -> Value {
    evidence["connectivity_score"].clone()
}
