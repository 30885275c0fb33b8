//! An entry that goes from one list to another.
//!
//! Owns which entry goes where, what takes that back, and where entries are now. An entry is in
//! one list or in the other at any moment; a search that has read one of them and not yet the other would
//! find it twice or not at all, so whoever moves it makes sure that there is none.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::de::Error;
use serde_json::{Value, json};

use super::edit::ListEdit;
use super::relocation::{Chains, Spare};
use crate::vector_index::edit::{Read, Undo, Write};
use crate::vector_index::ivfflat::layout::entries;
use crate::vector_index::page::{RawPage, Tid};
use crate::vector_index::{HeapTid, PageSource, ReadError};

/// Where an entry is that was not looked for yet, or is not in the list it should be in.
pub(super) const NOWHERE: Tid = Tid {
    block: u32::MAX,
    offset: 0,
};

/// An entry that goes to another list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// One text for all of them, there are many: `3>17 120,4 120,5 >18 121,1` are two rows of block 120 that go from
/// list 3 to list 17, and one of block 121 that goes from there to list 18.
impl Write for Move {
    fn write(changes: &[Self]) -> serde_json::Result<Value> {
        let mut text = String::new();
        let mut last = None;
        for one in changes {
            let said = match last {
                Some((from, to)) if (from, to) == (one.from, one.to) => Ok(()),
                Some((from, _)) if from == one.from => write!(text, ">{} ", one.to),
                _ => write!(text, "{}>{} ", one.from, one.to),
            };
            let row = one.row;
            said.and_then(|()| write!(text, "{},{} ", row.block, row.offset))
                .map_err(serde_json::Error::custom)?;
            last = Some((one.from, one.to));
        }
        Ok(json!([text.trim_end()]))
    }
}

fn read_moves(text: &str) -> Option<Vec<Move>> {
    let (mut moves, mut from, mut to) = (Vec::new(), None, None);
    for word in text.split_ascii_whitespace() {
        if let Some((new_from, new_to)) = word.split_once('>') {
            if !new_from.is_empty() {
                from = Some(new_from.parse().ok()?);
            }
            to = Some(new_to.parse().ok()?);
        } else {
            let (block, offset) = word.split_once(',')?;
            let row = HeapTid {
                block: block.parse().ok()?,
                offset: offset.parse().ok()?,
            };
            let (from, to, at) = (from?, to?, NOWHERE);
            moves.push(Move { row, from, to, at });
        }
    }
    Some(moves)
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

/// A change to the lists of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListChange {
    /// To one list.
    Edit(ListEdit),
    /// Of the list that an entry is in.
    Move(Move),
}

impl Read for ListChange {
    fn read(written: Value) -> serde_json::Result<Vec<Self>> {
        let values: Vec<Value> = serde_json::from_value(written)?;
        let mut changes = Vec::new();
        for value in values {
            match value.as_str() {
                Some(text) => {
                    let wrong = || Error::custom(format!("no moves from list to list: {text}"));
                    let moves = read_moves(text).ok_or_else(wrong)?;
                    changes.extend(moves.into_iter().map(Self::Move));
                }
                None => changes.push(Self::Edit(serde_json::from_value(value)?)),
            }
        }
        Ok(changes)
    }
}

impl Undo for ListChange {
    fn undo(&self) -> Option<Self> {
        match self {
            Self::Edit(edit) => edit.undo().map(Self::Edit),
            Self::Move(one) => one.undo().map(Self::Move),
        }
    }
}

/// Finds the page of each entry in the list it should be in, and the pages of all lists. Reads every page
/// once, those of lists twice.
pub fn locate(
    source: &mut dyn PageSource,
    moves: &mut [Move],
    spare: Spare,
) -> Result<Chains, ReadError> {
    let wanted = (0..).zip(moves.iter());
    let wanted: HashMap<(HeapTid, u32), usize> = wanted
        .map(|(nth, one)| ((one.row, one.from), nth))
        .collect();
    Chains::look(source, spare, &mut |list, block, bytes| {
        for (offset, entry) in entries(&RawPage::new(bytes)) {
            if let Some(&nth) = wanted.get(&(entry.row, list)) {
                moves[nth].at = Tid { block, offset };
            }
        }
    })
}
