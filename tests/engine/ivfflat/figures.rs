//! Figures against their definitions, and any bytes at all.

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::PAGE_SIZE;
use ruvector_dag_healing_engine::vector_index::inspection::InspectOptions;
use ruvector_dag_healing_engine::vector_index::ivfflat::{
    IvfflatFigures, IvfflatReport, chains_end, check, entries, inspect,
};
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::ValueType;

use super::model::{Bytes, Index, Source, page, shape};

fn within(pages: Vec<Bytes>, metric: Metric, memory_limit: usize) -> IvfflatReport {
    let options = InspectOptions {
        memory_limit,
        ..InspectOptions::default()
    };
    inspect(&mut Source(pages), &shape(metric), &options).expect("an honest index")
}

fn figures(index: &Index) -> IvfflatFigures {
    within(index.pages(), Metric::L2, 1 << 20).figures
}

fn two_lists() -> Index {
    Index {
        centers: vec![vec![0.0, 0.0], vec![10.0, 0.0]],
        members: vec![
            vec![
                vec![1.0, 0.0],
                vec![-1.0, 0.0],
                vec![0.0, 1.0],
                vec![0.0, -1.0],
            ],
            vec![vec![12.0, 1.0], vec![12.0, -1.0]],
        ],
        per_page: 3,
        short: true,
    }
}

#[test]
fn every_figure_by_hand() {
    let found = figures(&two_lists());
    assert_eq!(
        (found.lists, found.vectors, found.largest_cluster),
        (2, 6, 4)
    );
    assert_eq!(
        (found.empty_clusters, found.pages, found.predicted_pages),
        (0, 5, 4)
    );
    // Sizes 4 and 2: mean 3, standard deviation 1.
    assert!((found.cluster_balance - 1.0 / 3.0).abs() < 1e-6);
    assert!((found.imbalance_factor - 2.0 * 20.0 / 36.0).abs() < 1e-6);
    assert!((found.gini - 1.0 / 6.0).abs() < 1e-6);
    // The first list costs 4 and its centre is right; the second costs 2 · 5, of which moving
    // its centre by 2 removes 2 · 4.
    assert!((found.centroid_quality - (1.0 - 8.0 / 14.0)).abs() < 1e-6);
    assert!((found.max_displacement - (8.0_f32 / 10.0).sqrt()).abs() < 1e-6);
    assert_eq!(found.recommended_lists, 1);
}

#[test]
fn a_real_index_is_sound_and_its_figures_are_those_of_an_independent_reader() {
    // pgvector 0.8.5 on PostgreSQL 18: 90 rows, a quarter deleted, vacuumed, 21 inserted.
    let file = include_bytes!("../../data/pages/ivfflat-0.8.5.bin");
    let pages: Vec<Bytes> = file
        .chunks_exact(PAGE_SIZE)
        .map(|page| page.try_into().expect("a page"))
        .collect();
    let found = within(pages.clone(), Metric::L2, 1 << 20).figures;
    assert_eq!((found.lists, found.vectors, found.dimensions), (3, 89, 3));
    assert_eq!((found.pages, found.empty_clusters), (5, 0));
    let shape = IndexShape {
        dimensions: Some(3),
        option: Some(3),
        ..shape(Metric::L2)
    };
    for memory_limit in [1 << 20, 0] {
        let mut breaches = Vec::new();
        check(&mut Source(pages.clone()), &shape, memory_limit, &mut |b| {
            breaches.push(b)
        })
        .expect("a real index");
        assert_eq!(breaches, []);
    }
    let mut rows = 0;
    entries(&mut Source(pages), ValueType::Vector, &mut |_, _, value| {
        assert!(value.is_some());
        rows += 1;
    })
    .expect("a real index");
    assert_eq!(rows, 89);
}

#[test]
fn directions_count_where_the_operator_class_compares_them() {
    let index = Index {
        centers: vec![vec![1.0, 0.0]],
        members: vec![vec![vec![5.0, 0.0], vec![0.1, 0.0]]],
        per_page: 9,
        short: true,
    };
    let quality = |metric| {
        within(index.pages(), metric, 1 << 20)
            .figures
            .centroid_quality
    };
    assert_eq!(quality(Metric::Cosine), 1.0);
    assert_eq!(quality(Metric::InnerProduct), 1.0);
    assert!(quality(Metric::L2) < 0.9);
}

