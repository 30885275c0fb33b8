//! The loop without a server: a world in memory with a clock of its own.

// What an index is born with.
mod born;
// A replacement compared with the index in place, query by query.
mod comparison;
// Detect → file → repair → settle, cycle after cycle.
mod cycle;
// What is wrong with the structure.
mod damage;
// What speaks against starting a repair.
mod guards;
// A graph mended in place: when, in which steps, kept or taken back.
mod in_place;
// Lists mended in place, or rebuilt, or left alone.
mod lists;
// Which figures are issues, when a look is due, what is most pressing.
mod issues;
// Two indexes compared by what searches return.
mod probe;
// Recall measured in the background, and too low.
mod recall_watch;
// Closing what a crash left open.
mod recovery;
// Steps taken, and taken back.
mod runner;
// The maintenance window and the grace period.
mod settings;
// Search settings found, made, and taken back.
mod tuning;
// Kept or undone.
mod validation;
// The world in memory.
pub mod world;

use ruvector_dag_healing_engine::detection::index_health::findings;
use ruvector_dag_healing_engine::model::{IndexHealthCheck, IndexInfo, IndexIssue, Issue};
use ruvector_dag_healing_engine::vector_index::hnsw::HnswFigures;

/// Figures of a healthy index of this many elements.
pub fn healthy(elements: u64) -> HnswFigures {
    HnswFigures {
        connectivity_score: 1.0,
        layer_distribution: vec![elements],
        entry_point_quality: 1.0,
        orphan_count: 0,
        orphans_with_rows: 0,
        fragmentation: 0.0,
        elements,
        live_elements: elements,
        deleted_elements: 0,
        ghosts: 0,
        heap_tids: elements,
        zero_in_degree: 0,
        low_degree: 0,
        mean_degree_fill: 1.0,
        dangling_edges: 0,
        pages: elements / 4 + 1,
        predicted_pages: elements / 4 + 1,
        pages_per_insert: 1.0,
        sampled: false,
        m: 16,
        ef_construction: 64,
        dimensions: 384,
        entry_level: Some(0),
        duplicate_sink: None,
        anatomy: None,
        origin: None,
    }
}

pub fn index(name: &str) -> IndexInfo {
    IndexInfo {
        index_oid: 100,
        table_oid: 10,
        index_name: name.into(),
        table_name: "public.documents".into(),
        definition: format!("CREATE INDEX {name} ON public.documents USING hnsw (embedding)"),
        access_method: "hnsw".into(),
        key: "embedding".into(),
        relfilenode: 1,
        valid: true,
        under_construction: false,
        blocks: 1_000,
        modifications: 0,
        vacuums: 0,
        live_rows: 5_000,
        dead_rows: 0,
        valid_twin: None,
        shape: None,
    }
}

fn fragmentation(level: f32) -> Issue {
    let index = "i".into();
    Issue::Index(IndexIssue::Fragmentation { index, level })
}

/// A look at an index of 10,000 elements, healthy but for `change`.
fn look(change: impl Fn(&mut HnswFigures)) -> IndexHealthCheck {
    let mut figures = healthy(10_000);
    change(&mut figures);
    IndexHealthCheck {
        hnsw: Some(figures),
        ..IndexHealthCheck::new(index("i"), 0)
    }
}

/// The types of its issues.
fn codes(look: &IndexHealthCheck) -> Vec<&'static str> {
    findings(look)
        .iter()
        .map(|finding| finding.issue.code())
        .collect()
}
