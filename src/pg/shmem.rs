//! The board: what the launcher, the healers, the repair workers and the sessions tell each
//! other, in shared memory, under one lock held for a few instructions.
//!
//! Fixed in size. Nothing here needs to survive a crash: what must is in tables.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init, pg_sys};

/// Healers that can run at once.
pub const MAX_HEALERS: usize = 64;
/// Repairs that can be queued or running at once.
pub const MAX_REPAIRS: usize = 64;
/// Looks on their way from sessions to healers.
pub const MAX_MAIL: usize = 8;
/// Bytes of one of them.
pub const MAIL_SIZE: usize = 16 * 1024;
/// Databases whose DDL keeps our workers out.
pub const MAX_HOLDS: usize = 64;
/// Readings of indexes that can be seen at once.
pub const MAX_READINGS: usize = 64;

/// Databases that can ask for a healer by name at once.
pub const MAX_WANTED: usize = 16;

/// What a healer is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum HealerState {
    /// The place is free.
    #[default]
    Free,
    /// Registered, not yet up.
    Starting,
    /// Waiting for the next cycle.
    Idle,
    /// In a cycle.
    Cycling,
    /// It has left; the launcher has yet to take note.
    Gone,
}

/// Why a healer left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Departure {
    /// It did not say: it died, or could not start.
    #[default]
    Unknown,
    /// Its database does not have the extension.
    NoExtension,
    /// Others wanted the worker slot; it comes back when its next cycle is due.
    TurnOver,
    /// It comes back as soon as it can: the database's DDL wanted to be alone, or the
    /// database's settings changed and reach new connections only.
    Briefly,
}

/// One healer.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Healer {
    /// What it is doing.
    pub state: HealerState,
    /// Its database.
    pub database: u32,
    /// Its process, 0 while it starts.
    pub pid: i32,
    /// It shall leave as soon as it can.
    pub leave: bool,
    /// It shall leave after its cycle, because others wait for the worker slot.
    pub rotate: bool,
    /// It shall check now.
    pub check_now: bool,
    /// When its next cycle is due.
    pub next_cycle: i64,
    /// Why it left, once it has.
    pub departure: Departure,
}

/// What a repair worker is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Task {
    /// Repair an issue.
    #[default]
    Repair,
    /// Undo a repair.
    RollBack,
    /// Remove the index that a repair replaced.
    Retire,
    /// Put back the rows that a repair has taken out of an index.
    PutBack,
}

/// What a repair worker needs to begin. Travels by value: what it was decided on need not be
/// committed yet.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Request {
    /// What to do.
    pub task: Task,
    /// In which database.
    pub database: u32,
    /// The repair's number.
    pub repair_id: i64,
    /// The index, as an OID now.
    pub index_oid: u32,
    /// Its table.
    pub table_oid: u32,
    /// Type of the issue: place in the list of codes.
    pub issue_type: u8,
    /// The role that asked, 0 for the healer itself.
    pub asked_by: u32,
    /// `hnsw.ef_search` of the session that asked, 0 for the database's own.
    pub ef_search: i32,
}

/// Where a repair stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RepairState {
    /// The place is free.
    #[default]
    Free,
    /// Waiting for a worker.
    Queued,
    /// A worker is registered, not yet up.
    Starting,
    /// A worker is on it.
    Running,
}

/// Why a repair was cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Cancel {
    /// It was not.
    #[default]
    No,
    /// Somebody waited behind its table lock.
    Yield,
    /// Somebody asked for it.
    Asked,
}

/// One repair.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Repair {
    /// Where it stands.
    pub state: RepairState,
    /// What is to be done.
    pub request: Request,
    /// The worker's process.
    pub pid: i32,
    /// When it was queued.
    pub queued_at: i64,
    /// The table on which it holds a lock, 0 for none: whoever waits for it must not wait long.
    pub watched_table: u32,
    /// How long somebody may wait behind it, in milliseconds.
    pub lock_timeout_ms: u32,
    /// Why it was cancelled.
    pub cancel: Cancel,
}

/// A look on its way from a session to the healer of its database.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Mail {
    /// Whether the place is taken.
    pub taken: bool,
    /// Whether the healer has filed it.
    pub filed: bool,
    /// Addressee.
    pub database: u32,
    /// Sender, which frees the place.
    pub sender: i32,
    /// Bytes used.
    pub length: u32,
    /// The look, as JSON.
    pub payload: [u8; MAIL_SIZE],
}

