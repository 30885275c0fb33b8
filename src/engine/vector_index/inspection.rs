//! How an index of either kind is inspected, and why it cannot be.

use super::ReadError;

/// How an index is to be inspected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectOptions {
    /// Bytes the graph may take. Past them the pages are read several times instead.
    pub memory_limit: usize,
    /// Whether to take the figures of how a graph is built, too: several walks over it.
    pub anatomy: bool,
    /// Rows to draw at random.
    pub sample_rows: usize,
    /// What the draw begins with; the same seed draws the same rows.
    pub seed: u64,
}

impl Default for InspectOptions {
    /// PostgreSQL's own default of `maintenance_work_mem`, 64 MiB, and no rows.
    fn default() -> Self {
        Self {
            memory_limit: 64 << 20,
            anatomy: false,
            sample_rows: 0,
            seed: 0,
        }
    }
}

/// Why an index could not be inspected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// Its pages could not be had.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no index of this kind, or its metapage is damaged.
    #[error("not such an index: {reason}")]
    NotSuch {
        /// What is wrong with the metapage.
        reason: String,
    },
}
