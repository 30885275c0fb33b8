//! Rows in elements where they must not be, and rows that are in none: which are taken out of which
//! element, and which are put back into the index.
//!
//! A row stays in one element whose value is the row's. Of the others it is taken out: a second
//! time in the same, behind a free slot, in another element, in one with another value or none
//! that can be read, in one without links, in a deleted one. What is no row is taken out as well.
//! A row that is left in none and that the index should have is to be put back, as an insert does
//! it. Rows of transactions under way stay where they are: they are judged when those have ended.
//!
//! Everything is judged under the lock that keeps vacuum away, in one pass over the index, so
//! whatever it is told of before is a hint.

mod decision;
mod edit;

pub use edit::{NewValue, RowsEdit};

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::edit::{Edit, Judged, is_legal};
use super::seen::Seen;
use crate::vector_index::examination::{Suspects, check_value};
use crate::vector_index::finding::Breach;
use crate::vector_index::hnsw::layout::{
    Element, HEAP_TIDS, Item, LENGTH_WORD, Meta, NEIGHBOR_TID, Page, VALUE,
};
use crate::vector_index::hnsw::{read_meta, read_page};
use crate::vector_index::inspection::InspectError;
use crate::vector_index::page::{TID, Tid, tid};
use crate::vector_index::shape::IndexShape;
use crate::vector_index::table::RowSource;
use crate::vector_index::{HeapTid, PageSource, ReadError};
use decision::{Decision, decide};

/// Checks whose breaches are about the rows of an element.
const OF_ELEMENTS: [&str; 9] = [
    "heap_tids_gap",
    "heap_tids_repeated",
    "row_claimed_twice",
    "row_of_entry_missing",
    "value_differs",
    "value",
    "unit_length",
    "deleted_not_empty",
    "no_links",
];

/// What is to be done about rows.
#[derive(Debug, Default)]
pub struct RowsPlan {
    /// The edits that take rows out, in the order in which they are to be made.
    pub edits: Vec<Edit>,
    /// Rows to be put into the index once all of the edits are made.
    pub reinsert: Vec<HeapTid>,
    /// Elements of which nothing can be said yet.
    pub waiting: u64,
}

/// An element with a row that is looked at.
#[derive(Debug)]
struct Holder {
    judged: Judged,
    deleted: bool,
    /// All slots for rows.
    slots: Vec<Option<HeapTid>>,
    /// What follows the length word of its value, where that can be read and is one.
    value: Option<Vec<u8>>,
    /// Whether all of its value is zeroes.
    is_blank: bool,
    /// Whether it has no links although it should.
    lonely: bool,
    /// Bytes that a value has room for, the length word among them.
    room: usize,
}

impl Holder {
    fn new(at: Tid, element: &Element<'_>, shape: &IndexShape, meta: &Meta) -> Self {
        let slot = |bytes| Some(tid(bytes)).filter(|tid| tid.offset != 0);
        let row = |Tid { block, offset }| HeapTid { block, offset };
        let slots = element.bytes()[HEAP_TIDS..NEIGHBOR_TID].chunks_exact(TID);
        let data = element.has_sane_length().then(|| element.value());
        let mut faults = Suspects::default();
        check_value(at, 0, data, shape, meta.dimensions, &mut faults);
        Self {
            judged: Judged {
                at,
                level: element.level(),
                version: element.version(),
            },
            deleted: element.deleted(),
            slots: slots.map(|bytes| slot(bytes).map(row)).collect(),
            value: data.filter(|_| faults.is_empty()).map(<[u8]>::to_vec),
            is_blank: element.value().iter().all(|&byte| byte == 0),
            lonely: false,
            room: element.bytes().len() - VALUE,
        }
    }

    /// Rows that pgvector sees: up to the first free slot.
    fn seen(&self) -> impl Iterator<Item = HeapTid> + '_ {
        self.slots.iter().map_while(|slot| *slot)
    }

    fn all(&self) -> impl Iterator<Item = HeapTid> + '_ {
        self.slots.iter().flatten().copied()
    }

    /// Whether rows may be in it at all.
    fn is_sound(&self) -> bool {
        !self.deleted && !self.lonely && self.value.is_some()
    }
}

/// Plans what is to be done about the elements that breaches name and about rows believed to be
/// missing. The caller keeps vacuum away until all of it is done.
pub fn plan(
    source: &mut dyn PageSource,
    table: &mut dyn RowSource,
    shape: &IndexShape,
    breaches: &[Breach],
    missing: &[HeapTid],
) -> Result<RowsPlan, InspectError> {
    let meta = read_meta(source)?;
    let mut wanted: BTreeSet<HeapTid> = missing.iter().copied().collect();
    wanted.extend(breaches.iter().filter_map(|breach| breach.row));
    let mut suspects: BTreeMap<Tid, bool> = BTreeMap::new();
    for breach in breaches.iter().filter(|b| OF_ELEMENTS.contains(&b.check)) {
        if let (Some(block), Some(offset)) = (breach.block, breach.item) {
            let at = Tid { block, offset };
            *suspects.entry(at).or_default() |= breach.check == "no_links";
        }
    }
    let mut holders = Vec::new();
    for (&at, &lonely) in &suspects {
        if let Some(mut holder) = read_holder(source, at, shape, &meta)? {
            holder.lonely = lonely && has_no_links(source, at, &meta)?;
            wanted.extend(holder.all());
            holders.push(holder);
        }
    }
    find_others(source, shape, &meta, &wanted, &suspects, &mut holders)?;

    let mut places: HashMap<HeapTid, Vec<usize>> = HashMap::new();
    for (nth, holder) in holders.iter().enumerate() {
        for row in holder.all() {
            places.entry(row).or_default().push(nth);
        }
    }
    let mut planned = RowsPlan::default();
    let mut decisions: HashMap<HeapTid, Decision> = HashMap::new();
    for &row in &wanted {
        let of_row = places.get(&row).map_or(&[][..], Vec::as_slice);
        let decision = decide(row, of_row, &holders, table, shape)?;
        if decision == Decision::Reinsert {
            planned.reinsert.push(row);
        }
        decisions.insert(row, decision);
    }
    for nth in 0..holders.len() {
        let rows = |row: HeapTid| decisions.get(&row).copied();
        match edit_of(nth, &holders, &rows, source, shape, &meta)? {
            Some(Some(edit)) => planned.edits.push(Edit::Rows(edit)),
            Some(None) => {}
            None => planned.waiting += 1,
        }
    }
    Ok(planned)
}

