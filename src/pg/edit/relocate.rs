//! Entries moved from list to list while nobody uses the index.
//!
//! Each move of entries from a page to another is one record of the log: whatever ends the process,
//! every entry is in one list.

use std::time::{Duration, Instant};

use pgrx::pg_sys;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::Move;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::moves::entry_of;
use ruvector_dag_healing_engine::vector_index::ivfflat::layout::{PAGE_ID, has_id};
use ruvector_dag_healing_engine::vector_index::page::RawPage;
use ruvector_dag_healing_engine::vector_index::{HeapTid, PAGE_SIZE};

use super::Batch;
use super::hold::Hold;

/// Time for which others may have to wait for the index, and for which it is held at most.
const CONTESTED_TIME: Duration = Duration::from_millis(20);
const MOST_ALONE: Duration = Duration::from_millis(50);

/// Where there was last room in each list, by its number: pages before are full.
pub struct Chains(Vec<u32>);

impl Chains {
    /// Of lists that begin on these pages.
    pub fn new(starts: Vec<u32>) -> Self {
        Self(starts)
    }
}

/// Makes as many of `moves` as there is time for, at least those of one page, if nobody uses the index
/// for a moment within `limit`. Outside a transaction.
pub fn relocate(
    index: &IndexInfo,
    chains: &mut Chains,
    moves: &[Move],
    limit: Duration,
) -> Result<Batch, PortError> {
    Hold::alone(index, limit, |hold| {
        let since = Instant::now();
        let mut batch = Batch::default();
        for run in moves.chunk_by(|a, b| (a.at.block, a.to) == (b.at.block, b.to)) {
            let held = since.elapsed();
            let is_over = held >= MOST_ALONE || held >= CONTESTED_TIME && hold.is_waited_for();
            if batch.done > 0 && is_over {
                break;
            }
            let moved = move_all(hold, chains, run)?;
            let lost = (batch.done..).zip(moved).filter(|(_, moved)| !moved);
            batch.lost.extend(lost.map(|(nth, _)| nth));
            batch.done += run.len();
        }
        if hold.is_waited_for() {
            batch.kept_waiting = since.elapsed();
        }
        Ok(batch)
    })
}

/// Moves entries of one page to one list; tells which were there to be moved.
fn move_all(hold: &Hold, chains: &mut Chains, moves: &[Move]) -> Result<Vec<bool>, PortError> {
    let (from, to) = (moves[0].at.block, moves[0].to);
    let mut moved = vec![false; moves.len()];
    let Some(room) = chains.0.get_mut(to as usize) else {
        return Ok(moved);
    };
    let mut next = 0;
    while next < moves.len() {
        let done = move_some(hold, from, room, &moves[next..], &mut moved[next..])?;
        next += done;
    }
    Ok(moved)
}

/// Moves as many as there is room for on one page; tells how many were dealt with. Where there is no
/// room `room` goes on to the next page, which is made where the chain ends.
fn move_some(
    hold: &Hold,
    from: u32,
    room: &mut u32,
    moves: &[Move],
    moved: &mut [bool],
) -> Result<usize, PortError> {
    let index = hold.index();
    let blocks = index.blocks();
    if from >= blocks || *room == from {
        return Ok(moves.len());
    }
    if *room >= blocks {
        return Err(astray(*room));
    }
    // SAFETY: the relation is open, locked so that nobody else uses it, and has the blocks. The
    // copies that are changed are whole pages; the record is made of how they differ, and they are
    // written with it or not at all. An error aborts the transaction, which lets go of the buffers.
    unsafe {
        let relation = index.relation();
        let record = pg_sys::GenericXLogStart(relation);
        let source = Registered::existing(relation, record, from);
        let target = Registered::existing(relation, record, *room);
        let sound = |page: &Registered| {
            let page = page.raw();
            has_id(&page) && page.has_sane_header()
        };
        let (source_is, target_is) = (sound(&source), sound(&target));
        if !source_is || !target_is {
            pg_sys::GenericXLogAbort(record);
            source.release();
            target.release();
            // A page that is no longer of a list has none of its entries.
            return match target_is {
                true => Ok(moves.len()),
                false => Err(astray(*room)),
            };
        }
        let (mut done, mut full) = (0, false);
        for (one, moved) in moves.iter().zip(moved) {
            let Some(entry) = Entry::copied(&source, one.row) else {
                done += 1;
                continue;
            };
            if !target.add(&entry) {
                full = true;
                break;
            }
            source.remove(&entry);
            *moved = true;
            done += 1;
        }
        let mut added = None;
        if full && target.raw().next_block().is_none() {
            let page = Registered::new(relation, record);
            target.lead_to(page.block);
            added = Some(page);
        }
        if full {
            *room = target.raw().next_block().unwrap_or(*room);
        }
        let backwards = full && *room <= target.block;
        pg_sys::GenericXLogFinish(record);
        for page in [Some(source), Some(target), added].into_iter().flatten() {
            page.release();
        }
        match backwards {
            true => Err(astray(*room)),
            false => Ok(done),
        }
    }
}

