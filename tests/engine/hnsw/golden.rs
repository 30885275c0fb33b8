//! Pages that a real pgvector wrote.

use ruvector_dag_healing_engine::vector_index::PAGE_SIZE;

use super::source::look;

/// pgvector 0.8.5 on PostgreSQL 18: 60 rows of 3 dimensions, m = 2, ef_construction = 4; a
/// quarter deleted, vacuumed, 5 other rows and 13 equal ones inserted. The figures are those of
/// an independent reader of the file.
#[test]
fn figures_of_a_real_index() {
    let file = include_bytes!("../../data/pages/hnsw-0.8.5.bin");
    let pages = file
        .chunks_exact(PAGE_SIZE)
        .map(|page| page.try_into().expect("a page"))
        .collect();
    let report = look(pages).expect("a real index");
    let found = report.figures;
    assert_eq!(
        (
            found.m,
            found.ef_construction,
            found.dimensions,
            found.pages
        ),
        (2, 4, 3, 3)
    );
    assert_eq!(
        (found.elements, found.live_elements, found.deleted_elements),
        (60, 54, 6)
    );
    assert_eq!((found.heap_tids, found.ghosts), (63, 0));
    assert_eq!(found.layer_distribution, [23, 16, 5, 5, 1, 2, 0, 2]);
    assert_eq!(
        (
            found.orphan_count,
            found.zero_in_degree,
            found.dangling_edges
        ),
        (1, 1, 0)
    );
    assert_eq!(found.entry_point_quality, 1.0);
    assert_eq!(report.notices, Vec::<String>::new());
}
