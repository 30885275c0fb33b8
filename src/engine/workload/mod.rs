//! What statements really ask of the indexes: queries captured from them, kept to measure with.
//!
//! Owns which of them are kept, for how long, and when they are enough. Knows nothing of how they
//! are captured, nor of where they are kept.

pub mod sample;
mod visit;

pub use visit::take_up;

/// A query that a statement asked of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedQuery {
    /// The index, as an OID at the time.
    pub index_oid: u32,
    /// What follows the length word of its value.
    pub value: Vec<u8>,
}
