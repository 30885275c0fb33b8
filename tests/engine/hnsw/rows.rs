//! The rows that are drawn.

use std::collections::HashMap;

use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::vector_index::hnsw::inspect;
use ruvector_dag_healing_engine::vector_index::inspection::InspectOptions;

use super::model::{El, Index};
use super::source::{Source, options};

fn draw(index: &Index, sample_rows: usize, seed: u64) -> Vec<HeapTid> {
    let options = InspectOptions {
        sample_rows,
        seed,
        ..options()
    };
    inspect(&mut Source::quiet(index.build().pages), &options)
        .expect("an honest index")
        .sampled_rows
}

/// Ten elements of which one is an orphan, one a ghost, one deleted, and one has three rows.
fn index() -> Index {
    let mut els: Vec<El> = (0..10)
        .map(|i| El::ground(i, &[0, 1, 2, 3, 4, 5, 6, 7]))
        .collect();
    els[3].rows = vec![(3, 1), (3, 2), (3, 3)];
    els[5] = els[5].clone().ghost();
    els[6] = els[6].clone().deleted();
    Index::new(4, els)
}

#[test]
fn every_row_is_as_likely_as_any_other() {
    let index = index();
    let mut hits = HashMap::new();
    for seed in 0..2000 {
        let rows = draw(&index, 4, seed);
        assert_eq!(rows.len(), 4);
        rows.iter()
            .for_each(|row| *hits.entry((row.block, row.offset)).or_insert(0) += 1);
    }
    // 2000 draws of 4 in 10: mean 800, standard deviation 22.
    let expected = [
        (0, 1),
        (1, 1),
        (2, 1),
        (3, 1),
        (3, 2),
        (3, 3),
        (4, 1),
        (7, 1),
        (8, 1),
        (9, 1),
    ];
    assert_eq!(hits.len(), expected.len());
    assert!(
        expected.iter().all(|row| (700..900).contains(&hits[row])),
        "{hits:?}"
    );
}

#[test]
fn the_same_seed_draws_the_same_rows() {
    assert_eq!(draw(&index(), 4, 7), draw(&index(), 4, 7));
    assert_ne!(draw(&index(), 4, 7), draw(&index(), 4, 8));
}

#[test]
fn no_more_rows_are_drawn_than_there_are() {
    assert_eq!(draw(&index(), 1000, 1).len(), 10);
    assert_eq!(draw(&index(), 0, 1), []);
}
