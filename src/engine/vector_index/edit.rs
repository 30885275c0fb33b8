//! A change to an index, whatever kind the index is of.
//!
//! Owns what whoever holds the locks has to know of a change to make it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{PAGE_SIZE, PageSource, ReadError};

/// Changes that can be written down before they are made: each as serde has it, or fewer values for many.
pub trait Write: Sized {
    /// As they are written down, in order.
    fn write(changes: &[Self]) -> serde_json::Result<Value>;
}

impl<C: Serialize> Write for C {
    fn write(changes: &[Self]) -> serde_json::Result<Value> {
        serde_json::to_value(changes)
    }
}

/// Changes that were written down.
pub trait Read: Sized {
    /// In order.
    fn read(written: Value) -> serde_json::Result<Vec<Self>>;
}

impl<C: DeserializeOwned> Read for C {
    fn read(written: Value) -> serde_json::Result<Vec<Self>> {
        serde_json::from_value(written)
    }
}

/// A change that can be taken back, or cannot.
pub trait Undo: Sized {
    /// What takes it back once it was made, if anything does.
    fn undo(&self) -> Option<Self>;
}

/// A change to one page, or to two at once, with everything it was judged by.
pub trait PageEdit: Undo {
    /// What has to be known of the whole index to make it.
    type Of: Copy;

    /// The block that is changed.
    fn block(&self) -> u32;
    /// Another block that is changed with it, if one is.
    fn other_block(&self) -> Option<u32> {
        None
    }
    /// Whether no search may be under way.
    fn excludes_searches(&self) -> bool {
        false
    }
    /// Whether no insert may be under way.
    fn excludes_inserts(&self) -> bool;
    /// Whether what it was judged by, outside the page that is changed, is still so.
    fn holds(&self, source: &mut dyn PageSource) -> Result<bool, ReadError>;
    /// The same of many edits; none of those of which it can only be told right before they are made.
    fn all_hold(
        edits: &[Self],
        _source: &mut dyn PageSource,
    ) -> Result<Vec<Option<bool>>, ReadError> {
        Ok(vec![None; edits.len()])
    }
    /// Makes the change on the page of [`Self::block`] and tells so, if that is as it was judged;
    /// else the page stays as it is.
    fn apply(&self, of: Self::Of, page: &mut [u8; PAGE_SIZE]) -> bool;
    /// The same where [`Self::other_block`] is changed as well: both, or none.
    fn apply_across(
        &self,
        _of: Self::Of,
        _page: &mut [u8; PAGE_SIZE],
        _other: &mut [u8; PAGE_SIZE],
    ) -> bool {
        false
    }
}
