//! Entries that go from list to list, on the pages of an index that nobody else uses meanwhile.
//!
//! | module | owns |
//! |---|---|
//! | [`chains`] | the pages of every list, in order, and those of none |
//! | `schedule` | which entries go one by one, and which in runs |
//! | `single` | entries that go one by one |
//! | `stretch` | pages of a list from which much goes: sorted anew and handed over run by run |
//! | `wanted` | which entries on pages of a list are to go where |
//! | `contents` | what is on pages of a list, and on which pages it will be |
//! | `record` | pages that change together |
//! | `page` | a page of a list, copied to be changed |
//!
//! Whatever ends the process, every entry is in one list: what changes together is written together.

pub mod chains;
mod contents;
mod page;
mod record;
mod schedule;
mod single;
mod stretch;
mod wanted;

pub use chains::{Chains, Spare};
pub use schedule::{MOST_SORTED, Scattered, Schedule};
pub use single::move_singly;
pub use stretch::move_run;

use crate::vector_index::{PAGE_SIZE, PageSource, ReadError};
use record::Record;

/// Pages of an index that nobody else uses meanwhile, here or where the log is replayed.
pub trait Alone: PageSource {
    /// Writes pages, all of them or none whatever ends the process, at most [`MOST_PAGES`]. Those that are not
    /// there yet are added at the end, in order.
    fn write(&mut self, pages: &[(u32, &[u8; PAGE_SIZE])]) -> Result<(), ReadError>;
}

/// Pages that are written together, at most: those of a record of the log.
pub const MOST_PAGES: usize = 32;

/// Puts what is left of lists from which most has gone onto fewer pages, and then empties the pages of no list
/// that have something on them; some of it at a time, until the [chains are tidy](Chains::are_tidy).
pub fn tidy(alone: &mut dyn Alone, chains: &mut Chains) -> Result<(), ReadError> {
    if let Some((list, from)) = chains.to_compact.pop() {
        let next = stretch::compact(alone, chains, list, from)?;
        chains.to_compact.extend(next.map(|next| (list, next)));
        return Ok(());
    }
    let used = std::iter::from_fn(|| chains.used.pop_first());
    let used: Vec<u32> = used.take(MOST_PAGES).collect();
    Record::start(alone)?.finish_with_empty(&used)?;
    chains.add_spare(&used);
    Ok(())
}

fn astray(block: u32) -> ReadError {
    ReadError::Unreadable {
        block,
        reason: "a list does not lead on as it should".into(),
    }
}
