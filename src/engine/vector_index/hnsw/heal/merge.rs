//! The rung that brings the rows of one value together.
//!
//! An element has room for ten rows. Parallel builds and inserts at once leave many with one or two,
//! because each sees only what is near it of the others: 650 elements for 1,000 rows, of which a
//! search for the value finds as many as it is wide. Rows move from the elements with fewest to
//! those with most, each with a single record, until no element is left that could be emptied; an
//! emptied one is left to the next vacuum. Where few would be nothing is done.
//!
//! Cost: the index is read once, and two pages written for each element that is emptied, or half.

use std::collections::HashMap;

use super::PAGE_MS;
use super::edit::{Edit, Judged};
use super::rows::{NewValue, RowsEdit};
use super::survey::Survey;
use crate::vector_index::hnsw::HnswFigures;
use crate::vector_index::hnsw::layout::{MAX_HEAP_TIDS, Page};
use crate::vector_index::hnsw::sink::key;
use crate::vector_index::{HeapTid, PageSource, ReadError};

/// What it is expected to take, in milliseconds: each element is emptied, at most.
pub(super) fn cost_ms(figures: &HnswFigures) -> f64 {
    let sink = figures.duplicate_sink.as_ref();
    let elements = sink.map_or(0, |sink| sink.elements);
    (figures.pages + 4 * elements) as f64 * PAGE_MS
}

/// The least share of the elements, as one in so many, that is worth being emptied.
const WORTH: usize = 5;

/// An element of the value, with what it has at the moment.
struct Holder {
    judged: Judged,
    is_reached: bool,
    rows: Vec<HeapTid>,
}

impl Holder {
    fn free(&self) -> usize {
        MAX_HEAP_TIDS.saturating_sub(self.rows.len())
    }

    /// The edit after which it has these rows, which it then has.
    fn change(&mut self, stays: Vec<HeapTid>) -> RowsEdit {
        let was = std::mem::replace(&mut self.rows, stays);
        let free = std::iter::repeat_n(None, MAX_HEAP_TIDS - was.len());
        RowsEdit {
            of: self.judged,
            deleted: false,
            was: was.into_iter().map(Some).chain(free).collect(),
            stays: self.rows.clone(),
            value: NewValue::Stays,
        }
    }
}

/// What empties elements of the value that `wanted` stands for into others of the same.
pub(super) fn plan(
    survey: &Survey,
    wanted: u64,
    source: &mut dyn PageSource,
) -> Result<Vec<Edit>, ReadError> {
    let mut edits = Vec::new();
    for mut holders in holders(survey, wanted, source)? {
        let rows: usize = holders.iter().map(|holder| holder.rows.len()).sum();
        let spared = holders.len() - rows.div_ceil(MAX_HEAP_TIDS);
        if WORTH * spared < holders.len() {
            continue;
        }
        // Rows go to where searches come, and to where most are.
        let entry = survey.meta.entry;
        holders.sort_by_key(|holder| {
            let is_entry = entry == Some(holder.judged.at);
            std::cmp::Reverse((is_entry, holder.is_reached, holder.rows.len()))
        });
        let free: usize = holders.iter().map(Holder::free).sum();
        let (mut free, mut next) = (free, 0);
        while let Some(mut last) = holders.pop() {
            free = free.saturating_sub(last.free());
            if free < last.rows.len() {
                break;
            }
            free -= last.rows.len();
            while !last.rows.is_empty() {
                let into = &mut holders[next];
                let count = last.rows.len().min(into.free());
                if count == 0 {
                    next += 1;
                    continue;
                }
                let (stay, go) = last.rows.split_at(last.rows.len() - count);
                let (stay, all) = (stay.to_vec(), [&into.rows, go].concat());
                edits.push(Edit::Merge {
                    from: last.change(stay),
                    into: into.change(all),
                });
            }
        }
    }
    Ok(edits)
}

/// The elements with rows whose links are sound, of one value each.
fn holders(
    survey: &Survey,
    wanted: u64,
    source: &mut dyn PageSource,
) -> Result<Vec<Vec<Holder>>, ReadError> {
    let graph = &survey.graph;
    // What stands for a value may stand for another as well.
    let mut found: HashMap<Vec<u8>, Vec<Holder>> = HashMap::new();
    let blocks = source.block_count()?;
    source.read(&mut (1..blocks), &mut |block, bytes| {
        for (at, element) in Page::new(bytes).elements(block) {
            let is_wanted = element.has_sane_length()
                && element.heap_tids().len() > 0
                && key(&element) == wanted;
            let slot = graph.slot_of(at, &element).filter(|_| is_wanted);
            let Some(slot) = slot.filter(|&slot| survey.has_sound_links(slot)) else {
                continue;
            };
            let holder = Holder {
                judged: Judged {
                    at,
                    level: element.level(),
                    version: element.version(),
                },
                is_reached: !survey.missed.contains(slot),
                rows: element.heap_tids().collect(),
            };
            match found.get_mut(element.value()) {
                Some(same) => same.push(holder),
                None => {
                    found.insert(element.value().to_vec(), vec![holder]);
                }
            }
        }
    })?;
    Ok(found.into_values().collect())
}
