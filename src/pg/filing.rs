//! Hands looks from a session to the healer of its database, which alone writes issues.

use std::time::{Duration, Instant};

use pgrx::pg_sys;
use ruvector_dag_healing_engine::model::IndexHealthCheck;

use super::{lifecycle, shmem};

/// Longest wait for the healer. It files what it was handed in any case.
const PATIENCE: Duration = Duration::from_secs(5);
const NAP: Duration = Duration::from_millis(20);

/// Has looks filed; `false`: not all were by the time this returns. Nothing is filed from a
/// read-only transaction, on a standby, or where the extension is not preloaded.
pub fn file(looks: &[IndexHealthCheck]) -> bool {
    // SAFETY: a plain flag of this process.
    let read_only = unsafe { pg_sys::XactReadOnly };
    if read_only || lifecycle::in_recovery() || !shmem::preloaded() {
        return false;
    }
    let (database, me) = (lifecycle::my_database(), lifecycle::my_pid());
    let deadline = Instant::now() + PATIENCE;
    let mut all = true;
    for look in looks {
        let Ok(payload) = serde_json::to_vec(look) else {
            return false;
        };
        let Some(place) = post(database, me, &payload, deadline) else {
            return false;
        };
        shmem::wake_healer(database);
        shmem::wake_launcher();
        loop {
            if shmem::collect(place, me) {
                break;
            }
            if Instant::now() >= deadline {
                shmem::abandon(place, me);
                all = false;
                break;
            }
            lifecycle::wait(NAP);
        }
    }
    all
}

fn post(database: u32, me: i32, payload: &[u8], deadline: Instant) -> Option<usize> {
    loop {
        let place = shmem::post(database, me, payload);
        if place.is_some() || Instant::now() >= deadline || payload.len() > shmem::MAIL_SIZE {
            return place;
        }
        lifecycle::wait(NAP);
    }
}
