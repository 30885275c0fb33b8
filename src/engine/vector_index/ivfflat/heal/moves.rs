//! An entry that goes from one list to another.
//!
//! Owns which entry goes where, what takes that back, and where entries are now. An entry is in
//! one list or in the other at any moment; a search that has read one of them and not yet the other would
//! find it twice or not at all, so whoever moves it makes sure that there is none.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::edit::ListEdit;
use crate::vector_index::edit::Undo;
use crate::vector_index::ivfflat::layout::{entries, entry};
use crate::vector_index::ivfflat::lists::{each_list, each_page_of_entries};
use crate::vector_index::page::{Pointed, RawPage, Tid};
use crate::vector_index::{HeapTid, PageSource, ReadError};

/// Where an entry is that was not looked for yet, or is not in the list it should be in.
const NOWHERE: Tid = Tid {
    block: u32::MAX,
    offset: 0,
};

/// An entry that goes to another list. Written down as `(block,offset) from>to`, there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Move {
    /// The row.
    pub row: HeapTid,
    /// The list it is in, counted from 0.
    pub from: u32,
    /// The list it belongs into.
    pub to: u32,
    /// Where it was seen; others on its page may have gone since.
    pub at: Tid,
}

impl From<Move> for String {
    fn from(one: Move) -> Self {
        let HeapTid { block, offset } = one.row;
        format!("({block},{offset}) {}>{}", one.from, one.to)
    }
}

impl TryFrom<String> for Move {
    type Error = &'static str;

    fn try_from(written: String) -> Result<Self, Self::Error> {
        let read = || {
            let (row, lists) = written.strip_prefix('(')?.split_once(") ")?;
            let ((block, offset), (from, to)) = (row.split_once(',')?, lists.split_once('>')?);
            let (block, offset) = (block.parse().ok()?, offset.parse().ok()?);
            Some(Self {
                row: HeapTid { block, offset },
                from: from.parse().ok()?,
                to: to.parse().ok()?,
                at: NOWHERE,
            })
        };
        read().ok_or("not a move from list to list")
    }
}

impl Undo for Move {
    fn undo(&self) -> Option<Self> {
        Some(Self {
            from: self.to,
            to: self.from,
            at: NOWHERE,
            ..*self
        })
    }
}

/// A change to the lists of an index, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ListChange {
    /// To one list.
    Edit(ListEdit),
    /// Of the list that an entry is in.
    Move(Move),
}

impl Undo for ListChange {
    fn undo(&self) -> Option<Self> {
        match self {
            Self::Edit(edit) => edit.undo().map(Self::Edit),
            Self::Move(one) => one.undo().map(Self::Move),
        }
    }
}

/// Finds the page of each entry in the list it should be in. Reads every page once, those of lists
/// twice.
pub fn locate(source: &mut dyn PageSource, moves: &mut [Move]) -> Result<(), ReadError> {
    let mut starts = Vec::new();
    let list_pages = each_list(source, &mut |_, _, list| starts.push(list.start))?;
    let wanted = (0..).zip(moves.iter());
    let wanted: HashMap<(HeapTid, u32), usize> = wanted
        .map(|(nth, one)| ((one.row, one.from), nth))
        .collect();
    each_page_of_entries(source, &starts, &list_pages, &mut |list, block, bytes| {
        for (offset, entry) in entries(&RawPage::new(bytes)) {
            if let Some(&nth) = wanted.get(&(entry.row, list)) {
                moves[nth].at = Tid { block, offset };
            }
        }
    })
}

/// A list that entries go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Where it stands.
    pub at: Tid,
    /// Its first page.
    pub start: u32,
    /// The first page that may have room.
    pub room: u32,
}

/// The lists in order.
pub fn chains(source: &mut dyn PageSource) -> Result<Vec<Chain>, ReadError> {
    let mut chains = Vec::new();
    each_list(source, &mut |_, at, list| {
        let start = list.start;
        let room = start;
        chains.push(Chain { at, start, room });
    })?;
    Ok(chains)
}

/// What moves the entries of a page to the pages of their list before it.
pub fn up(page: &RawPage<'_>, block: u32, list: u32) -> Vec<Move> {
    let up = entries(page).map(|(offset, entry)| Move {
        row: entry.row,
        from: list,
        to: list,
        at: Tid { block, offset },
    });
    up.collect()
}

/// The line pointer of a row's entry on a page, most likely that where it was seen, and the bytes of
/// the entry.
pub fn entry_of<'a>(page: &RawPage<'a>, row: HeapTid, seen: u16) -> Option<(u16, &'a [u8])> {
    let is_of = |offset: u16| match page.pointed(offset)? {
        Pointed::Tuple(tuple) => (entry(tuple)?.row == row).then_some((offset, tuple)),
        _ => None,
    };
    let others = || (1..=page.line_pointers()).find_map(is_of);
    is_of(seen).or_else(others)
}
