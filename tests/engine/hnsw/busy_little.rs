//! Indexes that are written to while they are read, with too little memory for their graph:
//! the same stories as in `busy`, but every page is read at least three times, the third time
//! as the second look.

use ruvector_dag_healing_engine::vector_index::hnsw::{HnswFigures, inspect};
use ruvector_dag_healing_engine::vector_index::inspection::InspectOptions;

use super::busy::{pages, ring, vacuumed};
use super::memory::LITTLE;
use super::model::{Bytes, El, Index, Link};
use super::source::{Source, options};

/// Figures of pages that are as at first until the second look, and of pages that stay so.
fn inspect_stages(first: Vec<Bytes>, after: Vec<Bytes>) -> (HnswFigures, HnswFigures) {
    let figures = |stages| {
        let mut source = Source::changing(stages);
        let options = InspectOptions {
            memory_limit: LITTLE,
            ..options()
        };
        let found = inspect(&mut source, &options)
            .expect("an honest index")
            .figures;
        assert!(!found.sampled && source.most_reads() > 1);
        found
    };
    (
        figures(vec![first.clone(), first.clone(), after]),
        figures(vec![first]),
    )
}

#[test]
fn an_insert_under_way_is_no_orphan() {
    let mut half = ring();
    half.elements.push(El::ground(6, &[2, 7]));
    half.elements.push(El::ground(7, &[6]));
    let mut whole = half.clone();
    whole.elements[2].layers[0].push(Link::To(6));
    let (found, quiet) = inspect_stages(pages(&half), pages(&whole));
    assert_eq!(
        (
            found.orphan_count,
            found.zero_in_degree,
            found.live_elements
        ),
        (0, 0, 8)
    );
    assert_eq!(
        (quiet.orphan_count, quiet.zero_in_degree),
        (2, 0),
        "unless it stays so"
    );
}

#[test]
fn an_element_that_came_later_lets_the_search_pass() {
    let mut before = ring();
    before.elements[0].layers[0] = vec![Link::To(1)];
    before.elements[4].layers[0] = vec![Link::To(3)];
    let mut after = before.clone();
    after.elements.push(El::ground(6, &[5, 4]));
    after.elements[4].layers[0] = vec![Link::To(3), Link::To(6)];
    let (found, quiet) = inspect_stages(pages(&before), pages(&after));
    assert_eq!(
        (
            found.orphan_count,
            found.live_elements,
            found.dangling_edges
        ),
        (0, 6, 0)
    );
    assert_eq!(quiet.orphan_count, 1);
}

#[test]
fn a_vacuum_under_way_leaves_no_dangling_link() {
    let (before, after) = (pages(&ring()), pages(&vacuumed()));
    for linking in [3, 5] {
        let mut first = after.clone();
        first[linking] = before[linking];
        let (found, quiet) = inspect_stages(first, after.clone());
        assert_eq!((found.dangling_edges, found.orphan_count), (0, 0));
        assert_eq!(quiet.dangling_edges, 1);
    }
}

#[test]
fn what_a_vacuum_deletes_meanwhile_is_no_orphan() {
    let (before, after) = (pages(&ring()), pages(&vacuumed()));
    let mut first = after.clone();
    first[4] = before[4];
    let (found, quiet) = inspect_stages(first, after);
    assert_eq!(
        (
            found.orphan_count,
            found.zero_in_degree,
            found.connectivity_score
        ),
        (0, 0, 1.0)
    );
    assert_eq!((quiet.orphan_count, quiet.zero_in_degree), (1, 1));
}

#[test]
fn a_link_to_an_element_past_the_old_end_does_not_dangle() {
    let before = ring();
    let mut after = before.clone();
    after.elements.push(El::ground(6, &[5, 0]));
    after.elements[0].layers[0].push(Link::To(6));
    let mut first = pages(&before);
    first[1] = pages(&after)[1];
    let (found, quiet) = inspect_stages(first, pages(&after));
    assert_eq!((found.dangling_edges, quiet.dangling_edges), (0, 1));
}

#[test]
fn a_new_entry_point_is_noticed() {
    let mut after = ring();
    after.elements.push(El::tall(6, &[&[0, 1], &[]]));
    after.elements[0] = after.elements[0].clone().deleted();
    after.elements[1].layers[0] = vec![Link::To(2), Link::To(5), Link::To(6)];
    after.elements[5].layers[0] = vec![Link::To(4), Link::To(1)];
    after.entry = Some(Link::To(6));
    let mut first = pages(&after);
    first[0] = pages(&ring())[0];
    let little = InspectOptions {
        memory_limit: LITTLE,
        ..options()
    };
    // The metapage is read a second time only with the second look.
    let mut source = Source::changing(vec![first.clone(), pages(&after)]);
    let found = inspect(&mut source, &little)
        .expect("an honest index")
        .figures;
    assert_eq!((found.orphan_count, found.entry_point_quality), (0, 1.0));
    let quiet = inspect(&mut Source::quiet(first), &little)
        .expect("an honest index")
        .figures;
    assert_eq!((quiet.orphan_count, quiet.entry_point_quality), (6, 0.0));
}

#[test]
fn an_element_reached_only_above_the_ground_is_reached_again() {
    // The link on layer 1 that leads to element 1 is there since the second look.
    let els = vec![
        El::tall(0, &[&[2], &[]]),
        El::tall(1, &[&[3], &[]]),
        El::ground(2, &[0]),
        El::ground(3, &[]),
    ];
    let mut before = Index::new(2, els);
    before.per_page = 1;
    let mut after = before.clone();
    after.elements[0].layers[1] = vec![Link::To(1)];
    let (found, quiet) = inspect_stages(pages(&before), pages(&after));
    assert_eq!((found.orphan_count, found.zero_in_degree), (0, 1));
    assert_eq!((quiet.orphan_count, quiet.zero_in_degree), (2, 1));
}
