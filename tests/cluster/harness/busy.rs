//! A client that goes on with the same statements until it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::Client;

/// Runs statements in turn, on a connection of its own, until told to stop; an error fails the test then.
pub struct Busy {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    pub fn start(mut client: Client, statements: Vec<String>) -> Self {
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (seen, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                for statement in &statements {
                    client
                        .batch_execute(statement)
                        .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            stop,
            rounds,
            thread: Some(thread),
        }
    }

    /// A client for each of several, once they have had the time to begin.
    pub fn all<const COUNT: usize>(
        connect: impl Fn() -> Client,
        statements: [Vec<String>; COUNT],
    ) -> Vec<Self> {
        let all = statements.map(|statements| Self::start(connect(), statements));
        std::thread::sleep(Duration::from_millis(500));
        all.into()
    }

    /// A statement that takes so long and does nothing.
    pub fn nap(seconds: f32) -> String {
        format!("SELECT pg_sleep({seconds})")
    }

    /// How many rounds it has made.
    pub fn rounds(&self) -> u32 {
        let thread = self.thread.as_ref().expect("it was not stopped");
        assert!(!thread.is_finished(), "a statement failed");
        self.rounds.load(Ordering::Relaxed)
    }

    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .expect("stopped once")
            .join()
            .expect("no statement failed");
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
