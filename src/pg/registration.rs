//! Registers workers.

use std::time::Duration;

use pgrx::bgworkers::BackgroundWorkerBuilder;
use pgrx::pg_sys;

use super::lifecycle;
use super::shmem::{Request, Task};

/// Name of the library, of the extension, and of the schema with its tables.
pub const EXTENSION: &str = "ruvector_dag_healing";
/// Rest before PostgreSQL starts the launcher again.
const RESTART: Duration = Duration::from_secs(5);
/// Argument of a repair worker that was started without shared memory.
const NO_PLACE: u32 = u32::MAX;

/// Registers the launcher, the only worker that PostgreSQL restarts by itself. While the
/// postmaster preloads libraries only.
pub fn register_launcher() {
    builder("launcher", "ruvector_dag_healing_launcher_main")
        .set_restart_time(Some(RESTART))
        .load();
}

/// Starts a healer, which will find itself at a place of the board. `false`: no worker slot free.
pub fn start_healer(place: u32) -> bool {
    builder("healer", "ruvector_dag_healing_healer_main")
        .set_argument(Some(pg_sys::Datum::from(place)))
        .set_notify_pid(lifecycle::my_pid())
        .load_dynamic()
        .is_ok()
}

/// Starts a repair worker for a queued repair. `false`: no worker slot free.
pub fn start_repair(place: u32) -> bool {
    builder("repair worker", "ruvector_dag_healing_repair_main")
        .set_argument(Some(pg_sys::Datum::from(place)))
        .set_notify_pid(lifecycle::my_pid())
        .load_dynamic()
        .is_ok()
}

/// Starts a repair worker where there is no board: the request travels with the registration.
pub fn start_repair_unboarded(request: &Request) -> bool {
    builder("repair worker", "ruvector_dag_healing_repair_main")
        .set_argument(Some(pg_sys::Datum::from(NO_PLACE)))
        .set_extra(&encode(request))
        .load_dynamic()
        .is_ok()
}

/// The place that a repair worker was started for, or the request it carries.
pub fn repair_argument(argument: pg_sys::Datum) -> Result<usize, Request> {
    match argument.value() as u32 {
        NO_PLACE => Err(decode(pgrx::bgworkers::BackgroundWorker::get_extra())),
        place => Ok(place as usize),
    }
}

fn builder(kind: &str, function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(&format!("{EXTENSION} {kind}"))
        .set_type(&format!("{EXTENSION} {kind}"))
        .set_library(EXTENSION)
        .set_function(function)
        .enable_spi_access()
}

fn encode(request: &Request) -> String {
    format!(
        "{},{},{},{},{},{},{},{}",
        request.task as u8,
        request.database,
        request.repair_id,
        request.index_oid,
        request.table_oid,
        request.issue_type,
        request.asked_by,
        request.ef_search
    )
}

fn decode(text: &str) -> Request {
    let mut numbers = text
        .split(',')
        .map(|n| n.parse::<i64>().unwrap_or_default());
    let mut next = || numbers.next().unwrap_or_default();
    Request {
        task: match next() {
            1 => Task::RollBack,
            2 => Task::Retire,
            3 => Task::PutBack,
            _ => Task::Repair,
        },
        database: next() as u32,
        repair_id: next(),
        index_oid: next() as u32,
        table_oid: next() as u32,
        issue_type: next() as u8,
        asked_by: next() as u32,
        ef_search: next() as i32,
    }
}
