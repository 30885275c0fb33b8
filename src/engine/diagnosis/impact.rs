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
        IndexIssue::DanglingEdges { count, .. } => {
            json!({"edges_that_fail": count, "recall_ceiling": ceiling(evidence)})
        }
        IndexIssue::UnbalancedClusters { .. } => json!({
            "cost_of_a_probe": evidence["imbalance_factor"],
            "advice": retrain(finding),
        }),
        IndexIssue::StaleTraining { .. } => json!({
            "removable_distortion": 1.0 - evidence["centroid_quality"].as_f64().unwrap_or(1.0),
            "advice": retrain(finding),
        }),
        IndexIssue::DeadTuples { share, .. } => json!({"dead_share": share}),
    }
}

/// What trains lists anew, and how many there should be.
fn retrain(finding: &Finding) -> String {
    format!(
        "REINDEX INDEX CONCURRENTLY {}; -- {} lists are recommended for as many rows",
        finding.index.index_name, finding.evidence["recommended_lists"]
    )
}

/// No search can find more than what it can reach.
fn ceiling(evidence: &Value) -> Value {
    evidence["connectivity_score"].clone()
}
