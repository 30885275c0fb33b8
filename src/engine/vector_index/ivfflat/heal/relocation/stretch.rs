//! Pages of a list from which much goes: what is on them is written to other pages, sorted by where it
//! belongs, and these take their place; then run after run is cut out of the list and put into that which it
//! belongs into, by its links.
//!
//! Every entry is in one list after each write: the sorted pages are of no list until those they were
//! made of are not, and what a run changes hands by is written together.

use std::ops::Range;

use super::contents::{Contents, Place};
use super::page::ListedPage;
use super::record::Record;
use super::schedule::MOST_SORTED;
use super::wanted::Wanted;
use super::{Alone, Chains, astray};
use crate::vector_index::ReadError;
use crate::vector_index::ivfflat::heal::Move;
use crate::vector_index::page::Tid;

/// Makes moves from one list that go together (see [`Runs`](super::schedule::Runs)). Tells which were not
/// there. `scattered`: other entries of the list that are to go later; those on the same pages are
/// moved to pages of the list that have little else.
pub fn move_run(
    alone: &mut dyn Alone,
    chains: &mut Chains,
    moves: &[Move],
    scattered: &mut [Move],
) -> Result<Vec<usize>, ReadError> {
    let (Some(first), Some(last)) = (moves.first(), moves.last()) else {
        return Ok(Vec::new());
    };
    let list = chains.lists.get(first.from as usize);
    let place = |block: u32| list?.pages.iter().position(|&page| page == block);
    let (Some(begin), Some(end)) = (place(first.at.block), place(last.at.block)) else {
        return Ok((0..moves.len()).collect());
    };
    let stretch = begin.min(end).max(1)..begin.max(end) + 1;
    let mut wanted = Wanted::of(moves, scattered);
    rewrite(alone, chains, first.from, stretch, &mut wanted)?;
    let is_lost = |nth: &usize| !wanted.seen[*nth];
    Ok((0..moves.len()).filter(is_lost).collect())
}

/// Writes what is left on some pages of a list, from one on that is not its first, to fewer ones. Tells
/// which is the next; none behind the last.
pub fn compact(
    alone: &mut dyn Alone,
    chains: &mut Chains,
    list: u32,
    from: usize,
) -> Result<Option<usize>, ReadError> {
    let pages = |chains: &Chains| {
        let list = chains.lists.get(list as usize);
        list.map_or(0, |list| list.pages.len())
    };
    let before = pages(chains);
    let end = before.min(from + MOST_SORTED);
    if from >= end {
        return Ok(None);
    }
    let mut nothing = Wanted::of(&[], &mut []);
    rewrite(alone, chains, list, from..end, &mut nothing)?;
    let next = end - (before - pages(chains));
    Ok((next < pages(chains)).then_some(next))
}

/// Has other pages take the place of some of a list, and those of them that are to be elsewhere go there.
fn rewrite(
    alone: &mut dyn Alone,
    chains: &mut Chains,
    list: u32,
    stretch: Range<usize>,
    wanted: &mut Wanted<'_>,
) -> Result<(), ReadError> {
    let chain = &chains.lists[list as usize];
    let (at, before) = (chain.at, chain.pages[stretch.start - 1]);
    let mut old = chain.pages[stretch.clone()].to_vec();
    let contents = Contents::read(alone, before, &old, wanted)?;
    let mut record = Record::start(alone)?;
    let own = contents.own();
    let mut sheets: Vec<&[&Place]> = own[1..].iter().map(|page| &page[..]).collect();
    let runs: Vec<(u32, Vec<Vec<&Place>>)> = contents.runs().collect();
    sheets.extend(runs.iter().flat_map(|(_, run)| run).map(|page| &page[..]));
    let blocks = write(&mut record, chains, &contents, &sheets)?;
    // They take the place of those that they were made of.
    record.make_room(2)?;
    let page = record.existing(before)?;
    let stay = own[0].iter().all(|place| page.add(contents.entry(place)));
    page.lead_to(blocks.first().copied().or(contents.behind));
    let lists = record.existing(at.block)?;
    if !stay || !lists.inserts_begin_elsewhere(at.offset, &old, before) {
        return Err(astray(before));
    }
    record.finish()?;
    let (own_blocks, mut rest) = blocks.split_at(own.len() - 1);
    wanted.forget(&old);
    for (nth, page) in contents.later(&own) {
        let block = page.checked_sub(1).map_or(before, |page| own_blocks[page]);
        wanted.scattered[nth].at = Tid { block, offset: 1 };
    }
    chains.replace(list, stretch, own_blocks);
    let before = own_blocks.last().copied().unwrap_or(before);
    for (to, run) in &runs {
        let (run, behind) = rest.split_at(run.len());
        old.extend(hand_over(&mut record, chains, before, *to, run)?);
        rest = behind;
    }
    // Whoever looks at them meanwhile sees pages that are of no use yet.
    record.finish_with_empty(&old)?;
    chains.add_spare(&old);
    Ok(())
}

/// Writes entries to pages of no list, each of which leads to the next. Tells which.
fn write(
    record: &mut Record<'_>,
    chains: &mut Chains,
    contents: &Contents,
    sheets: &[&[&Place]],
) -> Result<Vec<u32>, ReadError> {
    let spare = |_| chains.take_spare().unwrap_or_else(|| record.next_new());
    let blocks: Vec<u32> = (0..sheets.len()).map(spare).collect();
    for (nth, entries) in sheets.iter().enumerate() {
        let mut page = ListedPage::empty();
        page.lead_to(blocks.get(nth + 1).copied().or(contents.behind));
        if !entries.iter().all(|place| page.add(contents.entry(place))) {
            return Err(astray(blocks[nth]));
        }
        record.make_room(1)?;
        record.put(blocks[nth], page);
    }
    Ok(blocks)
}

/// Cuts a run out of the list that leads to it, and puts it into another. What is on its last page goes to the
/// page before in that list if there is room; tells which page is in no list then.
fn hand_over(
    record: &mut Record<'_>,
    chains: &mut Chains,
    before: u32,
    to: u32,
    run: &[u32],
) -> Result<Option<u32>, ReadError> {
    let (Some(place), Some((&last, others))) = (chains.place(to), run.split_last()) else {
        return Err(astray(before));
    };
    let end = record.existing(last)?;
    let (behind, left) = (end.next(), end.tuples());
    record.existing(before)?.lead_to(behind);
    let target = record.existing(place)?;
    if !target.is_sound() {
        return Err(astray(place));
    }
    let fits = target.has_room_for(&left);
    if fits {
        left.iter().for_each(|tuple| {
            target.add(tuple);
        });
    }
    let run = if fits { others } else { run };
    if let Some((&first, &last)) = run.first().zip(run.last()) {
        let then = target.next();
        target.lead_to(Some(first));
        record.existing(last)?.lead_to(then);
    }
    record.finish()?;
    chains.placed(to, run);
    Ok(fits.then_some(last))
}
