//! Lists of even size, planned on pages in memory; and moves as they are written down.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::edit::{PageEdit, Read, Undo, Write};
use ruvector_dag_healing_engine::vector_index::inspection::InspectOptions;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::moves::locate;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::relocation::Spare;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::{
    ListChange, ListEdit, ListSurvey, Move, Regrouping,
};
use ruvector_dag_healing_engine::vector_index::ivfflat::inspect;
use ruvector_dag_healing_engine::vector_index::page::Tid;
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::{Value, ValueType};
use ruvector_dag_healing_engine::vector_index::{HeapTid, PAGE_SIZE};
use serde_json::json;

use super::model::{Bytes, Index, Source, shape};

/// Lists around 10, 20, 30 … on a line, of so many members each; the last of them has as many clusters far
/// behind it, too.
fn one_is_large(sizes: &[usize], clusters: usize, each: usize) -> Index {
    let spot = |list: usize| 10.0 * (list + 1) as f32;
    let member = |at: f32, nth: usize| vec![at + (nth % 7) as f32 * 0.1 - 0.3, 1.0];
    let behind = |cluster: usize| 2.0 * spot(sizes.len()) + 100.0 * cluster as f32;
    let mut members: Vec<Vec<Vec<f32>>> = sizes
        .iter()
        .enumerate()
        .map(|(list, &size)| (0..size).map(|nth| member(spot(list), nth)).collect())
        .collect();
    let last = members.last_mut().expect("a list");
    for nth in 0..each {
        last.extend((0..clusters).map(|cluster| member(behind(cluster), nth)));
    }
    Index {
        centers: (0..sizes.len()).map(|list| vec![spot(list), 1.0]).collect(),
        members,
        per_page: 20,
        short: false,
    }
}

fn plan(index: &Index, shape: &IndexShape) -> (ListSurvey, Option<Regrouping>) {
    let rows: BTreeSet<HeapTid> = rows(index).into_keys().collect();
    let survey = ListSurvey::take(&mut Source(index.pages()), shape, &rows, 1 << 20, 7)
        .expect("an honest index")
        .expect("it fits");
    let regrouping = Regrouping::of(&survey);
    (survey, regrouping)
}

/// The list and the value of every row.
fn rows(index: &Index) -> BTreeMap<HeapTid, (u32, Vec<f32>)> {
    let mut rows = BTreeMap::new();
    for (list, members) in (0..).zip(&index.members) {
        for (nth, member) in members.iter().enumerate() {
            let offset = nth as u16 + 1;
            let row = HeapTid {
                block: list,
                offset,
            };
            rows.insert(row, (list, member.clone()));
        }
    }
    rows
}

/// The index with its centres changed and its entries moved.
fn regrouped(index: &Index, edits: &[ListEdit], moves: &[Move]) -> Index {
    let mut pages = index.pages();
    for edit in edits {
        assert!(edit.apply((), &mut pages[edit.block() as usize]));
    }
    let mut source = Source(pages);
    let all = ListSurvey::take(
        &mut source,
        &shape(Metric::L2),
        &BTreeSet::new(),
        1 << 20,
        1,
    );
    let centers = all
        .expect("an honest index")
        .expect("it fits")
        .as_is()
        .centers;
    let decode = |center: &Vec<u8>| {
        let value = Value::decode(ValueType::Vector, center).expect("a centre");
        value.components().collect()
    };
    let mut members = vec![Vec::new(); index.members.len()];
    let to: BTreeMap<HeapTid, u32> = moves.iter().map(|one| (one.row, one.to)).collect();
    for (row, (list, value)) in rows(index) {
        let list = to.get(&row).copied().unwrap_or(list);
        members[list as usize].push(value);
    }
    Index {
        centers: centers.iter().map(decode).collect(),
        members,
        ..index.clone()
    }
}

/// No page is given to a list.
const NONE: Spare = Spare {
    below: 0,
    even_used: false,
};

fn moves_of(regrouping: &Regrouping, pages: Vec<Bytes>) -> Vec<Move> {
    let found = regrouping.moves(&mut Source(pages), NONE);
    found.expect("pages").0
}

