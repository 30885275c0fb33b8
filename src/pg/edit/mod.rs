//! The only way in which pages of an index in place are changed.
//!
//! A change needs four things, each of which can only be had from the one before: the lock on the
//! table ([`Hold`]), under which no vacuum deletes what an edit was judged by; pgvector's update
//! lock on the index ([`UpdateLock`]), which every insert holds while it decides and writes; the
//! exclusive lock on the buffer, under which the bytes are compared with those that were judged;
//! and a record in the log, which makes the change whole or not at all (`page`).
//!
//! Nobody is waited for: locks are taken when they are free, within a limit. Nobody waits long:
//! the table is let go of after [`BATCH_TIME`] or [`BATCH`] edits, and whoever waited has it then.

mod hold;
mod page;
mod update_lock;

pub use hold::Hold;

use std::time::Duration;

use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::edit::PageEdit;
use update_lock::UpdateLock;

/// Edits made under one lock on the table.
pub const BATCH: usize = 256;
/// Time for which it is held, at most.
const BATCH_TIME: Duration = Duration::from_millis(50);
/// Edits made under one update lock, one by one where inserts wait for it.
const SHARED_RUN: usize = 16;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Batch {
    /// Edits dealt with, from the first.
    pub done: usize,
    /// Those of them that were lost, by their number: the page was no longer as it was judged.
    pub lost: Vec<usize>,
}

/// Makes as many of `edits` as fit into a batch, at least one. Outside a transaction. `limit`: how
/// long a lock is tried for, and anybody may wait behind ours.
pub fn make<E: PageEdit>(
    index: &IndexInfo,
    of: E::Of,
    edits: &[E],
    limit: Duration,
) -> Result<Batch, PortError> {
    let time = BATCH_TIME.min(limit / 2);
    Hold::with(index, limit, |hold| {
        let mut batch = Batch::default();
        while batch.done < edits.len().min(BATCH) && (batch.done == 0 || hold.held() < time) {
            let exclusive = edits[batch.done].excludes_inserts();
            let lock = UpdateLock::take(hold.index(), exclusive, limit)?;
            let run = if exclusive { 1 } else { SHARED_RUN };
            for (nth, edit) in edits.iter().enumerate().skip(batch.done).take(run) {
                if edit.excludes_inserts() != exclusive {
                    break;
                }
                let holds = edit.holds(hold.pages())?;
                if !holds || !page::write(hold, &lock, of, edit) {
                    batch.lost.push(nth);
                }
                batch.done = nth + 1;
            }
        }
        Ok(batch)
    })
}
