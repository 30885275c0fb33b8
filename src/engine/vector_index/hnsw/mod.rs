//! HNSW indexes of pgvector: what their pages say and how healthy their graph is.
//!
//! | module | owns |
//! |---|---|
//! | [`layout`] | the bytes on a page |
//! | `scan` | bringing elements and their links together |
//! | `tally`, `placement`, `room` | what can be counted while pages go by |
//! | `graph`, `slots`, `nodes`, `lists` | the graph in memory |
//! | `reach`, `judge`, `recheck`, `dangling` | what is wrong with it, seen twice |
//! | `pages` | the same where the graph does not fit into memory |
//! | `health` | the figures |
//! | `anatomy` | those of how the graph is built |
//! | `sink`, `origin` | what a graph was born with |
//! | [`check`](mod@check) | whether everything is as pgvector leaves it |
//! | `entries` | the rows and values it has |
//! | [`heal`] | mending it in place |

mod anatomy;
mod check;
mod dangling;
mod entries;
mod graph;
pub mod heal;
mod health;
mod judge;
pub mod layout;
mod lists;
mod nodes;
mod origin;
mod pages;
mod placement;
mod reach;
mod recheck;
mod room;
mod scan;
mod sink;
mod slots;
mod tally;

pub use anatomy::Anatomy;
pub use check::check;
pub use entries::entries;
pub use graph::bytes_per_element;
pub use health::{HnswFigures, HnswReport, inspect};
pub use origin::{Origin, origin};
pub use room::MAX_PAGES_PER_INSERT;
pub use sink::{DuplicateSink, duplicate_sink};

use crate::vector_index::inspection::InspectError;
use crate::vector_index::{PageSource, ReadError};
use layout::Meta;

/// Reads one page; nothing happens if it is past the end.
fn read_page(
    source: &mut dyn PageSource,
    block: u32,
    sink: &mut dyn FnMut(&layout::Page<'_>),
) -> Result<(), ReadError> {
    source.read(&mut std::iter::once(block), &mut |_, bytes| {
        sink(&layout::Page::new(bytes))
    })
}

/// Links that an element has room for on each layer but the ground, where it is twice as many.
pub fn links_per_layer(source: &mut dyn PageSource) -> Result<u16, InspectError> {
    Ok(read_meta(source)?.m)
}

/// Reads the metapage.
fn read_meta(source: &mut dyn PageSource) -> Result<Meta, InspectError> {
    let mut meta = None;
    read_page(source, 0, &mut |page| meta = Some(Meta::decode(page)))?;
    match meta {
        Some(decoded) => decoded.map_err(|reason| InspectError::NotSuch { reason }),
        None => Err(ReadError::Gone.into()),
    }
}
