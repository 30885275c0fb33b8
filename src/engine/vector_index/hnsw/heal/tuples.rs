//! The rung before the others: neighbour tuples whose version or count of slots is not their
//! element's, so that pgvector 0.8 does not see the links in them.
//!
//! The element says which they must be, and the length of the tuple proves it: it has room for so
//! many slots, and is not what a tuple of its own count would be. Cost: the page of each such
//! element, and one pass over the index, because nobody else may have the tuple. There is no undo.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::edit::{Edit, Judged};
use super::survey::Survey;
use super::wants::is_there;
use crate::vector_index::hnsw::layout::{Item, LINKS, Page};
use crate::vector_index::hnsw::read_page;
use crate::vector_index::page::{Pointed, TID, Tid, max_align, u16_at};
use crate::vector_index::{PAGE_SIZE, PageSource, ReadError};

/// What a neighbour tuple says of itself, set to what its element says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The element.
    pub of: Judged,
    /// The tuple.
    pub tuple: Tid,
    /// Its version and its count of slots now.
    pub was: (u8, u16),
}

impl Header {
    /// Whether the element is there and the tuple is still its own.
    pub(super) fn holds(&self, source: &mut dyn PageSource) -> Result<bool, ReadError> {
        if !is_there(source, &self.of, self.of.level)? {
            return Ok(false);
        }
        let mut owns = false;
        read_page(source, self.of.at.block, &mut |page| {
            if let Some(Item::Element(element)) = page.item(self.of.at.offset) {
                owns = element.neighbor_tid() == self.tuple;
            }
        })?;
        Ok(owns)
    }

    /// Makes the change, and tells so, if the tuple is as it was.
    pub(super) fn apply(&self, m: u16, page: &mut [u8; PAGE_SIZE]) -> bool {
        let raw = Page::new(page).raw();
        let Some(Pointed::Tuple(tuple)) = raw.pointed(self.tuple.offset) else {
            return false;
        };
        let Some((start, ..)) = raw.line_pointer(self.tuple.offset) else {
            return false;
        };
        if said(tuple) != Some(self.was) || proven(tuple, self.of.level, m).is_none() {
            return false;
        }
        let count = slots(self.of.level, m) as u16;
        page[start + 1] = self.of.version;
        page[start + 2..start + 4].copy_from_slice(&count.to_le_bytes());
        true
    }
}

/// Slots of an element's neighbour tuple.
fn slots(level: u8, m: u16) -> usize {
    (usize::from(level) + 2) * usize::from(m)
}

/// What a neighbour tuple says of itself.
fn said(tuple: &[u8]) -> Option<(u8, u16)> {
    let is_one = tuple.len() >= LINKS && tuple[0] == 2;
    is_one.then(|| (tuple[1], u16_at(tuple, 2)))
}

/// What a neighbour tuple says of itself, if its length proves it to be one of an element of this
/// level. Where a slot is used again the tuple may be longer than it need be.
fn proven(tuple: &[u8], level: u8, m: u16) -> Option<(u8, u16)> {
    let said = said(tuple)?;
    let length = |count: usize| max_align(LINKS + count * TID);
    let (wanted, its_own) = (slots(level, m), usize::from(said.1));
    let its_length = max_align(tuple.len());
    let fits = match its_length == length(wanted) {
        true => true,
        // A tuple that is whole by its own count is not the element's.
        false => its_length > length(wanted) && its_length != length(its_own),
    };
    (fits && u16::try_from(wanted).is_ok()).then_some(said)
}

/// The tuples to be set right, `most` at most.
pub(super) fn plan(
    survey: &Survey,
    source: &mut dyn PageSource,
    most: usize,
) -> Result<Vec<Edit>, ReadError> {
    let m = survey.meta.m;
    let mut found: BTreeMap<Tid, Header> = BTreeMap::new();
    for slot in survey
        .graph
        .live
        .iter()
        .filter(|&slot| survey.has_no_links(slot))
    {
        if found.len() >= most {
            break;
        }
        let Some(of) = survey.judged(slot) else {
            continue;
        };
        let mut at = None;
        read_page(source, of.at.block, &mut |page| {
            if let Some(Item::Element(element)) = page.item(of.at.offset) {
                at = Some(element.neighbor_tid());
            }
        })?;
        let Some(tuple) = at.filter(|at| at.block > 0) else {
            continue;
        };
        let mut was = None;
        read_page(source, tuple.block, &mut |page| {
            if let Some(Pointed::Tuple(bytes)) = page.raw().pointed(tuple.offset) {
                was = proven(bytes, of.level, m);
            }
        })?;
        let wanted = (of.version, slots(of.level, m) as u16);
        if let Some(was) = was.filter(|was| *was != wanted) {
            found.insert(tuple, Header { of, tuple, was });
        }
    }
    if !found.is_empty() {
        leave_out_shared(source, &mut found)?;
    }
    Ok(found.into_values().map(Edit::Header).collect())
}

/// Leaves out the tuples that another element has, too.
fn leave_out_shared(
    source: &mut dyn PageSource,
    found: &mut BTreeMap<Tid, Header>,
) -> Result<(), ReadError> {
    let blocks = source.block_count()?;
    source.read(&mut (1..blocks), &mut |block, bytes| {
        for (at, element) in Page::new(bytes).elements(block) {
            let tuple = element.neighbor_tid();
            if found.get(&tuple).is_some_and(|header| header.of.at != at) {
                found.remove(&tuple);
            }
        }
    })
}
