//! What an index is born with, and what it then explains.

use super::{codes, look};
use ruvector_dag_healing_engine::detection::index_health::findings;
use ruvector_dag_healing_engine::detection::recall_watch::{RecallSample, RecallWatch};
use ruvector_dag_healing_engine::diagnosis::diagnose;
use ruvector_dag_healing_engine::model::IndexHealthCheck;
use ruvector_dag_healing_engine::recall::interval::QueryHits;
use ruvector_dag_healing_engine::repair::strategy::registry;
use ruvector_dag_healing_engine::vector_index::hnsw::{DuplicateSink, HnswFigures, Origin};
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::ValueType;
use serde_json::Value;

const NONE: [&str; 0] = [];

fn sink(figures: &mut HnswFigures, elements: u64, edge_share: f32) {
    figures.duplicate_sink = Some(DuplicateSink {
        elements,
        rows: 10 * elements,
        example_row: (7, 3),
        is_zero: true,
        edge_share,
        key: 0,
    });
}

fn orphans(figures: &mut HnswFigures, count: u64) {
    figures.orphan_count = count;
    figures.orphans_with_rows = count;
    figures.connectivity_score = 1.0 - count as f32 / figures.live_elements as f32;
}

fn origin(figures: &mut HnswFigures, norm_rank: f32, link_tightness: f32) {
    orphans(figures, 500);
    figures.origin = Some(Origin {
        norm_rank,
        link_tightness,
    });
}

fn compared_by(mut look: IndexHealthCheck, metric: Metric) -> IndexHealthCheck {
    look.index.shape = Some(IndexShape {
        value_type: ValueType::Vector,
        metric,
        normalized: false,
        dimensions: Some(384),
        option: Some(16),
    });
    look
}

#[test]
fn a_sink_stands_for_what_cannot_be_reached() {
    let with = |elements, share, missed| {
        look(|f| {
            sink(f, elements, share);
            orphans(f, missed);
        })
    };
    assert_eq!(codes(&with(50, 0.5, 5_000)), ["duplicate_sink"]);
    assert_eq!(
        codes(&with(50, 0.5, 0)),
        ["duplicate_sink"],
        "near it searches end"
    );
    assert_eq!(
        codes(&with(50, 0.05, 500)),
        ["orphan_nodes"],
        "few links lead there"
    );
    assert_eq!(
        codes(&with(5_000, 0.5, 0)),
        NONE,
        "as many links as elements"
    );
}

#[test]
fn the_cure_of_a_sink_is_an_index_without_it() {
    let with = |definition: &str, is_zero| {
        let mut look = compared_by(look(|f| sink(f, 50, 0.5)), Metric::L2);
        look.index.definition = definition.into();
        if let Some(sink) = look.hnsw.as_mut().and_then(|f| f.duplicate_sink.as_mut()) {
            sink.is_zero = is_zero;
        }
        let finding = findings(&look).remove(0);
        let diagnosis = diagnose(finding, &registry());
        assert_eq!(diagnosis.recommended_repair, "topology_repair");
        diagnosis.impact["advice"]
            .as_str()
            .expect("advice")
            .to_owned()
    };
    let plain = "CREATE INDEX i ON public.documents USING hnsw (embedding vector_l2_ops)";
    let advice = with(plain, true);
    let lines: Vec<&str> = advice.lines().collect();
    assert_eq!(
        lines[0],
        "CREATE INDEX CONCURRENTLY ON public.documents USING hnsw (embedding vector_l2_ops) WHERE \
         embedding <> array_fill(0::real, ARRAY[384])::vector; -- queries use it that have the \
         same condition"
    );
    assert!(
        lines[1].starts_with("-- once they have it: DROP INDEX CONCURRENTLY "),
        "{advice}"
    );
    assert!(
        lines[2].contains("SELECT ruvector_dag_repair('") && lines[2].contains("'duplicate_sink-"),
        "{advice}"
    );
    // Of any other value the statement that gives it is given.
    let partial = format!("{plain} WHERE (lang ~~ 'e%'::text)");
    let advice = with(&partial, false);
    assert!(
        advice.starts_with("SELECT format('CREATE INDEX CONCURRENTLY ON public.documents")
            && advice.contains("(lang ~~ ''e%%''::text) AND embedding <> ' || '%L', embedding)")
            && advice.contains("FROM public.documents WHERE ctid = '(7,3)';"),
        "{advice}"
    );
}

#[test]
fn what_a_sink_was_measured_to_cost_is_said() {
    let mut look = compared_by(look(|f| sink(f, 50, 0.5)), Metric::L2);
    let impact = |look: &IndexHealthCheck| diagnose(findings(look).remove(0), &registry());
    assert_eq!(impact(&look).impact["neighbours_missed"], Value::Null);
    let hits = QueryHits { hits: 2, of: 10 };
    let sample = RecallSample {
        hits: vec![hits; 50],
        search: "hnsw.ef_search = 40".into(),
        ..RecallSample::default()
    };
    look.recall = Some(RecallWatch::after(None, &look.index, &sample, 0.95, 0));
    let said = impact(&look);
    assert_eq!(said.impact["neighbours_missed"], 0.8);
    assert!(
        said.root_cause
            .contains("20 % of the neighbours are found with hnsw.ef_search = 40"),
        "{}",
        said.root_cause
    );
    // It was another file.
    look.index.relfilenode += 1;
    assert_eq!(impact(&look).impact["neighbours_missed"], Value::Null);
}

#[test]
fn short_vectors_explain_orphans_only_by_inner_product() {
    let short = || look(|f| origin(f, 0.9, 0.7));
    assert_eq!(
        codes(&compared_by(short(), Metric::InnerProduct)),
        ["born_unreachable"]
    );
    assert_eq!(codes(&compared_by(short(), Metric::L2)), ["orphan_nodes"]);
    let any_length = look(|f| origin(f, 0.55, 0.7));
    assert_eq!(
        codes(&compared_by(any_length, Metric::InnerProduct)),
        ["orphan_nodes"]
    );
}

#[test]
fn tight_clusters_explain_orphans_unless_rows_have_gone() {
    let fresh = look(|f| origin(f, 0.5, 0.05));
    assert_eq!(codes(&fresh), ["born_unreachable"]);
    let churned = look(|f| {
        origin(f, 0.5, 0.05);
        f.ghosts = 500;
    });
    assert_eq!(codes(&churned), ["orphan_nodes"]);
    let few = look(|f| {
        origin(f, 0.5, 0.05);
        orphans(f, 5);
    });
    assert_eq!(codes(&few), NONE);
}

#[test]
fn a_dead_entry_point_stands_for_everything_behind_it() {
    let dead = look(|f| {
        orphans(f, f.live_elements);
        f.entry_point_quality = 0.0;
        f.entry_level = None;
    });
    assert_eq!(codes(&dead), ["dead_entry_point"]);
    let low = look(|f| f.layer_distribution = vec![f.live_elements - 1, 1]);
    assert_eq!(codes(&low), ["wrong_level"]);
}
