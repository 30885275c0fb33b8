//! Each figure at its edges.

use ruvector_dag_healing_engine::vector_index::hnsw::HnswFigures;
use ruvector_dag_healing_engine::vector_index::inspection::InspectError;

use super::model::{El, Index, Link, Tuple};
use super::source::{look, report};

fn figures(index: &Index) -> HnswFigures {
    report(index).figures
}

/// Two elements that link to each other.
fn pair() -> Vec<El> {
    vec![El::ground(1, &[1]), El::ground(2, &[0])]
}

#[test]
fn an_empty_index_is_healthy() {
    let found = figures(&Index::new(16, vec![]));
    assert_eq!(
        found,
        HnswFigures {
            connectivity_score: 1.0,
            layer_distribution: vec![],
            entry_point_quality: 1.0,
            orphan_count: 0,
            orphans_with_rows: 0,
            fragmentation: 0.0,
            elements: 0,
            live_elements: 0,
            deleted_elements: 0,
            ghosts: 0,
            heap_tids: 0,
            zero_in_degree: 0,
            low_degree: 0,
            mean_degree_fill: 1.0,
            dangling_edges: 0,
            pages: 2,
            predicted_pages: 2,
            pages_per_insert: 0.0,
            sampled: false,
            m: 16,
            ef_construction: 64,
            dimensions: 3,
            entry_level: None,
            duplicate_sink: None,
            anatomy: None,
            origin: None,
        }
    );
}

#[test]
fn one_element_is_reached_and_needs_no_links() {
    let found = figures(&Index::new(16, vec![El::tall(1, &[&[], &[]])]));
    assert_eq!(
        (found.connectivity_score, found.entry_point_quality),
        (1.0, 1.0)
    );
    assert_eq!(
        (
            found.mean_degree_fill,
            found.zero_in_degree,
            found.low_degree
        ),
        (1.0, 0, 1)
    );
    assert_eq!(found.layer_distribution, [0, 1]);
}

#[test]
fn an_index_with_everything_deleted_is_only_fragmented() {
    let mut index = Index::new(2, (0..90).map(|i| El::ground(i, &[]).deleted()).collect());
    index.per_page = 1;
    index.entry = None;
    let found = figures(&index);
    assert_eq!(
        (found.elements, found.live_elements, found.deleted_elements),
        (90, 0, 90)
    );
    assert_eq!(
        (found.connectivity_score, found.entry_point_quality),
        (1.0, 1.0)
    );
    assert_eq!((found.pages, found.predicted_pages), (91, 2));
    assert!((found.fragmentation - (1.0 - 2.0 / 91.0)).abs() < 1e-6);
}

#[test]
fn without_an_entry_point_nothing_is_reached() {
    for entry in [
        None,
        Some(Link::To(2)),
        Some(Link::At((7, 7))),
        Some(Link::At((1, 2))),
    ] {
        let mut index = Index::new(2, pair());
        index.elements.push(El::ground(3, &[0]).deleted());
        index.entry = entry;
        let found = figures(&index);
        assert_eq!(
            (found.connectivity_score, found.entry_point_quality),
            (0.0, 0.0),
            "{entry:?}"
        );
        assert_eq!(
            (found.orphan_count, found.orphans_with_rows),
            (2, 2),
            "{entry:?}"
        );
    }
}

#[test]
fn a_ghost_is_a_legal_entry_point_and_no_row_of_an_orphan() {
    let mut index = Index::new(
        2,
        vec![
            El::ground(1, &[1]).ghost(),
            El::ground(2, &[0]),
            El::ground(3, &[0]).ghost(),
        ],
    );
    let found = figures(&index);
    assert_eq!((found.entry_point_quality, found.ghosts), (2.0 / 3.0, 2));
    assert_eq!((found.orphan_count, found.orphans_with_rows), (1, 0));
    assert_eq!(found.heap_tids, 1);

    index.elements[1].rows = vec![(1, 1), (1, 2), (2, 1)];
    assert_eq!(figures(&index).heap_tids, 3);
}

