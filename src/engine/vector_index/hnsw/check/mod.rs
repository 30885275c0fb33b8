//! amcheck for HNSW indexes: whether everything on the pages is as pgvector leaves it.
//!
//! Owns the invariants and their names. Knows nothing of the table (see
//! [`crate::vector_index::table`]), and nothing of quality: what a fresh build can have too is
//! a figure, no breach.
//!
//! | check | gravity | what holds otherwise |
//! |---|---|---|
//! | `metapage` | error | block 0 is a metapage that pgvector can use |
//! | `dimensions` | error | the metapage has the column's dimensions |
//! | `pending_rebuild` | warning | the index was built with the `m` of its options |
//! | `page_unreadable` | error | every page can be read |
//! | `page_kind` | error | every page bears the id of an HNSW page |
//! | `page_header` | error | header, line pointers and special area lie where they should |
//! | `page_zeroed` | warning | no page is empty as a crash can leave it |
//! | `page_chain` | error | the chain of pages leads upwards to its end |
//! | `page_unchained` | warning | every page is on the chain, or no vacuum comes to it |
//! | `insert_page` | warning | inserts begin on a page of the chain |
//! | `line_pointer` | error | every line pointer leads to a tuple on the page |
//! | `item` | error | every tuple is an element or a neighbour tuple |
//! | `entry_missing` | error | an index with elements has an entry point |
//! | `entry_invalid` | error | the entry point is an element |
//! | `entry_deleted` | error | the entry point is not deleted |
//! | `entry_level` | warning | the metapage has the entry point's level |
//! | `heap_tids_gap` | warning | an element's rows stand without gaps |
//! | `heap_tids_repeated` | warning | an element has each row once |
//! | `row_claimed_twice` | error | a row is in one element only |
//! | `value` | error | a value can be read and has the column's dimensions |
//! | `unit_length` | error | a value stored at unit length has it |
//! | `deleted_not_empty` | warning | a deleted element has neither rows nor value |
//! | `neighbor_tuple` | error | an element's neighbour tuple is one |
//! | `neighbor_tuple_shared` | error | no two elements share a neighbour tuple |
//! | `neighbor_version` | warning | element and neighbour tuple are of one version |
//! | `neighbor_count` | warning | a neighbour tuple has the slots of its element's level |
//! | `neighbor_hole` | warning | the links of a layer stand without gaps |
//! | `edge_to_nothing` | error | a link leads to a tuple |
//! | `edge_to_neighbor_tuple` | error | a link leads to an element |
//! | `edge_to_deleted` | error | a link leads to an element that is not deleted |
//! | `edge_above_level` | warning | a link leads to an element of the link's layer |
//! | `edge_to_itself` | warning | no element links to itself |
//! | `edge_repeated` | notice | an element links to another once on a layer |
//! | `no_links` | warning | an element with others has links on the ground layer |
//!
//! Pages are of different moments while an index is written to. So everything is examined
//! twice, and reported is what was wrong the same way both times: a link with the same target,
//! a deleted element of the same version. The links of elements that a vacuum is at (without
//! rows) to elements it has deleted are no breach.

mod element;
mod links;
mod page;
mod places;

use super::layout::Meta;
use crate::vector_index::PageSource;
use crate::vector_index::examination::{Suspects, each_page, twice};
use crate::vector_index::finding::Breach;
use crate::vector_index::inspection::InspectError;
use crate::vector_index::shape::IndexShape;
use element::Elements;
use page::Pages;
use places::Places;

/// Checks the structure of an index, with some `memory_limit` bytes, and reports every breach.
/// An index that is written to meanwhile gives no breach that it does not have. A page that
/// cannot be read is a breach; the rest is checked all the same.
pub fn check(
    source: &mut dyn PageSource,
    shape: &IndexShape,
    memory_limit: usize,
    report: &mut dyn FnMut(Breach),
) -> Result<(), InspectError> {
    twice(
        source,
        &|source| examine(source, shape, memory_limit),
        report,
    )
}

/// One examination of everything.
fn examine(
    source: &mut dyn PageSource,
    shape: &IndexShape,
    memory_limit: usize,
) -> Result<Suspects, InspectError> {
    let mut suspects = Suspects::default();
    let blocks = source.block_count()?;
    let mut meta = None;
    each_page(source, 0..1, &mut suspects, &mut |_, page, suspects| {
        meta = page::meta(page, shape, suspects);
    })?;
    // Without a metapage nothing says how many links there are.
    let Some(meta) = meta else {
        return Ok(suspects);
    };
    let mut pages = Pages::new(blocks);
    let mut elements = Elements::new(shape, &meta, memory_limit);
    let mut places = Places::new(1, blocks.max(1));
    each_page(
        source,
        1..blocks,
        &mut suspects,
        &mut |block, bytes, suspects| {
            pages.see(block, bytes, suspects);
            elements.see(block, bytes, suspects);
            places.see(meta.m, block, bytes, memory_limit);
        },
    )?;
    pages.conclude(&meta, &mut suspects);
    elements.conclude(source, blocks, &mut suspects)?;
    links::check(source, &meta, places.ended(), memory_limit, &mut suspects)?;
    Ok(suspects)
}

/// Whether the entry point is where an element is.
fn is_entry(meta: &Meta, tid: super::layout::Tid) -> bool {
    meta.entry == Some(tid)
}
