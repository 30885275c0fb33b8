//! An index compared with its table: every row it should have, it has, and every entry has its
//! row.
//!
//! One pass over the table and, as long as a set of its rows fits into memory, one over the
//! index; past it the table is taken in ranges, with a pass over the index for each. What seems
//! wrong is looked at again before it is reported: a vacuum first takes an entry out of the
//! index and then frees its row, so an entry read before and a row read after it mean nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::finding::{Breach, Gravity};
use super::heap::{Root, TidSet};
use super::inspection::InspectError;
use super::page::Tid;
use super::shape::IndexShape;
use super::value::Value;
use super::{HeapTid, ReadError};

/// Suspects that are looked at again; of more only the number is reported.
const MAX_SUSPECTS: usize = 10_000;

/// Who hears of rows: where each is, and its value for the asking.
pub type RowSink<'a> = dyn FnMut(HeapTid, &dyn Fn() -> Vec<u8>) + 'a;

/// Who hears of the entries of an index: where each is, its row, and its value where it can be
/// read.
pub type EntrySink<'a> = dyn FnMut(Tid, HeapTid, Option<Value<'_>>) + 'a;

/// The table of an index, seen in one snapshot.
pub trait RowSource {
    /// Blocks it has now.
    fn block_count(&mut self) -> Result<u32, ReadError>;
    /// Rows it is believed to have.
    fn row_count(&self) -> u64;
    /// Shows every visible row on `blocks` for which the indexed value is not null and the
    /// index's predicate holds, by the head of its chain of updates, and lets its value be
    /// asked for: what follows the length word.
    fn rows(&mut self, blocks: Range<u32>, sink: &mut RowSink<'_>) -> Result<(), ReadError>;
    /// What follows the length word of the value that the index should have for the visible
    /// row of the chain that begins at `row`. None where no row of it is visible, or the value
    /// is null.
    fn value(&mut self, row: HeapTid) -> Result<Option<&[u8]>, ReadError>;
    /// Whether nobody can see any row of the chain that begins at `row`, now or ever again.
    fn is_dead(&mut self, row: HeapTid) -> Result<bool, ReadError>;
    /// What the line pointer `row` is now.
    fn root(&mut self, row: HeapTid) -> Result<Root, ReadError>;
}

/// Shows every entry of an index: where it is, its row, and its value where it can be read.
pub type Entries<'a> =
    dyn FnMut(&mut dyn FnMut(Tid, HeapTid, Option<Value<'_>>)) -> Result<(), InspectError> + 'a;

/// Compares an index with its table, in at most `memory_limit` bytes, and reports what is wrong.
pub fn compare(
    entries: &mut Entries<'_>,
    table: &mut dyn RowSource,
    shape: &IndexShape,
    memory_limit: usize,
    report: &mut dyn FnMut(Breach),
) -> Result<(), InspectError> {
    let blocks = table.block_count()?;
    let step = TidSet::pages_for(memory_limit, blocks, table.row_count());
    let mut suspects = Suspects::default();
    let mut start = 0_u32;
    loop {
        let range = start..start.saturating_add(step).min(blocks);
        // Rows that came after the first count of blocks are looked at with the last range.
        let last = range.end >= blocks;
        let mut claimed = TidSet::default();
        let mut failed = Ok(());
        entries(&mut |at, row, value| {
            if failed.is_err() || row.block < range.start || (row.block >= range.end && !last) {
                return;
            }
            claimed.insert(row);
            match entry_fault(table, shape, row, value) {
                Ok(None) => {}
                Ok(Some(_)) => suspects.add_entry(at, row),
                Err(error) => failed = Err(error),
            }
        })?;
        failed?;
        table.rows(range.clone(), &mut |row, value| {
            if !claimed.contains(row) && is_indexable(shape, &value()) {
                suspects.add_missing(row);
            }
        })?;
        if last {
            break;
        }
        start = range.end;
    }
    if suspects.is_empty() {
        return Ok(());
    }
    suspects.look_again(entries, table, shape, report)
}

/// What is wrong with an entry, seen from its row: the name of the check, and what to say.
fn entry_fault(
    table: &mut dyn RowSource,
    shape: &IndexShape,
    row: HeapTid,
    value: Option<Value<'_>>,
) -> Result<Option<(&'static str, String)>, ReadError> {
    let HeapTid { block, offset } = row;
    if let Some(data) = table.value(row)? {
        let own = Value::decode(shape.value_type, data);
        let same = match (&value, &own) {
            (Some(value), Ok(own)) => value.is_same(own, shape.normalized),
            // A value that cannot be read is another check's.
            _ => true,
        };
        let say =
            || format!("the entry for row ({block},{offset}) holds another value than the row");
        return Ok((!same).then(|| ("value_differs", say())));
    }
    let what = match table.root(row)? {
        Root::Sound => return Ok(None),
        Root::Unused => "is unused",
        Root::HeapOnly => "is in the middle of a chain of updates",
        Root::PastEnd => "does not exist",
    };
    let say = format!("the entry points at row ({block},{offset}), which {what}");
    Ok(Some(("row_of_entry_missing", say)))
}

/// Whether an index has an entry for a value: not where it is to be stored at unit length and
/// has no direction.
pub(super) fn is_indexable(shape: &IndexShape, data: &[u8]) -> bool {
    let value = Value::decode(shape.value_type, data);
    !(shape.normalized && value.is_ok_and(|value| value.norm() == 0.0))
}

/// What seems wrong after one look.
#[derive(Default)]
struct Suspects {
    entries: BTreeMap<HeapTid, Tid>,
    missing: BTreeSet<HeapTid>,
    unlisted: u64,
}

impl Suspects {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.missing.is_empty()
    }

    fn add_entry(&mut self, at: Tid, row: HeapTid) {
        match self.entries.len() < MAX_SUSPECTS {
            true => _ = self.entries.insert(row, at),
            false => self.unlisted += 1,
        }
    }

    fn add_missing(&mut self, row: HeapTid) {
        match self.missing.len() < MAX_SUSPECTS {
            true => _ = self.missing.insert(row),
            false => self.unlisted += 1,
        }
    }

    /// Looks at index and table once more and reports what is still wrong.
    fn look_again(
        mut self,
        entries: &mut Entries<'_>,
        table: &mut dyn RowSource,
        shape: &IndexShape,
        report: &mut dyn FnMut(Breach),
    ) -> Result<(), InspectError> {
        let mut failed = Ok(());
        entries(&mut |at, row, value| {
            self.missing.remove(&row);
            if failed.is_err() || self.entries.get(&row) != Some(&at) {
                return;
            }
            match entry_fault(table, shape, row, value) {
                Ok(None) => {}
                Ok(Some((check, message))) => report(Breach {
                    gravity: Gravity::Error,
                    check,
                    block: Some(at.block),
                    item: Some(at.offset),
                    row: None,
                    message,
                }),
                Err(error) => failed = Err(error),
            }
        })?;
        failed?;
        for row in self.missing {
            let HeapTid { block, offset } = row;
            report(Breach {
                gravity: Gravity::Error,
                check: "row_missing",
                block: None,
                item: None,
                row: Some(row),
                message: format!("row ({block},{offset}) of the table is not in the index"),
            });
        }
        if self.unlisted > 0 {
            report(Breach {
                gravity: Gravity::Error,
                check: "row_missing",
                block: None,
                item: None,
                row: None,
                message: format!(
                    "{} more rows or entries do not match and were not looked at again",
                    self.unlisted
                ),
            });
        }
        Ok(())
    }
}
