//! Judging an index whose graph does not fit into memory, from its pages.
//!
//! The layers above the ground are in memory, of the ground layer only which elements are live.
//! The search on it goes over the pages in block order, from what it has reached to what these
//! elements link to, until nothing more is reached: a pass reaches whatever lies ahead, and
//! only pages with something to go on from are read again. Then everything is read once more,
//! because pages are of different moments (see `recheck`).

use std::cell::RefCell;

use super::graph::Graph;
use super::judge::{EntryLayer, Faults, Verdict};
use super::layout::{Element, Item, Links, Meta, Page, Tid};
use super::reach::{Pulse, reach};
use super::recheck::{Look, dangling_edges};
use super::scan::{Visitor, scan};
use super::slots::pack;
use super::tally::Tally;
use super::{read_meta, read_page};
use crate::vector_index::agenda::Agenda;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::inspection::InspectError;
use crate::vector_index::{PageSource, ReadError};

/// Passes over the pages in search of what can be reached. Links between random pages take
/// five or so; a chain that runs backwards through the file would take one for each page.
pub(crate) const MAX_PASSES: u32 = 16;

/// Judges a thin graph. Also tells whether the search came to its end; if it did not, the
/// orphans are those that nothing links to, which are some of them.
pub(crate) fn judge_from_pages(
    source: &mut dyn PageSource,
    graph: &mut Graph,
    meta: &Meta,
) -> Result<(Verdict, bool), InspectError> {
    let blocks = source.block_count()?;
    let mut entry = meta.entry.and_then(|tid| graph.find(tid));
    let above = reach(graph, entry, &mut Pulse::new(source))?;
    let mut on_entry_layer = above.on_entry_layer;
    let mut search = Search::new(graph, above.missed, &above.starts);
    scan(
        source,
        meta.m,
        &mut (1..blocks),
        &mut Follow {
            graph,
            search: &mut search,
        },
    )?;
    let mut ended = search.run(source, graph, meta.m)?;

    let mut verdict = Verdict {
        dangling_edges: search.dangling_edges,
        ..Verdict::default()
    };
    verdict.count(graph, entry, &search.faults, None);
    verdict.note_entry(graph, entry, on_entry_layer);
    if verdict.is_suspicious() && !source.is_still() {
        entry = search.look_again(source, graph, meta.m)?;
        let above = reach(graph, entry, &mut Pulse::new(source))?;
        on_entry_layer = above.on_entry_layer;
        above
            .starts
            .iter()
            .for_each(|&start| search.reached(start as usize));
        ended = search.run(source, graph, meta.m)?;
    }
    if search.dangling_edges > 0 {
        search.dangling_edges = dangling_edges(source, graph, meta.m, &search.faults)?;
    }

    let Search {
        mut faults,
        dangling_edges,
        ..
    } = search;
    if !ended {
        faults.missed.intersect(&faults.unlinked);
    }
    faults.missed.intersect(&graph.live);
    faults.unlinked.intersect(&graph.live);
    let mut verdict = Verdict {
        dangling_edges,
        ..Verdict::default()
    };
    verdict.count(graph, entry, &faults, None);
    if entry.is_some_and(|entry| graph.level(entry) == 0) {
        on_entry_layer = (graph.live.iter().count() - faults.missed.iter().count()) as u64;
    }
    verdict.note_entry(graph, entry, on_entry_layer);
    verdict.draw(graph, &faults.missed);
    Ok((verdict, ended))
}

/// What can be said of an index of which not even a thin graph fits: whether its entry point is
/// there. If it is not, nothing can be reached.
pub(crate) fn judge_entry(
    source: &mut dyn PageSource,
    meta: &Meta,
    tally: &Tally,
) -> Result<Verdict, InspectError> {
    let mut entry = meta.entry;
    let mut level = None;
    // Twice, because it may just have been replaced.
    for _ in 0..2 {
        if let Some(tid) = entry {
            read_page(source, tid.block, &mut |page| {
                if let Some(Item::Element(element)) = page.item(tid.offset) {
                    level = Some(element.level()).filter(|_| !element.deleted());
                }
            })?;
        }
        if level.is_some() {
            break;
        }
        entry = read_meta(source)?.entry;
    }
    let orphans = if level.is_none() { tally.live() } else { 0 };
    Ok(Verdict {
        orphans,
        orphans_with_rows: orphans.saturating_sub(tally.ghosts),
        entry: level.map(|level| EntryLayer {
            level,
            live: 1,
            reached: 1,
        }),
        highest: tally.highest_level().max(level),
        ..Verdict::default()
    })
}

/// A search on the ground layer.
struct Search {
    faults: Faults,
    /// Reached, and what they link to not yet.
    agenda: Agenda,
    /// Of those, the ones whose page goes by.
    due: Bitmap,
    dangling_edges: u64,
    passes: u32,
}

impl Search {
    /// A search from `starts` to `missed`.
    fn new(graph: &Graph, missed: Bitmap, starts: &[u32]) -> Self {
        let count = graph.slots.count();
        let mut agenda = Agenda::new(count);
        starts.iter().for_each(|&start| agenda.add(start as usize));
        Self {
            faults: Faults {
                missed,
                unlinked: graph.live.clone(),
                dangling: Bitmap::new(count),
                gone: Bitmap::default(),
            },
            agenda,
            due: Bitmap::new(count),
            dangling_edges: 0,
            passes: 0,
        }
    }

