//! Rows taken out of elements, and those to be put back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::finding::{Breach, Gravity};
use ruvector_dag_healing_engine::vector_index::heap::Root;
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{Edit, RowsPlan, plan_rows};
use ruvector_dag_healing_engine::vector_index::hnsw::{check, entries};
use ruvector_dag_healing_engine::vector_index::table::{RowSink, RowSource, compare};
use ruvector_dag_healing_engine::vector_index::value::ValueType;
use ruvector_dag_healing_engine::vector_index::{HeapTid, ReadError};

use super::super::model::{Built, Bytes, Index, Place};
use super::super::source::Source;
use super::{grown, item, make, points, shape};

const M: u16 = 5;

/// A table: the rows that are seen, those of transactions under way, and those that are dead.
#[derive(Clone, Default)]
struct Table {
    rows: BTreeMap<HeapTid, Vec<u8>>,
    pending: BTreeSet<HeapTid>,
    dead: BTreeSet<HeapTid>,
    value: Vec<u8>,
}

fn row(block: u32) -> HeapTid {
    HeapTid { block, offset: 1 }
}

fn encoded(components: &[f32]) -> Vec<u8> {
    let mut data = (components.len() as u32).to_le_bytes().to_vec();
    components.iter().for_each(|c| data.extend(c.to_le_bytes()));
    data
}

impl RowSource for Table {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        Ok(1_000_000)
    }
    fn row_count(&self) -> u64 {
        self.rows.len() as u64
    }
    fn rows(&mut self, blocks: Range<u32>, sink: &mut RowSink<'_>) -> Result<(), ReadError> {
        let at = |block| HeapTid { block, offset: 0 };
        for (row, value) in self.rows.range(at(blocks.start)..at(blocks.end)) {
            sink(*row, &|| value.clone());
        }
        Ok(())
    }
    fn value(&mut self, row: HeapTid) -> Result<Option<&[u8]>, ReadError> {
        self.value = self.rows.get(&row).cloned().unwrap_or_default();
        Ok(self.rows.contains_key(&row).then_some(&self.value[..]))
    }
    fn is_dead(&mut self, row: HeapTid) -> Result<bool, ReadError> {
        Ok(self.dead.contains(&row))
    }
    fn root(&mut self, row: HeapTid) -> Result<Root, ReadError> {
        let known = [&self.pending, &self.dead];
        let is = self.rows.contains_key(&row) || known.iter().any(|set| set.contains(&row));
        Ok(if is { Root::Sound } else { Root::Unused })
    }
}

/// A sound index of random points and its table: element n has row n.
fn sound(count: usize) -> (Index, Table) {
    let points = points(count, 3, 11);
    let index = grown(&points, usize::from(M));
    let rows = points.iter().enumerate();
    let rows = rows.map(|(n, point)| (row(n as u32), encoded(point)));
    let table = Table {
        rows: rows.collect(),
        ..Table::default()
    };
    (index, table)
}

/// Everything that the checks find.
fn breaches(pages: &[Bytes], table: &mut Table) -> Vec<Breach> {
    let mut found = Vec::new();
    let mut source = Source::quiet(pages.to_vec());
    check(&mut source, &shape(), 1 << 20, &mut |breach| {
        found.push(breach);
    })
    .expect("pages that can be read");
    compare(
        &mut |sink| entries(&mut source, ValueType::Vector, sink),
        table,
        &shape(),
        1 << 20,
        &mut |breach| found.push(breach),
    )
    .expect("pages that can be read");
    // The model's pages are on no chain.
    found.retain(|breach| !matches!(breach.check, "page_unchained" | "edge_repeated"));
    found
}

/// What would be done if every place of an index were suspected of everything.
pub fn edits_of_everything(pages: &[Bytes]) -> Vec<Edit> {
    let checks = ["heap_tids_gap", "value", "no_links", "deleted_not_empty"];
    let places = (0..pages.len() as u32 + 1).flat_map(|block| (0..130).map(move |n| (block, n)));
    let suspects = places.flat_map(|(block, item)| {
        checks.map(|check| Breach {
            gravity: Gravity::Error,
            check,
            block: Some(block),
            item: Some(item),
            row: None,
            message: String::new(),
        })
    });
    let suspects: Vec<Breach> = suspects.collect();
    let mut table = sound(3).1;
    let mut source = Source::quiet(pages.to_vec());
    let plan = plan_rows(&mut source, &mut table, &shape(), &suspects, &[row(1)]);
    plan.map(|plan| plan.edits).unwrap_or_default()
}

fn planned(pages: &[Bytes], table: &mut Table) -> RowsPlan {
    let found = breaches(pages, table);
    let mut source = Source::quiet(pages.to_vec());
    plan_rows(&mut source, table, &shape(), &found, &[]).expect("a plan")
}

