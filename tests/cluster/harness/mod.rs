//! Servers for tests: found, started, asked, crashed, stopped and removed.
//!
//! [`Server`] is the whole of it: `Server::start(Options::new())` copies a fresh data directory, listens on a
//! private Unix socket only, runs as an ordinary user, and is stopped and removed when dropped, when the test
//! panics, at Ctrl-C and when the test process is killed. It knows nothing of what the tests check.
#![allow(
    dead_code,
    unused_imports,
    reason = "each target that includes this module uses a part of it"
)]

mod busy;
mod data;
mod dice;
mod locate;
mod process;
mod psql;
mod server;
mod vacuum;
mod wait;

pub use busy::Busy;
pub use data::{Embeddings, literal};
pub use dice::Dice;
pub use locate::{Installation, workspace};
pub use psql::Output;
pub use server::{Mode, Options, Server};
pub use vacuum::vacuum;
pub use wait::{holds_within, wait_until};

use std::io::Write;

/// Says past the test runner's capture that a test, or a part of it, has nothing to check on this server.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped {test}: {reason}");
}
