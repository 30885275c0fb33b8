//! Following the lists: which are there, and which page of entries is whose.
//!
//! The pages of a list are a chain that only its first page is known of. pgvector makes chains that
//! lead upwards in the file, so that one pass in block order can hand each page's list on to the
//! next. Entries that move in place leave chains behind that lead back a few times: each time takes
//! another pass over what is left.

use super::layout::{self, List};
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::page::{NO_BLOCK, RawPage, Tid};
use crate::vector_index::{PAGE_SIZE, PageSource, ReadError};

/// No list.
const NOBODY: u32 = u32::MAX;

/// Shows every list in order, with its number and where it stands. Returns the pages they stand on.
pub(super) fn each_list(
    source: &mut dyn PageSource,
    visit: &mut dyn FnMut(u32, Tid, List<'_>),
) -> Result<Bitmap, ReadError> {
    let blocks = source.block_count()?;
    let mut pages = Bitmap::new(blocks as usize);
    let mut next = Some(1);
    let mut number = 0;
    // A chain that leads back ends where it was before.
    while let Some(block) = next.filter(|&block| block < blocks && pages.insert(block as usize)) {
        next = None;
        source.read(&mut std::iter::once(block), &mut |_, bytes| {
            let page = RawPage::new(bytes);
            for (offset, list) in layout::lists(&page) {
                visit(number, Tid { block, offset }, list);
                number += 1;
            }
            next = page.next_block();
        })?;
    }
    Ok(pages)
}

/// Whether a search through the lists comes to an end: every chain leads only to pages of an IVFFlat
/// index, and does not lead back to itself, as pgvector would follow it for ever. Fails with the block
/// where it does not. Reads every page once, those of lists twice.
pub fn chains_end(source: &mut dyn PageSource) -> Result<(), ReadError> {
    let mut starts = Vec::new();
    let list_pages = each_list(source, &mut |_, _, list| starts.push(list.start))?;
    let mut next = vec![NO_BLOCK; source.block_count()? as usize];
    let followed = each_page_of_entries(source, &starts, &list_pages, &mut |_, block, bytes| {
        if let Some(next) = next.get_mut(block as usize) {
            *next = RawPage::new(bytes).next_block().unwrap_or(NO_BLOCK);
        }
    })?;
    let loops = || {
        followed
            .shared
            .and_then(|_| leads_to_itself(&starts, &next))
    };
    match followed.astray.or_else(loops) {
        None => Ok(()),
        Some(block) => Err(ReadError::Unreadable {
            block,
            reason: "the chain of a list does not lead on from here".into(),
        }),
    }
}

/// A page that chains lead to from itself. `next`: what each page leads to.
fn leads_to_itself(starts: &[u32], next: &[u32]) -> Option<u32> {
    let mut come_from = vec![NOBODY; next.len()];
    for (number, &start) in (0..).zip(starts) {
        let mut block = start;
        while let Some(from) = come_from.get_mut(block as usize) {
            match *from {
                NOBODY => *from = number,
                list if list == number => return Some(block),
                _ => break,
            }
            block = next[block as usize];
        }
    }
    None
}

/// Passes over the file, at most: chains of any sane index take a few.
const MOST_PASSES: usize = 100;

/// Passes over the file: one, and as many more as chains lead back for.
pub(super) struct Passes {
    left: usize,
    /// The lowest page that the next is for.
    from: Option<u32>,
}

impl Passes {
    /// None made yet.
    pub fn new() -> Self {
        let (left, from) = (MOST_PASSES, Some(1));
        Self { left, from }
    }

    /// Where to begin the next, if there is to be one.
    pub fn begin(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        self.from.take()
    }

    /// A page leads to another that no list had before.
    pub fn lead(&mut self, from: u32, to: u32) {
        if to < from {
            self.from = Some(self.from.map_or(to, |lowest| lowest.min(to)));
        }
    }

    /// A page that was not come to: there were too many.
    pub fn left_out(&self) -> Option<u32> {
        self.from
    }
}

/// What came of following the lists.
pub(super) struct Followed {
    /// The pages of entries of some list.
    pub listed: Bitmap,
    /// A page from which a chain does not lead on to a page of entries, or that is none of an IVFFlat index.
    pub astray: Option<u32>,
    /// A page that chains lead to twice.
    pub shared: Option<u32>,
}

/// Shows every page of entries with the number of its list and its block: the pages of a list in the order
/// of its chain, and as far as chains lead upwards in block order. `starts`: the first page of each
/// list. Pages in `not_entries` are left out, and those of no list; a page that two chains lead to
/// is of the first.
pub(super) fn each_page_of_entries(
    source: &mut dyn PageSource,
    starts: &[u32],
    not_entries: &Bitmap,
    visit: &mut dyn FnMut(u32, u32, &[u8; PAGE_SIZE]),
) -> Result<Followed, ReadError> {
    let blocks = source.block_count()?;
    let mut owner = vec![NOBODY; blocks as usize];
    let (mut astray, mut shared, mut last) = (None, None, 0);
    // Gives a page to a list, if it is nobody's yet.
    let mut give = |owner: &mut [u32], block: u32, list: u32| {
        last = last.max(block);
        let owner = owner.get_mut(block as usize);
        let is_new = owner.as_ref().is_some_and(|owner| **owner == NOBODY);
        match owner {
            Some(owner) if is_new => *owner = list,
            Some(_) => shared = Some(block),
            None => {}
        }
        is_new
    };
    let may_be = |block: u32| block > 0 && !not_entries.contains(block as usize);
    for (number, &start) in (0..).zip(starts) {
        if may_be(start) {
            give(&mut owner, start, number);
        } else {
            astray = Some(start);
        }
    }
    let mut listed = Bitmap::new(blocks as usize);
    let mut passes = Passes::new();
    while let Some(lowest) = passes.begin() {
        let before = listed.clone();
        let mut left = (lowest..blocks).filter(|&block| !before.contains(block as usize));
        source.read(&mut left, &mut |block, bytes| {
            let page = RawPage::new(bytes);
            let (list, next) = (owner[block as usize], page.next_block());
            if list == NOBODY {
                let leads_up = next.is_none_or(|next| next > block && next < blocks);
                if not_entries.contains(block as usize) && !leads_up {
                    astray = Some(block);
                }
                return;
            }
            visit(list, block, bytes);
            listed.insert(block as usize);
            if !layout::has_id(&page) || !next.is_none_or(may_be) {
                astray = Some(block);
            } else if let Some(next) = next
                && give(&mut owner, next, list)
            {
                passes.lead(block, next);
            }
        })?;
    }
    astray = astray.or(passes.left_out());
    // An insert may have added a page meanwhile.
    if last >= source.block_count()? {
        astray = Some(last);
    }
    Ok(Followed {
        listed,
        astray,
        shared,
    })
}
