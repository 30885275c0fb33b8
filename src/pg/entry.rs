//! The names under which PostgreSQL finds the workers' code. Each hands over at once.

use pgrx::{pg_guard, pg_sys};

use crate::worker::{healer, launcher, repair};

/// Entry point of the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ruvector_dag_healing_launcher_main(_argument: pg_sys::Datum) {
    launcher::run();
}

/// Entry point of a healer. The argument is its place on the board.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ruvector_dag_healing_healer_main(argument: pg_sys::Datum) {
    healer::run(argument.value());
}

/// Entry point of a repair worker. The argument is its place on the board, or says that there is
/// no board.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ruvector_dag_healing_repair_main(argument: pg_sys::Datum) {
    repair::run(super::registration::repair_argument(argument));
}
