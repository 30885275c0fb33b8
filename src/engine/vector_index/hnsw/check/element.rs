//! Elements by themselves: their rows, their values, and the entry point.

use super::super::layout::{Element, HEAP_TIDS, Item, Meta, NEIGHBOR_TID, Page, Tid};
use super::is_entry;
use crate::vector_index::examination::{Claims, Suspect, Suspects, check_value, each_page, number};
use crate::vector_index::finding::Gravity;
use crate::vector_index::page::{TID, tid};
use crate::vector_index::shape::IndexShape;
use crate::vector_index::{HeapTid, PAGE_SIZE, PageSource, ReadError};

/// What is known of the elements that have gone by.
pub(super) struct Elements<'a> {
    shape: &'a IndexShape,
    meta: &'a Meta,
    rows: Claims,
    /// Level of the entry point, and whether it is deleted.
    entry: Option<(u8, bool)>,
    with_rows: u64,
}

impl<'a> Elements<'a> {
    /// Before the first.
    pub(super) fn new(shape: &'a IndexShape, meta: &'a Meta, memory_limit: usize) -> Self {
        Self {
            shape,
            meta,
            rows: Claims::new(memory_limit),
            entry: None,
            with_rows: 0,
        }
    }

    /// Checks the elements of a page.
    pub(super) fn see(&mut self, block: u32, bytes: &[u8; PAGE_SIZE], suspects: &mut Suspects) {
        let meta = self.meta;
        for (at, element) in Page::new(bytes).elements(block) {
            if is_entry(meta, at) {
                self.entry = Some((element.level(), element.deleted()));
            }
            check_rows(at, &element, suspects);
            if element.deleted() {
                check_deleted(at, &element, suspects);
                continue;
            }
            let rows: Vec<HeapTid> = element.heap_tids().collect();
            self.with_rows += u64::from(!rows.is_empty());
            let version = u64::from(element.version());
            let value = element.has_sane_length().then(|| element.value());
            check_value(at, version, value, self.shape, meta.dimensions, suspects);
            self.rows.claim(at, &rows, suspects);
        }
    }

    /// Says what is wrong with them together. Rows past what fits into memory take another pass, a
    /// run of the table at a time.
    pub(super) fn conclude(
        mut self,
        source: &mut dyn PageSource,
        blocks: u32,
        suspects: &mut Suspects,
    ) -> Result<(), ReadError> {
        check_entry(self.meta, self.entry, self.with_rows, suspects);
        while self.rows.next_run() {
            each_page(
                source,
                1..blocks,
                suspects,
                &mut |block, bytes, suspects| {
                    for (offset, item) in Page::new(bytes).items() {
                        if let Item::Element(element) = item
                            && !element.deleted()
                        {
                            let listed: Vec<_> = element.heap_tids().collect();
                            self.rows.claim(Tid { block, offset }, &listed, suspects);
                        }
                    }
                },
            )?;
        }
        Ok(())
    }
}

fn check_entry(meta: &Meta, found: Option<(u8, bool)>, with_rows: u64, suspects: &mut Suspects) {
    let error = |check| Suspect::index(Gravity::Error, check);
    match (meta.entry, found) {
        (None, _) if with_rows > 0 => suspects.add(error("entry_missing"), || {
            format!("{with_rows} elements have rows, and no search begins anywhere")
        }),
        (None, _) => {}
        (Some(tid), None) => suspects.add(error("entry_invalid").with(number(tid), 0), || {
            let Tid { block, offset } = tid;
            format!("the entry point ({block},{offset}) is no element")
        }),
        (Some(tid), Some((_, true))) => {
            suspects.add(error("entry_deleted").with(number(tid), 0), || {
                let Tid { block, offset } = tid;
                format!("the entry point ({block},{offset}) is deleted")
            });
        }
        (Some(tid), Some((level, false))) if meta.entry_level != i16::from(level) => {
            let suspect = Suspect::tuple(Gravity::Warning, "entry_level", tid);
            suspects.add(suspect.with(u64::from(level), 0), || {
                format!(
                    "the metapage has the entry point on level {}, it is on {level}",
                    meta.entry_level
                )
            });
        }
        _ => {}
    }
}

fn check_rows(at: Tid, element: &Element<'_>, suspects: &mut Suspects) {
    let slots = element.bytes()[HEAP_TIDS..NEIGHBOR_TID].chunks_exact(TID);
    let listed = element.heap_tids().len();
    if slots.skip(listed).any(|slot| tid(slot).offset != 0) {
        let suspect = Suspect::tuple(Gravity::Warning, "heap_tids_gap", at);
        suspects.add(suspect, || {
            format!("rows stand after the gap that follows the first {listed}")
        });
    }
    let rows: Vec<HeapTid> = element.heap_tids().collect();
    if let Some(row) = (1..rows.len()).find_map(|n| rows[..n].contains(&rows[n]).then_some(rows[n]))
    {
        let suspect = Suspect::tuple(Gravity::Warning, "heap_tids_repeated", at);
        suspects.add(suspect, || {
            format!("row ({},{}) is in the element twice", row.block, row.offset)
        });
    }
}

fn check_deleted(at: Tid, element: &Element<'_>, suspects: &mut Suspects) {
    let rows = element.heap_tids().len();
    // Up to pgvector 0.5 length and dimensions stay.
    let value = element.value().iter().skip(4).any(|&byte| byte != 0);
    if rows > 0 || value {
        let suspect = Suspect::tuple(Gravity::Warning, "deleted_not_empty", at);
        suspects.add(
            suspect.with(u64::from(element.version()), 0),
            || match rows {
                0 => "the element is deleted and still has a value".into(),
                rows => format!("the element is deleted and still has {rows} rows"),
            },
        );
    }
}