#[test]
fn an_empty_index_is_healthy() {
    let index = Index {
        centers: vec![vec![0.5, 0.5]; 3],
        members: vec![Vec::new(); 3],
        per_page: 3,
        short: true,
    };
    let found = figures(&index);
    assert_eq!((found.vectors, found.empty_clusters), (0, 3));
    assert_eq!((found.cluster_balance, found.imbalance_factor), (0.0, 1.0));
    assert_eq!((found.centroid_quality, found.fragmentation), (1.0, 0.0));
}

#[test]
fn compressed_values_are_read() {
    // pglz: a byte as it is, then 7 before it; `PGLZ` of 2 × (dim 1, value 0.0) is zeros.
    let plain = [1, 0, 0, 0, 0, 0, 0, 0];
    let pglz = [0b0001_0000, 1, 0, 0, 0, 0x01, 0x01];
    let lz4 = [0x80, 1, 0, 0, 0, 0, 0, 0, 0];
    for (method, packed) in [(0_u32, &pglz[..]), (1, &lz4[..])] {
        let raw = plain.len() as u32 | method << 30;
        let word = (packed.len() as u32 + 8) << 2 | 2;
        let head = [0, 0, 0, 0, 1, 0, 0, 0x40];
        let entry = [&head[..], &word.to_le_bytes(), &raw.to_le_bytes(), packed].concat();
        let mut pages = Index {
            centers: vec![vec![3.0]],
            members: vec![Vec::new()],
            per_page: 1,
            short: true,
        }
        .pages();
        pages[2] = page(&[entry], u32::MAX);
        let report = within(pages, Metric::L2, 1 << 20);
        assert_eq!(report.notices, [""; 0], "method {method}");
        assert_eq!(
            report.figures.centroid_quality, 0.0,
            "all of 3² can be removed"
        );
    }
}

#[test]
fn a_centre_that_claims_more_dimensions_than_it_has_components_is_none() {
    let mut pages = two_lists().pages();
    // A sparse vector of a billion dimensions, none of them with a component.
    let value = [1_000_000_000_u32, 0, 0].map(u32::to_le_bytes).concat();
    let word = ((value.len() as u32 + 4) << 2).to_le_bytes();
    let list = [&[0xFF; 8][..], &word, &value].concat();
    pages[1] = page(&[list], u32::MAX);
    let sparse = IndexShape {
        value_type: ValueType::SparseVec,
        ..shape(Metric::L2)
    };
    let report = inspect(&mut Source(pages), &sparse, &InspectOptions::default());
    let notices = report.expect("figures").notices;
    assert!(notices.iter().any(|n| n.contains('1')), "{notices:?}");
}

#[test]
fn chains_that_lead_back_end() {
    let mut pages = two_lists().pages();
    pages[1][8184..8188].copy_from_slice(&1_u32.to_le_bytes());
    pages[3][8184..8188].copy_from_slice(&2_u32.to_le_bytes());
    let report = within(pages, Metric::L2, 1 << 20);
    assert_eq!(report.figures.vectors, 6);
}

#[test]
fn chains_that_lead_back_and_on_are_followed_to_their_end() {
    let members = |list: usize| (0..40).map(|nth| vec![(100 * list + nth) as f32]).collect();
    let index = Index {
        centers: (0..2)
            .map(|list| vec![(100 * list) as f32 + 20.0])
            .collect(),
        members: (0..2).map(members).collect(),
        per_page: 8,
        short: false,
    };
    // Five pages of each list: 2 to 6, and 7 to 11.
    let mut pages = index.pages();
    let mut lead = |from: usize, to: u32| {
        pages[from][PAGE_SIZE - 8..PAGE_SIZE - 4].copy_from_slice(&to.to_le_bytes());
    };
    for chain in [[2, 6, 4, 5, 3], [7, 11, 10, 9, 8]] {
        for pair in chain.windows(2) {
            lead(pair[0], pair[1] as u32);
        }
        lead(chain[4], u32::MAX);
    }
    assert_eq!(chains_end(&mut Source(pages.clone())), Ok(()));
    let report = within(pages.clone(), Metric::L2, 1 << 20);
    assert_eq!(report.figures.list_sizes, [40; 3]);
    assert_eq!(report.figures.vectors, 80);
    check(
        &mut Source(pages.clone()),
        &shape(Metric::L2),
        0,
        &mut |breach| {
            panic!("{breach:?}");
        },
    )
    .expect("pages");
    let mut rows = 0;
    entries(&mut Source(pages), ValueType::Vector, &mut |_, _, _| {
        rows += 1
    })
    .expect("pages");
    assert_eq!(rows, 80);
}

