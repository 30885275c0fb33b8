//! Whether a link that seems to lead nowhere does.
//!
//! A place can lose its element to a vacuum and get another from an insert while pages are
//! read, so that a link and its target seen at different moments say nothing, however often
//! both are looked at in file order. Here the order decides: the target is read, then the
//! link, then the target again. A link leads nowhere if its target had no element both times
//! and its place was not used in between, which the slot's version tells.

use std::collections::HashMap;

use super::layout::{Element, Item, Links, Page, Tid};
use super::read_page;
use super::scan::{Visitor, scan};
use crate::vector_index::{PageSource, ReadError};

/// Blocks whose links are looked into at a time, so that few are remembered.
const BATCH: usize = 256;

/// How many links of the elements that `suspected` tells lead nowhere. `blocks`: where these
/// elements are, ascending.
pub(crate) fn confirm(
    source: &mut dyn PageSource,
    m: u16,
    blocks: &[u32],
    suspected: &dyn Fn(Tid) -> bool,
) -> Result<u64, ReadError> {
    let mut confirmed = 0;
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
        let stood = |target: &Tid| {
            before
                .get(target)
                .is_some_and(|version| after.get(target) == Some(version))
        };
        confirmed += links
            .iter()
            .filter(|((_, target), _)| stood(target))
            .map(|(_, count)| count)
            .sum::<u64>();
    }
    Ok(confirmed)
}

/// The links of the suspected elements on `blocks`, each with how often it is there.
fn links_of(
    source: &mut dyn PageSource,
    m: u16,
    blocks: &[u32],
    suspected: &dyn Fn(Tid) -> bool,
) -> Result<HashMap<(Tid, Tid), u64>, ReadError> {
    let mut collect = Collect {
        suspected,
        links: HashMap::new(),
    };
    scan(source, m, &mut blocks.iter().copied(), &mut collect)?;
    Ok(collect.links)
}

struct Collect<'a> {
    suspected: &'a dyn Fn(Tid) -> bool,
    links: HashMap<(Tid, Tid), u64>,
}

impl Visitor for Collect<'_> {
    fn element(&mut self, _tid: Tid, _element: &Element<'_>) {}

    fn links(&mut self, tid: Tid, level: u8, links: Option<Links<'_>>) {
        let Some(links) = links.filter(|_| (self.suspected)(tid)) else {
            return;
        };
        for target in (0..=level).flat_map(|layer| links.layer(layer)) {
            *self.links.entry((tid, target)).or_default() += 1;
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
