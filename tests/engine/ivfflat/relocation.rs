//! Entries that go from list to list on pages in memory, to the end and up to any write.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::moves::locate;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::relocation::{
    Alone, Chains, MOST_PAGES, Schedule, Spare, move_run, move_singly, tidy,
};
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::{Move, PAGES_TOGETHER};
use ruvector_dag_healing_engine::vector_index::ivfflat::layout::entries;
use ruvector_dag_healing_engine::vector_index::ivfflat::{chains_end, check};
use ruvector_dag_healing_engine::vector_index::page::{RawPage, Tid};
use ruvector_dag_healing_engine::vector_index::shape::Metric;
use ruvector_dag_healing_engine::vector_index::{HeapTid, PAGE_SIZE, PageSource, ReadError};

use super::model::{Bytes, Index, Source, shape};

/// Dimensions of the values, and how many entries of them fill a page.
const DIMENSIONS: usize = 100;
const PER_PAGE: usize = 19;

/// Pages that nobody else uses, and how many writes there are until the process ends.
struct Lone {
    pages: Source,
    left: Option<usize>,
}

impl Lone {
    fn of(pages: &[Bytes], left: Option<usize>) -> Self {
        let pages = Source(pages.to_vec());
        Self { pages, left }
    }
}

impl PageSource for Lone {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        self.pages.block_count()
    }

    fn read(
        &mut self,
        blocks: &mut dyn Iterator<Item = u32>,
        sink: &mut dyn FnMut(u32, &[u8; PAGE_SIZE]),
    ) -> Result<(), ReadError> {
        self.pages.read(blocks, sink)
    }
}

impl Alone for Lone {
    fn write(&mut self, pages: &[(u32, &[u8; PAGE_SIZE])]) -> Result<(), ReadError> {
        assert!(!pages.is_empty() && pages.len() <= MOST_PAGES);
        if self.left == Some(0) {
            return Err(ReadError::Stopped);
        }
        self.left = self.left.map(|left| left - 1);
        for (block, page) in pages {
            match self.pages.0.get_mut(*block as usize) {
                Some(there) => *there = **page,
                None => {
                    assert_eq!(*block as usize, self.pages.0.len(), "the next");
                    self.pages.0.push(**page);
                }
            }
        }
        Ok(())
    }
}

/// Lists of so many entries each.
fn index(sizes: &[usize]) -> Index {
    let center = |list: usize| vec![list as f32; DIMENSIONS];
    let members = |(list, &size)| (0..size).map(|_| center(list)).collect();
    Index {
        centers: (0..sizes.len()).map(center).collect(),
        members: sizes.iter().enumerate().map(members).collect(),
        per_page: PER_PAGE,
        short: false,
    }
}

fn spare(pages: &[Bytes], even_used: bool) -> Spare {
    let below = pages.len() as u32;
    Spare { below, even_used }
}

/// The lists that rows are in; fails if one is in two.
fn lists_of(pages: &[Bytes]) -> BTreeMap<HeapTid, u32> {
    let mut found = BTreeMap::new();
    let mut source = Source(pages.to_vec());
    Chains::look(&mut source, spare(&[], false), &mut |list, _, bytes| {
        for (_, entry) in entries(&RawPage::new(bytes)) {
            assert_eq!(found.insert(entry.row, list), None, "{:?}", entry.row);
        }
    })
    .expect("pages");
    found
}

/// What takes every row that `to` names from where it is to there.
fn moves(pages: &[Bytes], to: &BTreeMap<HeapTid, u32>) -> Vec<Move> {
    let at = Tid {
        block: u32::MAX,
        offset: 0,
    };
    let lists = lists_of(pages);
    let from = to.iter().map(|(row, to)| (*row, lists[row], *to));
    let moves = from.filter(|(_, from, to)| from != to);
    moves
        .map(|(row, from, to)| Move { row, from, to, at })
        .collect()
}

