//! amcheck for IVFFlat indexes: whether everything on the pages is as pgvector leaves it.
//!
//! | check | gravity | what holds otherwise |
//! |---|---|---|
//! | `metapage` | error | block 0 is a metapage that pgvector can use |
//! | `dimensions` | error | the metapage has the column's dimensions |
//! | `pending_rebuild` | warning | the index was built with the `lists` of its options |
//! | `page_unreadable`, `page_kind`, `page_header`, `line_pointer` | error | as in an HNSW index |
//! | `page_zeroed` | warning | no page is empty as a crash can leave it |
//! | `page_chain` | error | the chain of a list leads to its end |
//! | `page_in_two_lists` | error | a page is in one list only |
//! | `page_in_no_list` | warning | every page that has entries is in a list, or no search comes to them |
//! | `list_count` | error | there are as many lists as the metapage says |
//! | `list_start` | error | a list begins on a page of entries |
//! | `insert_page` | warning | inserts into a list begin on one of its pages |
//! | `center` | error | a centre can be read, has the index's dimensions and is finite |
//! | `value` | error | a value can be read and has the index's dimensions |
//! | `unit_length` | error | a value stored at unit length has it |
//! | `row_claimed_twice` | error | a row is in one list, once |
//!
//! Everything is examined twice, because pages are of different moments.

use super::layout::{Meta, PAGE_ID, entries, lists};
use super::lists::Passes;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::examination::{
    Claims, Suspect, Suspects, check_page, check_value, each_page, number, twice,
};
use crate::vector_index::finding::{Breach, Gravity};
use crate::vector_index::inspection::InspectError;
use crate::vector_index::page::{RawPage, Tid};
use crate::vector_index::shape::IndexShape;
use crate::vector_index::value::Value;
use crate::vector_index::{PageSource, ReadError};

/// Checks the structure of an index, with some `memory_limit` bytes besides 4 for each page, and
/// reports every breach. An index that is written to meanwhile gives no breach that it does not
/// have. A page that cannot be read is a breach; the rest is checked all the same.
pub fn check(
    source: &mut dyn PageSource,
    shape: &IndexShape,
    memory_limit: usize,
    report: &mut dyn FnMut(Breach),
) -> Result<(), InspectError> {
    twice(
        source,
        &|source| examine(source, shape, memory_limit),
        report,
    )
}

fn examine(
    source: &mut dyn PageSource,
    shape: &IndexShape,
    memory_limit: usize,
) -> Result<Suspects, InspectError> {
    let mut suspects = Suspects::default();
    let blocks = source.block_count()?;
    let mut meta = None;
    each_page(source, 0..1, &mut suspects, &mut |_, bytes, suspects| {
        meta = check_meta(&RawPage::new(bytes), shape, suspects);
    })?;
    let Some(meta) = meta else {
        return Ok(suspects);
    };
    let mut owners = Owners::new(blocks);
    check_lists(source, shape, &meta, &mut owners, &mut suspects)?;

    let mut rows = Claims::new(memory_limit);
    // Pages that have something on them, but no list has led to yet; and those that were looked at.
    let (mut lost, mut seen) = (Bitmap::new(blocks as usize), Bitmap::new(blocks as usize));
    while let Some(lowest) = owners.passes.begin() {
        each_page(
            source,
            lowest..blocks,
            &mut suspects,
            &mut |block, bytes, suspects| {
                let page = RawPage::new(bytes);
                if seen.contains(block as usize) {
                    return;
                }
                let is_sound = check_page(block, &page, PAGE_ID, suspects);
                let Owner::List(list) = owners.of(block) else {
                    let has_some = is_sound && page.line_pointers() > 0;
                    lost.set(
                        block as usize,
                        has_some && owners.of(block) == Owner::Nobody,
                    );
                    return;
                };
                lost.remove(block as usize);
                seen.insert(block as usize);
                if !is_sound {
                    return;
                }
                for (offset, entry) in entries(&page) {
                    let at = Tid { block, offset };
                    // Entries move on their page when others go.
                    let row = number(Tid {
                        block: entry.row.block,
                        offset: entry.row.offset,
                    });
                    let value = entry.value();
                    let dimensions = u32::from(meta.dimensions);
                    check_value(at, row, value.as_deref(), shape, dimensions, suspects);
                    rows.claim(at, &[entry.row], suspects);
                }
                if let Some(next) = page.next_block() {
                    owners.hand_on(list, block, next, suspects);
                }
            },
        )?;
    }
    // Repairs in place leave pages behind that are empty.
    for block in lost.iter().filter_map(|block| u32::try_from(block).ok()) {
        let suspect = Suspect::page(Gravity::Warning, "page_in_no_list", block);
        suspects.add(suspect, || {
            "no list leads to the page, so no search does".into()
        });
    }
    owners.check_insert_pages(&mut suspects);
    while rows.next_run() {
        each_page(
            source,
            1..blocks,
            &mut suspects,
            &mut |block, bytes, suspects| {
                if matches!(owners.of(block), Owner::List(_)) {
                    for (offset, entry) in entries(&RawPage::new(bytes)) {
                        rows.claim(Tid { block, offset }, &[entry.row], suspects);
                    }
                }
            },
        )?;
    }
    Ok(suspects)
}

