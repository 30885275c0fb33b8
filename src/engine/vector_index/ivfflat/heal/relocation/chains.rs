//! The pages of every list in the order in which searches read them, and those of no list.

use std::collections::BTreeSet;
use std::ops::Range;

use super::astray;
use crate::vector_index::ivfflat::layout::has_id;
use crate::vector_index::ivfflat::lists::{each_list, each_page_of_entries};
use crate::vector_index::page::{RawPage, Tid};
use crate::vector_index::{PAGE_SIZE, PageSource, ReadError};

/// A list of fewer pages is gone through for room.
const FEW_PAGES: usize = 4;

/// The pages of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where the list stands.
    pub at: Tid,
    /// Its pages; the first always remains.
    pub pages: Vec<u32>,
    /// Entries when it was looked at, about.
    pub entries: u64,
    /// Up to which of its pages runs stand that came from elsewhere.
    placed: usize,
    /// The first of its pages where there may be room for an entry that comes alone, once one has come.
    room: Option<usize>,
    /// Whether most of its entries go one by one.
    pub(super) is_thinned: bool,
}

/// The lists by their number, and the pages that are in none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chains {
    /// The lists.
    pub lists: Vec<Chain>,
    /// Pages that lists may get: the empty ones, and those that are as they were left.
    empty: BTreeSet<u32>,
    pub(super) used: BTreeSet<u32>,
    /// Lists of which little is left on their pages, from one on.
    pub(super) to_compact: Vec<(u32, usize)>,
}

/// Which pages that no list leads to may be given to one.
#[derive(Debug, Clone, Copy)]
pub struct Spare {
    /// Blocks that the index had when nobody used it: an insert may be about to have a list lead to a
    /// later one.
    pub below: u32,
    /// Whether also pages that have something on them: copies that an interrupted process left.
    pub even_used: bool,
}

impl Chains {
    /// Shows every page of entries with the number of its list and its block, the pages of a list in
    /// order. Fails where chains lead to a page twice. Reads every page once, those of lists twice.
    pub fn look(
        source: &mut dyn PageSource,
        spare: Spare,
        visit: &mut dyn FnMut(u32, u32, &[u8; PAGE_SIZE]),
    ) -> Result<Self, ReadError> {
        let (mut chains, mut starts) = (Self::default(), Vec::new());
        let list_pages = each_list(source, &mut |_, at, list| {
            starts.push(list.start);
            chains.lists.push(Chain {
                at,
                pages: Vec::new(),
                entries: 0,
                placed: 0,
                room: None,
                is_thinned: false,
            });
        })?;
        let followed =
            each_page_of_entries(source, &starts, &list_pages, &mut |list, block, bytes| {
                let chain = &mut chains.lists[list as usize];
                chain.pages.push(block);
                chain.entries += u64::from(RawPage::new(bytes).line_pointers());
                visit(list, block, bytes);
            })?;
        // Pages of two lists cannot change hands.
        if let Some(block) = followed.shared {
            return Err(astray(block));
        }
        // Where a chain breaks off, what it led to is lost, and not free.
        if followed.astray.is_none() {
            let is_free = |block: &u32| {
                let block = *block as usize;
                !followed.listed.contains(block) && !list_pages.contains(block)
            };
            let mut free = (1..spare.below).filter(is_free);
            source.read(&mut free, &mut |block, bytes| {
                let page = RawPage::new(bytes);
                let is_empty = has_id(&page) && page.line_pointers() == 0 || page.is_zeroed();
                if is_empty {
                    chains.empty.insert(block);
                } else if spare.even_used {
                    chains.used.insert(block);
                }
            })?;
        }
        Ok(chains)
    }

    /// Whether nothing is left to be tidied up.
    pub fn are_tidy(&self) -> bool {
        self.to_compact.is_empty() && self.used.is_empty()
    }

    /// A page that is in no list, the lowest.
    pub(super) fn take_spare(&mut self) -> Option<u32> {
        let lowest = |set: &BTreeSet<u32>| set.first().copied().unwrap_or(u32::MAX);
        match lowest(&self.empty) < lowest(&self.used) {
            true => self.empty.pop_first(),
            false => self.used.pop_first(),
        }
    }

    /// The page of a list where an entry goes that comes alone; none of no such list.
    pub(super) fn room(&mut self, list: u32) -> Option<u32> {
        let chain = self.lists.get_mut(list as usize)?;
        let last = chain.pages.len().checked_sub(1)?;
        let begin = match chain.is_thinned || last < FEW_PAGES {
            true => 0,
            false => last,
        };
        chain.pages.get(*chain.room.get_or_insert(begin)).copied()
    }

    /// There is no room on that page: it is the next, at which its chain goes on as far as is known. `false`: the
    /// chain goes on nowhere new.
    pub(super) fn no_room(&mut self, list: u32, next: u32) -> bool {
        let chain = &mut self.lists[list as usize];
        let room = chain.room.map_or(0, |room| room + 1);
        chain.room = Some(room);
        if room == chain.pages.len() && !chain.pages.contains(&next) {
            chain.pages.push(next);
        }
        chain.pages.get(room) == Some(&next)
    }

    /// Empty pages are in no list.
    pub(super) fn add_spare(&mut self, blocks: &[u32]) {
        self.empty.extend(blocks);
    }

    /// Pages of a list give way to others.
    pub(super) fn replace(&mut self, list: u32, stretch: Range<usize>, others: &[u32]) {
        let chain = &mut self.lists[list as usize];
        if chain.placed >= stretch.end {
            chain.placed = chain.placed - stretch.len() + others.len();
        } else if chain.placed >= stretch.start {
            chain.placed = stretch.start - 1;
        }
        chain.pages.splice(stretch, others.iter().copied());
        chain.room = None;
    }

    /// The page of a list behind which the next run goes.
    pub(super) fn place(&self, list: u32) -> Option<u32> {
        let chain = self.lists.get(list as usize)?;
        chain.pages.get(chain.placed).copied()
    }

    /// Pages have gone there.
    pub(super) fn placed(&mut self, list: u32, run: &[u32]) {
        let chain = &mut self.lists[list as usize];
        let behind = chain.placed + 1;
        chain.pages.splice(behind..behind, run.iter().copied());
        chain.placed += run.len();
        chain.room = None;
    }
}