/// Moves rows as whoever has the locks does. Tells how many were lost.
fn relocate(
    lone: &mut Lone,
    to: &BTreeMap<HeapTid, u32>,
    spare: Spare,
    meanwhile: &mut dyn FnMut(&mut Vec<Bytes>),
) -> Result<usize, ReadError> {
    let mut moves = moves(&lone.pages.0, to);
    let mut chains = locate(&mut lone.pages, &mut moves, spare)?;
    let Schedule {
        single,
        runs,
        mut scattered,
    } = Schedule::of(moves, &mut chains);
    let mut lost = one_by_one(lone, &mut chains, &single, meanwhile)?;
    tidy_up(lone, &mut chains)?;
    let mut done = 0;
    while done < runs.moves.len() {
        meanwhile(&mut lone.pages.0);
        let together = &runs.moves[done..done + runs.together(done)];
        for run in together.chunk_by(|a, b| a.from == b.from) {
            lost += move_run(lone, &mut chains, run, scattered.of(run[0].from))?.len();
        }
        done += together.len();
    }
    lost += one_by_one(lone, &mut chains, &scattered.moves(), meanwhile)?;
    tidy_up(lone, &mut chains)?;
    Ok(lost)
}

fn tidy_up(lone: &mut Lone, chains: &mut Chains) -> Result<(), ReadError> {
    while !chains.are_tidy() {
        tidy(lone, chains)?;
    }
    Ok(())
}

fn one_by_one(
    lone: &mut Lone,
    chains: &mut Chains,
    moves: &[Move],
    meanwhile: &mut dyn FnMut(&mut Vec<Bytes>),
) -> Result<usize, ReadError> {
    let mut lost = 0;
    let pages: Vec<&[Move]> = moves.chunk_by(|a, b| a.at.block == b.at.block).collect();
    for group in pages.chunks(PAGES_TOGETHER) {
        meanwhile(&mut lone.pages.0);
        lost += move_singly(lone, chains, &group.concat())?.len();
    }
    Ok(lost)
}

/// Everything is as pgvector leaves it, but for these.
#[track_caller]
fn is_sound(pages: &[Bytes], but_for: &[&str]) {
    assert_eq!(chains_end(&mut Source(pages.to_vec())), Ok(()));
    let mut source = Source(pages.to_vec());
    check(&mut source, &shape(Metric::L2), 1 << 20, &mut |breach| {
        assert!(but_for.contains(&breach.check), "{breach:?}");
    })
    .expect("pages");
}

/// Where rows go: one in so many of each list to each of some lists.
fn scatter(pages: &[Bytes], pairs: &[(u32, u32, usize)]) -> BTreeMap<HeapTid, u32> {
    let mut to = BTreeMap::new();
    for &(from, target, one_in) in pairs {
        let of_list = lists_of(pages)
            .into_iter()
            .filter(|(_, list)| *list == from);
        let every = of_list.skip(target as usize % one_in).step_by(one_in);
        to.extend(every.map(|(row, _)| (row, target)));
    }
    to
}

/// A large list that most goes from, in runs and alone; others that little or nearly all goes from.
fn example() -> (Vec<Bytes>, BTreeMap<HeapTid, u32>) {
    let mut pages = index(&[900, 40, 60, 400, 0, 30]).pages();
    // Inserts into the first begin in its middle.
    let first = RawPage::new(&pages[1]).line_pointer(1);
    let (start, ..) = first.expect("a list");
    pages[1][start + 4..start + 8].copy_from_slice(&20_u32.to_le_bytes());
    let pairs = [
        (0, 1, 4),
        (0, 2, 5),
        (0, 4, 3),
        (0, 5, 90),
        (3, 2, 60),
        (2, 3, 1),
        (5, 0, 1),
    ];
    let to = scatter(&pages, &pairs);
    (pages, to)
}

fn arrived(pages: &[Bytes], before: &[Bytes], to: &BTreeMap<HeapTid, u32>) {
    let mut expected = lists_of(before);
    expected.extend(to);
    assert_eq!(lists_of(pages), expected);
}

