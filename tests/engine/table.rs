//! An index compared with its table: what is missing on either side, and what only seems so.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

use ruvector_dag_healing_engine::vector_index::finding::Breach;
use ruvector_dag_healing_engine::vector_index::heap::{MAX_ROWS_PER_PAGE, Root, TidSet};
use ruvector_dag_healing_engine::vector_index::page::Tid;
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::table::{RowSink, RowSource, compare};
use ruvector_dag_healing_engine::vector_index::value::{Value, ValueType};
use ruvector_dag_healing_engine::vector_index::{HeapTid, ReadError};

const BLOCKS: u32 = 40;
const PER_BLOCK: u16 = 10;

fn shape(normalized: bool) -> IndexShape {
    IndexShape {
        value_type: ValueType::Vector,
        metric: if normalized {
            Metric::Cosine
        } else {
            Metric::L2
        },
        normalized,
        dimensions: Some(2),
        option: None,
    }
}

fn vector(components: &[f32]) -> Vec<u8> {
    let mut data = (components.len() as u32).to_le_bytes().to_vec();
    components.iter().for_each(|c| data.extend(c.to_le_bytes()));
    data
}

fn row(block: u32, offset: u16) -> HeapTid {
    HeapTid { block, offset }
}

/// A table of which every line pointer is known.
#[derive(Clone)]
struct Table {
    rows: BTreeMap<HeapTid, Vec<u8>>,
    roots: BTreeMap<HeapTid, Root>,
    value: Vec<u8>,
    ranges: u32,
}

impl RowSource for Table {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        Ok(BLOCKS)
    }
    fn row_count(&self) -> u64 {
        self.rows.len() as u64
    }
    fn rows(&mut self, blocks: Range<u32>, sink: &mut RowSink<'_>) -> Result<(), ReadError> {
        self.ranges += 1;
        for (tid, value) in self.rows.range(row(blocks.start, 0)..row(blocks.end, 0)) {
            sink(*tid, &|| value.clone());
        }
        Ok(())
    }
    fn value(&mut self, row: HeapTid) -> Result<Option<&[u8]>, ReadError> {
        let Some(value) = self.rows.get(&row) else {
            return Ok(None);
        };
        self.value.clone_from(value);
        Ok(Some(&self.value))
    }
    fn is_dead(&mut self, row: HeapTid) -> Result<bool, ReadError> {
        Ok(!self.rows.contains_key(&row))
    }
    fn root(&mut self, row: HeapTid) -> Result<Root, ReadError> {
        let known = self.roots.get(&row).copied();
        Ok(known.unwrap_or(match self.rows.contains_key(&row) {
            true => Root::Sound,
            false => Root::PastEnd,
        }))
    }
}

/// An index: entries by their place.
type Index = BTreeMap<(u32, u16), (HeapTid, Vec<u8>)>;

fn healthy() -> (Table, Index) {
    let mut table = Table {
        rows: BTreeMap::new(),
        roots: BTreeMap::new(),
        value: Vec::new(),
        ranges: 0,
    };
    let mut index = Index::new();
    for (n, block) in (0..BLOCKS).enumerate() {
        for offset in 1..=PER_BLOCK {
            let value = vector(&[n as f32, f32::from(offset)]);
            table.rows.insert(row(block, offset), value.clone());
            // In another order than the table's.
            index.insert((BLOCKS - block, offset), (row(block, offset), value));
        }
    }
    (table, index)
}

fn report(table: &mut Table, index: &Index, shape: &IndexShape, limit: usize) -> Vec<Breach> {
    report_changing(table, &RefCell::new(index.clone()), shape, limit, &|_| {})
}

/// `after` is called when a pass over the index has ended.
fn report_changing(
    table: &mut Table,
    index: &RefCell<Index>,
    shape: &IndexShape,
    limit: usize,
    after: &dyn Fn(u32),
) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let passes = Cell::new(0);
    compare(
        &mut |sink| {
            let entries = index.borrow().clone();
            for ((block, offset), (row, value)) in entries {
                let value = Value::decode(ValueType::Vector, &value).ok();
                sink(Tid { block, offset }, row, value);
            }
            passes.set(passes.get() + 1);
            after(passes.get());
            Ok(())
        },
        table,
        shape,
        limit,
        &mut |breach| breaches.push(breach),
    )
    .expect("everything can be read");
    breaches
}

fn only(breaches: &[Breach]) -> (&str, Option<u32>, Option<u16>) {
    let [breach] = breaches else {
        panic!("one breach, not {breaches:?}");
    };
    (breach.check, breach.block, breach.item)
}

const ROOMY: usize = 1 << 20;

#[test]
fn an_index_that_has_every_row_once_is_sound() {
    let (mut table, index) = healthy();
    assert_eq!(report(&mut table, &index, &shape(false), ROOMY), []);
    assert_eq!(table.ranges, 1, "one pass over the table");
}

#[test]
fn little_memory_takes_more_passes_and_finds_the_same() {
    let (mut table, mut index) = healthy();
    index.remove(&(BLOCKS - 7, 3));
    index.remove(&(1, 1));
    let roomy = report(&mut table, &index, &shape(false), ROOMY);
    table.ranges = 0;
    let narrow = report(&mut table, &index, &shape(false), 200);
    assert!(table.ranges > 5, "{} ranges", table.ranges);
    assert_eq!(roomy, narrow);
    assert_eq!(roomy.len(), 2);
}

