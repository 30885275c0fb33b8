//! Entries moved from list to list while nobody uses the index, for moments.

use std::time::{Duration, Instant};

use relocation::{Chains, Scattered};
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::ReadError;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::{Move, PAGES_TOGETHER, relocation};

use super::Batch;
use super::hold::Hold;
use super::lone_pages::LonePages;

/// Time for which others may have to wait for the index, and for which it is held at most.
const CONTESTED_TIME: Duration = Duration::from_millis(20);
const MOST_ALONE: Duration = Duration::from_millis(50);

/// How many blocks the index has at a moment when nobody uses it, if there is one within `limit`. Outside a
/// transaction, as all of these.
pub fn blocks_alone(index: &IndexInfo, limit: Duration) -> Result<u32, PortError> {
    Hold::alone(index, limit, |hold| Ok(hold.pages().block_count()?))
}

/// Makes as many of `moves` one by one as there is time for, at least those of a few pages. `moves`:
/// those of a page together.
pub fn relocate(
    index: &IndexInfo,
    chains: &mut Chains,
    moves: &[Move],
    limit: Duration,
) -> Result<Batch, PortError> {
    alone(index, limit, |pages, batch| {
        let rest = &moves[batch.done..];
        let each = rest.chunk_by(|a, b| a.at.block == b.at.block);
        let together = each.take(PAGES_TOGETHER).map(<[Move]>::len).sum();
        let lost = relocation::move_singly(pages, chains, &rest[..together])?;
        batch.lost.extend(lost.iter().map(|nth| batch.done + nth));
        batch.done += together;
        Ok(batch.done < moves.len())
    })
}

/// Makes as many of moves that go together as there is time for, at least those from a list, and tells where
/// those of `scattered` are then that are on the same pages.
pub fn relocate_run(
    index: &IndexInfo,
    chains: &mut Chains,
    moves: &[Move],
    scattered: &mut Scattered,
    limit: Duration,
) -> Result<Batch, PortError> {
    alone(index, limit, |pages, batch| {
        let left = &moves[batch.done..];
        let run = left.chunk_by(|a, b| a.from == b.from).next();
        let run = run.unwrap_or_default();
        let others = run.first().map(|one| scattered.of(one.from));
        let lost = relocation::move_run(pages, chains, run, others.unwrap_or_default())?;
        batch.lost.extend(lost.iter().map(|nth| batch.done + nth));
        batch.done += run.len();
        Ok(batch.done < moves.len())
    })
}

/// Tidies up behind moves as far as there is time.
pub fn tidy(index: &IndexInfo, chains: &mut Chains, limit: Duration) -> Result<Batch, PortError> {
    alone(index, limit, |pages, _| {
        relocation::tidy(pages, chains)?;
        Ok(!chains.are_tidy())
    })
}

/// Does work piece by piece while nobody uses the index, as long as it says that there is more and there
/// is time, if nobody does for a moment within `limit`.
fn alone(
    index: &IndexInfo,
    limit: Duration,
    mut work: impl FnMut(&mut LonePages<'_>, &mut Batch) -> Result<bool, ReadError>,
) -> Result<Batch, PortError> {
    Hold::alone(index, limit, |hold| {
        let since = Instant::now();
        let (mut pages, mut batch) = (LonePages::of(hold), Batch::default());
        while work(&mut pages, &mut batch)? {
            let held = since.elapsed();
            if held >= MOST_ALONE || held >= CONTESTED_TIME && pages.are_waited_for() {
                break;
            }
        }
        batch.pages = pages.touched;
        if pages.are_waited_for() {
            batch.kept_waiting = since.elapsed();
        }
        Ok(batch)
    })
}