#[test]
fn everything_arrives_and_little_is_wasted() {
    let (before, to) = example();
    let mut lone = Lone::of(&before, None);
    let mut moves = moves(&before, &to);
    let chains = locate(&mut lone.pages, &mut moves, spare(&before, false));
    let schedule = Schedule::of(moves, &mut chains.expect("pages"));
    assert!(schedule.runs.moves.len() > 500, "most in runs");
    assert!(schedule.single.len() > 50, "some alone");
    assert!(
        schedule.scattered.moves().len() > 5,
        "and some of those left"
    );
    assert_eq!(
        relocate(&mut lone, &to, spare(&before, false), &mut |_| {}),
        Ok(0)
    );
    let after = &lone.pages.0;
    is_sound(after, &[]);
    arrived(after, &before, &to);
    let filled = |pages: &[Bytes]| {
        let is_filled = |page: &&Bytes| RawPage::new(page).line_pointers() > 0;
        pages.iter().filter(is_filled).count()
    };
    assert!(filled(after) <= filled(&before) + 10, "{}", filled(after));
    assert!(after.len() <= before.len() + 16 + 4, "{}", after.len());
    // And back again, onto pages that were left empty.
    let back: BTreeMap<HeapTid, u32> = lists_of(&before);
    let size = after.len();
    let all = spare(after, false);
    assert_eq!(relocate(&mut lone, &back, all, &mut |_| {}), Ok(0));
    assert_eq!(lists_of(&lone.pages.0), back);
    is_sound(&lone.pages.0, &[]);
    assert!(lone.pages.0.len() <= size + 4, "{}", lone.pages.0.len());
}

#[test]
fn whatever_write_is_the_last_every_entry_is_in_one_list() {
    let (before, to) = example();
    let were = lists_of(&before);
    for writes in 0.. {
        let mut lone = Lone::of(&before, Some(writes));
        let ended = relocate(&mut lone, &to, spare(&before, false), &mut |_| {});
        let left = lone.pages.0;
        let there = lists_of(&left);
        assert_eq!(there.len(), were.len());
        let is_stray =
            |(row, list): &(&HeapTid, &u32)| to.get(row) != Some(*list) && were[*row] != **list;
        assert_eq!(there.iter().find(is_stray), None);
        is_sound(&left, &["page_in_no_list"]);
        // It is ended, and what was left behind is used.
        let mut lone = Lone::of(&left, None);
        assert_eq!(
            relocate(&mut lone, &to, spare(&left, true), &mut |_| {}),
            Ok(0)
        );
        arrived(&lone.pages.0, &before, &to);
        is_sound(&lone.pages.0, &[]);
        if ended.is_ok() {
            assert!(writes > 20, "{writes}");
            break;
        }
    }
}

#[test]
fn a_page_that_may_be_somebodys_is_given_to_nobody() {
    let (before, to) = example();
    let mut lone = Lone::of(&before, None);
    assert_eq!(
        relocate(&mut lone, &to, spare(&before, false), &mut |_| {}),
        Ok(0)
    );
    let after = lone.pages.0;
    let in_no_list = |pages: &[Bytes]| {
        let is_empty = |page: &&Bytes| RawPage::new(page).line_pointers() == 0;
        pages.iter().skip(2).filter(is_empty).count()
    };
    assert!(in_no_list(&after) > 10, "{}", in_no_list(&after));
    let most = |list: u32| scatter(&after, &[(list, 1, 2)]);
    // An insert may be about to lead to any.
    let mut lone = Lone::of(&after, None);
    assert_eq!(
        relocate(&mut lone, &most(4), spare(&[], true), &mut |_| {}),
        Ok(0)
    );
    assert!(
        lone.pages.0.len() >= after.len() + 5,
        "{}",
        lone.pages.0.len()
    );
    // What a chain that breaks off led to is lost.
    let mut broken = after.clone();
    let mut first = u32::MAX;
    let mut source = Source(after.clone());
    Chains::look(&mut source, spare(&[], false), &mut |list, block, _| {
        if list == 3 && first == u32::MAX {
            first = block;
        }
    })
    .expect("pages");
    broken[first as usize][PAGE_SIZE - 2..].copy_from_slice(&[0, 0]);
    let all = spare(&broken, true);
    let mut lone = Lone::of(&broken, None);
    assert_eq!(relocate(&mut lone, &most(4), all, &mut |_| {}), Ok(0));
    assert!(
        lone.pages.0.len() >= after.len() + 5,
        "{}",
        lone.pages.0.len()
    );
    // A page of two lists is left alone.
    let next = RawPage::new(&after[first as usize]).next_block();
    let mut shared = after.clone();
    let start = RawPage::new(&shared[1]).line_pointer(2).expect("a list").0;
    shared[1][start..start + 4].copy_from_slice(&next.expect("a page").to_le_bytes());
    let mut source = Source(shared);
    Chains::look(&mut source, all, &mut |_, _, _| {}).expect_err("two lists have it");
    // All of them may be used where all is well.
    let mut lone = Lone::of(&after, None);
    assert_eq!(relocate(&mut lone, &most(4), all, &mut |_| {}), Ok(0));
    assert!(lone.pages.0.len() <= after.len(), "{}", lone.pages.0.len());
}

