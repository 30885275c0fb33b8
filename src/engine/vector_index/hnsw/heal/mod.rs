//! Mending a graph in place: what to change on which pages, rung by rung, cheapest first.
//!
//! | module | owns |
//! |---|---|
//! | [`edit`], `wants` | one change to one page, and what it was judged by |
//! | `survey`, `seen` | the index as it is, all of it and one element |
//! | `tuples`, `entry`, `prune`, `rows`, `link`, `merge`, `detour` | the rungs |
//! | `relink`, `doomed`, `codes` | links past what the next vacuum deletes |
//! | `draft`, `search`, `met`, `values`, `sources`, `owners` | what they need |
//!
//! Plans only: pages are changed by whoever holds the locks, edit by edit, and an edit whose
//! page is no longer as it was judged is lost and judged again in the next round.

mod codes;
mod detour;
mod doomed;
mod draft;
pub mod edit;
mod entry;
mod link;
mod merge;
mod met;
mod owners;
mod prune;
mod relink;
mod rows;
mod search;
mod seen;
mod sources;
mod survey;
mod tuples;
mod values;
mod wants;

pub use doomed::{BYTES_PER_ROW, Graveyard};
pub use edit::{Change, Edit, Judged};
pub use relink::{Relinking, cost_ms as relink_ms};
pub use rows::{RowsPlan, plan as plan_rows};
pub use survey::Survey;

use super::health::HnswFigures;
use super::layout::Meta;
use crate::vector_index::shape::IndexShape;
use crate::vector_index::{HeapTid, PageSource, ReadError};

/// Time to read a page that is in memory, in milliseconds, as measured on 100,000 × 128.
pub const PAGE_MS: f64 = 0.006;

/// Bytes of memory that planning takes for an element, besides the graph.
pub fn bytes_per_element() -> usize {
    // An element has a slot, and its neighbour tuple another.
    link::bytes_for(2 << 10) >> 10
}

/// Bytes that passing by a value takes for an element, besides that.
pub fn bytes_to_pass_by(m: u16, dimensions: u32) -> usize {
    detour::bytes_per_element(m, dimensions)
}

/// What a rung is expected to take once the graph is in memory, in milliseconds.
pub fn cost_ms(rung: Rung, figures: &HnswFigures) -> f64 {
    match rung {
        // Where figures are sound there is nothing of it.
        Rung::Tuples => 0.0,
        Rung::Entry => entry::cost_ms(figures),
        Rung::Prune => prune::cost_ms(figures),
        Rung::Link => link::cost_ms(figures),
        Rung::Merge { .. } => merge::cost_ms(figures),
        Rung::Detour { .. } => detour::cost_ms(figures),
    }
}

/// `hnsw.ef_search` at which whatever was linked shall find itself: pgvector's default.
pub const SELF_QUERY_EF: usize = link::WIDTH;

/// Links of a round at most: what they take is bounded, and the next round sees to the rest.
const MAX_LINKS: usize = 200_000;
/// Layers pruned in a round at most.
const MAX_PRUNED: usize = 20_000;

/// A rung of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// What neighbour tuples say of themselves.
    Tuples,
    /// Where searches start.
    Entry,
    /// Links that must not be there.
    Prune,
    /// What no search can reach.
    Link,
    /// The rows of a value that stand in more elements than they need.
    Merge {
        /// What stands for it.
        key: u64,
    },
    /// A value that so many rows share that searches end among its elements.
    Detour {
        /// What stands for it.
        key: u64,
    },
}

/// What is to be done on a rung.
#[derive(Debug, Default)]
pub struct Treatment {
    /// The edits, in the order in which they are to be made.
    pub edits: Vec<Edit>,
    /// Elements with rows that no search could reach, and those for which nothing can be done.
    pub orphans: u64,
    /// See `orphans`.
    pub left: u64,
    /// Rows of some of the orphans, to be searched for afterwards.
    pub patients: Vec<HeapTid>,
    /// Whether there is more to be done than a round takes.
    pub more: bool,
}

impl Survey {
    /// Plans a rung. The survey is out of date once edits of a rung were made.
    pub fn plan(
        &self,
        rung: Rung,
        shape: &IndexShape,
        source: &mut dyn PageSource,
    ) -> Result<Treatment, ReadError> {
        let orphans = self.orphan_count();
        Ok(match rung {
            Rung::Tuples => {
                let edits = tuples::plan(self, source, MAX_PRUNED)?;
                Treatment {
                    more: edits.len() >= MAX_PRUNED,
                    edits,
                    ..Treatment::default()
                }
            }
            Rung::Entry => Treatment {
                edits: entry::plan(self, source)?,
                ..Treatment::default()
            },
            Rung::Prune => {
                let edits = prune::plan(self, source, MAX_PRUNED)?;
                Treatment {
                    more: edits.len() >= MAX_PRUNED,
                    edits,
                    ..Treatment::default()
                }
            }
            Rung::Link => {
                let linked = link::plan(self, shape, source, MAX_LINKS)?;
                Treatment {
                    edits: linked.edits,
                    orphans,
                    left: linked.left,
                    patients: linked.patients,
                    more: linked.more,
                }
            }
            Rung::Merge { key } => Treatment {
                edits: merge::plan(self, key, source)?,
                ..Treatment::default()
            },
            Rung::Detour { key } => {
                let detoured = detour::plan(self, key, shape, source)?;
                Treatment {
                    edits: detoured.edits,
                    orphans,
                    left: detoured.left,
                    ..Treatment::default()
                }
            }
        })
    }

    /// Megabytes that `maintenance_work_mem` should have for a rung, where it has too few.
    pub fn lacks_memory(&self, rung: Rung) -> Option<usize> {
        let Rung::Detour { .. } = rung else {
            return None;
        };
        let elements = self.graph.live.iter().count();
        let each = bytes_to_pass_by(self.meta.m, self.meta.dimensions);
        let missing = (elements * each).checked_sub(self.room)?;
        (missing > 0).then(|| (self.limit + missing).div_ceil(1 << 20) + 1)
    }

    /// What the metapage said.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }
}
