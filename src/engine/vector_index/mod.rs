//! pgvector's index files, from bytes to figures.
//!
//! Owns the reading of pages and everything computed from them. Knows nothing of where pages
//! come from, of locks, or of PostgreSQL: bytes arrive through a [`PageSource`] and are taken
//! to be hostile. Nothing here panics, hangs or allocates beyond what the size of the file and
//! the limits handed in justify.

mod agenda;
mod bitmap;
mod chunked;
pub mod edit;
mod examination;
pub mod finding;
mod frequent;
pub mod heap;
pub mod hnsw;
pub mod inspection;
pub mod ivfflat;
pub mod page;
pub mod release;
pub(crate) mod sample;
pub mod shape;
pub mod table;
pub mod value;
mod varlena;

use serde::{Deserialize, Serialize};

/// Bytes of a page: PostgreSQL's block size as every released package has it.
pub const PAGE_SIZE: usize = 8192;

/// Where page bytes come from.
pub trait PageSource {
    /// Blocks the index file has now. Also asked between long computations, so that a source
    /// can end them with an error.
    fn block_count(&mut self) -> Result<u32, ReadError>;

    /// Hands each block asked for to `sink`, in the order asked; a block past the end is
    /// skipped. After [`ReadError::Unreadable`] the iterator stands behind that block, and what
    /// came before it has been handed on. The iterator may be drawn from ahead of the sink. A page is a consistent copy
    /// of one moment; two pages may be of different moments.
    fn read(
        &mut self,
        blocks: &mut dyn Iterator<Item = u32>,
        sink: &mut dyn FnMut(u32, &[u8; PAGE_SIZE]),
    ) -> Result<(), ReadError>;

    /// Whether the index is for certain as it was when reading began, no write to it half done,
    /// so that all pages read since are of one moment.
    fn is_still(&mut self) -> bool {
        false
    }

    /// Whether a vacuum may be at work on the index.
    fn may_be_vacuumed(&mut self) -> bool {
        true
    }
}

/// Why pages could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The index was dropped, rewritten or truncated while it was read.
    #[error("the index was dropped, rewritten or truncated while it was read")]
    Gone,
    /// A block could not be read.
    #[error("block {block} could not be read: {reason}")]
    Unreadable {
        /// The block.
        block: u32,
        /// What the source says about it.
        reason: String,
    },
    /// The reader was asked to stop.
    #[error("reading was asked to stop")]
    Stopped,
}

/// Where a row of the table is: what an index entry points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HeapTid {
    /// Block of the table.
    pub block: u32,
    /// Line pointer on it, from 1.
    pub offset: u16,
}
