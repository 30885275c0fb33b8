//! How a graph is built.

use super::model::{El, Index, Link};
use super::source::{Source, options};
use ruvector_dag_healing_engine::vector_index::hnsw::{Anatomy, inspect};
use ruvector_dag_healing_engine::vector_index::inspection::InspectOptions;

fn anatomy(index: &Index) -> Anatomy {
    let options = InspectOptions {
        anatomy: true,
        ..options()
    };
    let report = inspect(&mut Source::quiet(index.build().pages), &options).expect("an index");
    report.figures.anatomy.expect("a graph in memory")
}

/// Elements in a ring, each linking to the next.
fn ring(count: usize) -> Index {
    let next = |i: usize| El::ground(i as u32, &[(i + 1) % count]);
    Index::new(2, (0..count).map(next).collect())
}

#[test]
fn a_ring_is_one_component_far_across() {
    let found = anatomy(&ring(100));
    assert_eq!((found.edges, found.giant_component_share), (100, 1.0));
    assert_eq!((found.mean_hops, found.max_hops), (49.5, 99));
    assert_eq!((found.in_degree_median, found.in_degree_max), (1, 1));
    assert_eq!((found.in_degree_gini, found.in_degree_skewness), (0.0, 0.0));
    assert_eq!((found.at_risk, found.below_half_share), (100, 1.0));
    assert_eq!((found.reciprocity, found.entry_in_degree), (0.0, 1));
    assert_eq!(found.pages_per_step, 1.0);
}

#[test]
fn links_to_one_make_a_hub() {
    // Ninety-nine link to the first, which links to the second.
    let to_first = (1..100).map(|i| El::ground(i, &[0]));
    let index = Index::new(
        2,
        std::iter::once(El::ground(0, &[1]))
            .chain(to_first)
            .collect(),
    );
    let found = anatomy(&index);
    assert_eq!(
        (found.in_degree_max, found.top_percent_edge_share),
        (99, 0.99)
    );
    // One has 99 links, one has 1: 2 (99 + 100 · 99) / (100 · 100) − 101 / 100.
    assert!(
        (found.in_degree_gini - 0.9898).abs() < 1e-4,
        "{}",
        found.in_degree_gini
    );
    assert!(found.in_degree_skewness > 9.0);
    assert_eq!(
        (found.giant_component_share, found.reciprocity),
        (0.02, 0.02)
    );
}

#[test]
fn links_that_serve_nothing_are_counted_apart() {
    let mut ghost = El::ground(3, &[0]);
    ghost.rows.clear();
    let elements = vec![
        // Twice to the second, once to itself, once to the one without rows.
        El::ground(0, &[1, 1, 0, 2]),
        El::ground(1, &[0]),
        ghost,
        // On layer 1 to one that is only on the ground.
        El::tall(4, &[&[0], &[1]]),
    ];
    let mut index = Index::new(2, elements);
    index.entry = Some(Link::To(3));
    let found = anatomy(&index);
    assert_eq!(found.edges, 7);
    assert_eq!((found.self_edges, found.lower_level_edges), (1, 1));
    assert_eq!(found.duplicate_edge_ratio, 1.0 / 7.0);
    assert_eq!(found.dead_edge_ratio, 1.0 / 7.0);
    // 0→1 twice, 1→0, 0→0, 0→2, 2→0 are answered; 3→0 is not.
    assert_eq!(found.reciprocity, 6.0 / 7.0);
    assert_eq!(found.below_half_share, 3.0 / 4.0);
}

#[test]
fn layers_follow_their_law_or_do_not() {
    let with_tall = |every: usize| {
        let element = |i: usize| match i % every {
            0 => El::tall(i as u32, &[&[(i + 1) % 400], &[]]),
            _ => El::ground(i as u32, &[(i + 1) % 400]),
        };
        anatomy(&Index::new(4, (0..400).map(element).collect())).layer_law_p
    };
    // A quarter is above the ground, as the law has it, but nothing is higher.
    assert!(with_tall(4) > 1e-12 && with_tall(4) < 0.01);
    assert!(with_tall(100) < 1e-9);
    assert_eq!(anatomy(&ring(3)).layer_law_p, 1.0);
}

#[test]
fn an_empty_index_has_nothing_to_tell() {
    let found = anatomy(&Index::new(16, vec![]));
    assert_eq!(
        (found.edges, found.giant_component_share, found.layer_law_p),
        (0, 0.0, 1.0)
    );
}
