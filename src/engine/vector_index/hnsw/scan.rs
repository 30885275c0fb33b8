//! Going over pages and bringing each element together with its links, which stand on the same
//! page or, when the two do not fit on one, on a page near by.
//!
//! Knows nothing of what is done with them.

use std::collections::BTreeMap;

use super::layout::{Element, Item, Links, Page, Tid};
use crate::vector_index::{PageSource, ReadError};

/// Elements that may wait for their links at a time. In an honest index the links are on the
/// next page and two or three elements wait.
const MAX_WAITING: usize = 1 << 16;

/// What hears of the elements.
pub(crate) trait Visitor {
    /// A page, before its elements.
    fn page(&mut self, block: u32, page: &Page<'_>) {
        let _ = (block, page);
    }

    /// An element, in file order; live or deleted.
    fn element(&mut self, tid: Tid, element: &Element<'_>);

    /// The links of a live element that was announced before, exactly once for each; none when
    /// there is no neighbour tuple that could be read as its.
    fn links(&mut self, tid: Tid, level: u8, links: Option<Links<'_>>);
}

/// An element whose links are not on its page.
struct Waiting {
    level: u8,
    version: u8,
}

/// Reads `blocks`, which must ascend, and shows `visitor` what is there. Each block is read
/// once, and once more if it holds the links of elements of a later one.
pub(crate) fn scan(
    source: &mut dyn PageSource,
    m: u16,
    blocks: &mut dyn Iterator<Item = u32>,
    visitor: &mut dyn Visitor,
) -> Result<(), ReadError> {
    // By where the links are, so that those of a page, and the pages left over, come in order.
    let mut waiting: BTreeMap<(Tid, Tid), Waiting> = BTreeMap::new();

    source.read(blocks, &mut |block, bytes| {
        let page = Page::new(bytes);
        visitor.page(block, &page);
        hand_over(&mut waiting, m, block, &page, visitor);
        for (offset, item) in page.items() {
            let Item::Element(element) = item else {
                continue;
            };
            let tid = Tid { block, offset };
            visitor.element(tid, &element);
            if element.deleted() {
                continue;
            }
            let (level, version, at) = (element.level(), element.version(), element.neighbor_tid());
            if at.block == block {
                visitor.links(tid, level, links_at(&page, at.offset, level, version, m));
            } else if at.offset == 0 || waiting.len() >= MAX_WAITING {
                visitor.links(tid, level, None);
            } else {
                waiting.insert((at, tid), Waiting { level, version });
            }
        }
    })?;

    if !waiting.is_empty() {
        let mut left: Vec<u32> = waiting.keys().map(|(at, _)| at.block).collect();
        left.dedup();
        source.read(&mut left.into_iter(), &mut |block, bytes| {
            hand_over(&mut waiting, m, block, &Page::new(bytes), visitor);
        })?;
    }
    for ((_, tid), element) in waiting {
        visitor.links(tid, element.level, None);
    }
    Ok(())
}

/// Gives the elements that wait for this page their links.
fn hand_over(
    waiting: &mut BTreeMap<(Tid, Tid), Waiting>,
    m: u16,
    block: u32,
    page: &Page<'_>,
    visitor: &mut dyn Visitor,
) {
    let first = |block, offset| Tid { block, offset };
    while let Some((&key, _)) = waiting.range((first(block, 0), first(0, 0))..).next() {
        let (at, tid) = key;
        if at.block != block {
            break;
        }
        if let Some(Waiting { level, version }) = waiting.remove(&key) {
            visitor.links(tid, level, links_at(page, at.offset, level, version, m));
        }
    }
}

/// The tuple at `offset` as the links of an element of `level` and `version`.
fn links_at<'a>(page: &Page<'a>, offset: u16, level: u8, version: u8, m: u16) -> Option<Links<'a>> {
    match page.item(offset) {
        Some(Item::Neighbors(tuple)) => tuple.of(level, version, m),
        _ => None,
    }
}
