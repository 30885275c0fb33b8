//! Following the lists: which are there, and which page of entries is whose.
//!
//! The pages of a list are a chain that only its first page is known of. Chains lead upwards in
//! the file, so one pass in block order can hand each page's list on to the next.

use super::layout::{self, List};
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::page::{RawPage, Tid};
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

/// Whether a search through the lists comes to an end: every chain leads upwards, as pgvector
/// makes them, and only to pages of an IVFFlat index. pgvector follows a chain that leads back
/// for ever. Fails with the block where it does not. Reads every page once, those of lists twice.
pub fn chains_end(source: &mut dyn PageSource) -> Result<(), ReadError> {
    let blocks = source.block_count()? as usize;
    let (mut sound, mut wanted) = (Bitmap::new(blocks), Bitmap::new(blocks));
    let (mut astray, mut last) = (None, 1);
    wanted.insert(1);
    each_list(source, &mut |_, _, list| {
        wanted.insert(list.start as usize);
        last = last.max(list.start);
    })?;
    source.read(&mut (1..blocks as u32), &mut |block, bytes| {
        let page = RawPage::new(bytes);
        if page.is_new() || !layout::has_id(&page) {
            return;
        }
        sound.insert(block as usize);
        match page.next_block() {
            Some(next) if next <= block => astray = Some(block),
            Some(next) => {
                wanted.insert(next as usize);
                last = last.max(next);
            }
            None => {}
        }
    })?;
    // An insert may have added a page meanwhile.
    if last >= source.block_count()? {
        astray = Some(last);
    }
    let lost = wanted
        .iter()
        .find(|&block| block < blocks && !sound.contains(block));
    match astray.or(lost.and_then(|block| u32::try_from(block).ok())) {
        None => Ok(()),
        Some(block) => Err(ReadError::Unreadable {
            block,
            reason: "the chain of a list does not lead on from here".into(),
        }),
    }
}

/// Shows every page of entries with the number of its list and its block, in block order. `starts`: the first
/// page of each list. Pages in `not_entries` are left out, and those of no list.
pub(super) fn each_page_of_entries(
    source: &mut dyn PageSource,
    starts: &[u32],
    not_entries: &Bitmap,
    visit: &mut dyn FnMut(u32, u32, &[u8; PAGE_SIZE]),
) -> Result<(), ReadError> {
    let blocks = source.block_count()?;
    let mut owner = vec![NOBODY; blocks as usize];
    for (number, &start) in (0..).zip(starts) {
        if let Some(owner) = owner.get_mut(start as usize) {
            *owner = number;
        }
    }
    source.read(&mut (1..blocks), &mut |block, bytes| {
        let list = owner[block as usize];
        if list == NOBODY || not_entries.contains(block as usize) {
            return;
        }
        visit(list, block, bytes);
        let next = RawPage::new(bytes)
            .next_block()
            .filter(|&next| next > block);
        if let Some(next) = next.and_then(|next| owner.get_mut(next as usize)) {
            *next = list;
        }
    })
}
