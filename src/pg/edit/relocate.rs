//! Entries moved from list to list while nobody uses the index.
//!
//! Each move of entries from a page to another is one record of the log: whatever ends the process,
//! every entry is in one list. A page that is left with little is emptied into those before it and taken out
//! of its chain, so that searches do not read it; lists that need room get it. Chains lead upwards in the
//! file, as pgvector makes them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::Move;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::moves::{Chain, entries_of};

use super::Batch;
use super::hold::Hold;
use super::listed_page::{Entry, Record};

/// Time for which others may have to wait for the index, and for which it is held at most.
const CONTESTED_TIME: Duration = Duration::from_millis(20);
const MOST_ALONE: Duration = Duration::from_millis(50);

/// The lists by their number: where each stands, and where there was last room in it (pages before
/// are full); and pages that are in no chain.
pub struct Chains {
    lists: Vec<Chain>,
    spare: BTreeSet<u32>,
}

impl Chains {
    /// Of these lists.
    pub fn new(lists: Vec<Chain>) -> Self {
        Self {
            lists,
            spare: BTreeSet::new(),
        }
    }
}

/// Makes as many of `moves` as there is time for, at least those of one page, if nobody uses the index
/// for a moment within `limit`. Outside a transaction. `moves`: those of a page together.
pub fn relocate(
    index: &IndexInfo,
    chains: &mut Chains,
    moves: &[Move],
    limit: Duration,
) -> Result<Batch, PortError> {
    Hold::alone(index, limit, |hold| {
        let since = Instant::now();
        let mut batch = Batch::default();
        for page in moves.chunk_by(|a, b| a.at.block == b.at.block) {
            let held = since.elapsed();
            let is_over = held >= MOST_ALONE || held >= CONTESTED_TIME && hold.is_waited_for();
            if batch.done > 0 && is_over {
                break;
            }
            let mut mover = Mover { hold, chains };
            let block = page[0].at.block;
            let mut moved = Vec::with_capacity(page.len());
            for run in page.chunk_by(|a, b| a.to == b.to) {
                let rows: Vec<HeapTid> = run.iter().map(|one| one.row).collect();
                moved.extend(mover.move_all(block, &rows, run[0].to)?);
            }
            if moved.contains(&true) {
                mover.tidy(block, page[0].from)?;
            }
            let lost = (batch.done..).zip(moved).filter(|(_, moved)| !moved);
            batch.lost.extend(lost.map(|(nth, _)| nth));
            batch.done += page.len();
        }
        if hold.is_waited_for() {
            batch.kept_waiting = since.elapsed();
        }
        Ok(batch)
    })
}

struct Mover<'a> {
    hold: &'a Hold,
    chains: &'a mut Chains,
}

impl Mover<'_> {
    /// Moves the entries of rows from a page to a list; tells which were there to be moved.
    fn move_all(&mut self, from: u32, rows: &[HeapTid], to: u32) -> Result<Vec<bool>, PortError> {
        let mut moved = vec![false; rows.len()];
        let mut next = 0;
        while next < rows.len() {
            next += self.move_some(from, &rows[next..], to, &mut moved[next..])?;
        }
        Ok(moved)
    }

    /// Moves as many as there is room for on one page; tells how many were dealt with. Where there is no
    /// room the list goes on at the next page, which is added where the chain ends.
    fn move_some(
        &mut self,
        from: u32,
        rows: &[HeapTid],
        to: u32,
        moved: &mut [bool],
    ) -> Result<usize, PortError> {
        let blocks = self.hold.index().blocks();
        let Some(room) = self.chains.lists.get(to as usize).map(|list| list.room) else {
            return Ok(rows.len());
        };
        if from >= blocks || room == from {
            return Ok(rows.len());
        }
        if room >= blocks {
            return Err(astray(room));
        }
        let record = Record::start(self.hold.index());
        let (source, target) = (record.existing(from), record.existing(room));
        if !target.is_sound() {
            return Err(astray(room));
        }
        // A page that is no longer of a list has none of its entries.
        if !source.is_sound() {
            return Ok(rows.len());
        }
        let (mut done, mut full) = (0, false);
        for (row, moved) in rows.iter().zip(&mut *moved) {
            if let Some(entry) = Entry::copied(&source, *row) {
                if !target.add(&entry) {
                    full = true;
                    break;
                }
                source.remove(&entry);
                *moved = true;
            }
            done += 1;
        }
        if full {
            let next = match target.next() {
                Some(next) => next,
                None => {
                    let spare = self.chains.spare.range(room + 1..).next().copied();
                    if let Some(spare) = spare {
                        self.chains.spare.remove(&spare);
                    }
                    let page = record.added(spare);
                    target.lead_to(page.block());
                    page.block()
                }
            };
            if next <= room {
                return Err(astray(room));
            }
            self.chains.lists[to as usize].room = next;
        }
        if full || moved.contains(&true) {
            record.finish();
        }
        Ok(done)
    }

    /// Takes a page out of its list's chain that has little left, which goes to pages before it.
    fn tidy(&mut self, block: u32, list: u32) -> Result<(), PortError> {
        let Some(&Chain { at, start, .. }) = self.chains.lists.get(list as usize) else {
            return Ok(());
        };
        if block == start {
            return Ok(());
        }
        let left = {
            let record = Record::start(self.hold.index());
            let page = record.existing(block);
            match page.is_sound() && page.is_half_empty() {
                true => entries_of(&page.raw()),
                false => return Ok(()),
            }
        };
        if self.chains.lists[list as usize].room >= block {
            return Ok(());
        }
        self.move_all(block, &left, list)?;
        // The pages between that one and this keep what they have.
        let room = self.room_before(list, block)?;
        let Some(room) = room else {
            return Ok(());
        };
        let record = Record::start(self.hold.index());
        let (page, before) = (record.existing(block), record.existing(room));
        if !entries_of(&page.raw()).is_empty() || before.next() != Some(block) {
            return Ok(());
        }
        before.lead_to(page.next().unwrap_or(pg_sys::InvalidBlockNumber));
        let lists = record.existing(at.block);
        if !lists.inserts_begin_elsewhere(at.offset, block, room) {
            return Ok(());
        }
        record.finish();
        self.chains.spare.insert(block);
        Ok(())
    }

    /// The page of a list that leads to one of its pages, at which or behind which there is room.
    fn room_before(&mut self, list: u32, block: u32) -> Result<Option<u32>, PortError> {
        let mut room = self.chains.lists[list as usize].room;
        while room < block {
            let next = {
                let record = Record::start(self.hold.index());
                record.existing(room).next()
            };
            match next {
                Some(next) if next == block => return Ok(Some(room)),
                Some(next) if next > room => room = next,
                _ => return Ok(None),
            }
            self.chains.lists[list as usize].room = room;
        }
        Ok(None)
    }
}

fn astray(block: u32) -> PortError {
    PortError::Failed(format!("a list does not lead on from block {block}"))
}
