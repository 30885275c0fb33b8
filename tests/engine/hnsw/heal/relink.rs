use std::collections::HashSet;

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::edit::PageEdit;
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{Change, Edit, Graveyard, Survey};
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::{HeapTid, ReadError};

use super::super::model::{Built, Bytes, El, Index, Link};
use super::super::source::Source;
use super::{MEMORY, grown, illegal_links, links_to, make, orphans, points, read_back, shape};

/// A table in which the rows of these elements are gone.
struct Gone(HashSet<u32>);

impl Graveyard for Gone {
    fn are_gone(&mut self, rows: &[HeapTid], gone: &mut Vec<bool>) -> Result<(), ReadError> {
        assert!(rows.is_sorted(), "rows are asked for in their order");
        gone.extend(rows.iter().map(|row| self.0.contains(&row.block)));
        Ok(())
    }
}

/// The edits that lead links past elements whose rows are gone.
fn relinked(pages: &[Bytes], gone: &[usize], memory: usize) -> Option<Vec<Edit>> {
    relinked_by(&shape(), pages, gone, memory)
}

fn relinked_by(
    shape: &IndexShape,
    pages: &[Bytes],
    gone: &[usize],
    memory: usize,
) -> Option<Vec<Edit>> {
    let mut source = Source::quiet(pages.to_vec());
    let survey = Survey::take(&mut source, memory).expect("pages that can be read")?;
    let mut table = Gone(gone.iter().map(|&element| element as u32).collect());
    let relinking = survey.relink(shape, &mut source, &mut table);
    let mut relinking = relinking.expect("pages that can be read")?;
    let mut edits = Vec::new();
    loop {
        let more = relinking.next(&mut source, 50).expect("a plan");
        if more.is_empty() {
            let (done, all) = relinking.progress();
            assert_eq!(done, all);
            return Some(edits);
        }
        edits.extend(more);
    }
}

fn applied(index: &Index, built: &Built, edits: &[Edit]) -> Index {
    let mut pages = built.pages.clone();
    let (undo, lost) = make(&mut pages, index.m, edits);
    assert_eq!((undo.len(), lost), (0, 0));
    read_back(index, built, &pages)
}

/// A graph in which most rows are gone, so that some lists cannot be filled up; which they are, and the
/// edits that lead links past them.
fn few_left() -> (Index, Built, Vec<usize>, Vec<Edit>) {
    let index = grown(&points(30, 4, 5), 6);
    let built = index.build();
    let gone: Vec<usize> = (1..30).filter(|i| i % 4 > 0).collect();
    let edits = relinked(&built.pages, &gone, MEMORY).expect("ample memory");
    (index, built, gone, edits)
}

/// Every third element but the entry point.
fn a_third(index: &Index) -> Vec<usize> {
    (1..index.elements.len()).filter(|i| i % 3 == 1).collect()
}

#[test]
fn nobody_links_to_what_is_about_to_be_deleted_and_all_else_is_reached_without_it() {
    let index = grown(&points(600, 4, 3), 6);
    let built = index.build();
    let gone = a_third(&index);
    let edits = relinked(&built.pages, &gone, MEMORY).expect("ample memory");
    let mut after = applied(&index, &built, &edits);
    assert_eq!(illegal_links(&after), []);
    assert_eq!(links_to(&after, &gone, |i| !gone.contains(&i)), 0);
    // pgvector's vacuum searches for whoever has room on the ground layer.
    let room = 2 * usize::from(index.m);
    for (i, el) in after.elements.iter().enumerate() {
        let links = el.layers[0].iter().filter(|link| **link != Link::Hole);
        assert!(gone.contains(&i) || links.count() == room, "{i}");
    }
    for &i in &gone {
        after.elements[i] = El::ground(0, &[]).deleted();
    }
    assert!(orphans(&after).len() <= 1, "{:?}", orphans(&after));
}

