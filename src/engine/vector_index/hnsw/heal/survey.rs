//! The graph of an index as it is to be mended: read once, looked at twice where something seems
//! wrong.

use super::edit::Judged;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::hnsw::graph::{Full, Graph};
use crate::vector_index::hnsw::layout::{Element, Links, Meta, Page, Tid};
use crate::vector_index::hnsw::lists::NO_LIST;
use crate::vector_index::hnsw::nodes::Node;
use crate::vector_index::hnsw::reach::Pulse;
use crate::vector_index::hnsw::read_meta;
use crate::vector_index::hnsw::recheck::judge_twice;
use crate::vector_index::hnsw::room::{InsertRoom, MAX_PAGES_PER_INSERT};
use crate::vector_index::hnsw::scan::{Visitor, scan};
use crate::vector_index::inspection::InspectError;
use crate::vector_index::{PageSource, ReadError};

/// What is known of an index before it is mended.
#[derive(Debug)]
pub struct Survey {
    pub(super) meta: Meta,
    pub(super) graph: Graph,
    /// Elements that no search can reach.
    pub(super) missed: Bitmap,
    /// Elements with links that pgvector does not let stand.
    pub(super) sick: Bitmap,
    /// The last page of the chain.
    tail: u32,
    /// Whether inserts begin to look for room on a page of the index, and are soon done.
    insert_page_is_sound: bool,
    /// Bytes that what is planned may take besides the graph, and with it.
    pub(super) room: usize,
    pub(super) limit: usize,
}

impl Survey {
    /// Reads an index. None where its graph and what is needed to mend it do not fit into
    /// `memory_limit` bytes.
    pub fn take(
        source: &mut dyn PageSource,
        memory_limit: usize,
    ) -> Result<Option<Self>, InspectError> {
        let blocks = source.block_count()?;
        let meta = read_meta(source)?;
        let mut gather = Gather {
            graph: Graph::new(blocks, memory_limit),
            holed: Vec::new(),
            next: Some(1),
            tail: 1,
            insert_page: meta.insert_page,
            insert_page_is_there: false,
            insert_room: InsertRoom::new(meta.m, meta.insert_page, blocks),
        };
        scan(source, meta.m, &mut (1..blocks), &mut gather)?;
        let Ok(mut graph) = gather.graph else {
            return Ok(None);
        };
        graph.finish();
        let (_, faults) = judge_twice(source, &mut graph, &meta)?;
        // The entry point may have been another since.
        let meta = read_meta(source)?;
        let mut sick = faults.dangling;
        sick.grow(graph.slots.count());
        for holed in gather.holed {
            if let Some(slot) = graph.find(holed) {
                sick.insert(slot);
            }
        }
        find_illegal(&graph, &mut sick, &mut Pulse::new(source))?;
        let Some(room) = graph.room_after(super::link::bytes_for(graph.slots.count())) else {
            return Ok(None);
        };
        Ok(Some(Self {
            meta,
            missed: faults.missed,
            sick,
            tail: gather.tail,
            insert_page_is_sound: gather.insert_page_is_there
                && gather.insert_room.pages_per_insert() <= MAX_PAGES_PER_INSERT,
            graph,
            room,
            limit: memory_limit,
        }))
    }

    /// The slot of the element that searches start from.
    pub(super) fn entry(&self) -> Option<usize> {
        self.meta.entry.and_then(|tid| self.graph.find(tid))
    }

    /// What is known of the element in a slot.
    pub(super) fn judged(&self, slot: usize) -> Option<Judged> {
        let node = self.graph.nodes.get(slot)?;
        let at = self.graph.slots.place(slot)?;
        self.graph.live.contains(slot).then_some(Judged {
            at,
            level: node.level,
            version: node.version,
        })
    }

    /// Whether an element has a neighbour tuple that pgvector reads, in which everything is as it
    /// should be.
    pub(super) fn has_sound_links(&self, slot: usize) -> bool {
        let node = self.graph.nodes.get(slot);
        node.is_some_and(|node| node.list != NO_LIST) && !self.sick.contains(slot)
    }

    /// Whether no neighbour tuple of an element could be read as its.
    pub(super) fn has_no_links(&self, slot: usize) -> bool {
        let node = self.graph.nodes.get(slot);
        node.is_some_and(|node| node.list == NO_LIST)
    }

    /// Elements with rows that no search can reach.
    pub(super) fn orphans(&self) -> impl Iterator<Item = usize> + '_ {
        let graph = &self.graph;
        let counts = |slot: &usize| graph.rows.contains(*slot) && graph.counted.contains(*slot);
        self.missed.iter().filter(counts)
    }

    /// How many elements with rows no search can reach.
    pub fn orphan_count(&self) -> u64 {
        self.orphans().count() as u64
    }

    /// Where inserts should begin to look for room, if that is no page of the index now, or they
    /// go through many pages from there.
    pub(super) fn better_insert_page(&self) -> Option<u32> {
        let is_better = !self.insert_page_is_sound && self.meta.insert_page != self.tail;
        is_better.then_some(self.tail)
    }
}

/// Adds the elements with links to themselves, links that stand there twice, and links on a layer
/// that the other end is not on.
fn find_illegal(graph: &Graph, sick: &mut Bitmap, pulse: &mut Pulse<'_>) -> Result<(), ReadError> {
    let mut sorted = Vec::new();
    for slot in graph.live.iter() {
        pulse.beat()?;
        for (layer, links) in graph.layers(slot) {
            sorted.clear();
            sorted.extend_from_slice(links.all);
            sorted.sort_unstable();
            let repeated = sorted.windows(2).any(|pair| pair[0] == pair[1]);
            let illegal = |&link: &u32| match graph.live_slot(link) {
                Some(target) => target == slot || layer > 0 && graph.level(target) < layer,
                None => false,
            };
            if repeated || links.all.iter().any(illegal) {
                sick.insert(slot);
            }
        }
    }
    Ok(())
}

/// Keeps the graph while the pages go by.
struct Gather {
    graph: Result<Graph, Full>,
    /// Elements of which a layer has links after a free slot.
    holed: Vec<Tid>,
    /// The page that comes next on the chain, and the last that was there.
    next: Option<u32>,
    tail: u32,
    insert_page: u32,
    insert_page_is_there: bool,
    insert_room: InsertRoom,
}

impl Gather {
    fn keep(&mut self, step: impl FnOnce(&mut Graph) -> Result<(), Full>) {
        if let Ok(graph) = &mut self.graph
            && step(graph).is_err()
        {
            self.graph = Err(Full);
        }
    }
}

impl Visitor for Gather {
    fn page(&mut self, block: u32, page: &Page<'_>) {
        // Pages are only ever appended, so the chain leads to later ones.
        if self.next == Some(block) && page.has_hnsw_id() {
            self.tail = block;
            self.next = page.raw().next_block();
            self.insert_page_is_there |= self.insert_page == block;
        }
        self.insert_room.page(block, page);
    }

    fn element(&mut self, tid: Tid, element: &Element<'_>) {
        self.insert_room.element(element);
        if !element.deleted() {
            let rows = element.heap_tids().len() > 0;
            let node = Node::new(element.level(), element.version());
            self.keep(|graph| graph.add(tid, node, rows));
        }
    }

    fn links(&mut self, tid: Tid, level: u8, links: Option<Links<'_>>) {
        if links.is_some_and(|links| (0..=level).any(|layer| links.has_hole(layer))) {
            self.holed.push(tid);
        }
        self.keep(|graph| graph.set_links(tid, links));
    }
}
