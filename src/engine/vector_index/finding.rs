//! What a structural check reports.

use serde::{Deserialize, Serialize};

use super::HeapTid;

/// How bad a breach is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gravity {
    /// pgvector makes it itself and lives with it.
    Notice,
    /// Searches lose rows or time.
    Warning,
    /// Searches or writes fail, or give wrong rows.
    Error,
}

/// A breach of an invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breach {
    /// How bad it is.
    pub gravity: Gravity,
    /// The stable name of the check, in snake case.
    pub check: &'static str,
    /// Block of the index, where it is in one.
    pub block: Option<u32>,
    /// Line pointer on it, where it is at one.
    pub item: Option<u16>,
    /// Row of the table, where it is a certain one that the index should have.
    #[serde(skip)]
    pub row: Option<HeapTid>,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
}
