//! The rows of one element changed, and its value where that cannot be read.

use serde::{Deserialize, Serialize};

use crate::vector_index::hnsw::heal::edit::Judged;
use crate::vector_index::hnsw::layout::{
    Element, HEAP_TIDS, Item, LENGTH_WORD, MAX_HEAP_TIDS, NEIGHBOR_TID, Page, VALUE,
};
use crate::vector_index::page::{TID, Tid, tid, tid_bytes};
use crate::vector_index::{HeapTid, PAGE_SIZE};

/// What becomes of an element's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewValue {
    /// It stays.
    Stays,
    /// Zeroes, as in what vacuum deletes.
    Zero,
    /// That of another element, so that searches pass through. It is not written down: values
    /// are their owner's.
    Another {
        /// What follows its length word.
        #[serde(skip)]
        data: Vec<u8>,
    },
}

/// The rows that an element has, and those that stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsEdit {
    /// Whose.
    pub of: Judged,
    /// Whether vacuum has deleted it.
    pub deleted: bool,
    /// All its slots for rows.
    pub was: Vec<Option<HeapTid>>,
    /// What stays, from the first slot on.
    pub stays: Vec<HeapTid>,
    /// Its value.
    pub value: NewValue,
}

impl RowsEdit {
    /// Whether the element is on a page as it was judged.
    pub(in super::super) fn is_as_judged(&self, page: &Page<'_>) -> bool {
        self.finds(page).is_some()
    }

    /// The edit that gives an element whose value stays the rows that it had.
    pub(in super::super) fn taken_back(&self) -> Self {
        let stays = self.stays.iter().copied().map(Some);
        let slots = stays.chain(std::iter::repeat(None)).take(self.was.len());
        Self {
            was: slots.collect(),
            stays: self.was.iter().flatten().copied().collect(),
            ..self.clone()
        }
    }

    fn finds<'a>(&self, page: &Page<'a>) -> Option<Element<'a>> {
        let Some(Item::Element(element)) = page.item(self.of.at.offset) else {
            return None;
        };
        let slots = element.bytes()[HEAP_TIDS..NEIGHBOR_TID].chunks_exact(TID);
        let slots = slots.map(|bytes| Some(tid(bytes)).filter(|tid| tid.offset != 0));
        let row = |Tid { block, offset }| HeapTid { block, offset };
        let is_same = element.deleted() == self.deleted
            && element.version() == self.of.version
            && element.level() == self.of.level
            && slots.map(|slot| slot.map(row)).eq(self.was.iter().copied());
        is_same.then_some(element)
    }

    /// Makes the change, and tells so, if the element is as it was judged.
    pub(in super::super) fn apply(&self, page: &mut [u8; PAGE_SIZE]) -> bool {
        let looked = Page::new(page);
        let Some(element) = self.finds(&looked) else {
            return false;
        };
        let Some((start, length, _)) = looked.raw().line_pointer(self.of.at.offset) else {
            return false;
        };
        let size = element.value_size();
        if self.stays.len() > MAX_HEAP_TIDS {
            return false;
        }
        let value = start + VALUE;
        match &self.value {
            NewValue::Stays => {}
            NewValue::Zero => page[value..value + size].fill(0),
            NewValue::Another { data } => {
                let whole = LENGTH_WORD + data.len();
                if whole > length - VALUE {
                    return false;
                }
                let word = (whole as u32) << 2;
                page[value..value + LENGTH_WORD].copy_from_slice(&word.to_le_bytes());
                page[value + LENGTH_WORD..value + whole].copy_from_slice(data);
            }
        }
        let slots = &mut page[start + HEAP_TIDS..start + NEIGHBOR_TID];
        let mut stays = self.stays.iter();
        for slot in slots.chunks_exact_mut(TID) {
            let row = stays
                .next()
                .map(|&HeapTid { block, offset }| Tid { block, offset });
            slot.copy_from_slice(&tid_bytes(row));
        }
        true
    }
}