/// A database that our workers stay out of while somebody's DDL needs it to itself.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Hold {
    /// The database; 0: the place is free.
    pub database: u32,
    /// Whose DDL.
    pub pid: i32,
}

/// What is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The index.
    #[default]
    Index,
    /// Its table.
    Table,
}

/// A reading of an index.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Reading {
    /// Who reads; 0: the place is free.
    pub pid: i32,
    /// In which database.
    pub database: u32,
    /// The index.
    pub index: u32,
    /// What of it.
    pub phase: Phase,
    /// Pages read, those read again counted again.
    pub done: u64,
    /// Pages there are.
    pub total: u64,
}

/// Everything on the board.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Board {
    /// The launcher's process.
    pub launcher: i32,
    /// Databases were made or dropped.
    pub databases_changed: bool,
    /// Databases without a running healer that want one now.
    pub wanted: [u32; MAX_WANTED],
    /// More of them than there is room for: any may be one.
    pub all_wanted: bool,
    /// Healers.
    pub healers: [Healer; MAX_HEALERS],
    /// Repairs.
    pub repairs: [Repair; MAX_REPAIRS],
    /// Looks under way.
    pub mail: [Mail; MAX_MAIL],
    /// Databases to stay out of.
    pub holds: [Hold; MAX_HOLDS],
    /// Indexes being read.
    pub readings: [Reading; MAX_READINGS],
}

impl Default for Board {
    fn default() -> Self {
        let mail = Mail {
            taken: false,
            filed: false,
            database: 0,
            sender: 0,
            length: 0,
            payload: [0; MAIL_SIZE],
        };
        Self {
            launcher: 0,
            databases_changed: true,
            wanted: [0; MAX_WANTED],
            all_wanted: false,
            healers: [Healer::default(); MAX_HEALERS],
            repairs: [Repair::default(); MAX_REPAIRS],
            mail: [mail; MAX_MAIL],
            holds: [Hold::default(); MAX_HOLDS],
            readings: [Reading::default(); MAX_READINGS],
        }
    }
}

// SAFETY: fixed size, no pointers; every bit pattern that is written comes from these types.
unsafe impl PGRXSharedMemory for Board {}

// SAFETY: the name is this extension's own.
static BOARD: PgLwLock<Board> = unsafe { PgLwLock::new(c"ruvector_dag_healing") };
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Asks for the shared memory. While the postmaster preloads libraries only.
pub fn init() {
    pg_shmem_init!(BOARD);
    PRELOADED.store(true, Ordering::Relaxed);
}

/// Whether the extension was loaded at server start, so that the board exists.
pub fn preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Looks at the board. `look` must be short and must not call PostgreSQL.
pub fn read<T>(look: impl FnOnce(&Board) -> T) -> Option<T> {
    preloaded().then(|| look(&BOARD.share()))
}

/// Changes the board. `change` must be short and must not call PostgreSQL.
pub fn write<T>(change: impl FnOnce(&mut Board) -> T) -> Option<T> {
    preloaded().then(|| change(&mut BOARD.exclusive()))
}

/// Wakes a process that waits on its latch. Nothing happens if it is gone.
pub fn wake(pid: i32) {
    if pid == 0 {
        return;
    }
    // SAFETY: the entry belongs to shared memory that outlives us; setting the latch of a
    // process that has just gone wakes whoever has the entry now, once, for nothing.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        if !process.is_null() {
            pg_sys::SetLatch(&raw mut (*process).procLatch);
        }
    }
}

/// Wakes the launcher.
pub fn wake_launcher() {
    if let Some(pid) = read(|board| board.launcher) {
        wake(pid);
    }
}

/// Wakes the healer of a database, if there is one.
pub fn wake_healer(database: u32) {
    let pid = read(|board| board.healer(database).map_or(0, |healer| healer.pid));
    wake(pid.unwrap_or_default());
}

impl Healer {
    /// Whether it runs or is about to.
    pub fn is_there(&self) -> bool {
        !matches!(self.state, HealerState::Free | HealerState::Gone)
    }
}

