//! Queries that statements asked, in shared memory, until the healer of their database takes
//! them.
//!
//! Fixed in size: shelves of so many bytes, one for an index at a time. Whoever brings a query
//! never waits: where somebody else is at a shelf, or none is free, the query is dropped and
//! counted. Nothing here needs to survive a crash: shared memory is made anew after one, so that
//! no half-written query is ever read.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use pgrx::prelude::*;
use pgrx::{PgSharedMemoryInitialization, pg_shmem_init, pg_sys};
use ruvector_dag_healing_engine::workload::CapturedQuery;
use ruvector_dag_healing_engine::workload::sample::place;

/// Indexes whose queries can be held at once.
const SHELVES: usize = 32;
/// Bytes of queries a shelf holds.
const SHELF_SIZE: usize = 128 * 1024;
/// Queries it holds at most.
const MOST_PLACES: usize = 64;
/// Bytes of the longest query: pgvector indexes none that are longer.
const LONGEST: usize = 8 * 1024;
/// Shelves at which an index may be.
const TRIES: usize = 8;
/// Where all of these are taken, one query in so many takes one over.
const TAKEOVER: u64 = 100;
/// Databases whose healers can listen.
const LISTENERS: usize = 64;
/// Times the healer looks again whether a shelf is free, a millisecond apart.
const PATIENCE: usize = 20;

/// What lies on a shelf.
#[repr(C)]
struct Contents {
    /// Bytes of a place; a power of two.
    place_size: usize,
    /// Length of the query at each place; 0 for none.
    lengths: [u32; MOST_PLACES],
    bytes: [u8; SHELF_SIZE],
}

#[repr(C)]
struct Shelf {
    /// Database and index, 0 while it is free. Changed only by who has it to himself.
    of: AtomicU64,
    /// Queries asked of the index since it has the shelf.
    asked: AtomicU64,
    /// Places it has.
    places: AtomicU32,
    /// Whether somebody has it to himself.
    busy: AtomicBool,
    contents: UnsafeCell<Contents>,
}

/// Queries that were not taken in.
#[derive(Default)]
#[repr(C)]
struct Dropped {
    contended: AtomicU64,
    no_room: AtomicU64,
    too_long: AtomicU64,
}

#[repr(C)]
struct Room {
    listeners: [AtomicU32; LISTENERS],
    dropped: Dropped,
    shelves: [Shelf; SHELVES],
}

/// Where the room is; null where the library was not preloaded.
struct Captures(AtomicPtr<Room>);

static CAPTURES: Captures = Captures(AtomicPtr::new(std::ptr::null_mut()));

impl PgSharedMemoryInitialization for Captures {
    type Value = ();

    unsafe fn on_shmem_request(&'static self) {
        // SAFETY: called by the hook for such requests.
        unsafe { pg_sys::RequestAddinShmemSpace(size_of::<Room>()) }
    }

    unsafe fn on_shmem_startup(&'static self, (): ()) {
        let mut found = false;
        // SAFETY: the postmaster is alone at this moment. Aligned by PostgreSQL for any type;
        // all bytes zero are an empty room.
        unsafe {
            let name = c"ruvector_dag_healing captures".as_ptr();
            let room = pg_sys::ShmemInitStruct(name, size_of::<Room>(), &raw mut found);
            if !found {
                std::ptr::write_bytes(room.cast::<u8>(), 0, size_of::<Room>());
            }
            self.0.store(room.cast(), Ordering::Relaxed);
        }
    }
}

/// Asks for the shared memory. While the postmaster preloads libraries only.
pub fn init() {
    pg_shmem_init!(CAPTURES = ());
}

fn room() -> Option<&'static Room> {
    let room = CAPTURES.0.load(Ordering::Relaxed);
    // SAFETY: null or the shared memory, which outlives this process. What is shared in it is
    // atomic, or behind `Shelf::alone`.
    unsafe { room.as_ref() }
}

/// Has the queries of a database captured. For its healer, again and again.
pub fn listen(database: u32) {
    let Some(room) = room() else {
        return;
    };
    let replace = |place: &AtomicU32, from: u32| {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let replaced = place.compare_exchange(from, database, success, failure);
        replaced.is_ok()
    };
    let mut listeners = room.listeners.iter();
    if !listened(room, database) && !listeners.any(|place| replace(place, 0)) {
        // There are more databases than healers at a time; whoever is displaced comes back.
        let displaced = &room.listeners[database as usize % LISTENERS];
        displaced.store(database, Ordering::Relaxed);
    }
}

/// Stops that, and forgets what was captured.
pub fn listen_no_more(database: u32) {
    for place in room().iter().flat_map(|room| &room.listeners) {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = place.compare_exchange(database, 0, success, failure);
    }
    drop(collect(database));
}

fn listened(room: &Room, database: u32) -> bool {
    let mut listeners = room.listeners.iter();
    listeners.any(|place| place.load(Ordering::Relaxed) == database)
}

/// Whether anybody takes the queries of a database.
pub fn has_listener(database: u32) -> bool {
    room().is_some_and(|room| listened(room, database))
}

fn key(database: u32, index: u32) -> u64 {
    u64::from(database) << 32 | u64::from(index)
}