#[test]
fn a_page_whose_entries_overlap_is_left_as_it_is() {
    let (before, to) = example();
    // The first page of list 5 has its first entry forty times more: they would not all have room.
    let chains = Chains::look(
        &mut Source(before.clone()),
        spare(&[], false),
        &mut |_, _, _| {},
    );
    let first = chains.expect("pages").lists[5].pages[0];
    let mut damaged = before.clone();
    let page = &mut damaged[first as usize];
    let (lower, pointer) = (RawPage::new(page).lower(), page[24..28].to_vec());
    for nth in 0..40 {
        page[lower + 4 * nth..][..4].copy_from_slice(&pointer);
    }
    page[12..14].copy_from_slice(&(lower as u16 + 160).to_le_bytes());
    let of_list = |row: &HeapTid| row.block == 5;
    let to = to.into_iter().filter(|(row, _)| of_list(row)).collect();
    let mut moves = moves(&before, &to);
    let mut lone = Lone::of(&damaged, None);
    let mut chains = locate(&mut lone.pages, &mut moves, spare(&damaged, false)).expect("pages");
    move_singly(&mut lone, &mut chains, &moves[..1]).expect_err("some would be lost");
    assert!(lone.pages.0 == damaged);
}

#[test]
fn what_too_many_turns_hide_is_not_free() {
    // A list of many pages, each of which leads to that before it.
    let mut pages = index(&[300 * PER_PAGE, 40]).pages();
    let lead = |page: &mut Bytes, to: u32| {
        page[PAGE_SIZE - 8..PAGE_SIZE - 4].copy_from_slice(&to.to_le_bytes());
    };
    lead(&mut pages[2], u32::MAX);
    for (page, before) in pages[3..302].iter_mut().zip(2..) {
        lead(page, before);
    }
    let (start, ..) = RawPage::new(&pages[1]).line_pointer(1).expect("a list");
    pages[1][start..start + 4].copy_from_slice(&301_u32.to_le_bytes());
    chains_end(&mut Source(pages.clone())).expect_err("it was not seen to end");
    let to = scatter(&pages, &[(1, 0, 1)]);
    let mut lone = Lone::of(&pages, None);
    let all = spare(&pages, true);
    let _ = relocate(&mut lone, &to, all, &mut |_| {});
    for block in 2..200 {
        let entries = |pages: &[Bytes]| RawPage::new(&pages[block]).line_pointers();
        assert!(entries(&lone.pages.0) >= entries(&pages), "{block}");
    }
}

/// An insert of a row into list 0: on its last page, or on a new one.
fn insert(pages: &mut Vec<Bytes>, nth: u16) {
    let row = |bytes: &mut Bytes, offset: u16| {
        let (start, ..) = RawPage::new(bytes).line_pointer(offset).expect("an entry");
        bytes[start..start + 4].copy_from_slice(&[0, 0, 0xFF, 0]);
        bytes[start + 4..start + 6].copy_from_slice(&nth.to_le_bytes());
    };
    let mut chain = Vec::new();
    let mut source = Source(pages.clone());
    Chains::look(&mut source, spare(&[], false), &mut |list, block, _| {
        if list == 0 {
            chain.push(block as usize);
        }
    })
    .expect("pages");
    let last = chain[chain.len() - 1];
    let mut one = index(&[1]).pages()[2];
    row(&mut one, 1);
    let raw = RawPage::new(&one);
    let (start, length, _) = raw.line_pointer(1).expect("an entry");
    let tuple = one[start..start + length].to_vec();
    let raw = RawPage::new(&pages[last]);
    let lower = raw.lower();
    if raw.upper() - lower >= tuple.len() + 4 {
        let upper = raw.upper() - tuple.len();
        let page = &mut pages[last];
        page[upper..upper + tuple.len()].copy_from_slice(&tuple);
        let pointer = upper as u32 | 1 << 15 | (length as u32) << 17;
        page[lower..lower + 4].copy_from_slice(&pointer.to_le_bytes());
        page[12..14].copy_from_slice(&(lower as u16 + 4).to_le_bytes());
        page[14..16].copy_from_slice(&(upper as u16).to_le_bytes());
    } else {
        let next = pages.len() as u32;
        pages[last][PAGE_SIZE - 8..PAGE_SIZE - 4].copy_from_slice(&next.to_le_bytes());
        pages.push(one);
    }
}

