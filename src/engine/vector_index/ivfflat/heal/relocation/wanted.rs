//! Which entries on the pages of a list are to go where.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::vector_index::HeapTid;
use crate::vector_index::ivfflat::heal::Move;
use crate::vector_index::ivfflat::heal::moves::NOWHERE;

/// Entries that are to go, page by page.
pub struct Wanted<'a> {
    moves: &'a [Move],
    /// Whether they are there.
    pub seen: Vec<bool>,
    /// Those that are to go later.
    pub scattered: &'a mut [Move],
    /// The numbers of those of each page.
    on_page: [HashMap<u32, Range<usize>>; 2],
}

/// Where an entry goes.
pub enum Goes {
    /// Nowhere.
    No,
    /// To a list in a run.
    To(u32),
    /// Elsewhere later, by the number of that move.
    Later(usize),
}

impl<'a> Wanted<'a> {
    /// Those of `moves`, page by page, and `scattered`.
    pub fn of(moves: &'a [Move], scattered: &'a mut [Move]) -> Self {
        scattered.sort_unstable_by_key(|one| (one.at.block, one.at.offset));
        Self {
            seen: vec![false; moves.len()],
            on_page: [on_page(moves), on_page(scattered)],
            moves,
            scattered,
        }
    }

    /// Where a row goes that is on a page. They are asked for in the order in which they were seen there, about.
    pub fn goes(&mut self, block: u32, row: HeapTid) -> Goes {
        let [moves, scattered] = &mut self.on_page;
        if let Some(nth) = take(moves.get_mut(&block), self.moves, row) {
            self.seen[nth] = true;
            return Goes::To(self.moves[nth].to);
        }
        let later = take(scattered.get_mut(&block), self.scattered, row);
        later.map_or(Goes::No, Goes::Later)
    }

    /// What is to go later and was on one of these pages is nowhere.
    pub fn forget(&mut self, pages: &[u32]) {
        let pages: HashSet<u32> = pages.iter().copied().collect();
        for one in self.scattered.iter_mut() {
            if pages.contains(&one.at.block) {
                one.at = NOWHERE;
            }
        }
    }
}

fn on_page(moves: &[Move]) -> HashMap<u32, Range<usize>> {
    let mut begin = 0;
    let pages = moves.chunk_by(|a, b| a.at.block == b.at.block);
    let each = pages.map(|page| {
        begin += page.len();
        (page[0].at.block, begin - page.len()..begin)
    });
    each.collect()
}

/// The number of a row's move among those left of a page.
fn take(left: Option<&mut Range<usize>>, moves: &[Move], row: HeapTid) -> Option<usize> {
    let left = left?;
    let nth = left.clone().find(|&nth| moves[nth].row == row)?;
    if nth == left.start {
        left.start += 1;
    }
    Some(nth)
}
