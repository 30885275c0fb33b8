//! Entries moved from list to list while nobody uses the index.
//!
//! All that changes for an entry to move is in one record of the log, with the moves of others between
//! the same pages: whatever ends the process, every entry is in one list. A page that is left with
//! little is emptied into those before it and taken out of its chain, so that searches do not read it; lists
//! that need room get it. Chains lead upwards in the file, as pgvector makes them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::moves::{Chain, up};
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::{Move, PAGES_TOGETHER};

use super::Batch;
use super::hold::Hold;
use super::record::Record;

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

/// Makes as many of `moves` as there is time for, at least those of a few pages, if nobody uses the index
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
        let mut mover = Mover {
            record: Record::start(hold.index()),
            blocks: hold.index().blocks(),
            chains,
        };
        while batch.done < moves.len() {
            let held = since.elapsed();
            let is_over = held >= MOST_ALONE || held >= CONTESTED_TIME && hold.is_waited_for();
            if batch.done > 0 && is_over {
                break;
            }
            let rest = &moves[batch.done..];
            let pages = rest.chunk_by(|a, b| a.at.block == b.at.block);
            let together = &rest[..pages.take(PAGES_TOGETHER).map(<[Move]>::len).sum()];
            let lost = mover.move_together(together)?;
            batch.lost.extend(lost.iter().map(|nth| batch.done + nth));
            batch.done += together.len();
        }
        mover.record.finish();
        batch.pages = mover.record.pages();
        if hold.is_waited_for() {
            batch.kept_waiting = since.elapsed();
        }
        Ok(batch)
    })
}

struct Mover<'a> {
    record: Record<'a>,
    /// Pages of the index.
    blocks: u32,
    chains: &'a mut Chains,
}

impl Mover<'_> {
    /// Moves the entries of a few pages, list by list, and takes out of their chains the pages that are
    /// left with little. Tells which were not there.
    fn move_together(&mut self, moves: &[Move]) -> Result<Vec<usize>, PortError> {
        let mut by_list: Vec<usize> = (0..moves.len()).collect();
        by_list.sort_by_key(|&nth| moves[nth].to);
        let mut lost = Vec::new();
        for nth in by_list {
            if !self.move_one(&moves[nth])? {
                lost.push(nth);
            }
        }
        for page in moves.chunk_by(|a, b| a.at.block == b.at.block) {
            self.tidy(page[0].at.block, page[0].from)?;
        }
        lost.sort_unstable();
        Ok(lost)
    }

    /// Moves an entry to where there is room in a list; `false`: it is not there, or is where it would go.
    fn move_one(&mut self, one: &Move) -> Result<bool, PortError> {
        let from = one.at.block;
        while let Some(&Chain { room, .. }) = self.chains.lists.get(one.to as usize) {
            if from >= self.blocks || room == from {
                return Ok(false);
            }
            if room >= self.blocks {
                return Err(astray(room));
            }
            // From, to, and to what that leads.
            self.record.make_room(3);
            let Some(entry) = self.record.existing(from).entry(one.row, one.at.offset) else {
                return Ok(false);
            };
            let target = self.record.existing(room);
            if !target.is_sound() {
                return Err(astray(room));
            }
            if target.add(&entry) {
                self.record.existing(from).remove(&entry);
                return Ok(true);
            }
            self.go_on(one.to, room)?;
        }
        Ok(false)
    }

    /// There is no room on a page: its list goes on at the next, which is added where the chain ends.
    fn go_on(&mut self, list: u32, full: u32) -> Result<(), PortError> {
        let next = match self.record.existing(full).next() {
            Some(next) => next,
            None => {
                let spare = self.chains.spare.range(full + 1..).next().copied();
                spare.map(|spare| self.chains.spare.remove(&spare));
                let added = self.record.added(spare);
                self.record.existing(full).lead_to(added);
                self.blocks = self.blocks.max(added + 1);
                added
            }
        };
        if next <= full {
            return Err(astray(full));
        }
        self.chains.lists[list as usize].room = next;
        Ok(())
    }

    /// Takes a page out of its list's chain that has little left, which goes to pages before it.
    fn tidy(&mut self, block: u32, list: u32) -> Result<(), PortError> {
        let Some(&Chain { at, start, room }) = self.chains.lists.get(list as usize) else {
            return Ok(());
        };
        if block == start || block >= self.blocks || room >= block {
            return Ok(());
        }
        self.record.make_room(1);
        let page = self.record.existing(block);
        page.settle();
        if !page.is_sound() || !page.is_half_empty() {
            return Ok(());
        }
        for one in up(&page.raw(), block, list) {
            self.move_one(&one)?;
        }
        let Some(before) = self.before(list, block) else {
            return Ok(());
        };
        // The page, that before it, and where the list stands.
        self.record.make_room(3);
        let page = self.record.existing(block);
        page.settle();
        let next = page.next().unwrap_or(pg_sys::InvalidBlockNumber);
        let is_empty = up(&page.raw(), block, list).is_empty();
        let lists = self.record.existing(at.block);
        if is_empty && lists.inserts_begin_elsewhere(at.offset, block, before) {
            self.record.existing(before).lead_to(next);
            self.chains.spare.insert(block);
        }
        Ok(())
    }

    /// The page of a list that leads to one of its pages, if there is or was room up to it. Where there is
    /// room from then on: the pages between keep what they have.
    fn before(&mut self, list: u32, block: u32) -> Option<u32> {
        loop {
            let room = self.chains.lists[list as usize].room;
            match self.record.next(room)? {
                next if next == block => return Some(room),
                next if room < next && next < block => {
                    self.chains.lists[list as usize].room = next;
                }
                _ => return None,
            }
        }
    }
}

fn astray(block: u32) -> PortError {
    PortError::Failed(format!("a list does not lead on from block {block}"))
}
