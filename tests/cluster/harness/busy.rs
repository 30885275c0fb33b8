//! A client that goes on with the same statements until it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

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