/// Brings a query. Neither waits nor allocates. `seed`: what draws begin with, changed by each.
pub fn bring(database: u32, index: u32, query: &[u8], seed: &mut u64) {
    let Some(room) = room() else {
        return;
    };
    let dropped = &room.dropped;
    if query.is_empty() || query.len() > LONGEST {
        dropped.too_long.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let key = key(database, index);
    let Some(shelf) = room.shelf(key, query.len(), seed) else {
        dropped.no_room.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let nth = shelf.asked.fetch_add(1, Ordering::Relaxed);
    let places = shelf.places.load(Ordering::Relaxed) as usize;
    let Some(place) = place(nth, places, seed) else {
        return;
    };
    let put = shelf.alone(|contents| {
        if shelf.of.load(Ordering::Relaxed) == key {
            if query.len() > contents.place_size {
                shelf.lay(contents, key, query.len());
            }
            contents.put(place, query);
        }
    });
    if put.is_none() {
        dropped.contended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Room {
    /// The shelf of an index, one that was free, or another's that is taken over. `None`: there
    /// is none for it.
    fn shelf(&self, key: u64, length: usize, seed: &mut u64) -> Option<&Shelf> {
        // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4).
        let home = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
        let shelf = |nth: usize| &self.shelves[home.wrapping_add(nth) % SHELVES];
        let mut free = None;
        for shelf in (0..TRIES).map(shelf) {
            match shelf.of.load(Ordering::Acquire) {
                of if of == key => return Some(shelf),
                0 => free = free.or(Some((shelf, 0))),
                _ => {}
            }
        }
        let (shelf, of) = free.or_else(|| {
            let draw = place(TAKEOVER - 1, 1, seed)?;
            let victim = shelf(draw);
            Some((victim, victim.of.load(Ordering::Relaxed)))
        })?;
        let taken = shelf.alone(|contents| {
            // Somebody may have been quicker.
            if shelf.of.load(Ordering::Relaxed) == of {
                shelf.lay(contents, key, length);
            }
            shelf.of.load(Ordering::Relaxed) == key
        });
        (taken == Some(true)).then_some(shelf)
    }
}

impl Shelf {
    /// Runs `work` with the contents to itself; not at all where somebody else has them. `work`
    /// calls nothing of PostgreSQL's, so that nothing ends this process in between but what
    /// restarts the server.
    fn alone<T>(&self, work: impl FnOnce(&mut Contents) -> T) -> Option<T> {
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: whoever set the flag is alone until it is unset; all others go away.
        let done = work(unsafe { &mut *self.contents.get() });
        self.busy.store(false, Ordering::Release);
        Some(done)
    }

    /// Gives it to an index whose queries are of about so many bytes, empty.
    fn lay(&self, contents: &mut Contents, key: u64, length: usize) {
        let size = length.next_power_of_two().max(SHELF_SIZE / MOST_PLACES);
        contents.place_size = size;
        contents.lengths = [0; MOST_PLACES];
        self.places
            .store((SHELF_SIZE / size) as u32, Ordering::Relaxed);
        self.asked.store(0, Ordering::Relaxed);
        self.of.store(key, Ordering::Release);
    }
}

impl Contents {
    /// Puts a query at a place, if there is such a place and it is long enough.
    fn put(&mut self, place: usize, query: &[u8]) {
        let start = place.saturating_mul(self.place_size);
        let there = self.bytes.get_mut(start..start + query.len());
        let (Some(there), Some(length)) = (there, self.lengths.get_mut(place)) else {
            return;
        };
        if query.len() <= self.place_size {
            there.copy_from_slice(query);
            *length = query.len() as u32;
        }
    }

    /// The queries on the shelf.
    fn queries(&self) -> impl Iterator<Item = &[u8]> {
        let places = self.bytes.chunks(self.place_size.max(1));
        let held = places.zip(&self.lengths).filter(|(_, length)| **length > 0);
        held.filter_map(|(place, length)| place.get(..*length as usize))
    }
}

/// Queries that were not taken in since the server started, of all databases: because somebody
/// else was at the shelf, because there was none, because they are too long.
pub fn dropped() -> Option<[u64; 3]> {
    let Dropped {
        contended,
        no_room,
        too_long,
    } = &room()?.dropped;
    Some([contended, no_room, too_long].map(|count| count.load(Ordering::Relaxed)))
}

/// Takes the queries of a database, and gives their shelves free. For its healer. A shelf at
/// which somebody is all the while is left for the next time.
pub fn collect(database: u32) -> Vec<CapturedQuery> {
    let mut collected = Vec::new();
    for shelf in room().iter().flat_map(|room| &room.shelves) {
        let of = shelf.of.load(Ordering::Acquire);
        if of == 0 || of >> 32 != u64::from(database) {
            continue;
        }
        for _ in 0..PATIENCE {
            let taken = shelf.alone(|contents| {
                if shelf.of.load(Ordering::Relaxed) == of {
                    collected.extend(contents.queries().map(|query| CapturedQuery {
                        index_oid: of as u32,
                        value: query.to_vec(),
                    }));
                    // Nothing of them stays behind.
                    contents.bytes.fill(0);
                    shelf.of.store(0, Ordering::Release);
                }
            });
            if taken.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    collected
}
