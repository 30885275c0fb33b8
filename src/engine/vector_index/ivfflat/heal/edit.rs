//! One change to one list, with everything it was judged by.
//!
//! Owns what must still be true for an edit to be made, the making of it on the bytes of a page,
//! and what takes it back. Entries do not move: a search that has read the list before sees it as
//! it was, and one that reads it afterwards as it is.

use serde::{Deserialize, Serialize};

use crate::vector_index::edit::{PageEdit, Undo};
use crate::vector_index::ivfflat::layout::{CENTER, INSERT_PAGE, has_id};
use crate::vector_index::page::{Pointed, RawPage, Tid, u32_at};
use crate::vector_index::{PAGE_SIZE, PageSource, ReadError};

/// A change to one list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListEdit {
    /// To its centre, both with their length words.
    Center {
        /// The list.
        at: Tid,
        /// The bytes that are there.
        #[serde(with = "hex")]
        was: Vec<u8>,
        /// As many that shall be there.
        #[serde(with = "hex")]
        to: Vec<u8>,
    },
    /// To where inserts begin to look for room: at its first page from now on.
    InsertPage {
        /// The list.
        at: Tid,
        /// Its first page.
        start: u32,
        /// Where they begin now.
        was: u32,
    },
}

impl ListEdit {
    fn at(&self) -> Tid {
        match self {
            Self::Center { at, .. } | Self::InsertPage { at, .. } => *at,
        }
    }
}

impl Undo for ListEdit {
    /// None where what was there led inserts astray.
    fn undo(&self) -> Option<Self> {
        match self {
            Self::Center { at, was, to } => Some(Self::Center {
                at: *at,
                was: to.clone(),
                to: was.clone(),
            }),
            Self::InsertPage { .. } => None,
        }
    }
}

impl PageEdit for ListEdit {
    type Of = ();

    fn block(&self) -> u32 {
        self.at().block
    }

    /// Inserts read a list and write it under its buffer's lock, and keep nothing of it in mind
    /// that an edit could belie.
    fn excludes_inserts(&self) -> bool {
        false
    }

    /// A list begins on a page of its kind.
    fn holds(&self, source: &mut dyn PageSource) -> Result<bool, ReadError> {
        let Self::InsertPage { start, .. } = self else {
            return Ok(true);
        };
        let mut found = false;
        source.read(&mut std::iter::once(*start), &mut |_, bytes| {
            found = has_id(&RawPage::new(bytes));
        })?;
        Ok(found && *start > 0)
    }

    fn apply(&self, (): (), page: &mut [u8; PAGE_SIZE]) -> bool {
        let at = self.at();
        let raw = RawPage::new(page);
        if !has_id(&raw) || !raw.has_sane_header() {
            return false;
        }
        let Some(Pointed::Tuple(tuple)) = raw.pointed(at.offset) else {
            return false;
        };
        let Some((start, ..)) = raw.line_pointer(at.offset) else {
            return false;
        };
        let (from, to) = match self {
            Self::Center { was, to, .. } => {
                let stored = tuple.get(CENTER..).unwrap_or_default();
                if !stored.starts_with(was) || was.len() != to.len() {
                    return false;
                }
                (start + CENTER, to.clone())
            }
            Self::InsertPage {
                start: first, was, ..
            } => {
                let is_as_judged = tuple.len() >= CENTER
                    && u32_at(tuple, 0) == *first
                    && u32_at(tuple, INSERT_PAGE) == *was;
                if !is_as_judged {
                    return false;
                }
                (start + INSERT_PAGE, first.to_le_bytes().to_vec())
            }
        };
        let bytes = page.get_mut(from..from + to.len());
        bytes.map(|bytes| bytes.copy_from_slice(&to)).is_some()
    }
}