#[test]
fn entry_point_quality_is_height_times_reach() {
    // The entry is on layer 1 of 2, and of the four elements on layer 1 it reaches two.
    let els = vec![
        El::tall(1, &[&[1, 2, 3], &[1]]),
        El::tall(2, &[&[], &[0]]),
        El::tall(3, &[&[], &[3], &[3]]),
        El::tall(4, &[&[], &[]]),
    ];
    let found = figures(&Index::new(2, els));
    assert_eq!(found.entry_point_quality, 0.5 * 0.5);
    assert_eq!(found.connectivity_score, 1.0, "layer 0 makes up for it");
    assert_eq!(found.layer_distribution, [0, 3, 1]);
}

#[test]
fn a_layer_is_passed_through_only_by_elements_that_are_on_it() {
    // On layer 1 the entry links to an element of layer 0, which is how a slot that was used
    // again looks; only on layer 0 could it be reached.
    let els = vec![
        El::tall(1, &[&[], &[1]]),
        El::ground(2, &[2]),
        El::ground(3, &[1]),
    ];
    assert_eq!(figures(&Index::new(2, els)).orphan_count, 2);
}

#[test]
fn what_is_reached_above_is_a_start_below() {
    let els = vec![
        El::tall(1, &[&[], &[1]]),
        El::tall(2, &[&[2], &[]]),
        El::ground(3, &[]),
    ];
    let found = figures(&Index::new(2, els));
    assert_eq!(found.orphan_count, 0);
    assert_eq!(
        found.zero_in_degree, 1,
        "the second has no link on the ground layer"
    );
}

#[test]
fn links_end_at_a_hole_and_are_none_where_the_tuple_does_not_fit() {
    let mut index = Index::new(2, pair());
    index.elements[0].layers[0] = vec![Link::Hole, Link::To(1)];
    assert_eq!(figures(&index).orphan_count, 1);

    for tuple in [Tuple::OtherVersion, Tuple::OtherCount, Tuple::Missing] {
        let mut index = Index::new(2, pair());
        index.elements[0].tuple = tuple;
        let report = report(&index);
        assert_eq!(report.figures.orphan_count, 1, "{tuple:?}");
        assert_eq!(report.notices.len(), 1, "{tuple:?}");
        assert!(report.notices[0].starts_with("1 live elements have no neighbour tuple"));
    }
}

#[test]
fn a_link_dangles_that_leads_to_no_live_element() {
    let mut els = vec![
        El::tall(1, &[&[1], &[]]),
        El::ground(2, &[0]),
        El::ground(3, &[]).deleted(),
    ];
    // A deleted element, a neighbour tuple, past the last item, past the last page, and an
    // offset that fits on no page.
    let nowhere = [
        Link::To(2),
        Link::At((1, 2)),
        Link::At((1, 99)),
        Link::At((9, 1)),
    ];
    els[0].layers[0].extend(&nowhere);
    els[0].layers[1] = vec![Link::At((u32::MAX - 1, u16::MAX)), Link::To(1)];
    let found = figures(&Index::new(5, els));
    assert_eq!(found.dangling_edges, 5);
    assert_eq!(found.orphan_count, 0);
}

#[test]
fn a_deleted_element_has_no_links_that_could_dangle_or_lead_on() {
    let mut els = pair();
    let mut gone = El::ground(3, &[]);
    gone.deleted = true;
    gone.layers[0] = vec![Link::At((9, 9)), Link::To(1)];
    els.push(gone);
    els[0].layers[0] = vec![Link::To(2)];
    let found = figures(&Index::new(2, els));
    assert_eq!(
        (
            found.dangling_edges,
            found.orphan_count,
            found.zero_in_degree
        ),
        (1, 1, 1)
    );
}

#[test]
fn degrees_are_those_of_the_ground_layer() {
    // m = 2: four links at most, and four other elements.
    let els = vec![
        El::tall(1, &[&[1, 2, 3, 4], &[]]),
        El::tall(2, &[&[0], &[0, 0]]),
        El::ground(3, &[0, 1]),
        El::ground(4, &[0]),
        El::ground(5, &[0, 1, 2, 3]),
    ];
    let found = figures(&Index::new(2, els.clone()));
    assert_eq!(found.low_degree, 2);
    assert!((found.mean_degree_fill - 12.0 / 20.0).abs() < 1e-6);
    // Of three elements each can have two links.
    let few = vec![
        El::ground(1, &[1, 2]),
        El::ground(2, &[0]),
        El::ground(3, &[0]),
    ];
    assert!((figures(&Index::new(2, few)).mean_degree_fill - 4.0 / 6.0).abs() < 1e-6);
}

