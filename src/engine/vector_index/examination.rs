//! Examining an index twice, because its pages are of different moments while it is written to:
//! what seems wrong at one examination, and what is wrong at two.

use std::collections::BTreeMap;

use super::finding::{Breach, Gravity};
use super::heap::TidSet;
use super::inspection::InspectError;
use super::page::{RawPage, Tid};
use super::shape::IndexShape;
use super::value::Value;
use super::{HeapTid, PAGE_SIZE, PageSource, ReadError};

/// Suspects kept; of more only the number is known.
const MAX_SUSPECTS: usize = 100_000;

/// Examines an index, and again where something seems wrong, and reports what was wrong the same
/// way both times.
pub(crate) fn twice(
    source: &mut dyn PageSource,
    examine: &dyn Fn(&mut dyn PageSource) -> Result<Suspects, InspectError>,
    report: &mut dyn FnMut(Breach),
) -> Result<(), InspectError> {
    let first = examine(source)?;
    if !first.found.is_empty() {
        first.and(examine(source)?, report);
    }
    Ok(())
}

/// Who looks at a page: its block, its bytes, and where to put what is wrong with it.
pub(crate) type Look<'a> = dyn FnMut(u32, &[u8; PAGE_SIZE], &mut Suspects) + 'a;

/// Shows every page of a range that can be read; one that cannot is a suspect.
pub(crate) fn each_page(
    source: &mut dyn PageSource,
    mut blocks: std::ops::Range<u32>,
    suspects: &mut Suspects,
    look: &mut Look<'_>,
) -> Result<(), ReadError> {
    loop {
        let left = blocks.start;
        let read = source.read(&mut blocks, &mut |block, bytes| {
            look(block, bytes, suspects);
        });
        match read {
            Err(ReadError::Unreadable { block, reason }) if blocks.start > left => {
                let suspect = Suspect::page(Gravity::Error, "page_unreadable", block);
                suspects.add(suspect, || reason);
            }
            read => return read,
        }
    }
}

/// Checks that a page is one of the access method's, with header and line pointers as PostgreSQL
/// leaves them. Tells whether its tuples can be looked at.
pub(crate) fn check_page(
    block: u32,
    page: &RawPage<'_>,
    page_id: u16,
    suspects: &mut Suspects,
) -> bool {
    let error = |check| Suspect::page(Gravity::Error, check, block);
    if page.is_zeroed() {
        let suspect = Suspect::page(Gravity::Warning, "page_zeroed", block);
        suspects.add(suspect, || {
            "the page is empty, as a crash can leave it".into()
        });
    } else if page.page_id() != page_id {
        suspects.add(error("page_kind"), || {
            format!(
                "the page bears the id {:#06x}, not {page_id:#06x}",
                page.page_id()
            )
        });
    } else if !page.has_sane_header() {
        suspects.add(error("page_header"), || {
            format!(
                "line pointers end at {}, tuples begin at {}, the special area at {}",
                page.lower(),
                page.upper(),
                page.special()
            )
        });
    } else {
        check_line_pointers(block, page, suspects);
        return true;
    }
    false
}

fn check_line_pointers(block: u32, page: &RawPage<'_>, suspects: &mut Suspects) {
    for offset in 1..=page.line_pointers() {
        let Some((start, length, state)) = page.line_pointer(offset) else {
            continue;
        };
        let lies_well =
            start >= page.upper() && start + length <= page.special() && start.is_multiple_of(8);
        if state != 1 || !lies_well {
            let suspect = Suspect::tuple(Gravity::Error, "line_pointer", Tid { block, offset });
            suspects.add(suspect, || {
                format!(
                    "the line pointer is in state {state} and leads to {length} bytes at {start}"
                )
            });
        }
    }
}

/// How far the length of a value stored at unit length may be from 1: halves have 11 bits.
const UNIT_TOLERANCE: f64 = 0.01;

/// Checks what follows a value's length word; none where the word cannot be true. `detail`: what
/// else must be the same at both examinations.
pub(crate) fn check_value(
    at: Tid,
    detail: u64,
    data: Option<&[u8]>,
    shape: &IndexShape,
    dimensions: u32,
    suspects: &mut Suspects,
) {
    let fault = match data.map(|data| Value::decode(shape.value_type, data)) {
        None => Some("the value's length word cannot be true".into()),
        Some(Err(fault)) => Some(fault),
        Some(Ok(value)) if value.dimensions() != dimensions => Some(format!(
            "the value has {} dimensions, the index {dimensions}",
            value.dimensions()
        )),
        Some(Ok(value)) => {
            let norm = if shape.normalized { value.norm() } else { 1.0 };
            let fault = value.fault();
            if fault.is_none() && (norm - 1.0).abs() > UNIT_TOLERANCE {
                let suspect = Suspect::tuple(Gravity::Error, "unit_length", at);
                suspects.add(suspect, || format!("the value has length {norm}, not 1"));
            }
            fault
        }
    };
    if let Some(fault) = fault {
        let suspect = Suspect::tuple(Gravity::Error, "value", at);
        suspects.add(suspect.with(detail, 0), || fault);
    }
}

