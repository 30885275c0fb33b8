//! Entries on their way from list to list: in batches, each as soon as nobody uses the index for a moment.

use std::time::Duration;

use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::PageSource;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::Move;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::relocation::{
    Chains, Schedule, Spare,
};

use super::edit::{self, Batch};
use super::mending::{NEVER, until_free};
use super::pages::BackgroundPages;
use super::{guc, lifecycle, world};

/// Moves that go together when they go one by one, and as many more as are of the last page.
const MOVES: usize = 2048;
/// How much longer than they had to wait others have the index before it is taken again.
const OTHERS_TURN: u32 = 4;

/// Which pages of no list may be given to one: those there were when nobody used the index.
pub fn spare(index: &IndexInfo) -> Result<Spare, PortError> {
    let below = until_free(&mut || edit::blocks_alone(index, world::lock_timeout()))?;
    let even_used = false;
    Ok(Spare { below, even_used })
}

/// Makes moves batch by batch, each of as many as are told for what is left; tells how many were lost.
type Batches<'a> = dyn FnMut(
        &[Move],
        &dyn Fn(&[Move]) -> usize,
        &mut dyn FnMut(&[Move]) -> Result<Batch, PortError>,
    ) -> Result<usize, PortError>
    + 'a;

/// The pages of lists that entries go between.
pub struct Moving<'a> {
    index: &'a IndexInfo,
    chains: Chains,
    /// For how long others had to wait.
    pub kept_waiting: Duration,
    /// Entries that went in runs.
    pub in_runs: usize,
}

impl<'a> Moving<'a> {
    /// Of lists as they were looked at.
    pub fn new(index: &'a IndexInfo, chains: Chains) -> Self {
        Self {
            index,
            chains,
            kept_waiting: Duration::ZERO,
            in_runs: 0,
        }
    }

    /// Makes all of these moves in `batches`; tells how many were lost.
    pub fn all(&mut self, moves: Vec<Move>, batches: &mut Batches<'_>) -> Result<usize, PortError> {
        let schedule = Schedule::of(moves, &mut self.chains);
        let (single, runs, mut scattered) = (schedule.single, schedule.runs, schedule.scattered);
        self.in_runs += runs.moves.len();
        let mut lost = self.one_by_one(&single, batches)?;
        self.tidy()?;
        let together = |left: &[Move]| runs.together(runs.moves.len() - left.len());
        lost += batches(&runs.moves, &together, &mut |batch| {
            warm(self.index, batch)?;
            self.alone(&mut |index, chains, limit| {
                edit::relocate_run(index, chains, batch, &mut scattered, limit)
            })
        })?;
        lost += self.one_by_one(&scattered.moves(), batches)?;
        self.tidy()?;
        Ok(lost)
    }

    fn one_by_one(
        &mut self,
        moves: &[Move],
        batches: &mut Batches<'_>,
    ) -> Result<usize, PortError> {
        batches(moves, &whole_pages, &mut |batch| {
            self.alone(&mut |index, chains, limit| edit::relocate(index, chains, batch, limit))
        })
    }

    fn tidy(&mut self) -> Result<(), PortError> {
        while !self.chains.are_tidy() {
            self.alone(&mut edit::tidy)?;
        }
        Ok(())
    }

    /// Does something as soon as nobody uses the index, if that is soon enough; and leaves it to others
    /// for longer than they had to wait.
    fn alone(
        &mut self,
        make: &mut dyn FnMut(&IndexInfo, &mut Chains, Duration) -> Result<Batch, PortError>,
    ) -> Result<Batch, PortError> {
        let made = until_free(&mut || make(self.index, &mut self.chains, world::lock_timeout()))?;
        if !made.kept_waiting.is_zero() {
            self.kept_waiting += made.kept_waiting;
            lifecycle::wait(made.kept_waiting * OTHERS_TURN);
        }
        Ok(made)
    }
}

/// Has the pages that moves are from in memory, so that nobody waits for that later.
fn warm(index: &IndexInfo, moves: &[Move]) -> Result<(), PortError> {
    let mut blocks: Vec<u32> = moves.iter().map(|one| one.at.block).collect();
    blocks.dedup();
    let mut pages = BackgroundPages::new(index, guc::config().io_limit_mb, NEVER);
    Ok(pages.read(&mut blocks.into_iter(), &mut |_, _| {})?)
}

/// Batches of moves that nobody takes back.
pub fn unwritten(
    moves: &[Move],
    at_once: &dyn Fn(&[Move]) -> usize,
    make: &mut dyn FnMut(&[Move]) -> Result<Batch, PortError>,
) -> Result<usize, PortError> {
    let (mut done, mut lost) = (0, 0);
    while done < moves.len() {
        let rest = &moves[done..];
        let made = make(&rest[..at_once(rest)])?;
        done += made.done;
        lost += made.lost.len();
    }
    Ok(lost)
}

/// How many moves go together: all from a page, so that it is written once.
fn whole_pages(moves: &[Move]) -> usize {
    let Some((last, rest)) = moves.get(MOVES - 1).zip(moves.get(MOVES..)) else {
        return moves.len();
    };
    let same_page = rest.iter().take_while(|one| one.at.block == last.at.block);
    MOVES + same_page.count()
}