fn read_holder(
    source: &mut dyn PageSource,
    at: Tid,
    shape: &IndexShape,
    meta: &Meta,
) -> Result<Option<Holder>, ReadError> {
    let mut found = None;
    if at.block > 0 {
        read_page(source, at.block, &mut |page| {
            if let Some(Item::Element(element)) = page.item(at.offset) {
                found = Some(Holder::new(at, &element, shape, meta));
            }
        })?;
    }
    Ok(found)
}

fn has_no_links(source: &mut dyn PageSource, at: Tid, meta: &Meta) -> Result<bool, ReadError> {
    let seen = Seen::at(source, at, meta.m)?;
    Ok(seen.is_some_and(|seen| seen.layer(0).iter().all(Option::is_none)))
}

/// Adds the live elements, the suspects aside, that have a row that is looked at.
fn find_others(
    source: &mut dyn PageSource,
    shape: &IndexShape,
    meta: &Meta,
    wanted: &BTreeSet<HeapTid>,
    suspects: &BTreeMap<Tid, bool>,
    holders: &mut Vec<Holder>,
) -> Result<(), ReadError> {
    let blocks = source.block_count()?;
    source.read(&mut (1..blocks), &mut |block, bytes| {
        for (at, element) in Page::new(bytes).elements(block) {
            let concerns = |row: HeapTid| wanted.contains(&row);
            if !element.deleted()
                && element.heap_tids().any(concerns)
                && !suspects.contains_key(&at)
            {
                holders.push(Holder::new(at, &element, shape, meta));
            }
        }
    })
}

/// The edit that an element needs. `None`: nothing can be done about it yet; `Some(None)`: it needs
/// none.
fn edit_of(
    nth: usize,
    holders: &[Holder],
    rows: &dyn Fn(HeapTid) -> Option<Decision>,
    source: &mut dyn PageSource,
    shape: &IndexShape,
    meta: &Meta,
) -> Result<Option<Option<RowsEdit>>, ReadError> {
    let holder = &holders[nth];
    let visible = holder.seen().count();
    let mut stays: Vec<HeapTid> = Vec::new();
    for (slot, row) in holder.slots.iter().enumerate() {
        let Some(row) = *row else { continue };
        let keeps = match rows(row) {
            Some(Decision::KeptIn(kept)) => kept == nth,
            Some(Decision::Undecided) if slot < visible => !holder.deleted,
            // Not looked at, because the element is not a suspect itself.
            None if slot < visible => true,
            _ => false,
        };
        if keeps && !stays.contains(&row) {
            stays.push(row);
        }
    }
    if !holder.is_sound() && !stays.is_empty() {
        return Ok(None);
    }
    let value = match &holder.value {
        _ if holder.deleted && holder.is_blank => NewValue::Stays,
        _ if holder.deleted => NewValue::Zero,
        Some(_) => NewValue::Stays,
        None => match value_nearby(source, holder, shape, meta)? {
            Some(value) => value,
            None => return Ok(None),
        },
    };
    let packed = stays.iter().copied().map(Some);
    let mut now = holder.slots.iter().copied();
    let is_packed = packed.eq(now.by_ref().take(stays.len())) && now.all(|slot| slot.is_none());
    if is_packed && value == NewValue::Stays {
        return Ok(Some(None));
    }
    Ok(Some(Some(RowsEdit {
        of: holder.judged,
        deleted: holder.deleted,
        was: holder.slots.clone(),
        stays,
        value,
    })))
}

/// The value of an element near by, for one whose own cannot be read and through which searches
/// pass: of one that it links to, else of where searches start.
fn value_nearby(
    source: &mut dyn PageSource,
    holder: &Holder,
    shape: &IndexShape,
    meta: &Meta,
) -> Result<Option<NewValue>, ReadError> {
    let seen = Seen::at(source, holder.judged.at, meta.m)?;
    let links = seen.map_or(Vec::new(), |seen| seen.layer(0).to_vec());
    for at in links.into_iter().flatten().chain(meta.entry) {
        if at == holder.judged.at || !is_legal(source, at, 0)? {
            continue;
        }
        let other = read_holder(source, at, shape, meta)?;
        if let Some(value) = other.and_then(|other| other.value)
            && value.len() + LENGTH_WORD <= holder.room
        {
            return Ok(Some(NewValue::Another { data: value }));
        }
    }
    Ok(None)
}
