//! Following the lists: which are there, and which page of entries is whose.
//!
//! The pages of a list are a chain that only its first page is known of. Chains lead upwards in
//! the file, so one pass in block order can hand each page's list on to the next.

use super::layout::{self, List};
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::page::RawPage;
use crate::vector_index::{PAGE_SIZE, PageSource, ReadError};

/// No list.
const NOBODY: u32 = u32::MAX;

/// Shows every list in order. Returns the pages they stand on.
pub(super) fn each_list(
    source: &mut dyn PageSource,
    visit: &mut dyn FnMut(u32, List<'_>),
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
            for (_, list) in layout::lists(&page) {
                visit(number, list);
                number += 1;
            }
            next = page.next_block();
        })?;
    }
    Ok(pages)
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