impl Board {
    /// The healer of a database.
    pub fn healer(&self, database: u32) -> Option<&Healer> {
        let of = |h: &&Healer| h.is_there() && h.database == database;
        self.healers.iter().find(of)
    }

    /// The healer of a database, to be changed.
    pub fn healer_mut(&mut self, database: u32) -> Option<&mut Healer> {
        let of = |h: &&mut Healer| h.is_there() && h.database == database;
        self.healers.iter_mut().find(of)
    }

    /// Asks for a healer where none is there.
    pub fn want_healer(&mut self, database: u32) {
        if self.healer(database).is_none() {
            self.wish_for_healer(database);
        }
    }

    /// Asks for a healer even where one is there: it may be about to leave, having looked too
    /// early.
    pub fn wish_for_healer(&mut self, database: u32) {
        if self.wanted.contains(&database) {
            return;
        }
        match self.wanted.iter_mut().find(|oid| **oid == 0) {
            Some(place) => *place = database,
            None => self.all_wanted = true,
        }
    }

    /// Whether our workers must stay out of a database.
    pub fn held(&self, database: u32) -> bool {
        self.holds.iter().any(|hold| hold.database == database)
    }

    /// Puts a repair in the queue. `None`: the queue is full.
    pub fn enqueue(&mut self, request: Request, now: i64) -> Option<usize> {
        let free = |repair: &Repair| repair.state == RepairState::Free;
        let place = self.repairs.iter().position(free)?;
        self.repairs[place] = Repair {
            state: RepairState::Queued,
            request,
            queued_at: now,
            ..Repair::default()
        };
        Some(place)
    }

    /// The place of a repair in a database.
    pub fn repair(&self, database: u32, repair_id: i64) -> Option<usize> {
        self.repairs.iter().position(|repair| {
            repair.state != RepairState::Free
                && repair.request.database == database
                && repair.request.repair_id == repair_id
        })
    }
}

/// Leaves word why this healer goes.
pub fn depart(place: usize, departure: Departure) {
    write(|board| board.healers[place].departure = departure);
}

/// Puts a look in the mail for the healer of this database. The place it took; `None`: it is too
/// long, or there is no room.
pub fn post(database: u32, sender: i32, look: &[u8]) -> Option<usize> {
    if look.len() > MAIL_SIZE {
        return None;
    }
    write(|board| {
        let place = board.mail.iter().position(|mail| !mail.taken)?;
        let mail = &mut board.mail[place];
        mail.payload[..look.len()].copy_from_slice(look);
        (mail.taken, mail.filed) = (true, false);
        (mail.database, mail.sender, mail.length) = (database, sender, look.len() as u32);
        board.want_healer(database);
        Some(place)
    })
    .flatten()
}

/// Whether the healer is done with a look. Takes it out of the mail if so.
pub fn collect(place: usize, sender: i32) -> bool {
    let filed = write(|board| {
        let mail = &mut board.mail[place];
        let done = mail.sender != sender || mail.filed;
        if done && mail.sender == sender {
            mail.taken = false;
        }
        done
    });
    filed.unwrap_or(true)
}

/// Gives up waiting for the healer: it still files the look, and frees the place itself.
pub fn abandon(place: usize, sender: i32) {
    write(|board| {
        let mail = &mut board.mail[place];
        if mail.taken && mail.sender == sender {
            mail.taken &= !mail.filed;
            mail.sender = 0;
        }
    });
}

/// The next look for the healer of a database.
pub fn next_mail(database: u32) -> Option<(usize, Vec<u8>)> {
    read(|board| {
        let for_me = |mail: &Mail| mail.taken && !mail.filed && mail.database == database;
        let place = board.mail.iter().position(for_me)?;
        let mail = &board.mail[place];
        let length = (mail.length as usize).min(MAIL_SIZE);
        Some((place, mail.payload[..length].to_vec()))
    })
    .flatten()
}

/// Says that a look is filed; returns its sender, who waits for it.
pub fn mail_filed(place: usize) -> i32 {
    let sender = write(|board| {
        let mail = &mut board.mail[place];
        mail.filed = true;
        // Nobody waits for it any more.
        mail.taken = mail.sender != 0;
        mail.sender
    });
    sender.unwrap_or_default()
}