#[test]
fn a_row_that_is_not_in_the_index_is_named() {
    let (mut table, mut index) = healthy();
    index.remove(&(BLOCKS - 7, 3));
    let breaches = report(&mut table, &index, &shape(false), ROOMY);
    assert_eq!(only(&breaches), ("row_missing", None, None));
    assert!(breaches[0].message.contains("(7,3)"), "{breaches:?}");
}

#[test]
fn an_entry_without_its_row_is_named_with_what_is_in_its_place() {
    let places = [
        (Root::Unused, "is unused"),
        (Root::HeapOnly, "chain of updates"),
        (Root::PastEnd, "does not exist"),
    ];
    for (root, said) in places {
        let (mut table, index) = healthy();
        table.rows.remove(&row(7, 3));
        table.roots.insert(row(7, 3), root);
        let breaches = report(&mut table, &index, &shape(false), ROOMY);
        assert_eq!(
            only(&breaches),
            ("row_of_entry_missing", Some(BLOCKS - 7), Some(3))
        );
        assert!(breaches[0].message.contains(said), "{breaches:?}");
    }
}

#[test]
fn an_entry_of_a_dead_row_waits_for_vacuum() {
    let (mut table, index) = healthy();
    table.rows.remove(&row(7, 3));
    table.roots.insert(row(7, 3), Root::Sound);
    assert_eq!(report(&mut table, &index, &shape(false), ROOMY), []);
}

#[test]
fn an_entry_past_the_table_is_named() {
    let (mut table, mut index) = healthy();
    index.insert((99, 1), (row(BLOCKS + 5, 1), vector(&[1.0, 1.0])));
    for limit in [ROOMY, 200] {
        let breaches = report(&mut table, &index, &shape(false), limit);
        assert_eq!(only(&breaches), ("row_of_entry_missing", Some(99), Some(1)));
    }
}

#[test]
fn an_entry_with_another_value_is_named() {
    let (mut table, mut index) = healthy();
    index.insert((BLOCKS - 7, 3), (row(7, 3), vector(&[7.0, 3.01])));
    let breaches = report(&mut table, &index, &shape(false), ROOMY);
    assert_eq!(
        only(&breaches),
        ("value_differs", Some(BLOCKS - 7), Some(3))
    );
}

#[test]
fn values_stored_at_unit_length_are_compared_by_direction() {
    let (mut table, mut index) = healthy();
    for (_, value) in index.values_mut() {
        let whole = Value::decode(ValueType::Vector, value).expect("a vector");
        let norm = whole.norm() as f32;
        *value = vector(&whole.components().map(|c| c / norm).collect::<Vec<_>>());
    }
    assert_eq!(report(&mut table, &index, &shape(true), ROOMY), []);
    let other = vector(&[0.8, 0.6]);
    index.insert((BLOCKS - 7, 3), (row(7, 3), other));
    let breaches = report(&mut table, &index, &shape(true), ROOMY);
    assert_eq!(
        only(&breaches),
        ("value_differs", Some(BLOCKS - 7), Some(3))
    );
}

#[test]
fn a_row_without_direction_is_left_out_by_right() {
    let (mut table, mut index) = healthy();
    table.rows.insert(row(7, 3), vector(&[0.0, 0.0]));
    index.remove(&(BLOCKS - 7, 3));
    let found = |normalized, table: &mut Table| {
        let breaches = report(table, &index, &shape(normalized), ROOMY);
        breaches.iter().filter(|b| b.check == "row_missing").count()
    };
    assert_eq!(found(true, &mut table), 0);
    assert_eq!(found(false, &mut table), 1);
}

#[test]
fn what_a_vacuum_took_between_two_reads_is_not_reported() {
    let (mut table, index) = healthy();
    // The entry was read, then vacuum took it out and freed the row.
    table.rows.remove(&row(7, 3));
    table.roots.insert(row(7, 3), Root::Unused);
    let index = RefCell::new(index);
    let vacuum = |pass| {
        if pass == 1 {
            index.borrow_mut().remove(&(BLOCKS - 7, 3));
        }
    };
    let breaches = report_changing(&mut table, &index, &shape(false), ROOMY, &vacuum);
    assert_eq!(breaches, []);
}

#[test]
fn a_row_found_at_the_second_look_is_not_missing() {
    let (mut table, index) = healthy();
    let index = RefCell::new(index);
    let entry = index
        .borrow_mut()
        .remove(&(BLOCKS - 7, 3))
        .expect("it is there");
    let insert = |pass| {
        if pass == 1 {
            index.borrow_mut().insert((BLOCKS - 7, 3), entry.clone());
        }
    };
    let breaches = report_changing(&mut table, &index, &shape(false), ROOMY, &insert);
    assert_eq!(breaches, []);
}

#[test]
fn a_set_of_rows_tells_them_apart_whatever_their_numbers() {
    let mut set = TidSet::default();
    let rows = [
        row(0, MAX_ROWS_PER_PAGE),
        row(1, 1),
        row(0, u16::MAX),
        row(224, 500),
        row(u32::MAX, u16::MAX),
        row(u32::MAX, 1),
    ];
    for tid in rows {
        assert!(!set.contains(tid), "{tid:?}");
        assert!(set.insert(tid), "{tid:?}");
        assert!(set.contains(tid), "{tid:?}");
    }
}