fn imbalance(index: &Index) -> f32 {
    let (mut source, options) = (Source(index.pages()), InspectOptions::default());
    let report = inspect(&mut source, &shape(Metric::L2), &options).expect("an honest index");
    report.figures.imbalance_factor
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// Every member is in a list whose centre is as near as any.
fn everything_is_where_it_belongs(index: &Index) {
    for (list, members) in index.members.iter().enumerate() {
        for member in members {
            let own = squared(member, &index.centers[list]);
            for center in &index.centers {
                let other = squared(member, center);
                assert!(
                    own <= other * 1.00001,
                    "{member:?} in {list}: {own} > {other}"
                );
            }
        }
    }
}

#[test]
fn a_large_list_is_split_into_the_room_of_small_ones() {
    let index = one_is_large(&[40, 3, 40, 3, 40, 2, 40, 3, 40, 40], 4, 60);
    assert!(imbalance(&index) > 2.5, "{}", imbalance(&index));
    let (survey, regrouping) = plan(&index, &shape(Metric::L2));
    let regrouping = regrouping.expect("one is large");
    let moves = moves_of(&regrouping, index.pages());
    let after = regrouped(&index, regrouping.edits(), &moves);
    assert!(imbalance(&after) < 1.5, "{}", imbalance(&after));
    everything_is_where_it_belongs(&after);
    // Only what has to: the small lists and most of the large one.
    assert!(moves.len() <= 3 * 60 + 4 * 3, "{} moves", moves.len());
    // What was told of it before.
    let told = regrouping.directory(&survey);
    let sizes = told.sizes.iter().sum::<u64>();
    assert!(sizes.abs_diff(rows(&index).len() as u64) < 10, "rounded");
    let to: BTreeMap<HeapTid, u32> = moves.iter().map(|one| (one.row, one.to)).collect();
    for (row, (list, _)) in rows(&index) {
        let belongs = to.get(&row).copied().unwrap_or(list);
        assert_eq!(told.list_of[&row], belongs, "{row:?}");
    }
    // Once it is done nothing is left to do.
    let as_is = Regrouping::as_is(&mut Source(after.pages()), &shape(Metric::L2));
    let as_is = as_is.expect("pages").expect("centres");
    let left = moves_of(&as_is, after.pages());
    assert_eq!(left, []);
}

#[test]
fn lists_that_are_even_or_alike_are_left_as_they_are() {
    let even = one_is_large(&[40; 8], 0, 0);
    assert!(plan(&even, &shape(Metric::L2)).1.is_none());
    let mut alike = one_is_large(&[40, 3, 40, 3, 40], 0, 0);
    alike.members[4] = vec![vec![50.0, 1.0]; 500];
    assert!(
        plan(&alike, &shape(Metric::L2)).1.is_none(),
        "nothing tells them apart"
    );
    let empty = one_is_large(&[0; 8], 0, 0);
    assert!(plan(&empty, &shape(Metric::L2)).1.is_none());
}

#[test]
fn moves_are_found_again_and_taken_back_as_they_were_written_down() {
    let index = one_is_large(&[40, 3, 40, 40], 3, 60);
    let (_, regrouping) = plan(&index, &shape(Metric::L2));
    let regrouping = regrouping.expect("one is large");
    let moves = moves_of(&regrouping, index.pages());
    let edits = regrouping.edits().iter().cloned().map(ListChange::Edit);
    let changes: Vec<ListChange> = edits
        .chain(moves.iter().copied().map(ListChange::Move))
        .collect();
    let written = [
        ListEdit::write(regrouping.edits()).expect("edits"),
        Move::write(&moves).expect("one text"),
    ];
    let read = written.map(|written| ListChange::read(written).expect("changes"));
    let read = read.concat();
    assert_eq!(
        read[..regrouping.edits().len()],
        changes[..regrouping.edits().len()]
    );
    assert_eq!(read.len(), changes.len());
    for damaged in [
        "3>4 1",
        "1,2",
        ">4 1,2",
        "3>x 1,2",
        "3>4 1,70000",
        "3>4 1,2,3",
    ] {
        assert!(ListChange::read(json!([damaged])).is_err(), "{damaged}");
    }
    let undone: Vec<ListChange> = read.iter().filter_map(Undo::undo).collect();
    let back: Vec<ListChange> = undone.iter().filter_map(Undo::undo).collect();
    assert_eq!(back, read, "what takes back what takes it back");
    let mut found: Vec<Move> = read
        .iter()
        .filter_map(|change| match change {
            ListChange::Move(one) => Some(*one),
            ListChange::Edit(_) => None,
        })
        .collect();
    let lists = locate(&mut Source(index.pages()), &mut found, NONE).expect("pages");
    assert_eq!(found, moves);
    // One that is not in its list any more is nowhere.
    let mut gone = [Move {
        from: moves[0].to,
        ..moves[0]
    }];
    locate(&mut Source(index.pages()), &mut gone, NONE).expect("pages");
    assert!(gone[0].at == moves[0].at, "left as it was asked for");
    let lists = lists.lists;
    let starts: Vec<u32> = lists.iter().map(|list| list.pages[0]).collect();
    assert_eq!(starts, [2, 4, 5, 7]);
    assert_eq!(
        lists[2].at,
        Tid {
            block: 1,
            offset: 3
        }
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_sizes_everything_goes_where_it_belongs(
        sizes in proptest::collection::vec(0_usize..60, 2..14),
        clusters in 0_usize..8,
        each in 1_usize..80,
    ) {
        let index = one_is_large(&sizes, clusters, each);
        let (_, regrouping) = plan(&index, &shape(Metric::L2));
        if let Some(regrouping) = regrouping {
            let moves = moves_of(&regrouping, index.pages());
            let unique: BTreeSet<HeapTid> = moves.iter().map(|one| one.row).collect();
            prop_assert_eq!(unique.len(), moves.len());
            let after = regrouped(&index, regrouping.edits(), &moves);
            everything_is_where_it_belongs(&after);
            // Told from values that were drawn.
            prop_assert!(imbalance(&after) <= 1.1 * imbalance(&index));
        }
    }

    #[test]
    fn bytes_of_any_kind_are_no_harm(
        block in 1_usize..8,
        spoilt in proptest::collection::vec((0_usize..PAGE_SIZE, any::<u8>()), 1..40),
    ) {
        let index = one_is_large(&[40, 3, 40, 3, 40], 3, 60);
        let mut pages = index.pages();
        let block = block.min(pages.len() - 1);
        for (at, byte) in spoilt {
            pages[block][at] = byte;
        }
        let shape = shape(Metric::L2);
        let survey = ListSurvey::take(&mut Source(pages.clone()), &shape, &BTreeSet::new(), 1 << 20, 7);
        if let Ok(Some(survey)) = survey
            && let Some(regrouping) = Regrouping::of(&survey)
        {
            let _ = regrouping.moves(&mut Source(pages.clone()), NONE);
        }
        if let Ok(Some(regrouping)) = Regrouping::as_is(&mut Source(pages.clone()), &shape) {
            let _ = regrouping.moves(&mut Source(pages), NONE);
        }
    }
}
