//! Reading no faster than the background may.

use std::time::{Duration, Instant};

use ruvector_dag_healing_engine::vector_index::{PAGE_SIZE, ReadError};

use super::lifecycle;

/// Longest sleep at a time, so that a worker told to leave does so soon.
const NAP: Duration = Duration::from_millis(200);

/// How much was read since when, and how much may be.
pub struct Throttle {
    bytes_per_second: u64,
    started: Instant,
    bytes: u64,
}

impl Throttle {
    /// At most `limit_mb` megabytes a second; 0: as fast as it can.
    pub fn new(limit_mb: u64) -> Self {
        Self {
            bytes_per_second: limit_mb * 1_000_000,
            started: Instant::now(),
            bytes: 0,
        }
    }

    /// Pages read so far.
    pub fn pages(&self) -> u64 {
        self.bytes / PAGE_SIZE as u64
    }

    /// Counts pages that were read, and sleeps as long as the limit asks. Ends when `stop` says so.
    pub fn read(&mut self, pages: u64, stop: &dyn Fn() -> bool) -> Result<(), ReadError> {
        self.bytes += pages * PAGE_SIZE as u64;
        loop {
            if stop() {
                return Err(ReadError::Stopped);
            }
            if self.bytes_per_second == 0 {
                return Ok(());
            }
            let seconds = self.bytes as f64 / self.bytes_per_second as f64;
            let ahead = seconds - self.started.elapsed().as_secs_f64();
            if ahead < 0.001 {
                return Ok(());
            }
            lifecycle::wait(Duration::from_secs_f64(ahead).min(NAP));
        }
    }
}