fn check_meta(page: &RawPage<'_>, shape: &IndexShape, suspects: &mut Suspects) -> Option<Meta> {
    let meta = match Meta::decode(page) {
        Ok(meta) => meta,
        Err(reason) => {
            suspects.add(Suspect::page(Gravity::Error, "metapage", 0), || reason);
            return None;
        }
    };
    let own = u32::from(meta.dimensions);
    if let Some(wanted) = shape.dimensions.filter(|&wanted| wanted != own) {
        suspects.add(Suspect::page(Gravity::Error, "dimensions", 0), || {
            format!("the metapage has {own} dimensions, the column {wanted}")
        });
    }
    let own = u32::from(meta.lists);
    if let Some(wanted) = shape.option.filter(|&wanted| wanted != own) {
        suspects.add(Suspect::page(Gravity::Warning, "pending_rebuild", 0), || {
            format!("the index was built with {own} lists and its options now say {wanted}; only a rebuild changes it")
        });
    }
    Some(meta)
}

/// Follows the chain of the pages of lists.
fn check_lists(
    source: &mut dyn PageSource,
    shape: &IndexShape,
    meta: &Meta,
    owners: &mut Owners,
    suspects: &mut Suspects,
) -> Result<(), ReadError> {
    let blocks = owners.of.len() as u32;
    let mut next = Some(1);
    let mut starts = Vec::new();
    while let Some(block) = next.filter(|&block| block < blocks) {
        owners.of[block as usize] = LISTS;
        next = None;
        each_page(
            source,
            block..block + 1,
            suspects,
            &mut |_, bytes, suspects| {
                let page = RawPage::new(bytes);
                for (offset, list) in lists(&page) {
                    let at = Tid { block, offset };
                    starts.push((at, list.start));
                    owners.insert_pages.push((at, list.insert));
                    let center = list
                        .center
                        .as_deref()
                        .map(|center| Value::decode(shape.value_type, center));
                    let fault = match center {
                        None => Some("the centre's length word cannot be true".into()),
                        Some(Err(fault)) => Some(fault),
                        Some(Ok(center)) if center.dimensions() != u32::from(meta.dimensions) => {
                            Some(format!("the centre has {} dimensions", center.dimensions()))
                        }
                        Some(Ok(center)) => center.fault(),
                    };
                    if let Some(fault) = fault {
                        suspects.add(Suspect::tuple(Gravity::Error, "center", at), || fault);
                    }
                }
                next = page.next_block();
                if let Some(to) = next.filter(|&to| to <= block || to >= blocks) {
                    next = None;
                    let suspect = Suspect::page(Gravity::Error, "page_chain", block);
                    suspects.add(suspect.with(u64::from(to), 0), || {
                        format!("the chain of the pages of lists leads to block {to}")
                    });
                }
            },
        )?;
    }
    if starts.len() != usize::from(meta.lists) {
        suspects.add(Suspect::index(Gravity::Error, "list_count"), || {
            format!(
                "the metapage has {} lists, {} are there",
                meta.lists,
                starts.len()
            )
        });
    }
    for (nth, (at, start)) in (0..).zip(starts) {
        match owners.of(start) {
            Owner::Nobody if start < blocks && start > 0 => owners.of[start as usize] = nth,
            Owner::List(_) => owners.in_two(start, suspects),
            _ => {
                let suspect = Suspect::tuple(Gravity::Error, "list_start", at);
                suspects.add(suspect.with(u64::from(start), 0), || {
                    format!("the list begins at block {start}, which is no page of entries")
                });
            }
        }
    }
    Ok(())
}

/// No list, and the pages that the lists themselves stand on.
const NOBODY: u32 = u32::MAX;
const LISTS: u32 = u32::MAX - 1;

/// Whose a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Lists,
    List(u32),
}

/// Whose each page is, as far as the chains were followed; and where inserts begin.
struct Owners {
    of: Vec<u32>,
    insert_pages: Vec<(Tid, u32)>,
    passes: Passes,
}

impl Owners {
    fn new(blocks: u32) -> Self {
        Self {
            of: vec![NOBODY; blocks as usize],
            insert_pages: Vec::new(),
            passes: Passes::new(),
        }
    }

    fn of(&self, block: u32) -> Owner {
        match self.of.get(block as usize) {
            None | Some(&NOBODY) => Owner::Nobody,
            Some(&LISTS) => Owner::Lists,
            Some(&list) => Owner::List(list),
        }
    }

    /// Gives the next page of a chain to its list.
    fn hand_on(&mut self, list: u32, block: u32, next: u32, suspects: &mut Suspects) {
        let is_new = next as usize >= self.of.len();
        match self.of(next) {
            Owner::Nobody if next > 0 && !is_new => {
                self.of[next as usize] = list;
                self.passes.lead(block, next);
            }
            Owner::List(other) if other != list => self.in_two(next, suspects),
            _ => {
                // Past the end there may be a page that was appended since the end was seen; it
                // is not past the end of the other examination.
                let suspect = Suspect::page(Gravity::Error, "page_chain", block);
                suspects.add(suspect.with(u64::from(next), 0), || {
                    format!("the chain of the list leads to block {next}")
                });
            }
        }
    }

    fn in_two(&self, block: u32, suspects: &mut Suspects) {
        let suspect = Suspect::page(Gravity::Error, "page_in_two_lists", block);
        suspects.add(suspect, || "two lists lead to the page".into());
    }

    fn check_insert_pages(&self, suspects: &mut Suspects) {
        for (nth, &(at, insert)) in (0..).zip(&self.insert_pages) {
            if self.of(insert) != Owner::List(nth) {
                let suspect = Suspect::tuple(Gravity::Warning, "insert_page", at);
                suspects.add(suspect.with(u64::from(insert), 0), || {
                    format!("inserts into the list begin at block {insert}, which is not its own")
                });
            }
        }
    }
}
