//! Whose statements are looked at, and what is taken from them: the values that their scans of
//! vector indexes are ordered by a distance to.
//!
//! On the path of every statement: nothing here waits, allocates, reads the catalog or raises.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use pgrx::{pg_guard, pg_sys};
use ruvector_dag_healing_engine::settings::Track;

use super::{captures, compat, guc, lifecycle, ordered_scans};

/// Scans looked at in one statement.
const MOST_SCANS: usize = 32;

/// When the command from the client began that is executing statements now, 0 where none is. A
/// statement that an error ends leaves it behind; the next command begins at another time.
static EXECUTING: AtomicI64 = AtomicI64::new(0);
/// What draws begin with.
static SEED: AtomicU64 = AtomicU64::new(0);

/// What is to be left by [`leave`]: nothing, where something around it executes already.
#[derive(Clone, Copy)]
pub struct Entered(bool);

/// Enters what may execute statements inside.
pub fn enter() -> Entered {
    let now = compat::statement_start();
    Entered(EXECUTING.swap(now, Ordering::Relaxed) != now)
}

/// Leaves it. Not called where an error ends it.
pub fn leave(entered: Entered) {
    if entered.0 {
        EXECUTING.store(0, Ordering::Relaxed);
    }
}

fn is_nested() -> bool {
    EXECUTING.load(Ordering::Relaxed) == compat::statement_start()
}

/// Looks at a statement that was executed and is about to be ended.
///
/// # Safety
/// Its execution was started and not ended yet.
#[pg_guard]
pub unsafe extern "C-unwind" fn observe(statement: *mut pg_sys::QueryDesc) {
    let looked_at = match guc::track() {
        Track::None => false,
        Track::Top => !is_nested(),
        Track::All => true,
    };
    if !looked_at || lifecycle::is_parallel_worker() {
        return;
    }
    let mut seed = SEED.load(Ordering::Relaxed);
    if seed == 0 {
        seed = (u64::from(lifecycle::my_pid().unsigned_abs()) << 32) ^ lifecycle::now() as u64;
    }
    // Another beginning for each statement, whether or not it draws.
    seed = seed.wrapping_add(0xD134_2543_DE82_EF95);
    let database = lifecycle::my_database();
    let mut scans = 0;
    // SAFETY: as the caller promises; a value lives as long as the execution.
    unsafe {
        ordered_scans::each(statement, &mut seed, &mut |index, value, seed| {
            if scans == 0 && !captures::has_listener(database) {
                return false;
            }
            captures::bring(database, index, value, seed);
            scans += 1;
            scans < MOST_SCANS
        });
    }
    SEED.store(seed, Ordering::Relaxed);
}
