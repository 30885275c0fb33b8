//! Mending lists in place: what to change on which pages.
//!
//! | module | owns |
//! |---|---|
//! | [`edit`] | one change to one list, and what it was judged by |
//! | [`survey`] | the lists as they are, read once |
//! | [`regroup`] | which lists are split, which dissolved, and which entries move for it |
//! | [`moves`] | an entry that goes from one list to another |
//! | [`relocation`] | the pages on which it goes |
//! | `centers` | which centre is nearest |
//! | `training` | where centres of a rebuild would be |
//!
//! Plans only: pages are changed by whoever holds the locks, edit by edit, and an edit whose page
//! is no longer as it was judged is lost.
//!
//! What moving the centres does to searches: every row was put into the list whose centre was
//! nearest then, and a search for it went to the same. With moved centres searches go where the
//! rows of a list are, but some rows are then in another list than the nearest. Queries that are
//! no rows gain by it, as the lists after the first come in a better order; queries that are rows
//! may lose. Which is more is forecast from where the neighbours of real queries are, before
//! anything is written (`verification::forecast`).

mod centers;
pub mod edit;
pub mod moves;
pub mod regroup;
pub mod relocation;
pub mod survey;
mod training;

pub use edit::ListEdit;
pub use moves::{ListChange, Move};
pub use regroup::Regrouping;
pub use survey::ListSurvey;

use super::drift::bytes_per_list;
use super::health::IvfflatFigures;
use crate::vector_index::PAGE_SIZE;

/// Bytes of memory that a survey takes for the lists alone.
pub fn bytes_for(figures: &IvfflatFigures) -> u64 {
    figures.lists * bytes_per_list(figures.dimensions) as u64
}

/// Time to add the component of an entry to a sum and to compare one with a centre's, in
/// nanoseconds, and to write a centre, in milliseconds, as measured on 100,000 × 128 (see
/// `benches/lists.rs`).
const ADD_NS: f64 = 1.0;
const COMPARE_NS: f64 = 0.1;
const WRITE_MS: f64 = 0.1;

/// What a survey takes once the pages are in memory, in milliseconds, with what tells where the
/// centres of a rebuild would be.
pub fn survey_ms(figures: &IvfflatFigures) -> f64 {
    let dimensions = f64::from(figures.dimensions);
    let compared = (figures.lists as f64).powi(2) * dimensions * survey::COMPARED_PER_LIST as f64;
    figures.vectors as f64 * dimensions * ADD_NS * 1e-6 + compared * COMPARE_NS * 1e-6
}

/// Time to move a byte of an entry, in nanoseconds, and how often it is written to the log, with what is
/// beside it and the list of moves, as measured on 100,000 × 128 (see `benches/lists.rs`).
const MOVE_NS: f64 = 4.5;
const LOGGED: f64 = 1.5;
/// Share of the lists whose centres change, and of the entries that move, about.
const CHANGED: f64 = 0.3;
/// Pages whose entries move together when they go one by one: half of those that are written together,
/// the others being where they go.
pub const PAGES_TOGETHER: usize = relocation::MOST_PAGES / 2;

/// Bytes of the entries that move when the sizes of lists are evened.
fn moved_bytes(figures: &IvfflatFigures) -> f64 {
    let entry = f64::from(figures.dimensions) * 4.0 + 16.0;
    CHANGED * figures.vectors as f64 * entry
}

/// Bytes that evening the sizes of lists writes, to the log and to the list of moves.
pub fn regrouping_bytes(figures: &IvfflatFigures) -> u64 {
    (LOGGED * moved_bytes(figures)) as u64
}

/// Bytes of memory that it takes: where every entry goes, at worst, while that is sorted; which pages
/// lists have; and what is on pages that are sorted anew, twice.
pub fn regrouping_memory(figures: &IvfflatFigures) -> u64 {
    let moves = 2 * figures.vectors * size_of::<Move>() as u64;
    let pages = figures.pages * size_of::<u32>() as u64;
    moves + pages + 2 * (relocation::MOST_SORTED * PAGE_SIZE) as u64
}

/// What evening the sizes of lists takes once the pages are in memory, in milliseconds.
pub fn regrouping_ms(figures: &IvfflatFigures) -> f64 {
    let (vectors, lists) = (figures.vectors as f64, figures.lists as f64);
    let compared = vectors * 2.0 * CHANGED * lists * f64::from(figures.dimensions);
    compared * COMPARE_NS * 1e-6 + moved_bytes(figures) * MOVE_NS * 1e-6
}

/// What moving the centres takes, in milliseconds.
pub fn recentering_ms(figures: &IvfflatFigures) -> f64 {
    figures.lists as f64 * WRITE_MS
}
