//! The only way in which pages of an index in place are changed.
//!
//! A change needs four things, each of which can only be had from the one before: the lock on the
//! table ([`Hold`]), under which no vacuum deletes what an edit was judged by; pgvector's update
//! lock on the index ([`PageLock`]), which every insert holds while it decides and writes; the
//! exclusive lock on the buffer, under which the bytes are compared with those that were judged;
//! and a record in the log, which makes the change whole or not at all (`page`). Where entries go
//! from page to page ([`relocate`]) the index is locked so that nobody else uses it, and the
//! record is of all their pages (`lone_pages`).
//!
//! Nobody is waited for: locks are taken when they are free, within a limit. Nobody waits long:
//! once the table was held for [`BATCH_TIME`] it is let go of as soon as somebody waits for it, and
//! inserts are not waited for any longer than that meanwhile.

mod hold;
mod lone_pages;
mod page;
mod page_lock;
mod relocate;

pub use hold::Hold;
pub use relocate::{blocks_alone, relocate, relocate_run, tidy};

use std::time::Duration;

use page_lock::PageLock;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::edit::PageEdit;

/// Time for which it is held although somebody waits, at most.
const BATCH_TIME: Duration = Duration::from_millis(50);
/// The same where nobody does: autovacuum does not wait, it goes to the next table.
const MOST_HELD: Duration = Duration::from_secs(1);
/// The same for which no search must be under way, while no insert may begin.
const MOMENT: Duration = Duration::from_millis(5);
/// Edits whose pages are looked at together at first; twice as many from then on while that takes
/// half of [`BATCH_TIME`] at most, so that pages which many edits look at are read once.
const FIRST_LOOK: usize = 8;
/// Pages looked at for an edit, about.
const PAGES_OF_AN_EDIT: u64 = 3;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Batch {
    /// Edits dealt with, from the first.
    pub done: usize,
    /// Those of them that were lost, by their number: the page was no longer as it was judged.
    pub lost: Vec<usize>,
    /// Pages that were looked at for them, about.
    pub pages: u64,
    /// For how long others had to wait, if anybody did.
    pub kept_waiting: Duration,
}

/// Makes as many of `edits` as there is time for under one lock on the table, at least one. Outside a
/// transaction. `limit`: how long a lock is tried for, and anybody may wait behind ours.
pub fn make<E: PageEdit>(
    index: &IndexInfo,
    of: E::Of,
    edits: &[E],
    limit: Duration,
) -> Result<Batch, PortError> {
    let time = BATCH_TIME.min(limit / 2);
    Hold::with(index, limit, |hold| {
        let mut batch = Batch::default();
        // As long as the table is held nothing that is there goes.
        let mut holds: Vec<Option<bool>> = Vec::new();
        let mut look = FIRST_LOOK;
        while batch.done < edits.len() {
            let held = hold.held();
            let is_over = held >= MOST_HELD || held >= time && hold.is_waited_for();
            if batch.done > 0 && is_over {
                break;
            }
            if holds.len() == batch.done {
                let next = &edits[batch.done..edits.len().min(batch.done + look)];
                holds.extend(E::all_hold(next, hold.pages())?);
                if 4 * (hold.held() - held) < time {
                    look *= 2;
                }
            }
            let first = &edits[batch.done];
            let exclusive = first.excludes_inserts();
            let alike = |edit: &&E| {
                edit.block() == first.block()
                    && edit.other_block() == first.other_block()
                    && edit.excludes_inserts() == exclusive
                    && edit.excludes_searches() == first.excludes_searches()
            };
            let rest = edits[batch.done..holds.len()].iter();
            let end = batch.done + rest.take_while(alike).count();
            let locks = PageLock::of_inserts(hold.index(), exclusive, time).and_then(|lock| {
                let excludes = first.excludes_searches();
                let moment = time.min(MOMENT);
                let searches = excludes.then(|| PageLock::of_searches(hold.index(), moment));
                Ok((lock, searches.transpose()?))
            });
            let (lock, _searches) = match locks {
                Err(PortError::Busy(_)) if batch.done > 0 => break,
                locks => locks?,
            };
            let mut run = Vec::with_capacity(end - batch.done);
            for nth in batch.done..end {
                let holds = match holds[nth] {
                    Some(holds) => holds,
                    None => edits[nth].holds(hold.pages())?,
                };
                match holds {
                    true => run.push(nth),
                    false => batch.lost.push(nth),
                }
            }
            let made: Vec<&E> = run.iter().map(|&nth| &edits[nth]).collect();
            let made = page::write(hold, &lock, of, &made);
            let lost = run.into_iter().zip(made).filter(|(_, made)| !made);
            batch.lost.extend(lost.map(|(nth, _)| nth));
            batch.done = end;
        }
        batch.pages = batch.done as u64 * PAGES_OF_AN_EDIT;
        Ok(batch)
    })
}