#[test]
fn what_is_inserted_meanwhile_stays_where_it_was_put() {
    let (before, to) = example();
    let mut lone = Lone::of(&before, None);
    let mut inserted = 0;
    let lost = relocate(&mut lone, &to, spare(&before, false), &mut |pages| {
        for _ in 0..15 {
            inserted += 1;
            insert(pages, inserted);
        }
    });
    assert_eq!(lost, Ok(0));
    assert!(inserted > 60, "{inserted}");
    is_sound(&lone.pages.0, &[]);
    let mut there = lists_of(&lone.pages.0);
    for offset in 1..=inserted {
        let block = 0xFF;
        assert_eq!(there.remove(&HeapTid { block, offset }), Some(0));
    }
    let mut expected = lists_of(&before);
    expected.extend(&to);
    assert_eq!(there, expected);
}

#[test]
fn what_is_not_there_any_more_is_lost() {
    let (before, to) = example();
    let mut lone = Lone::of(&before, None);
    // A vacuum has removed what is in front on a page of list 0, and one of list 3.
    let mut done = false;
    let lost = relocate(&mut lone, &to, spare(&before, false), &mut |pages| {
        if !std::mem::replace(&mut done, true) {
            for block in [5, 70] {
                let kept: Vec<Vec<u8>> = {
                    let raw = RawPage::new(&pages[block]);
                    let tuples = (6..=raw.line_pointers()).map(|offset| {
                        let (start, length, _) = raw.line_pointer(offset).expect("an entry");
                        pages[block][start..start + length].to_vec()
                    });
                    tuples.collect()
                };
                let next = RawPage::new(&pages[block]).next_block();
                pages[block] = super::model::page(&kept, next.unwrap_or(u32::MAX));
            }
        }
    });
    let there = lists_of(&lone.pages.0);
    let gone = lists_of(&before)
        .into_keys()
        .filter(|row| !there.contains_key(row));
    let gone: Vec<HeapTid> = gone.collect();
    assert_eq!(gone.len(), 10);
    let wanted = gone.iter().filter(|row| to.contains_key(row)).count();
    assert!(wanted > 0);
    assert_eq!(lost, Ok(wanted));
    is_sound(&lone.pages.0, &[]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_where_it_arrives(
        sizes in proptest::collection::vec(0_usize..500, 1..7),
        pairs in proptest::collection::vec((0_u32..7, 0_u32..7, 1_usize..9), 0..12),
        writes in 0_usize..60,
    ) {
        let before = index(&sizes).pages();
        let lists = sizes.len() as u32;
        let pairs: Vec<_> = pairs.iter().map(|(from, to, one_in)| (from % lists, to % lists, *one_in)).collect();
        let to = scatter(&before, &pairs);
        // Up to some write, and from there to the end.
        let mut lone = Lone::of(&before, Some(writes));
        let _ = relocate(&mut lone, &to, spare(&before, false), &mut |_| {});
        lone.left = None;
        let all = spare(&lone.pages.0, true);
        prop_assert_eq!(relocate(&mut lone, &to, all, &mut |_| {}), Ok(0));
        arrived(&lone.pages.0, &before, &to);
        is_sound(&lone.pages.0, &[]);
    }

    #[test]
    fn bytes_of_any_kind_are_no_harm(
        spoilt in proptest::collection::vec((0_usize..80, 0_usize..PAGE_SIZE, any::<u8>(), any::<bool>()), 1..60),
    ) {
        let (before, to) = example();
        let mut lone = Lone::of(&before, None);
        let _ = relocate(&mut lone, &to, spare(&before, false), &mut |pages| {
            for (block, at, byte, low) in &spoilt {
                let at = if *low { at % 64 } else { PAGE_SIZE - 1 - at % 1000 };
                let count = pages.len();
                pages[block % count][at] = *byte;
            }
        });
    }
}
