use std::collections::HashSet;
use std::sync::OnceLock;

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::edit::PageEdit;
use ruvector_dag_healing_engine::vector_index::hnsw::duplicate_sink;
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{Edit, Rung};
use ruvector_dag_healing_engine::vector_index::value::ValueType;

use super::super::model::{Built, Bytes, Index, Link, Place};
use super::super::source::{Source, report};
use super::{cut_off, grown, item, make, orphans, place, plan, points};

/// Elements of the value, and others after them.
const SAME: usize = 60;
const ALL: usize = 200;

/// A graph in which the first elements have the same value, and as many rows as told.
fn shared(rows: &[usize]) -> Index {
    static GROWN: OnceLock<Index> = OnceLock::new();
    let grown = || {
        let mut points = points(ALL, 4, 3);
        points[..SAME].fill(vec![0.5; 4]);
        grown(&points, 6)
    };
    let mut index = GROWN.get_or_init(grown).clone();
    for (nth, el) in index.elements.iter_mut().enumerate() {
        let count = rows.get(nth).copied().unwrap_or(1) as u16;
        el.rows = (1..=count).map(|offset| (nth as u32, offset)).collect();
    }
    index
}

fn merge(index: &Index) -> Rung {
    let mut source = Source::quiet(index.build().pages);
    let found = duplicate_sink(&mut source, ValueType::Vector, &report(index).frequent);
    let key = found.expect("honest pages").map_or(0, |sink| sink.key);
    Rung::Merge { key }
}

/// The rows of every element, as pgvector reads them.
fn rows(built: &Built, pages: &[Bytes]) -> Vec<Vec<Place>> {
    let of = |&at: &Place| -> Vec<Place> {
        let slots = (0..10).map(|slot| place(item(pages, at), 4 + 6 * slot));
        slots.take_while(|row| row.1 != 0).collect()
    };
    built.places.iter().map(of).collect()
}

/// Brings rows together; what each element has then.
fn merged(index: &Index) -> Vec<Vec<Place>> {
    let built = index.build();
    let mut pages = built.pages.clone();
    let edits = plan(&pages, merge(index)).edits;
    assert_eq!(make(&mut pages, index.m, &edits).1, 0);
    rows(&built, &pages)
}

fn holders(rows: &[Vec<Place>]) -> usize {
    rows[..SAME].iter().filter(|rows| !rows.is_empty()).count()
}

#[test]
fn rows_of_one_value_stand_in_as_few_elements_as_hold_them() {
    let after = merged(&shared(&[2; SAME]));
    assert_eq!(holders(&after), 12);
    assert!(after[SAME..].iter().all(|rows| rows.len() == 1));
}

#[test]
fn elements_that_are_nearly_full_stay_as_they_are() {
    let mut counts = [10; SAME];
    counts[..20].fill(6);
    let index = shared(&counts);
    assert_eq!(plan(&index.build().pages, merge(&index)).edits, []);
}

#[test]
fn rows_go_to_where_searches_come() {
    let lost: HashSet<usize> = (41..SAME).step_by(2).collect();
    let more = |nth| 2 + usize::from(lost.contains(&nth));
    let mut index = shared(&(0..SAME).map(more).collect::<Vec<usize>>());
    index.entry = Some(Link::To(30));
    cut_off(&mut index, &lost);
    // Nor do they lead to one another.
    for &nth in &lost {
        index.elements[nth].layers.iter_mut().for_each(Vec::clear);
    }
    let lost: Vec<usize> = orphans(&index)
        .into_iter()
        .filter(|&nth| nth < SAME)
        .collect();
    assert!(lost.len() > 10, "{lost:?}");
    let after = merged(&index);
    assert_eq!(after[30].len(), 10);
    assert!(lost.iter().all(|&nth| after[nth].is_empty()));
}

#[test]
fn rows_put_back_leave_the_pages_as_they_were() {
    let index = shared(&[3; SAME]);
    let before = index.build().pages;
    let mut pages = before.clone();
    let edits = plan(&pages, merge(&index)).edits;
    let (undo, _) = make(&mut pages, index.m, &edits);
    assert_ne!(pages, before);
    let back: Vec<Edit> = undo.into_iter().rev().collect();
    assert_eq!(make(&mut pages, index.m, &back).1, 0);
    assert_eq!(pages, before);
}

#[test]
fn nothing_leads_to_emptied_elements_once_searches_pass_by() {
    let index = shared(&[2; SAME]);
    let built = index.build();
    let mut pages = built.pages.clone();
    let Rung::Merge { key } = merge(&index) else {
        unreachable!()
    };
    for rung in [Rung::Merge { key }, Rung::Detour { key }] {
        let treatment = plan(&pages, rung);
        assert_eq!(
            (
                treatment.left,
                make(&mut pages, index.m, &treatment.edits).1
            ),
            (0, 0)
        );
    }
    let rows = rows(&built, &pages);
    let after = super::read_back(&index, &built, &pages);
    for (from, el) in after
        .elements
        .iter()
        .enumerate()
        .filter(|(from, _)| !rows[*from].is_empty())
    {
        for link in el.layers.iter().flatten() {
            assert!(
                !matches!(link, Link::To(to) if rows[*to].is_empty()),
                "{from} leads to one"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_row_is_in_one_element_after_any_part_of_it(
        counts in prop::collection::vec(1..=10_usize, SAME), part in any::<prop::sample::Index>(),
    ) {
        let index = shared(&counts);
        let built = index.build();
        let mut pages = built.pages.clone();
        let edits = plan(&pages, merge(&index)).edits;
        let all: usize = counts.iter().sum();
        prop_assert!(edits.iter().all(|edit| edit.excludes_inserts() && edit.excludes_searches()));
        let made = part.index(edits.len() + 1);
        for edits in [&edits[..made], &edits[made..]] {
            prop_assert_eq!(make(&mut pages, index.m, edits).1, 0);
            let now = rows(&built, &pages);
            let of_value: HashSet<&Place> = now[..SAME].iter().flatten().collect();
            prop_assert_eq!(of_value.len(), all);
            prop_assert_eq!(now.iter().map(Vec::len).sum::<usize>(), all + ALL - SAME);
        }
        let worth = 5 * (SAME - all.div_ceil(10)) >= SAME;
        let left = if worth { all.div_ceil(10) } else { SAME };
        prop_assert_eq!(holders(&rows(&built, &pages)), left);
    }
}
