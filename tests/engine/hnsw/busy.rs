//! Indexes that are written to while they are read.

use ruvector_dag_healing_engine::vector_index::ReadError;
use ruvector_dag_healing_engine::vector_index::hnsw::{HnswReport, inspect};
use ruvector_dag_healing_engine::vector_index::inspection::{InspectError, InspectOptions};

use super::memory::LITTLE;
use super::model::{Bytes, El, Index, Link};
use super::source::{Source, options};

/// Six elements on a page each, in a ring.
pub fn ring() -> Index {
    let mut index = Index::new(
        2,
        (0..6)
            .map(|i| El::ground(i as u32, &[(i + 1) % 6, (i + 5) % 6]))
            .collect(),
    );
    index.per_page = 1;
    index
}

pub fn pages(index: &Index) -> Vec<Bytes> {
    index.build().pages
}

/// Inspects an index that is at another stage at each look.
fn inspect_stages(stages: Vec<Vec<Bytes>>) -> (HnswReport, Source) {
    let mut source = Source::changing(stages);
    let report = inspect(&mut source, &options()).expect("an honest index");
    (report, source)
}

#[test]
fn a_quiet_index_is_read_once() {
    let (report, source) = inspect_stages(vec![pages(&ring())]);
    assert_eq!(report.figures.orphan_count, 0);
    assert_eq!(source.order, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_second_look_at_a_quiet_index_changes_nothing() {
    let mut index = ring();
    index.elements[2].layers[0] = vec![Link::To(1), Link::At((1, 7))];
    index.elements[4].layers[0] = vec![Link::To(5)];
    index.elements[3].rows.clear();
    let (report, source) = inspect_stages(vec![pages(&index)]);
    assert_eq!(
        (
            report.figures.orphan_count,
            report.figures.orphans_with_rows
        ),
        (1, 0)
    );
    assert_eq!(
        (report.figures.dangling_edges, report.figures.zero_in_degree),
        (1, 1)
    );
    assert_eq!(
        source.reads[&5], 2,
        "a suspect without a link to nowhere is looked at again, once"
    );
    assert_eq!(
        source.reads[&1], 4,
        "the place that a link to nowhere leads to is read before and after the link"
    );
    assert_eq!(source.reads[&6], 1, "block 6 is beyond suspicion");
}

#[test]
fn a_place_used_anew_while_it_is_read_is_no_link_to_nowhere() {
    // Element 4 on block 5 links to element 3 on block 4: to the one that a vacuum then takes
    // out, to the next that an insert puts into its place, and so on. Whenever block 4 is read,
    // the place is vacant, and whenever block 5 is, there is a link to it.
    let mut linked = ring();
    linked.elements[2].layers[0] = vec![Link::To(1)];
    let vacant = |version| {
        let mut index = linked.clone();
        index.elements[3].deleted = true;
        index.elements[3].rows.clear();
        index.elements[3].layers[0].clear();
        index.elements[3].version = version;
        pages(&index)
    };
    let stages: Vec<_> = (1..=9).map(vacant).collect();
    let (report, _) = inspect_stages(stages.clone());
    assert_eq!(report.figures.dangling_edges, 0);

    let (report, _) = inspect_stages(vec![stages[0].clone()]);
    assert_eq!(report.figures.dangling_edges, 1, "unless it stays vacant");
}

#[test]
fn what_a_vacuum_is_about_to_delete_may_link_to_what_it_has_deleted() {
    let mut index = ring();
    index.elements[1].layers[0] = vec![Link::To(0)];
    index.elements[4].layers[0] = vec![Link::To(5)];
    // Elements 2 and 3 have no rows any more and link to each other; 2 is deleted already.
    for ghost in [2, 3] {
        index.elements[ghost].rows.clear();
    }
    index.elements[2].deleted = true;
    index.elements[2].layers[0].clear();
    let (report, _) = inspect_stages(vec![pages(&index)]);
    assert_eq!(report.figures.dangling_edges, 0);

    index.elements[3].rows = vec![(3, 1)];
    let (report, _) = inspect_stages(vec![pages(&index)]);
    assert_eq!(
        report.figures.dangling_edges, 1,
        "an element with a row may not"
    );
}

#[test]
fn what_a_vacuum_forgot_leads_nowhere_as_soon_as_a_search_comes_to_it() {
    // Element 3 has no rows and links to 2, which is deleted; 4 links to 3 or does not.
    let dangling = |linked: bool, unvacuumed: bool, memory_limit: usize| {
        let mut index = ring();
        index.elements[1].layers[0] = vec![Link::To(0)];
        index.elements[3].rows.clear();
        index.elements[2].rows.clear();
        index.elements[2].deleted = true;
        index.elements[2].layers[0].clear();
        if !linked {
            index.elements[4].layers[0] = vec![Link::To(5)];
        }
        let mut source = Source::quiet(pages(&index));
        source.unvacuumed = unvacuumed;
        let options = InspectOptions {
            memory_limit,
            ..options()
        };
        let report = inspect(&mut source, &options).expect("an honest index");
        report.figures.dangling_edges
    };
    for memory in [64 << 20, LITTLE] {
        assert_eq!(dangling(true, true, memory), 1);
        assert_eq!(dangling(true, false, memory), 0, "a vacuum may come to it");
        assert_eq!(dangling(false, true, memory), 0, "no search sees it");
    }
}

#[test]
fn an_insert_under_way_is_no_orphan() {
    // The new element is there, the links to it are not yet.
    let mut half = ring();
    half.elements.push(El::ground(6, &[2, 3]));
    let mut whole = half.clone();
    whole.elements[2].layers[0].push(Link::To(6));
    let (report, _) = inspect_stages(vec![pages(&half), pages(&whole)]);
    assert_eq!(
        (report.figures.orphan_count, report.figures.zero_in_degree),
        (0, 0)
    );
    assert_eq!(
        (
            report.figures.connectivity_score,
            report.figures.live_elements
        ),
        (1.0, 7)
    );

    let (report, _) = inspect_stages(vec![pages(&half)]);
    assert_eq!(
        (report.figures.orphan_count, report.figures.zero_in_degree),
        (1, 1),
        "unless it stays so"
    );
}

#[test]
fn the_search_goes_on_from_what_the_second_look_reached() {
    // A second new element can be reached only through the first, which is under way.
    let mut half = ring();
    half.elements.push(El::ground(6, &[2, 7]));
    half.elements.push(El::ground(7, &[6]));
    let mut whole = half.clone();
    whole.elements[2].layers[0].push(Link::To(6));
    let (report, _) = inspect_stages(vec![pages(&half), pages(&whole)]);
    assert_eq!(report.figures.orphan_count, 0);
}

#[test]
fn an_element_that_came_later_lets_the_search_pass() {
    // Element 5 was linked to by 0 and 4; now only by a new one, on a page past the old end.
    let mut before = ring();
    before.elements[0].layers[0] = vec![Link::To(1)];
    before.elements[4].layers[0] = vec![Link::To(3)];
    let mut after = before.clone();
    after.elements.push(El::ground(6, &[5, 4]));
    after.elements[4].layers[0] = vec![Link::To(3), Link::To(6)];
    let (report, _) = inspect_stages(vec![pages(&before), pages(&after)]);
    assert_eq!(report.figures.orphan_count, 0);
    assert_eq!(
        (report.figures.live_elements, report.figures.dangling_edges),
        (6, 0),
        "it is not counted"
    );
}

#[test]
fn a_link_to_an_element_past_the_old_end_does_not_dangle() {
    let before = ring();
    let mut after = before.clone();
    after.elements.push(El::ground(6, &[5, 0]));
    after.elements[0].layers[0].push(Link::To(6));
    // Page 1 was read with the new link, and the file was shorter when reading began.
    let mut first = pages(&before);
    first[1] = pages(&after)[1];
    let (report, _) = inspect_stages(vec![first, pages(&after)]);
    assert_eq!(report.figures.dangling_edges, 0);
}

/// The ring with element 3 deleted by a vacuum that has closed the gap first.
pub fn vacuumed() -> Index {
    let mut index = ring();
    index.elements[3] = index.elements[3].clone().deleted();
    index.elements[2].layers[0] = vec![Link::To(4), Link::To(1)];
    index.elements[4].layers[0] = vec![Link::To(5), Link::To(2)];
    index
}

#[test]
fn a_vacuum_under_way_leaves_no_dangling_link() {
    // The page of the link was read before the vacuum, the page it leads to after.
    let (before, after) = (pages(&ring()), pages(&vacuumed()));
    for linking in [3, 5] {
        let mut first = after.clone();
        first[linking] = before[linking];
        let (report, _) = inspect_stages(vec![first.clone(), after.clone()]);
        assert_eq!(
            (report.figures.dangling_edges, report.figures.orphan_count),
            (0, 0)
        );
        let (report, _) = inspect_stages(vec![first]);
        assert_eq!(report.figures.dangling_edges, 1, "unless it stays so");
    }
}

#[test]
fn what_a_vacuum_deletes_meanwhile_is_no_orphan() {
    // The pages of the links were read after the vacuum, that of the element before.
    let (before, after) = (pages(&ring()), pages(&vacuumed()));
    let mut first = after.clone();
    first[4] = before[4];
    let (report, _) = inspect_stages(vec![first, after]);
    assert_eq!(
        (report.figures.orphan_count, report.figures.zero_in_degree),
        (0, 0)
    );
    assert_eq!(
        (
            report.figures.live_elements,
            report.figures.connectivity_score
        ),
        (6, 1.0)
    );
}

#[test]
fn a_slot_used_again_is_another_element() {
    // As before, and then the slot is taken by an insert that is not finished at any look.
    let (before, after) = (pages(&ring()), vacuumed());
    let mut reused = after.clone();
    reused.elements[3] = El {
        version: 2,
        ..El::ground(9, &[0])
    };
    let mut first = pages(&after);
    first[4] = before[4];
    let (report, _) = inspect_stages(vec![first, pages(&reused)]);
    assert_eq!(
        (report.figures.orphan_count, report.figures.zero_in_degree),
        (0, 0)
    );
}

#[test]
fn a_link_that_dangles_only_since_the_second_look_is_looked_at_again() {
    // An orphan brings the second look to page 4, which a vacuum has emptied by then. Page 3,
    // which links to it, is nothing the orphan leads to.
    let orphan = |mut index: Index| {
        index.elements.push(El::ground(6, &[3]));
        pages(&index)
    };
    let (before, after) = (orphan(ring()), orphan(vacuumed()));
    let (report, source) = inspect_stages(vec![before, after]);
    assert_eq!(
        report.figures.dangling_edges, 1,
        "the orphan's own, at every look after the first"
    );
    assert_eq!(source.reads[&3], 2);
}

#[test]
fn a_dangling_link_that_stays_is_found_among_links_that_change() {
    let mut before = ring();
    before.elements[0].layers[0].push(Link::At((9, 9)));
    let mut after = before.clone();
    after.elements[0].layers[0] =
        vec![Link::At((9, 9)), Link::To(1), Link::To(3), Link::At((8, 8))];
    let mut last = after.clone();
    last.elements[0].layers[0].pop();
    let (report, _) = inspect_stages(vec![pages(&before), pages(&after), pages(&last)]);
    assert_eq!(report.figures.dangling_edges, 1);
}

#[test]
fn a_new_entry_point_is_noticed() {
    // Another element became the entry point and the old one was deleted, all between the
    // reading of the metapage and of the old entry's page.
    let mut after = ring();
    after.elements[0] = after.elements[0].clone().deleted();
    after.elements[1].layers[0] = vec![Link::To(2), Link::To(5)];
    after.elements[5].layers[0] = vec![Link::To(4), Link::To(1)];
    after.entry = Some(Link::To(4));
    let mut first = pages(&after);
    first[0] = pages(&ring())[0];
    let (report, _) = inspect_stages(vec![first, pages(&after)]);
    assert_eq!(
        (
            report.figures.orphan_count,
            report.figures.entry_point_quality
        ),
        (0, 1.0)
    );
}

#[test]
fn a_higher_entry_point_is_noticed() {
    let mut after = ring();
    after.elements.push(El::tall(6, &[&[0, 1], &[]]));
    after.elements[0].layers[0].push(Link::To(6));
    after.entry = Some(Link::To(6));
    let mut first = pages(&after);
    first[0] = pages(&ring())[0];
    let (report, _) = inspect_stages(vec![first.clone(), pages(&after)]);
    assert_eq!(report.figures.entry_point_quality, 1.0);
    let (report, _) = inspect_stages(vec![first]);
    assert_eq!(
        report.figures.entry_point_quality, 0.0,
        "unless the metapage stays as it is"
    );
}

#[test]
fn an_index_that_changes_at_every_look_is_judged_all_the_same() {
    let stages: Vec<_> = (0..9_u16)
        .map(|n| {
            let mut index = ring();
            index.elements[usize::from(n) % 6].layers[0] = vec![Link::At((50, 1 + n))];
            index.elements[usize::from(n + 1) % 6] = index.elements[0].clone().deleted();
            pages(&index)
        })
        .collect();
    let (report, source) = inspect_stages(stages);
    assert!(report.figures.orphan_count <= report.figures.live_elements);
    assert!(source.most_reads() <= 4);
}

#[test]
fn a_source_that_fails_ends_the_inspection_wherever_it_is() {
    let mut index = ring();
    index.elements[2].layers[0] = vec![Link::At((1, 7))];
    index.elements[4].layers[0] = vec![Link::At((1, 9))];
    let mut whole = Source::quiet(pages(&index));
    inspect(&mut whole, &options()).expect("an honest index");
    for failure in [
        ReadError::Gone,
        ReadError::Stopped,
        ReadError::Unreadable {
            block: 3,
            reason: "checksum".into(),
        },
    ] {
        for patience in 0..whole.order.len() {
            let mut source = Source::quiet(pages(&index));
            (source.patience, source.failure) = (patience, failure.clone());
            assert_eq!(
                inspect(&mut source, &options()),
                Err(InspectError::Read(failure.clone()))
            );
        }
    }
}

#[test]
fn a_file_without_a_page_is_gone() {
    assert_eq!(
        inspect(&mut Source::quiet(vec![]), &options()),
        Err(InspectError::Read(ReadError::Gone))
    );
}
