//! What an issue costs, in the figures that a user feels.

use serde::Deserialize;
use serde_json::{Value, json};

use super::root_cause::ctid;
use crate::model::{Finding, IndexIssue, Issue, UnreachableCause};
use crate::vector_index::PAGE_SIZE;
use crate::vector_index::hnsw::HnswFigures;
use crate::vector_index::value::ValueType;

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
        IndexIssue::DeadEntryPoint { .. } => json!({"recall_ceiling": 0.0}),
        IndexIssue::CorruptPage { in_place, .. } => json!({
            "breaches": evidence["damage"]["checks"],
            "consequence": "searches may fail or leave rows out, and writes and vacuum may fail",
            "mended": match in_place {
                true => "in place",
                false => "by a rebuild",
            },
            "advice": format!(
                "SELECT * FROM ruvector_dag_index_check({}, true);",
                literal(&finding.index.index_name)
            ),
        }),
        IndexIssue::WrongLevel { .. } => json!({
            "cost": "some more steps for each search",
            "advice": "the next insert of an element on a higher level mends it",
        }),
        IndexIssue::DistantInsertPage { pages, .. } => json!({
            "pages_per_insert": pages,
            "cost": "each of them is locked and copied while others wait for it",
        }),
        IndexIssue::DuplicateSink { .. } => {
            let mut impact = json!({
                "elements_never_found": figure("orphans_with_rows"),
                "recall_ceiling": ceiling(evidence),
                "advice": leave_out(finding),
            });
            if let Some(recall) = evidence["measured"]["recall"].as_f64() {
                impact["neighbours_missed"] = json!(1.0 - recall);
            }
            impact
        }
        IndexIssue::BornUnreachable { count, cause, .. } => json!({
            "elements_never_found": count,
            "recall_ceiling": ceiling(evidence),
            "advice": match cause {
                UnreachableCause::VariedNorms =>
                    "nothing, if rows with short vectors need not be found; else bring the vectors \
                     to one length and search by cosine distance",
                UnreachableCause::TightClusters =>
                    "build with a larger m and ef_construction; rows that are alike take the links \
                     of one another",
            },
        }),
        IndexIssue::BuiltEmpty { .. } => json!({
            "removable_distortion": 1.0 - evidence["centroid_quality"].as_f64().unwrap_or(1.0),
            "advice": retrain(finding),
        }),
        IndexIssue::UnbalancedClusters { .. } => json!({
            "cost_of_a_probe": evidence["imbalance_factor"],
            "advice": format!(
                "{}\n-- or, in place: SELECT ruvector_dag_repair({}, {});",
                retrain(finding),
                literal(&finding.index.index_name),
                literal(&finding.issue_id())
            ),
        }),
        IndexIssue::StaleTraining { .. } => json!({
            "removable_distortion": 1.0 - evidence["centroid_quality"].as_f64().unwrap_or(1.0),
            "advice": retrain(finding),
        }),
        IndexIssue::LowRecall { recall, target, .. } => json!({
            "neighbours_missed": 1.0 - f64::from(*recall),
            "advice": format!(
                "SELECT * FROM ruvector_dag_tune({}, {target});",
                literal(&finding.index.index_name)
            ),
        }),
        IndexIssue::DeadTuples { share, .. } => json!({"dead_share": share}),
    }
}

/// The index without the rows of a sink, which queries use if they have its condition; what else
/// there is to do, in comments. Of a value that is not written here, the statement that gives it.
fn leave_out(finding: &Finding) -> String {
    let index = &finding.index;
    let sink = &finding.evidence["duplicate_sink"];
    let (_, method) = index.definition.split_once(" USING ").unwrap_or_default();
    // An index that is partial already has one more condition.
    let and = match method.contains(" WHERE ") {
        true => "AND",
        false => "WHERE",
    };
    let (table, key) = (&index.table_name, &index.key);
    let create = format!("CREATE INDEX CONCURRENTLY ON {table} USING {method} {and} {key} <> ");
    let statement = match zero(finding).filter(|_| sink["is_zero"].as_bool() == Some(true)) {
        Some(zero) => format!("{create}{zero}; --"),
        None => format!(
            "SELECT format({} || '%L', {key}) FROM {table} WHERE ctid = '{}'; -- gives the statement;",
            literal(&create.replace('%', "%%")),
            ctid(sink)
        ),
    };
    format!(
        "{statement} queries use it that have the same condition\n\
         -- once they have it: DROP INDEX CONCURRENTLY {};\n\
         -- where they cannot: SELECT ruvector_dag_repair({}, {});",
        index.index_name,
        literal(&index.index_name),
        literal(&finding.issue_id()),
    )
}

/// The vector without length, of types that have short names for it.
fn zero(finding: &Finding) -> Option<String> {
    let dimensions = evidence_of(finding, "dimensions");
    let shape = finding.index.shape.as_ref()?;
    let zeroes = |name| format!("array_fill(0::real, ARRAY[{dimensions}])::{name}");
    match shape.value_type {
        ValueType::Vector => Some(zeroes("vector")),
        ValueType::HalfVec => Some(zeroes("halfvec")),
        ValueType::SparseVec => Some(format!("'{{}}/{dimensions}'::sparsevec")),
        ValueType::Bit => None,
    }
}

fn evidence_of(finding: &Finding, key: &str) -> u64 {
    finding.evidence[key].as_u64().unwrap_or_default()
}

/// A name as SQL's string literals have it.
fn literal(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
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
    let figures = HnswFigures::deserialize(evidence).ok();
    json!(figures.map(|figures| figures.reachable()))
}
