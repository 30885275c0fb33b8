//! What every worker does alike: connect, take signals, wait, take up settings, leave.

use std::ffi::c_long;
use std::time::Duration;

use pgrx::{pg_guard, pg_sys};

use super::{compat, guc, shmem};

/// Takes signals the way PostgreSQL's own workers do: `SIGTERM` ends the process at the next
/// interrupt check, even inside a long statement; `SIGHUP` asks for the settings to be read;
/// `SIGINT` cancels the statement.
pub fn take_signals() {
    compat::handle_signals();
    // SAFETY: the handlers are installed.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
}

/// Connects to a database as the bootstrap superuser; without one, to the shared catalogs only.
/// Where the database is gone the process ends here.
pub fn connect(database: Option<u32>) {
    match database {
        // SAFETY: called once, by a worker registered for a database connection.
        Some(oid) => unsafe {
            let (database, user) = (pg_sys::Oid::from(oid), pg_sys::InvalidOid);
            pg_sys::BackgroundWorkerInitializeConnectionByOid(database, user, 0);
        },
        // SAFETY: as above; both names may be null.
        None => unsafe {
            let none = std::ptr::null();
            pg_sys::BackgroundWorkerInitializeConnection(none, none, 0);
        },
    }
    for (name, value) in compat::WORKER_SETTINGS {
        guc::set(name, value, false);
    }
}

/// Has `farewell` called when this process ends, however it ends short of being killed.
pub fn on_exit(farewell: unsafe extern "C-unwind" fn(i32, pg_sys::Datum), argument: u32) {
    // SAFETY: registered once per process; the callback outlives it.
    unsafe { pg_sys::before_shmem_exit(Some(farewell), pg_sys::Datum::from(argument)) }
}

/// Waits until something happens or the time is over. Ends the process if it is told to.
pub fn wait(timeout: Duration) {
    let timeout = c_long::try_from(timeout.as_millis()).unwrap_or(c_long::MAX);
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: MyLatch is set up by the time a worker's entry function runs.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as i32,
            timeout,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    interrupts();
}

/// Reads the configuration files again if asked to by `SIGHUP`. Outside transactions.
pub fn take_up_settings() {
    // SAFETY: plain flag of this process; reading the files is allowed outside a transaction.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// Ends the process or cancels the statement if one of these was asked for.
pub fn interrupts() {
    pgrx::check_for_interrupts!();
}

/// Shows in `pg_stat_activity` what the worker is at.
pub fn report(activity: Option<&str>) {
    let text = activity.and_then(|text| std::ffi::CString::new(text).ok());
    let state = match text {
        Some(_) => pg_sys::BackendState::STATE_RUNNING,
        None => pg_sys::BackendState::STATE_IDLE,
    };
    // SAFETY: the text is copied. Statistics are sent outside a transaction.
    unsafe {
        pg_sys::pgstat_report_activity(
            state,
            text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr()),
        );
        if state == pg_sys::BackendState::STATE_IDLE {
            pg_sys::pgstat_report_stat(true);
        }
    }
}

/// This process.
pub fn my_pid() -> i32 {
    // SAFETY: set before any of our code runs.
    unsafe { pg_sys::MyProcPid }
}

/// The database this process is connected to.
pub fn my_database() -> u32 {
    // SAFETY: a plain value of this process.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// A point in time as PostgreSQL writes it.
pub fn timestamp_text(microseconds: i64) -> String {
    // SAFETY: returns a string in static memory, which is copied.
    unsafe { super::compat::text(pg_sys::timestamptz_to_str(microseconds - POSTGRES_EPOCH)) }
}

/// Raises PostgreSQL's own error where the transaction or the server is read-only.
pub fn require_writable(command: &str) {
    let command = std::ffi::CString::new(command).unwrap_or_default();
    // SAFETY: the name is copied into the error.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(command.as_ptr());
        pg_sys::PreventCommandIfReadOnly(command.as_ptr());
    }
}

/// 2000-01-01 in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Microseconds since 1970.
pub fn now() -> i64 {
    now_of_postgres() + POSTGRES_EPOCH
}

/// Now, as PostgreSQL counts it.
pub fn now_of_postgres() -> pg_sys::TimestampTz {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Whether this process is a parallel worker, which does a part of another's statement.
pub fn is_parallel_worker() -> bool {
    // SAFETY: a plain value of this process.
    unsafe { pg_sys::ParallelWorkerNumber >= 0 }
}

/// Whether the postmaster is loading libraries at server start.
pub fn preloading() -> bool {
    // SAFETY: a plain flag of this process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// `max_worker_processes`.
pub fn worker_slots() -> usize {
    // SAFETY: a plain value that never changes while the server runs.
    usize::try_from(unsafe { pg_sys::max_worker_processes }).unwrap_or_default()
}

/// Whether the server is a standby that replays.
pub fn in_recovery() -> bool {
    // SAFETY: reads shared state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// The number that tells this server from every other, its physical copies excepted.
pub fn system_identifier() -> u64 {
    // SAFETY: reads a value that never changes.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// Sends a signal to a process of this server.
fn signal(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // Gone already is as good.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Cancels what a process of this server is doing.
pub fn cancel(pid: i32) {
    signal(pid, rustix::process::Signal::INT);
}

/// Ends a process of this server in good order.
pub fn terminate(pid: i32) {
    signal(pid, rustix::process::Signal::TERM);
}

/// Frees the launcher's place on the board.
#[pg_guard]
pub unsafe extern "C-unwind" fn launcher_farewell(_code: i32, _argument: pg_sys::Datum) {
    let me = my_pid();
    shmem::write(|board| {
        if board.launcher == me {
            board.launcher = 0;
        }
    });
}

/// Tells the launcher that a healer has left.
#[pg_guard]
pub unsafe extern "C-unwind" fn healer_farewell(_code: i32, place: pg_sys::Datum) {
    let (me, place) = (my_pid(), place.value());
    shmem::write(|board| {
        if let Some(healer) = board.healers.get_mut(place).filter(|h| h.pid == me) {
            healer.state = shmem::HealerState::Gone;
        }
    });
    shmem::wake_launcher();
}

/// Frees a repair's place on the board and tells the launcher and the healer.
#[pg_guard]
pub unsafe extern "C-unwind" fn repair_farewell(_code: i32, place: pg_sys::Datum) {
    let (me, place) = (my_pid(), place.value());
    let database = shmem::write(|board| {
        let repair = board.repairs.get_mut(place).filter(|r| r.pid == me)?;
        let database = repair.request.database;
        *repair = shmem::Repair::default();
        Some(database)
    });
    shmem::wake_launcher();
    if let Some(Some(database)) = database {
        shmem::wake_healer(database);
    }
}
