//! How far the readings of indexes have come, on the board for everybody to see.

use std::cell::Cell;

use super::shmem::{self, Phase, Reading};
use super::{lifecycle, shmem::MAX_READINGS};

thread_local! {
    /// Whether this process has a reading on the board.
    static NOTED: Cell<bool> = const { Cell::new(false) };
}

/// Notes that `done` of `total` pages are read, of an index or of its table. Without a board, or
/// with more readings than there is room for, nobody sees it.
pub fn note(index: u32, phase: Phase, done: u64, total: u64) {
    let (pid, database) = (lifecycle::my_pid(), lifecycle::my_database());
    let reading = Reading {
        pid,
        database,
        index,
        phase,
        done,
        total,
    };
    let noted = shmem::write(|board| {
        let mine = board.readings.iter().position(|r| r.pid == pid);
        let place = mine.or_else(|| board.readings.iter().position(|r| r.pid == 0));
        place.map(|place| board.readings[place] = reading)
    });
    NOTED.set(noted.flatten().is_some());
}

/// Takes this process's reading off the board.
pub fn clear() {
    if NOTED.replace(false) {
        let pid = lifecycle::my_pid();
        shmem::write(|board| {
            for reading in board.readings.iter_mut().filter(|r| r.pid == pid) {
                *reading = Reading::default();
            }
        });
    }
}

/// The readings under way in this database.
pub fn readings() -> Vec<Reading> {
    let database = lifecycle::my_database();
    let mut all = [Reading::default(); MAX_READINGS];
    shmem::read(|board| all = board.readings);
    all.into_iter()
        .filter(|r| r.pid != 0 && r.database == database)
        .collect()
}
