//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// Looks again and again until `condition` holds; panics with `what` when it does not within `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    assert!(
        holds_within(limit, condition),
        "waited {limit:?} in vain: {what}"
    );
}

/// Whether `condition` came to hold within `limit`.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        // Read the clock first: a condition that takes long itself is still looked at once after the deadline.
        let late = Instant::now() >= deadline;
        if condition() {
            return true;
        }
        if late {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