fn astray(block: u32) -> PortError {
    PortError::Failed(format!("a list does not lead on from block {block}"))
}

/// An entry copied out of its page, aligned as PostgreSQL wants it.
struct Entry {
    offset: u16,
    words: Vec<u64>,
    length: usize,
}

impl Entry {
    fn copied(source: &Registered, row: HeapTid) -> Option<Self> {
        let page = source.raw();
        let (offset, bytes) = entry_of(&page, row)?;
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        for (word, eight) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..eight.len()].copy_from_slice(eight);
            *word = u64::from_ne_bytes(padded);
        }
        Some(Self {
            offset,
            words,
            length: bytes.len(),
        })
    }
}

/// A page whose buffer is locked, and the copy of it that a record is made of.
struct Registered {
    buffer: pg_sys::Buffer,
    block: u32,
    page: pg_sys::Page,
}

impl Registered {
    /// # Safety
    /// The relation is open and has the block; the record is under way.
    unsafe fn existing(
        relation: pg_sys::Relation,
        record: *mut pg_sys::GenericXLogState,
        block: u32,
    ) -> Self {
        // SAFETY: as the caller promises.
        unsafe {
            let buffer = pg_sys::ReadBuffer(relation, block);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
            let page = pg_sys::GenericXLogRegisterBuffer(record, buffer, 0);
            Self {
                buffer,
                block,
                page,
            }
        }
    }

    /// An empty page at the end of the file, the last of its chain.
    ///
    /// # Safety
    /// The relation is open, and nobody else makes it longer; the record is under way.
    unsafe fn new(relation: pg_sys::Relation, record: *mut pg_sys::GenericXLogState) -> Self {
        // SAFETY: as the caller promises; the area at the end of the page is pgvector's eight bytes.
        unsafe {
            let buffer = pg_sys::ReadBuffer(relation, pg_sys::InvalidBlockNumber);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
            let image = pg_sys::GENERIC_XLOG_FULL_IMAGE as i32;
            let page = pg_sys::GenericXLogRegisterBuffer(record, buffer, image);
            pg_sys::PageInit(page, PAGE_SIZE, 8);
            let page = Self {
                buffer,
                block: pg_sys::BufferGetBlockNumber(buffer),
                page,
            };
            page.lead_to(pg_sys::InvalidBlockNumber);
            let end = page.page.cast::<u8>().add(PAGE_SIZE - 4);
            std::ptr::copy_nonoverlapping([0, 0].as_ptr(), end, 2);
            std::ptr::copy_nonoverlapping(PAGE_ID.to_le_bytes().as_ptr(), end.add(2), 2);
            page
        }
    }

    fn raw(&self) -> RawPage<'_> {
        // SAFETY: a whole page, which lives as long as the record.
        RawPage::new(unsafe { &*self.page.cast::<[u8; PAGE_SIZE]>() })
    }

    /// Has its chain go on at a block.
    fn lead_to(&self, block: u32) {
        let bytes = block.to_le_bytes();
        // SAFETY: the area at the end of the page begins with the next block.
        unsafe {
            let next = self.page.cast::<u8>().add(PAGE_SIZE - 8);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), next, bytes.len());
        }
    }

    /// Adds an entry if there is room.
    fn add(&self, entry: &Entry) -> bool {
        // SAFETY: the page is whole, and its header was looked at.
        unsafe {
            if pg_sys::PageGetFreeSpace(self.page) < entry.words.len() * 8 {
                return false;
            }
            let tuple = entry.words.as_ptr().cast_mut().cast();
            let last = pg_sys::InvalidOffsetNumber;
            let added = pg_sys::PageAddItemExtended(self.page, tuple, entry.length, last, 0);
            added != pg_sys::InvalidOffsetNumber
        }
    }

    /// Takes an entry out; those behind it move up.
    fn remove(&self, entry: &Entry) {
        // SAFETY: the entry was found there.
        unsafe { pg_sys::PageIndexTupleDelete(self.page, entry.offset) }
    }

    fn release(self) {
        // SAFETY: locked and pinned when it was registered; the record is ended.
        unsafe { pg_sys::UnlockReleaseBuffer(self.buffer) }
    }
}
