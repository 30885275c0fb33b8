//! A second look at what seems wrong.
//!
//! Pages are read at different moments while inserts and a vacuum go on, so a graph put
//! together from them can have faults that the index never had. An insert writes its element
//! first and its neighbours' links to it afterwards: read in between, the element is an orphan.
//! A vacuum first takes the links to an element away, then deletes it: read on both sides, a
//! link dangles. Both are gone when the pages concerned are read again. Elements that came
//! meanwhile let the search pass but are in no figure; elements that went are no orphans.

use super::dangling::confirm;
use super::graph::Graph;
use super::judge::{Faults, Verdict, judge};
use super::layout::{Element, Links, Meta, Page, Tid};
use super::nodes::Node;
use super::reach::Pulse;
use super::read_meta;
use super::scan::{Visitor, scan};
use super::slots::block_of;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::inspection::InspectError;
use crate::vector_index::{PageSource, ReadError};

/// Looks after the first. A fault that comes and goes at each of them is not reported.
const MAX_LOOKS: u32 = 3;

/// Judges a graph and looks again at what seems wrong, until nothing new does.
///
/// Each look reads the pages of the elements that cannot be reached, that nothing links to or
/// whose links dangle, and the pages their links lead to, in ascending order. None is needed
/// where the index was still.
pub(crate) fn judge_twice(
    source: &mut dyn PageSource,
    graph: &mut Graph,
    meta: &Meta,
) -> Result<(Verdict, Faults), InspectError> {
    let mut entry = meta.entry;
    let (mut verdict, mut faults) = judge(graph, entry, None, &mut Pulse::new(source))?;
    let mut suspicious = verdict.is_suspicious() && !source.is_still();
    for nth in 1..=MAX_LOOKS {
        if !suspicious {
            break;
        }
        let entry_before = entry;
        entry = read_meta(source)?.entry;
        let wanted = suspects(graph, &faults, entry, source.block_count()?);
        let mut look = Look::new(graph);
        let mut blocks = wanted.iter().filter_map(|block| u32::try_from(block).ok());
        scan(source, meta.m, &mut blocks, &mut look)?;
        look.leave_block();
        let changed = look.changed || entry != entry_before;
        faults.gone = look.gone;
        if nth == 1 && !changed {
            break;
        }
        (verdict, faults) = judge(graph, entry, Some(&faults), &mut Pulse::new(source))?;
        suspicious = verdict.doubts > 0;
    }
    if verdict.dangling_edges > 0 {
        verdict.dangling_edges = dangling_edges(source, graph, meta.m, &faults)?;
    }
    verdict.draw(graph, &faults.missed);
    Ok((verdict, faults))
}

/// How many links of the counted elements among those whose links seem to, lead nowhere.
pub(crate) fn dangling_edges(
    source: &mut dyn PageSource,
    graph: &Graph,
    m: u16,
    faults: &Faults,
) -> Result<u64, ReadError> {
    let wanted = |slot: usize| faults.dangling.contains(slot) && graph.counted.contains(slot);
    let reached = |slot: usize| !faults.missed.contains(slot);
    let mut blocks: Vec<u32> = graph
        .slots
        .iter()
        .filter(|(_, slot)| wanted(*slot))
        .map(|(block, _)| block)
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    confirm(
        source,
        m,
        &blocks,
        &|tid| graph.find(tid).is_some_and(wanted),
        &|tid| graph.find(tid).is_some_and(reached),
    )
}

/// The blocks to read again.
fn suspects(graph: &Graph, faults: &Faults, entry: Option<Tid>, blocks: u32) -> Bitmap {
    let mut wanted = Bitmap::new(blocks as usize);
    if let Some(entry) = entry {
        wanted.insert(entry.block as usize);
    }
    for (block, slot) in graph.slots.iter() {
        let lost = faults.missed.contains(slot) || faults.unlinked.contains(slot);
        if !lost && !faults.dangling.contains(slot) {
            continue;
        }
        wanted.insert(block as usize);
        for &link in graph.layers(slot).flat_map(|(_, links)| links.all) {
            if lost || graph.live_slot(link).is_none() {
                wanted.insert(block_of(link) as usize);
            }
        }
    }
    // The metapage holds no elements.
    wanted.remove(0);
    wanted
}

/// Brings a graph up to date with the pages that go by.
pub(crate) struct Look<'a> {
    pub(crate) graph: &'a mut Graph,
    /// Whether anything is not as it was.
    changed: bool,
    /// Slots of elements that were live.
    pub(crate) gone: Bitmap,
    /// Live elements of the page that goes by which have not been met on it.
    unmet: Vec<usize>,
}

impl<'a> Look<'a> {
    /// A look at pages that begins now.
    pub(crate) fn new(graph: &'a mut Graph) -> Self {
        Self {
            gone: Bitmap::new(graph.slots.count()),
            graph,
            changed: false,
            unmet: Vec::new(),
        }
    }

    /// What has not been met on the page is no longer there. To be called after the last.
    pub(crate) fn leave_block(&mut self) {
        for slot in self.unmet.drain(..) {
            self.graph.live.remove(slot);
            self.gone.insert(slot);
            self.changed = true;
        }
    }
}

impl Visitor for Look<'_> {
    fn page(&mut self, block: u32, _page: &Page<'_>) {
        self.leave_block();
        let graph = &self.graph;
        let live = graph
            .slots
            .on_block(block)
            .filter(|&slot| graph.live.contains(slot));
        self.unmet.extend(live);
    }

    fn element(&mut self, tid: Tid, element: &Element<'_>) {
        if element.deleted() {
            return;
        }
        let (level, version) = (element.level(), element.version());
        let rows = element.heap_tids().len() > 0;
        let known = self.graph.find(tid);
        self.unmet.retain(|unmet| Some(*unmet) != known);
        match known.filter(|&slot| self.graph.is_same(slot, level, version)) {
            Some(slot) => {
                self.changed |= self.graph.rows.contains(slot) != rows;
                self.graph.rows.set(slot, rows);
            }
            // A slot used anew: the element that was counted is gone.
            None => {
                self.changed |= self
                    .graph
                    .add_late(tid, Node::new(level, version), rows)
                    .is_ok()
            }
        }
    }

    fn links(&mut self, tid: Tid, _level: u8, links: Option<Links<'_>>) {
        if let Some(slot) = self.graph.find(tid) {
            // Out of memory the links stay as they were first read.
            self.changed |= self.graph.renew_links(slot, links).unwrap_or(false);
        }
    }
}