#[test]
fn no_link_between_those_that_stay_is_taken_out() {
    let index = grown(&points(300, 4, 5), 6);
    let built = index.build();
    let gone = a_third(&index);
    let edits = relinked(&built.pages, &gone, MEMORY).expect("ample memory");
    let after = applied(&index, &built, &edits);
    for (i, (was, is)) in index.elements.iter().zip(&after.elements).enumerate() {
        for (layer, links) in was.layers.iter().enumerate() {
            let lost = |link: &&Link| !is.layers[layer].contains(link);
            let lost: Vec<_> = links.iter().filter(lost).collect();
            let goes = |link: &&&Link| matches!(link, Link::To(to) if gone.contains(to));
            assert_eq!(lost.iter().filter(goes).count(), lost.len(), "{i}");
            assert!(
                !gone.contains(&i) || lost.is_empty(),
                "{i} is left as it is"
            );
        }
    }
}

#[test]
fn of_many_those_that_are_nearest_by_the_metric_of_the_index_are_linked() {
    // One element has a single link, to one whose row is gone, and comes by it to forty others, one
    // longer than the other in its own direction: by inner product the longest are its nearest, and by distance
    // the farthest.
    let long = |i: usize| vec![i as f32, 0.0, 0.0, 0.0];
    let others: Vec<usize> = (5..45).collect();
    let mut elements = vec![El::ground(0, &[1]).valued(&[2.0, 0.1, 0.0, 0.0])];
    // Four dead ones after another, each of which leads to ten of them.
    for nth in 0..4 {
        let mut links = others[nth * 10..][..10].to_vec();
        links.extend((nth < 3).then_some(nth + 2));
        elements.push(El::ground(1 + nth as u32, &links).valued(&[1.0, 1.0, 0.0, 0.0]));
    }
    elements.extend(
        others
            .iter()
            .map(|&i| El::ground(i as u32, &[0]).valued(&long(i))),
    );
    let index = Index::new(6, elements);
    let built = index.build();
    for (metric, nearest) in [(Metric::InnerProduct, 44), (Metric::L2, 5)] {
        let shape = IndexShape { metric, ..shape() };
        let edits = relinked_by(&shape, &built.pages, &[1, 2, 3, 4], MEMORY);
        let after = applied(&index, &built, &edits.expect("ample memory"));
        let links = &after.elements[0].layers[0];
        assert_eq!(links[0], Link::To(nearest), "{metric:?}: {links:?}");
    }
}

#[test]
fn an_edit_is_lost_where_what_was_dead_has_a_new_row() {
    let mut index = grown(&points(200, 4, 9), 6);
    let built = index.build();
    let gone = a_third(&index);
    let edits = relinked(&built.pages, &gone, MEMORY).expect("ample memory");
    for &i in &gone {
        index.elements[i].rows.push((9_000, 1));
    }
    let mut pages = index.build().pages;
    let before = pages.clone();
    let (_, lost) = make(&mut pages, index.m, &edits);
    let unlinks = |edit: &&Edit| matches!(edit, Edit::Links { change: Change::Relink { out, .. }, .. } if !out.is_empty());
    assert_eq!(lost, edits.iter().filter(unlinks).count());
    assert!(lost > 100);
    let after = read_back(&index, &built, &pages);
    let before = read_back(&index, &built, &before);
    assert_eq!(
        links_to(&after, &gone, |_| true),
        links_to(&before, &gone, |_| true)
    );
}

#[test]
fn an_edit_is_lost_where_a_link_that_is_to_go_is_another_by_now() {
    // Lists with room for all that comes and for what does not go as well.
    let (index, _, gone, edits) = few_left();
    let mut changed = index.clone();
    for (i, el) in changed.elements.iter_mut().enumerate() {
        let goes = |link: &Link| matches!(link, Link::To(to) if gone.contains(to));
        if let Some(nth) = el.layers[0].iter().position(goes) {
            let is_new = |to: &usize| *to != i && !el.layers[0].contains(&Link::To(*to));
            let other = (0..30).find(is_new);
            el.layers[0][nth] = Link::To(other.expect("there are more"));
        }
    }
    let mut pages = changed.build().pages;
    let (_, lost) = make(&mut pages, index.m, &edits);
    let of_ground = |edit: &&Edit| matches!(edit, Edit::Links { layer: 0, change: Change::Relink { out, .. }, .. } if !out.is_empty());
    let of_ground = edits.iter().filter(of_ground).count();
    assert!(of_ground > 3 && lost >= of_ground, "{lost} of {of_ground}");
}