#[test]
fn a_search_is_begun_only_where_it_ends() {
    let whole = two_lists().pages();
    assert_eq!(chains_end(&mut Source(whole.clone())), Ok(()));
    for block in 1..whole.len() {
        for next in [1, block as u32, whole.len() as u32, 1_000_000] {
            let mut pages = whole.clone();
            pages[block][PAGE_SIZE - 8..PAGE_SIZE - 4].copy_from_slice(&next.to_le_bytes());
            chains_end(&mut Source(pages)).expect_err("a chain that leads astray");
        }
    }
}

#[test]
fn lists_that_share_pages_end_unless_they_lead_to_one_another() {
    let lead = |pages: &mut Vec<[u8; PAGE_SIZE]>, from: usize, to: u32| {
        pages[from][PAGE_SIZE - 8..PAGE_SIZE - 4].copy_from_slice(&to.to_le_bytes());
    };
    // Each has a page of its own and leads to that of the other.
    let mut pages = two_lists().pages();
    let report = within(pages.clone(), Metric::L2, 1 << 20).figures;
    let (first, second) = (2, pages.len() - 1);
    lead(&mut pages, first, second as u32);
    assert_eq!(chains_end(&mut Source(pages.clone())), Ok(()));
    assert!(within(pages.clone(), Metric::L2, 1 << 20).figures.vectors <= report.vectors);
    lead(&mut pages, second, first as u32);
    chains_end(&mut Source(pages)).expect_err("a search that does not end");
}

fn index() -> impl Strategy<Value = Index> {
    let member = || prop::collection::vec(-4.0_f32..4.0, 3);
    let list = (member(), prop::collection::vec(member(), 0..9));
    (prop::collection::vec(list, 1..7), 1_usize..5, any::<bool>()).prop_map(
        |(lists, per_page, short)| {
            let (centers, members) = lists.into_iter().unzip();
            Index {
                centers,
                members,
                per_page,
                short,
            }
        },
    )
}

/// By definition, distance by distance.
fn quality(index: &Index) -> f64 {
    let apart =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
    let wide = |v: &Vec<f32>| -> Vec<f64> { v.iter().map(|&x| f64::from(x)).collect() };
    let (mut whole, mut removable) = (0.0, 0.0);
    for (center, members) in index.centers.iter().zip(&index.members) {
        let (center, count) = (wide(center), members.len() as f64);
        let members: Vec<_> = members.iter().map(wide).collect();
        whole += members.iter().map(|m| apart(m, &center)).sum::<f64>();
        if members.is_empty() {
            continue;
        }
        let mean: Vec<f64> = (0..center.len())
            .map(|i| members.iter().map(|m| m[i]).sum::<f64>() / count)
            .collect();
        removable += count * apart(&mean, &center);
    }
    if whole > 0.0 {
        1.0 - removable / whole
    } else {
        1.0
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn figures_agree_with_their_definitions_with_much_memory_and_with_little(index in index()) {
        let roomy = within(index.pages(), Metric::L2, 1 << 20);
        let narrow = within(index.pages(), Metric::L2, 0);
        prop_assert!((f64::from(roomy.figures.centroid_quality) - quality(&index)).abs() < 1e-5);
        let size: usize = index.members.iter().map(Vec::len).sum();
        prop_assert_eq!(roomy.figures.vectors, size as u64);
        prop_assert!((roomy.figures.centroid_quality - narrow.figures.centroid_quality).abs() < 1e-6);
        prop_assert_eq!(roomy.figures.list_sizes, narrow.figures.list_sizes);
        prop_assert_eq!(roomy.notices, narrow.notices);
    }

    #[test]
    fn any_bytes_give_an_answer(
        index in index(),
        changes in prop::collection::vec((any::<u32>(), 0..8192_usize, any::<u8>()), 1..60),
        low in any::<bool>(),
    ) {
        let mut pages = index.pages();
        let count = pages.len() as u32;
        for (page, at, byte) in changes {
            let at = if low { at % 64 } else { 8192 - 1 - at % 1000 };
            pages[(page % count) as usize][at] = byte;
        }
        let options = InspectOptions { sample_rows: 3, ..InspectOptions::default() };
        let mut source = Source(pages);
        let _ = check(&mut source, &shape(Metric::Cosine), 0, &mut |_| {});
        let _ = entries(&mut source, ValueType::Bit, &mut |_, _, _| {});
        if let Ok(report) = inspect(&mut source, &shape(Metric::L2), &options) {
            let found = report.figures;
            let shares = [found.centroid_quality, found.gini, found.fragmentation];
            prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{:?}", found);
        }
    }
}