#[test]
fn predicted_pages_are_those_of_the_same_elements_laid_down_anew() {
    // Values of 13 sizes up to the largest, the links of some on the page after.
    for sizes in [
        vec![8],
        vec![24, 520, 1000],
        vec![4000, 7000, 100],
        vec![8008],
        (0..13).map(|i| 24 + i * 331).collect(),
    ] {
        let elements = (0..200_usize).map(|i| {
            let mut el = El::tall(i as u32, if i % 7 == 0 { &[&[], &[], &[]] } else { &[&[]] });
            el.value = sizes[i % sizes.len()];
            el
        });
        let index = Index::new(16, elements.collect());
        let found = figures(&index);
        assert_eq!(found.predicted_pages, found.pages, "{sizes:?}");
        assert_eq!(found.fragmentation, 0.0);

        // The same with every other element deleted or a ghost: what is left, laid down anew.
        let mut thinned = index.clone();
        for (i, el) in thinned
            .elements
            .iter_mut()
            .enumerate()
            .filter(|(i, _)| i % 2 == 1)
        {
            *el = if i % 4 == 1 {
                el.clone().deleted()
            } else {
                el.clone().ghost()
            };
        }
        let mut rest = index.elements.into_iter();
        let mut rest: Vec<El> = std::iter::from_fn(|| {
            let el = rest.next();
            rest.next();
            el
        })
        .collect();
        rest.iter_mut().for_each(|el| el.layers.clear());
        let fresh = Index::new(16, rest).build().pages.len() as u64;
        let found = figures(&thinned);
        assert_eq!(found.predicted_pages, fresh, "{sizes:?}");
        assert!((found.fragmentation - (1.0 - fresh as f32 / found.pages as f32)).abs() < 1e-6);
    }
}

#[test]
fn a_slot_larger_than_its_value_is_predicted_by_the_value() {
    let mut pages = Index::new(
        2,
        (0..40)
            .map(|i| {
                let mut el = El::ground(i, &[]);
                el.value = 1000;
                el
            })
            .collect(),
    )
    .build();
    assert_eq!(
        look(pages.pages.clone())
            .expect("honest")
            .figures
            .predicted_pages,
        7
    );
    for (block, offset) in pages.places {
        let page = &mut pages.pages[block as usize];
        let at = 24 + 4 * (usize::from(offset) - 1);
        let start = usize::from(u16::from_le_bytes([page[at], page[at + 1]]) & 0x7FFF);
        page[start + 72..start + 76].copy_from_slice(&(24_u32 << 2).to_le_bytes());
    }
    let found = look(pages.pages).expect("honest").figures;
    assert_eq!((found.pages, found.predicted_pages), (7, 2));
}

#[test]
fn a_file_that_is_no_hnsw_index_is_refused() {
    let honest = Index::new(2, pair()).build().pages;
    let reason = |spoil: &dyn Fn(&mut [u8; 8192])| {
        let mut pages = honest.clone();
        spoil(&mut pages[0]);
        match look(pages) {
            Err(InspectError::NotSuch { reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(reason(&|page| page[24] = 0).contains("0xa953a953"));
    assert!(reason(&|page| page[28] = 2).contains("version 2"));
    assert!(reason(&|page| page[8190] = 0x84).contains("page id"));
    assert!(reason(&|page| page[36] = 1).contains("m = 1"));
    assert!(reason(&|page| page[36..38].fill(255)).contains("m = 65535"));
}

#[test]
fn pages_of_something_else_are_told_of() {
    let mut pages = Index::new(2, pair()).build().pages;
    pages.push([0; 8192]);
    assert_eq!(
        look(pages.clone()).expect("honest").notices,
        Vec::<String>::new(),
        "a crash leaves such a page"
    );
    pages[1][8190] = 0;
    let report = look(pages).expect("honest");
    assert_eq!(
        report.notices,
        ["1 pages do not bear the page id of an HNSW index"]
    );
    assert_eq!(
        report.figures.orphan_count, 0,
        "a search does not look at the page id"
    );
}
