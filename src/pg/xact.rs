//! Transactions of a worker: begun, committed, and aborted cleanly when something is raised.

use std::panic::AssertUnwindSafe;

use pgrx::{PgTryBuilder, pg_sys};
use ruvector_dag_healing_engine::ports::PortError;

use super::error::classify;

/// Whether a transaction takes a snapshot at its start. Without one it holds back nothing
/// while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// Taken and active throughout.
    Active,
    /// None: for waiting, and for reading pages.
    None,
}

/// Runs `work` in a transaction of its own. Commits when it returns `Ok`; aborts when it returns
/// `Err` or raises, in which case the error comes back as a value. For workers only: the caller
/// is outside any transaction.
pub fn transaction<T>(
    snapshot: Snapshot,
    work: impl FnOnce() -> Result<T, PortError>,
) -> Result<T, PortError> {
    // Nothing that `work` touched is looked at again after it raised: the transaction is gone.
    let work = AssertUnwindSafe(|| {
        // SAFETY: called outside a transaction, as this function's contract says.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            if snapshot == Snapshot::Active {
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            }
        }
        let value = work()?;
        // SAFETY: pops what was pushed above, ends what was started above.
        unsafe {
            if snapshot == Snapshot::Active {
                pg_sys::PopActiveSnapshot();
            }
            pg_sys::CommitTransactionCommand();
        }
        Ok(value)
    });
    let result = PgTryBuilder::new(work)
        .catch_others(|error| Err(classify(&error)))
        .execute();
    if result.is_err() {
        // SAFETY: idempotent; brings the process back to a state without a transaction. The
        // error itself was copied and flushed when it was caught.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    result
}
