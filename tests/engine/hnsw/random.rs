//! Any graph at all against the slow reference.

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::hnsw::HnswReport;

use super::model::{El, Index, Link, Tuple};
use super::reference::{Expected, expected};
use super::source::report;

/// A slot: mostly a link to some element of the index, seldom a hole or a place where none is.
fn link() -> impl Strategy<Value = Link> {
    let nowhere = [
        (0, 1),
        (1_000_000, 1),
        (1, 127),
        (1, 128),
        (u32::MAX, 1),
        (33_554_431, 127),
    ];
    prop_oneof![
        40 => any::<u16>().prop_map(|i| Link::To(i.into())),
        1 => Just(Link::Hole),
        1 => prop::sample::select(nowhere.to_vec()).prop_map(Link::At),
    ]
}

fn tuple() -> impl Strategy<Value = Tuple> {
    prop_oneof![
        30 => Just(Tuple::Near),
        5 => Just(Tuple::After),
        5 => Just(Tuple::Before),
        1 => Just(Tuple::OtherVersion),
        1 => Just(Tuple::OtherCount),
        1 => Just(Tuple::Missing),
    ]
}

fn element(m: u16) -> impl Strategy<Value = El> {
    let level = prop_oneof![12 => Just(0_u8), 4 => Just(1), 2 => Just(2), 1 => Just(3)];
    let m = usize::from(m);
    level.prop_flat_map(move |level| {
        let mut layers = vec![prop::collection::vec(link(), 0..=2 * m)];
        layers.extend((0..level).map(|_| prop::collection::vec(link(), 0..=m)));
        let state = prop_oneof![6 => Just(0_u8), 1 => Just(1), 1 => Just(2)];
        let value = prop_oneof![Just(8_usize), Just(24), Just(500), Just(3000)];
        (layers, state, tuple(), value, 1..10_u16).prop_map(
            move |(layers, state, tuple, value, rows)| {
                let mut el = El::ground(0, &[]);
                (el.level, el.layers, el.tuple, el.value) = (level, layers, tuple, value);
                el.rows = (1..=rows).map(|offset| (7, offset)).collect();
                match state {
                    1 => el.deleted(),
                    2 => el.ghost(),
                    _ => el,
                }
            },
        )
    })
}

/// An index of at most `size` elements.
pub fn index(size: usize) -> impl Strategy<Value = Index> {
    prop_oneof![Just(2_u16), Just(3), Just(6)].prop_flat_map(move |m| {
        (
            prop::collection::vec(element(m), 0..size),
            any::<prop::sample::Index>(),
            0..20_u8,
            1..9_usize,
        )
            .prop_map(move |(mut elements, entry, no_entry, per_page)| {
                let count = elements.len();
                for link in elements
                    .iter_mut()
                    .flat_map(|el| el.layers.iter_mut().flatten())
                {
                    if let Link::To(i) = link {
                        *i %= count;
                    }
                }
                // Mostly one of the highest elements, as pgvector has it.
                let mut order: Vec<usize> = (0..count).collect();
                order.sort_by_key(|&i| (elements[i].deleted, std::cmp::Reverse(elements[i].level)));
                let entry = match count {
                    0 => None,
                    _ if no_entry == 0 => None,
                    _ if no_entry < 4 => Some(Link::To(entry.index(count))),
                    _ => Some(Link::To(order[0])),
                };
                Index {
                    m,
                    elements,
                    entry,
                    per_page,
                }
            })
    })
}

/// What is found of an index with ample memory.
pub fn found(index: &Index) -> Expected {
    found_in(report(index))
}

/// The part of a report that the reference has too.
pub fn found_in(report: HnswReport) -> Expected {
    let figures = report.figures;
    assert_eq!(
        figures.deleted_elements,
        figures.elements - figures.live_elements
    );
    Expected {
        connectivity_score: figures.connectivity_score,
        layer_distribution: figures.layer_distribution,
        entry_point_quality: figures.entry_point_quality,
        orphan_count: figures.orphan_count,
        orphans_with_rows: figures.orphans_with_rows,
        elements: figures.elements,
        live_elements: figures.live_elements,
        ghosts: figures.ghosts,
        heap_tids: figures.heap_tids,
        zero_in_degree: figures.zero_in_degree,
        low_degree: figures.low_degree,
        mean_degree_fill: figures.mean_degree_fill,
        dangling_edges: figures.dangling_edges,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn figures_agree_with_the_reference(index in index(40)) {
        prop_assert_eq!(found(&index), expected(&index));
    }
}
