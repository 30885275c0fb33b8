//! Which entries go one by one, and which in runs.
//!
//! An entry that goes alone takes changes to two pages, and its target is written once for each few
//! pages that entries come from. Where much of a list goes to few others its pages are sorted
//! anew: every entry is written once, and runs change hands by their links.

use std::collections::HashMap;

use super::Chains;
use super::chains::Chain;
use crate::vector_index::ivfflat::heal::Move;
use crate::vector_index::ivfflat::heal::moves::NOWHERE;

/// Pages' worth of entries that go from one list to another, at least, for these to go in runs.
const LEAST_RUN: u64 = 2;
/// Share of the entries of a list that go in runs, at least, for its pages to be sorted anew: 1 in …
const LEAST_SHARE: u64 = 4;
/// Moves from a page that are many.
const MANY_ON_PAGE: u64 = 4;

/// Pages that are sorted at a time: what fills them is in memory, and as many new ones are needed before these
/// can be used again. The share of all pages: 1 in …, within bounds.
const SHARE_OF_PAGES: usize = 16;
const LEAST_SORTED: usize = 16;
/// The most that they are.
pub const MOST_SORTED: usize = 512;

/// Moves in the order in which they are to be made.
#[derive(Debug)]
pub struct Schedule {
    /// One by one, so that what is left of lists from which most goes so is little when others come.
    pub single: Vec<Move>,
    /// In runs.
    pub runs: Runs,
    /// One by one in the end.
    pub scattered: Scattered,
}

/// Moves in runs, list by list, as the entries stand there.
#[derive(Debug)]
pub struct Runs {
    /// All of them.
    pub moves: Vec<Move>,
    /// Where those end that go together.
    ends: Vec<usize>,
}

/// Moves of entries on pages that are sorted anew, which too few go with, list by list: from where they
/// are then.
#[derive(Debug)]
pub struct Scattered(Vec<Move>);

impl Schedule {
    /// Of moves that were seen on these pages. Lists from which most goes alone are noted there.
    pub fn of(moves: Vec<Move>, chains: &mut Chains) -> Self {
        let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
        for one in &moves {
            *counts.entry((one.from, one.to)).or_default() += 1;
        }
        let chain = |list: u32| chains.lists.get(list as usize);
        let mut in_runs: HashMap<u32, u64> = HashMap::new();
        counts.retain(|&(from, to), count| {
            let is_many = chain(from).is_some_and(|chain| {
                *count * chain.pages.len() as u64 >= LEAST_RUN * chain.entries.max(1)
            });
            let is_run = is_many && from != to && chains.place(to).is_some();
            if is_run {
                *in_runs.entry(from).or_default() += *count;
            }
            is_run
        });
        let is_much = |chain: &Chain, count| LEAST_SHARE * count >= chain.entries;
        in_runs.retain(|&from, count| chain(from).is_some_and(|chain| is_much(chain, *count)));
        let is_sorted = |one: &Move| {
            let start = || chains.lists[one.from as usize].pages[0];
            in_runs.contains_key(&one.from) && one.at != NOWHERE && start() != one.at.block
        };
        let (mut sorted, single): (Vec<Move>, _) = moves.into_iter().partition(is_sorted);
        sorted.sort_by_key(|one| one.from);
        let is_run = |one: &Move| counts.contains_key(&(one.from, one.to));
        let (mut moves, scattered): (Vec<Move>, _) = sorted.into_iter().partition(is_run);
        let ends = sort(&mut moves, chains);
        thin(&single, chains, &in_runs);
        Self {
            single: by_pages(single),
            runs: Runs { moves, ends },
            scattered: Scattered(scattered),
        }
    }
}

impl Runs {
    /// How many go together, from one on that is the first of such.
    pub fn together(&self, from: usize) -> usize {
        let end = self.ends.partition_point(|&end| end <= from);
        self.ends.get(end).map_or(0, |end| end - from)
    }
}

impl Scattered {
    /// Those of a list.
    pub fn of(&mut self, list: u32) -> &mut [Move] {
        let begin = self.0.partition_point(|one| one.from < list);
        let end = self.0.partition_point(|one| one.from <= list);
        &mut self.0[begin..end]
    }

    /// All of them, when runs have gone.
    pub fn moves(self) -> Vec<Move> {
        by_pages(self.0)
    }
}

/// Page by page where many are from a page, and behind these list by list that they go to, so that the
/// pages that are written are few.
fn by_pages(mut moves: Vec<Move>) -> Vec<Move> {
    let mut on_page: HashMap<u32, u64> = HashMap::new();
    for one in &moves {
        *on_page.entry(one.at.block).or_default() += 1;
    }
    let is_few = |one: &Move| on_page[&one.at.block] < MANY_ON_PAGE;
    moves.sort_by_cached_key(|one| {
        let list = is_few(one).then_some(one.to);
        (list, one.at.block, one.at.offset)
    });
    moves
}

/// Sorts moves that are list by list as the entries stand there; tells where those end that go together.
fn sort(moves: &mut [Move], chains: &Chains) -> Vec<usize> {
    let all: usize = chains.lists.iter().map(|list| list.pages.len()).sum();
    let most = (all / SHARE_OF_PAGES).clamp(LEAST_SORTED, MOST_SORTED);
    let (mut ends, mut sorted, mut pages) = (Vec::new(), 0, 0);
    for of_list in moves.chunk_by_mut(|a, b| a.from == b.from) {
        let chain = &chains.lists[of_list[0].from as usize];
        let places: HashMap<u32, usize> = chain.pages.iter().copied().zip(0..).collect();
        let place = |one: &Move| places.get(&one.at.block).copied().unwrap_or(0);
        of_list.sort_by_cached_key(|one| (place(one), one.at.offset));
        let mut first = place(&of_list[0]);
        for (nth, one) in of_list.iter().enumerate() {
            if pages + place(one) - first >= most {
                ends.push(sorted + nth);
                (pages, first) = (0, place(one));
            }
        }
        sorted += of_list.len();
        pages += of_list.last().map_or(0, place) + 1 - first;
    }
    ends.push(sorted);
    ends
}

/// Notes the lists from which more than half goes one by one.
fn thin(single: &[Move], chains: &mut Chains, in_runs: &HashMap<u32, u64>) {
    let mut leave: HashMap<u32, u64> = HashMap::new();
    for one in single {
        *leave.entry(one.from).or_default() += 1;
    }
    for (list, count) in leave {
        let Some(chain) = chains.lists.get_mut(list as usize) else {
            continue;
        };
        chain.is_thinned = 2 * count > chain.entries && !in_runs.contains_key(&list);
        if chain.is_thinned {
            chains.to_compact.push((list, 1));
        }
    }
}
