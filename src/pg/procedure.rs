//! Waiting across transactions, as a procedure may.

use std::time::Duration;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::error::{UserError, raise};
use super::lifecycle;

/// Calls `look` again and again, each time in a transaction of its own, until it is satisfied.
/// No snapshot is held in between. Only inside a `CALL` outside a transaction block.
pub fn poll(call: pg_sys::FunctionCallInfo, nap: Duration, mut look: impl FnMut() -> bool) {
    // SAFETY: PostgreSQL passes a CallContext where the function is run by CALL.
    let atomic = unsafe {
        let context = (*call).context;
        context.is_null()
            || (*context).type_ != pg_sys::NodeTag::T_CallContext
            || (*context.cast::<pg_sys::CallContext>()).atomic
    };
    if atomic {
        raise(
            UserError::new(
                PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_TERMINATION,
                "cannot wait for a repair inside a transaction block",
            )
            .detail("The repair would wait for this very transaction to end.")
            .hint("CALL ruvector_dag_wait(…) on its own, outside BEGIN … COMMIT."),
        );
    }
    while !look() {
        // SAFETY: a non-atomic call; committing ends the transaction with its snapshot and
        // begins the next, as PL/pgSQL's COMMIT does.
        unsafe {
            pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32);
            pg_sys::SPI_commit();
            pg_sys::SPI_finish();
        }
        lifecycle::wait(nap);
        // SAFETY: what follows needs the portal's snapshot again.
        unsafe { pg_sys::EnsurePortalSnapshotExists() };
    }
}
