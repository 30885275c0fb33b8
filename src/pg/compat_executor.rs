//! The executor's hooks, whose signatures differ between PostgreSQL's major versions.
//!
//! An error of the server passes straight through them: nothing in their frames has a destructor,
//! so PostgreSQL may jump over them, and the user sees the error as it was raised.

use pgrx::pg_sys;

use super::observer;

// The server's own functions and not the bindings' guarded wrappers, which raise an error anew and
// lose part of it.
unsafe extern "C-unwind" {
    #[cfg(feature = "pg18")]
    fn standard_ExecutorRun(
        statement: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
    );
    #[cfg(not(feature = "pg18"))]
    fn standard_ExecutorRun(
        statement: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
        execute_once: bool,
    );
    fn standard_ExecutorFinish(statement: *mut pg_sys::QueryDesc);
    fn standard_ExecutorEnd(statement: *mut pg_sys::QueryDesc);
}

static mut PREVIOUS_RUN: pg_sys::ExecutorRun_hook_type = None;
static mut PREVIOUS_FINISH: pg_sys::ExecutorFinish_hook_type = None;
static mut PREVIOUS_END: pg_sys::ExecutorEnd_hook_type = None;

/// Installs the hooks. While the postmaster preloads libraries only.
pub fn init() {
    // SAFETY: the postmaster is single-threaded and no hook runs before this returns.
    unsafe {
        PREVIOUS_RUN = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(run);
        PREVIOUS_FINISH = pg_sys::ExecutorFinish_hook;
        pg_sys::ExecutorFinish_hook = Some(finish);
        PREVIOUS_END = pg_sys::ExecutorEnd_hook;
        pg_sys::ExecutorEnd_hook = Some(end);
    }
}

#[cfg(feature = "pg18")]
unsafe extern "C-unwind" fn run(
    statement: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: the hook was written once, before any could run; the arguments are passed on as
    // they came.
    unsafe {
        let entered = observer::enter();
        match PREVIOUS_RUN {
            Some(previous) => previous(statement, direction, count),
            None => standard_ExecutorRun(statement, direction, count),
        }
        observer::leave(entered);
    }
}

#[cfg(not(feature = "pg18"))]
unsafe extern "C-unwind" fn run(
    statement: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    execute_once: bool,
) {
    // SAFETY: the hook was written once, before any could run; the arguments are passed on as
    // they came.
    unsafe {
        let entered = observer::enter();
        match PREVIOUS_RUN {
            Some(previous) => previous(statement, direction, count, execute_once),
            None => standard_ExecutorRun(statement, direction, count, execute_once),
        }
        observer::leave(entered);
    }
}

unsafe extern "C-unwind" fn finish(statement: *mut pg_sys::QueryDesc) {
    // SAFETY: as above.
    unsafe {
        let entered = observer::enter();
        PREVIOUS_FINISH.unwrap_or(standard_ExecutorFinish)(statement);
        observer::leave(entered);
    }
}

unsafe extern "C-unwind" fn end(statement: *mut pg_sys::QueryDesc) {
    // SAFETY: as above; what is ended was started.
    unsafe {
        observer::observe(statement);
        PREVIOUS_END.unwrap_or(standard_ExecutorEnd)(statement);
    }
}