#[test]
fn what_lies_behind_a_link_that_stays_is_not_linked_as_well() {
    let to = |links: &[usize], at: [f32; 2]| El::ground(0, links).valued(&[at[0], at[1], 0.0]);
    let mut elements = vec![
        // Room for one more, once the link to the dead one is gone.
        to(&[1, 2, 3, 4], [0.0, 0.0]),
        to(&[0], [1.0, 0.0]),
        to(&[0], [-5.0, 0.0]),
        to(&[0], [-5.0, 1.0]),
        to(&[5, 6], [9.0, 9.0]),
        // The nearest, but behind the first of those that stay, and one that lies another way.
        to(&[0], [1.1, 0.1]),
        to(&[0], [0.0, 2.0]),
    ];
    for (row, el) in (0..).zip(&mut elements) {
        el.rows = vec![(row, 1)];
    }
    let index = Index::new(2, elements);
    let built = index.build();
    let edits = relinked(&built.pages, &[4], MEMORY).expect("ample memory");
    let after = applied(&index, &built, &edits);
    assert_eq!(
        after.elements[0].layers[0],
        [Link::To(1), Link::To(2), Link::To(3), Link::To(6)]
    );
}

#[test]
fn inserts_are_kept_out_only_where_a_layer_gets_shorter() {
    let (index, built, _, edits) = few_left();
    let (mut shorter, mut longer) = (0, 0);
    for edit in edits {
        let excludes = edit.excludes_inserts();
        let links = |index: &Index| -> usize {
            let layers = index.elements.iter().flat_map(|el| &el.layers).flatten();
            layers.filter(|link| **link != Link::Hole).count()
        };
        let (before, after) = (links(&index), links(&applied(&index, &built, &[edit])));
        assert_eq!(excludes, after < before);
        shorter += usize::from(after < before);
        longer += usize::from(after > before);
    }
    assert!(shorter > 0 && longer > 0, "{shorter} {longer}");
}

#[test]
fn where_everything_is_dead_or_nothing_is_there_is_little_to_do() {
    let index = grown(&points(200, 4, 2), 6);
    let pages = index.build().pages;
    let all: Vec<usize> = (0..200).collect();
    assert_eq!(relinked(&pages, &all, MEMORY), Some(Vec::new()));
    let edits = relinked(&pages, &[], MEMORY).expect("ample memory");
    assert!(edits.iter().all(|edit| matches!(
        edit,
        Edit::Links { layer: 0, change: Change::Relink { out, .. }, .. } if out.is_empty()
    )));
    let nothing = Index::new(6, Vec::new()).build().pages;
    assert_eq!(relinked(&nothing, &[], MEMORY), Some(Vec::new()));
}

#[test]
fn without_memory_there_is_no_plan() {
    let pages = grown(&points(600, 4, 3), 6).build().pages;
    assert_eq!(relinked(&pages, &[1], 1 << 10), None);
}

/// A table that answers too little.
struct Silent;

impl Graveyard for Silent {
    fn are_gone(&mut self, _: &[HeapTid], _: &mut Vec<bool>) -> Result<(), ReadError> {
        Ok(())
    }
}

#[test]
fn a_row_of_which_nothing_is_known_is_not_gone() {
    let pages = grown(&points(200, 4, 2), 6).build().pages;
    let mut source = Source::quiet(pages);
    let survey = Survey::take(&mut source, MEMORY).expect("pages that can be read");
    let survey = survey.expect("ample memory");
    let relinking = survey.relink(&shape(), &mut source, &mut Silent);
    assert_eq!(relinking.expect("a plan").expect("memory").doomed(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn together_edits_hold_as_they_do_one_by_one(seed in any::<u64>(), changed in 0usize..40) {
        let mut index = grown(&points(120, 4, seed), 4);
        let gone = a_third(&index);
        let edits = relinked(&index.build().pages, &gone, MEMORY).expect("ample memory");
        for i in (0..120).step_by(changed + 3) {
            match i % 3 {
                0 => index.elements[i].rows.push((7_000, 1)),
                1 => index.elements[i] = index.elements[i].clone().deleted(),
                _ => index.elements[i].version += 1,
            }
        }
        let pages = index.build().pages;
        let together = Edit::all_hold(&edits, &mut Source::quiet(pages.clone())).expect("pages");
        for (edit, holds) in edits.iter().zip(together) {
            let alone = edit.holds(&mut Source::quiet(pages.clone())).expect("pages");
            prop_assert_eq!(holds, Some(alone));
        }
    }
}