    /// Notes that an element can be reached.
    #[inline]
    fn reached(&mut self, slot: usize) {
        if self.faults.missed.remove(slot) {
            self.agenda.add(slot);
        }
    }

    /// Notes that the page of these slots goes by.
    fn meet(&mut self, slots: std::ops::Range<u32>) {
        let slots = slots.start as usize..slots.end as usize;
        while let Some(slot) = self
            .agenda
            .first_from(slots.start)
            .filter(|slot| slots.contains(slot))
        {
            self.agenda.remove(slot);
            self.due.insert(slot);
        }
    }

    /// Whether it is time to go on from an element: it was reached before its page came, or
    /// from another on the same page.
    fn is_due(&mut self, slot: usize) -> bool {
        let reached_here = self.agenda.contains(slot);
        self.agenda.remove(slot);
        self.due.remove(slot) || reached_here
    }

    /// Passes over pages with something to go on from until there are none; tells whether
    /// that was so before the last pass allowed.
    fn run(
        &mut self,
        source: &mut dyn PageSource,
        graph: &Graph,
        m: u16,
    ) -> Result<bool, ReadError> {
        let blocks = source.block_count()?;
        while !self.agenda.is_empty() {
            if self.passes == MAX_PASSES {
                return Ok(false);
            }
            self.passes += 1;
            let search = RefCell::new(&mut *self);
            let has_more = |block: &u32| {
                let slots = graph.slots.range(*block);
                let next = search.borrow().agenda.first_from(slots.start as usize);
                next.is_some_and(|next| next < slots.end as usize)
            };
            scan(
                source,
                m,
                &mut (1..blocks).filter(has_more),
                &mut Expand {
                    graph,
                    search: &search,
                },
            )?;
        }
        Ok(true)
    }

    /// Reads everything once more and brings graph and faults up to date: what an element now
    /// links to that is reached, or that is new, is no fault, nor is what has gone. Returns the
    /// entry point as it is now.
    fn look_again(
        &mut self,
        source: &mut dyn PageSource,
        graph: &mut Graph,
        m: u16,
    ) -> Result<Option<usize>, InspectError> {
        let blocks = source.block_count()?;
        let mut again = Again {
            look: Look::new(graph),
            search: self,
        };
        scan(source, m, &mut (1..blocks), &mut again)?;
        again.look.leave_block();
        let entry = read_meta(source)?.entry;
        Ok(entry.and_then(|tid| graph.find(tid)))
    }
}

/// The places that an element links to, with the layer.
fn all_links(links: Links<'_>) -> impl Iterator<Item = (u8, u32)> {
    (0..=links.level()).flat_map(move |layer| links.layer(layer).map(move |tid| (layer, pack(tid))))
}

/// The first pass: every link, and going on from what is reached already.
struct Follow<'a> {
    graph: &'a Graph,
    search: &'a mut Search,
}

impl Visitor for Follow<'_> {
    fn element(&mut self, _tid: Tid, _element: &Element<'_>) {}

    fn links(&mut self, tid: Tid, _level: u8, links: Option<Links<'_>>) {
        let (Some(slot), Some(links)) = (self.graph.find(tid), links) else {
            return;
        };
        let due = self.search.is_due(slot);
        for (layer, link) in all_links(links) {
            match self.graph.live_slot(link) {
                Some(target) if layer == 0 => {
                    self.search.faults.unlinked.remove(target);
                    if due {
                        self.search.reached(target);
                    }
                }
                Some(_) => {}
                None => {
                    self.search.faults.dangling.insert(slot);
                    self.search.dangling_edges += 1;
                }
            }
        }
    }
}

/// A later pass: going on from what is reached.
struct Expand<'a, 'b> {
    graph: &'a Graph,
    search: &'a RefCell<&'b mut Search>,
}

impl Visitor for Expand<'_, '_> {
    fn page(&mut self, block: u32, _page: &Page<'_>) {
        self.search.borrow_mut().meet(self.graph.slots.range(block));
    }

    fn element(&mut self, _tid: Tid, _element: &Element<'_>) {}

    fn links(&mut self, tid: Tid, _level: u8, links: Option<Links<'_>>) {
        let mut search = self.search.borrow_mut();
        let due = self.graph.find(tid).is_some_and(|slot| search.is_due(slot));
        let ground = links.filter(|_| due).map(|links| links.layer(0));
        let targets = ground
            .into_iter()
            .flatten()
            .filter_map(|tid| self.graph.find(tid));
        targets.for_each(|target| search.reached(target));
    }
}

/// The pass that reads everything once more.
struct Again<'a> {
    look: Look<'a>,
    search: &'a mut Search,
}

impl Visitor for Again<'_> {
    fn page(&mut self, block: u32, page: &Page<'_>) {
        self.look.page(block, page);
    }

    fn element(&mut self, tid: Tid, element: &Element<'_>) {
        self.look.element(tid, element);
    }

    fn links(&mut self, tid: Tid, level: u8, links: Option<Links<'_>>) {
        self.look.links(tid, level, links);
        let graph = &self.look.graph;
        let is_reached = graph
            .find(tid)
            .is_some_and(|slot| !self.search.faults.missed.contains(slot));
        for link in links.map(|links| links.layer(0)).into_iter().flatten() {
            if let Some(target) = graph.find(link) {
                self.search.faults.unlinked.remove(target);
                if is_reached {
                    self.search.reached(target);
                }
            }
        }
    }
}