/// What seems wrong: the same at two examinations if all of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Suspect {
    block: Option<u32>,
    item: Option<u16>,
    check: &'static str,
    gravity: Gravity,
    /// What else must be the same: the other end of a link, versions, levels.
    detail: [u64; 2],
}

impl Suspect {
    /// Something with the index as a whole.
    pub(crate) fn index(gravity: Gravity, check: &'static str) -> Self {
        Self {
            block: None,
            item: None,
            check,
            gravity,
            detail: [0; 2],
        }
    }

    /// Something with a page.
    pub(crate) fn page(gravity: Gravity, check: &'static str, block: u32) -> Self {
        Self {
            block: Some(block),
            ..Self::index(gravity, check)
        }
    }

    /// Something with a tuple.
    pub(crate) fn tuple(gravity: Gravity, check: &'static str, tid: Tid) -> Self {
        Self {
            item: Some(tid.offset),
            ..Self::page(gravity, check, tid.block)
        }
    }

    /// The same with what else must be the same.
    pub(crate) fn with(self, a: u64, b: u64) -> Self {
        Self {
            detail: [a, b],
            ..self
        }
    }
}

/// Everything that seems wrong.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    found: BTreeMap<Suspect, String>,
    unlisted: u64,
}

impl Suspects {
    /// Adds a suspect with what to say of it.
    pub(crate) fn add(&mut self, suspect: Suspect, message: impl FnOnce() -> String) {
        if self.found.len() < MAX_SUSPECTS {
            self.found.entry(suspect).or_insert_with(message);
        } else if !self.found.contains_key(&suspect) {
            self.unlisted += 1;
        }
    }

    /// Whether nothing seems wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Reports what both have.
    fn and(self, other: Self, report: &mut dyn FnMut(Breach)) {
        for (suspect, message) in self.found {
            if other.found.contains_key(&suspect) {
                report(Breach {
                    gravity: suspect.gravity,
                    check: suspect.check,
                    block: suspect.block,
                    item: suspect.item,
                    row: None,
                    message,
                });
            }
        }
        let more = self.unlisted.min(other.unlisted);
        if more > 0 {
            report(Breach {
                gravity: Gravity::Error,
                check: "more",
                block: None,
                item: None,
                row: None,
                message: format!("{more} more breaches are not listed"),
            });
        }
    }
}

/// A tuple's place as a number.
pub(crate) fn number(tid: Tid) -> u64 {
    u64::from(tid.block) << 16 | u64::from(tid.offset)
}

/// Which rows are in the index already, as far as memory allows: the table is taken in runs.
pub(crate) struct Claims {
    rows: TidSet,
    most: u64,
    /// Rows from here on, and up to here, are looked at now.
    from: u64,
    until: Option<u64>,
}

impl Claims {
    /// Nothing claimed yet.
    pub(crate) fn new(memory_limit: usize) -> Self {
        Self {
            rows: TidSet::default(),
            most: TidSet::rows_for(memory_limit),
            from: 0,
            until: None,
        }
    }

    /// Claims the rows of a tuple; what it has twice counts once.
    pub(crate) fn claim(&mut self, at: Tid, rows: &[HeapTid], suspects: &mut Suspects) {
        for (nth, &row) in rows.iter().enumerate() {
            let ordinal = TidSet::ordinal(row);
            let is_of_run = self.from <= ordinal && self.until.is_none_or(|until| ordinal < until);
            if !is_of_run || rows[..nth].contains(&row) {
                continue;
            }
            if !self.rows.insert(row) {
                let HeapTid { block, offset } = row;
                let suspect = Suspect::tuple(Gravity::Error, "row_claimed_twice", at);
                suspects.add(suspect.with(ordinal, 0), || {
                    format!("row ({block},{offset}) is in the index before, too")
                });
            } else if self.rows.len() > self.most.max(1) {
                self.until = Some(self.rows.split_off_half());
            }
        }
    }

    /// Goes on to the rows for which there was no room, if there are any.
    pub(crate) fn next_run(&mut self) -> bool {
        self.rows = TidSet::default();
        let until = self.until.take();
        self.from = until.unwrap_or(self.from);
        until.is_some()
    }
}
