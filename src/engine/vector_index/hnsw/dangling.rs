//! Whether a link that seems to lead nowhere does.
//!
//! A place can lose its element to a vacuum and get another from an insert while pages are
//! read, so that a link and its target seen at different moments say nothing, however often
//! both are looked at in file order. Here the order decides: the target is read, then the
//! link, then the target again. A link leads nowhere if its target had no element both times
//! and its place was not used in between, which the slot's version tells.
//!
//! A vacuum takes the links to the elements it deletes away from all others, but not from each
//! other. So while it deletes them, page by page, those still to come (without rows, and out of
//! every search's reach) link to those already deleted: that is no fault, nor is what is left of
//! it where the vacuum was cancelled. Where no vacuum is at work and a search reaches them, it is.

use std::collections::{HashMap, HashSet};

use super::layout::{Element, Item, Links, Page, Tid};
use super::read_page;
use super::scan::{Visitor, scan};
use crate::vector_index::{PageSource, ReadError};

/// Blocks whose links are looked into at a time, so that few are remembered.
const BATCH: usize = 256;

/// How many links of the elements that `suspected` tells lead nowhere. `blocks`: where these
/// elements are, ascending; `reached`: whether a search comes to one.
pub(crate) fn confirm(
    source: &mut dyn PageSource,
    m: u16,
    blocks: &[u32],
    suspected: &dyn Fn(Tid) -> bool,
    reached: &dyn Fn(Tid) -> bool,
) -> Result<u64, ReadError> {
    let quiet = !source.may_be_vacuumed();
    let (mut confirmed, mut of_ghosts) = (0, 0);
    for blocks in blocks.chunks(BATCH) {
        let links = links_of(source, m, blocks, suspected)?;
        let mut targets: Vec<Tid> = links.keys().map(|(_, target)| *target).collect();
        targets.sort_unstable();
        targets.dedup();
        let before = vacancies(source, targets)?;
        let links = links_of(source, m, blocks, suspected)?;
        let mut targets: Vec<Tid> = before.keys().copied().collect();
        targets.sort_unstable();
        let after = vacancies(source, targets)?;
        for ((from, target), link) in &links {
            let Some(deleted) = before.get(target) else {
                continue;
            };
            if after.get(target) != Some(deleted) {
                continue;
            }
            match link.of_ghost && deleted.is_some() {
                false => confirmed += link.times,
                true if reached(*from) => of_ghosts += link.times,
                true => {}
            }
        }
    }
    let still_quiet = quiet && of_ghosts > 0 && !source.may_be_vacuumed();
    Ok(confirmed + if still_quiet { of_ghosts } else { 0 })
}

/// A link from one place to another.
#[derive(Default)]
struct Link {
    /// How often it is there.
    times: u64,
    /// Whether it is of an element without rows.
    of_ghost: bool,
}

/// The links of the suspected elements on `blocks`.
fn links_of(
    source: &mut dyn PageSource,
    m: u16,
    blocks: &[u32],
    suspected: &dyn Fn(Tid) -> bool,
) -> Result<HashMap<(Tid, Tid), Link>, ReadError> {
    let mut collect = Collect {
        suspected,
        links: HashMap::new(),
        ghosts: HashSet::new(),
    };
    scan(source, m, &mut blocks.iter().copied(), &mut collect)?;
    Ok(collect.links)
}

struct Collect<'a> {
    suspected: &'a dyn Fn(Tid) -> bool,
    links: HashMap<(Tid, Tid), Link>,
    ghosts: HashSet<Tid>,
}

impl Visitor for Collect<'_> {
    fn element(&mut self, tid: Tid, element: &Element<'_>) {
        if element.heap_tids().len() == 0 && (self.suspected)(tid) {
            self.ghosts.insert(tid);
        }
    }

    fn links(&mut self, tid: Tid, level: u8, links: Option<Links<'_>>) {
        let Some(links) = links.filter(|_| (self.suspected)(tid)) else {
            return;
        };
        for target in (0..=level).flat_map(|layer| links.layer(layer)) {
            let link = self.links.entry((tid, target)).or_default();
            link.times += 1;
            link.of_ghost = self.ghosts.contains(&tid);
        }
    }
}

/// Those of `targets`, ascending, where no live element is, with the version of a deleted one.
fn vacancies(
    source: &mut dyn PageSource,
    targets: Vec<Tid>,
) -> Result<HashMap<Tid, Option<u8>>, ReadError> {
    let mut vacant = HashMap::new();
    for on_block in targets.chunk_by(|a, b| a.block == b.block) {
        // A block past the end has no elements.
        vacant.extend(on_block.iter().map(|&target| (target, None)));
        let Some(first) = on_block.first() else {
            continue;
        };
        read_page(source, first.block, &mut |page: &Page<'_>| {
            for target in on_block {
                if let Some(Item::Element(element)) = page.item(target.offset) {
                    match element.deleted() {
                        true => _ = vacant.insert(*target, Some(element.version())),
                        false => _ = vacant.remove(target),
                    }
                }
            }
        })?;
    }
    Ok(vacant)
}