/// What is taken out and what is to be put back; the rest of the index is sound then.
fn mended(built: &Built, table: &mut Table) -> Vec<u32> {
    assert!(
        !breaches(&built.pages, table).is_empty(),
        "nothing is wrong"
    );
    let mut pages = built.pages.clone();
    let plan = planned(&pages, table);
    assert_eq!(plan.waiting, 0);
    assert_eq!(make(&mut pages, M, &plan.edits).1, 0);
    let mut put_back: BTreeSet<HeapTid> = plan.reinsert.iter().copied().collect();
    let left = breaches(&pages, table);
    let missing = left.iter().filter(|breach| breach.check == "row_missing");
    let missing: BTreeSet<HeapTid> = missing.filter_map(|breach| breach.row).collect();
    assert_eq!(missing, put_back, "{left:#?}");
    assert_eq!(left.len(), missing.len(), "{left:#?}");
    // A second time there is nothing to take out.
    let again = planned(&pages, table);
    assert_eq!(again.edits, []);
    put_back.retain(|row| again.reinsert.contains(row));
    put_back.into_iter().map(|row| row.block).collect()
}

/// The rows of an element as they stand, free slots among them.
fn rows_of(pages: &[Bytes], element: Place) -> Vec<Place> {
    let bytes = item(pages, element);
    (0..10).map(|n| super::place(bytes, 4 + 6 * n)).collect()
}

const NONE: [u32; 0] = [];
const FREE: Place = (u32::MAX, 0);

#[test]
fn a_sound_index_is_left_alone() {
    let (index, mut table) = sound(60);
    let plan = planned(&index.build().pages, &mut table);
    assert_eq!((plan.edits, plan.reinsert), (vec![], vec![]));
}

#[test]
fn a_gap_is_closed_and_what_is_there_twice_goes() {
    let (mut index, mut table) = sound(60);
    index.elements[3].rows = vec![FREE, (3, 1)];
    index.elements[4].rows = vec![(4, 1), (4, 1), FREE, (4, 1)];
    let built = index.build();
    assert_eq!(mended(&built, &mut table), NONE);
    let mut pages = built.pages.clone();
    let edits = planned(&pages, &mut table).edits;
    make(&mut pages, M, &edits);
    for element in [3, 4] {
        let rows = rows_of(&pages, built.places[element]);
        assert_eq!(rows[0], (element as u32, 1));
        assert!(rows[1..].iter().all(|row| *row == FREE), "{rows:?}");
    }
}

#[test]
fn what_stands_behind_a_gap_and_is_no_row_of_the_element_goes() {
    let (mut index, mut table) = sound(60);
    // Another's, nobody's, and one that is gone: no vacuum has seen them.
    index.elements[3].rows = vec![(3, 1), FREE, (9, 1), (777, 1), (778, 1)];
    table.dead.insert(row(778));
    assert_eq!(mended(&index.build(), &mut table), NONE);
}

#[test]
fn a_row_in_two_elements_stays_where_its_value_is() {
    for order in [[5, 20], [20, 5]] {
        let (mut index, mut table) = sound(60);
        let [right, wrong] = order;
        index.elements[wrong].rows.push((right as u32, 1));
        assert_eq!(mended(&index.build(), &mut table), NONE);
        // Where neither has it, it is in neither.
        index.elements[right].rows = vec![];
        index.elements[wrong + 1].rows.push((right as u32, 1));
        assert_eq!(mended(&index.build(), &mut table), [right as u32]);
    }
}

#[test]
fn rows_with_another_value_are_put_back_and_those_that_share_it_stay() {
    let (mut index, mut table) = sound(60);
    let value = table.rows[&row(8)].clone();
    table.rows.insert(row(500), value);
    table.rows.insert(row(8), encoded(&[2.0, 2.0, 2.0]));
    index.elements[8].rows.push((500, 1));
    assert_eq!(mended(&index.build(), &mut table), [8]);
}

#[test]
fn rows_that_are_none_go_and_the_row_that_was_meant_comes_back() {
    let (mut index, mut table) = sound(60);
    index.elements[6].rows = vec![(900, 1)];
    index.elements[7].rows = vec![];
    assert_eq!(mended(&index.build(), &mut table), [6, 7]);
}

#[test]
fn a_value_that_cannot_be_read_is_replaced_and_its_rows_put_back() {
    for broken in [vec![f32::NAN, 0.0, 0.0], vec![1.0, 2.0, 3.0, 4.0]] {
        let (mut index, mut table) = sound(60);
        index.elements[8].rows.push((600, 1));
        table.dead.insert(row(600));
        index.elements[8] = index.elements[8].clone().valued(&broken);
        assert_eq!(mended(&index.build(), &mut table), [8]);
    }
}

#[test]
fn rows_of_a_deleted_element_and_of_one_without_links_are_put_back() {
    let (mut index, mut table) = sound(60);
    index.elements[9].deleted = true;
    index.elements[10].layers = vec![vec![]; usize::from(index.elements[10].level) + 1];
    let built = index.build();
    let mut pages = built.pages.clone();
    // Links to what is deleted are another rung's.
    let rungs = super::plan(&pages, super::Rung::Prune).edits;
    make(&mut pages, M, &rungs);
    let built = Built { pages, ..built };
    assert_eq!(mended(&built, &mut table), [9, 10]);
}

#[test]
fn a_row_without_direction_goes_where_values_have_unit_length() {
    let (mut index, mut table) = sound(30);
    for (n, el) in index.elements.iter_mut().enumerate() {
        let unit = [(n as f32).sin(), (n as f32).cos(), 0.0];
        table.rows.insert(row(n as u32), encoded(&unit));
        *el = el.clone().valued(&unit);
    }
    table.rows.insert(row(5), encoded(&[0.0; 3]));
    table.rows.insert(row(6), encoded(&[0.0, -2.0, 0.0]));
    let built = index.build();
    let hint = |n: usize| Breach {
        gravity: Gravity::Error,
        check: "value_differs",
        block: Some(built.places[n].0),
        item: Some(built.places[n].1),
        row: None,
        message: String::new(),
    };
    let mut shape = shape();
    shape.normalized = true;
    let mut source = Source::quiet(built.pages.clone());
    let hints = [hint(5), hint(6), hint(7)];
    let plan = plan_rows(&mut source, &mut table, &shape, &hints, &[]).expect("a plan");
    assert_eq!((plan.edits.len(), plan.reinsert), (2, vec![row(6)]));
}

#[test]
fn rows_of_transactions_under_way_are_waited_for() {
    let (mut index, mut table) = sound(60);
    index.elements[8] = index.elements[8].clone().valued(&[f32::NAN, 0.0, 0.0]);
    let value = table.rows.remove(&row(8)).expect("a row");
    table.pending.insert(row(8));
    let pages = index.build().pages;
    let plan = planned(&pages, &mut table);
    assert_eq!((plan.edits.len(), plan.waiting), (0, 1));
    table.rows.insert(row(8), value);
    assert_eq!(mended(&index.build(), &mut table), [8]);
}

#[test]
fn an_edit_is_lost_where_the_element_has_other_rows_by_then() {
    let (mut index, mut table) = sound(60);
    index.elements[4].rows = vec![(4, 1), (4, 1)];
    let edits = planned(&index.build().pages, &mut table).edits;
    assert_eq!(edits.len(), 1);
    let changes: [&dyn Fn(&mut Index); 3] = [
        &|index| index.elements[4].rows.push((700, 1)),
        &|index| index.elements[4].version += 1,
        &|index| index.elements[4].deleted = true,
    ];
    for (nth, change) in changes.iter().enumerate() {
        let mut changed = index.clone();
        change(&mut changed);
        let mut pages = changed.build().pages;
        let before = pages.clone();
        assert_eq!(make(&mut pages, M, &edits).1, 1, "change {nth}");
        assert_eq!(pages, before);
    }
}

#[test]
fn hints_that_lead_nowhere_are_not_followed() {
    let (index, mut table) = sound(20);
    let pages = index.build().pages;
    let hint = |block, item, check| Breach {
        gravity: Gravity::Error,
        check,
        block: Some(block),
        item: Some(item),
        row: None,
        message: String::new(),
    };
    let hints = [
        hint(0, 1, "value"),
        hint(1, 900, "value"),
        hint(70_000, 1, "no_links"),
        hint(1, 2, "heap_tids_gap"),
        hint(1, 1, "no_links"),
    ];
    let mut source = Source::quiet(pages);
    let missing = [row(3), row(5_000)];
    let plan = plan_rows(&mut source, &mut table, &shape(), &hints, &missing).expect("a plan");
    assert_eq!((plan.edits, plan.reinsert), (vec![], vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever rows stand where, each that is seen is in one element with its value afterwards, or
    /// is put back.
    #[test]
    fn every_row_is_in_the_index_once(
        placed in prop::collection::vec((0..40_usize, 0..10_usize, 0..60_u32), 0..30),
        gone in prop::collection::btree_set(0..40_u32, 0..8),
        broken in prop::collection::btree_set(1..40_usize, 0..4),
    ) {
        let (mut index, mut table) = sound(40);
        for (element, slot, block) in placed {
            let rows = &mut index.elements[element].rows;
            rows.resize(rows.len().max(slot + 1), FREE);
            rows[slot] = (block, 1);
        }
        for block in gone {
            table.rows.remove(&row(block));
            table.dead.insert(row(block));
        }
        for element in broken {
            let broken = index.elements[element].clone().valued(&[f32::NAN; 3]);
            index.elements[element] = broken;
        }
        let built = index.build();
        if !breaches(&built.pages, &mut table).is_empty() {
            mended(&built, &mut table);
        }
    }
}
