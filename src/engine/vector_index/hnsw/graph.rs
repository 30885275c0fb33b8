//! The graph of an index in memory: its live elements and their links.
//!
//! Owns how little memory that takes: at m = 16 at most 170 bytes an element, with everything
//! that is done here ([`bytes_per_element`]). Its links on the ground layer take 132, those
//! above 5 on average, itself and the slot of its neighbour tuple 16, finding it by its block
//! 4, bitmaps 3; another 5 are kept free to make it thin. Where element and neighbour tuple are
//! on two pages there is one slot and there are two blocks, which comes to less.
//!
//! A thin graph leaves out the links on the ground layer and the elements that are only there,
//! save that they are live: some 15 bytes an element. Knows nothing of figures.

use super::layout::{Element, Links, MAX_OFFSET, Tid};
use super::lists::{Layer, Lists, NO_LIST, write_layer};
use super::nodes::{Node, Nodes};
use super::slots::{MAX_BLOCKS, Slots, pack};
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::chunked::Chunked;

/// Bitmaps by slot that the graph and what is done with it take: two of its own that may be
/// growing and one more, four of faults, three of which twice, and an agenda.
const BITMAPS: usize = 2 * 2 + 1 + 2 * 3 + 1 + 1;

/// Bytes of memory an element of an index built with `m` takes on average, at most.
pub fn bytes_per_element(m: u16) -> usize {
    let m = usize::from(m.max(2));
    let (slots, block) = (2 * size_of::<Node>(), size_of::<u32>());
    let bitmaps = (2 * BITMAPS).div_ceil(8);
    // A layer takes a word and one for each link. An element is on a layer above the ground
    // with probability 1/m, on one more with 1/m² …
    let ground = 4 * (1 + 2 * m);
    let upper = (4 * (1 + m)).div_ceil(m - 1);
    let thin = upper + (size_of::<Node>() + size_of::<u32>()).div_ceil(m);
    // The ends of chunks that the next list does not fit into, and what keeps the chunks.
    let slack = (slots + ground + upper).div_ceil(100);
    slots + block + bitmaps + ground + upper + thin + slack
}

/// The memory limit is reached, or an address does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// The graph.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) slots: Slots,
    pub(crate) nodes: Nodes,
    /// Elements that are there now.
    pub(crate) live: Bitmap,
    /// Those of them that have rows.
    pub(crate) rows: Bitmap,
    /// Elements that were there at the first look. Others let the search pass and are in no
    /// figure.
    pub(crate) counted: Bitmap,
    lists: Lists,
    /// The lowest layer whose links are kept: 1 of a thin graph.
    floor: u8,
    /// Elements above the ground layer, and words of their links there.
    upper: usize,
    upper_words: usize,
    limit: usize,
    words: Vec<u32>,
}

impl Graph {
    /// A graph of the elements on `blocks` blocks in at most `limit` bytes.
    pub(crate) fn new(blocks: u32, limit: usize) -> Result<Self, Full> {
        if blocks > MAX_BLOCKS || Slots::bytes_for(blocks) > limit {
            return Err(Full);
        }
        Ok(Self {
            slots: Slots::new(blocks),
            nodes: Nodes::All(Chunked::default()),
            live: Bitmap::default(),
            rows: Bitmap::default(),
            counted: Bitmap::default(),
            lists: Lists::default(),
            floor: 0,
            upper: 0,
            upper_words: 0,
            limit,
            words: Vec::new(),
        })
    }

    /// The graph without its ground layer.
    pub(crate) fn thin(self) -> Result<Self, Full> {
        let mut nodes = Nodes::Upper(Chunked::default(), Chunked::default());
        let mut lists = Lists::default();
        let mut words = Vec::new();
        for slot in self.live.iter() {
            let Some(node) = self.nodes.get(slot).filter(|node| node.level > 0) else {
                continue;
            };
            words.clear();
            for (layer, links) in self.layers(slot) {
                if layer > 0 {
                    write_layer(&mut words, links.all.iter().copied(), 0);
                }
            }
            let list = match words.is_empty() {
                true => NO_LIST,
                false => lists.push(&words).ok_or(Full)?,
            };
            nodes.put(slot, Node { list, ..*node });
        }
        let thin = Self {
            nodes,
            lists,
            floor: 1,
            words,
            ..self
        };
        thin.check_room().map(|()| thin)
    }

    /// Bytes the graph takes with one more element, and everything done with it.
    fn bytes(&self) -> usize {
        let slots = self.slots.count() + usize::from(MAX_OFFSET);
        let upper = self.upper + 1;
        let thin = Chunked::<u32>::bytes_for(upper) + Chunked::<Node>::bytes_for(upper);
        let (nodes, thin) = match self.nodes {
            Nodes::All(_) => (
                Chunked::<Node>::bytes_for(slots),
                thin + Lists::bytes_for(self.upper_words),
            ),
            Nodes::Upper(..) => (thin, 0),
        };
        // The elements above the ground are listed once in a search.
        let starts = upper * size_of::<u32>();
        let bitmaps = BITMAPS * Bitmap::bytes_for(slots);
        self.slots.bytes() + nodes + thin + starts + bitmaps + self.lists.bytes_after_push()
    }

    /// Whether so many bytes more would fit.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.bytes().saturating_add(bytes) <= self.limit
    }

    /// How many bytes would still fit after so many more; none where these do not.
    pub(crate) fn room_after(&self, bytes: usize) -> Option<usize> {
        self.limit.checked_sub(self.bytes().saturating_add(bytes))
    }

    fn check_room(&self) -> Result<(), Full> {
        let fits = self.bytes() <= self.limit && self.slots.count() < u32::MAX as usize / 2;
        fits.then_some(()).ok_or(Full)
    }

    /// Adds a live element of the first look; they come in file order.
    pub(crate) fn add(&mut self, tid: Tid, node: Node, rows: bool) -> Result<(), Full> {
        self.check_room()?;
        let slot = self.slots.append(tid).ok_or(Full)?;
        self.put(slot, node, rows);
        Ok(())
    }

    /// Ends the first look.
    pub(crate) fn finish(&mut self) {
        self.slots.finish();
        self.counted = self.live.clone();
    }

    /// Adds a live element of a later look where none was known, or another.
    pub(crate) fn add_late(&mut self, tid: Tid, node: Node, rows: bool) -> Result<(), Full> {
        self.check_room()?;
        let place = pack(tid);
        let slot = self
            .slots
            .of(place)
            .or_else(|| self.slots.append_late(place))
            .ok_or(Full)?;
        self.counted.remove(slot);
        self.put(slot, node, rows);
        Ok(())
    }

    fn put(&mut self, slot: usize, node: Node, rows: bool) {
        self.upper += usize::from(node.level > 0);
        self.nodes.put(slot, node);
        self.live.grow(slot + 1);
        self.live.insert(slot);
        self.rows.grow(slot + 1);
        self.rows.set(slot, rows);
    }

    /// The lowest layer whose links are kept.
    pub(crate) fn floor(&self) -> u8 {
        self.floor
    }

    /// Whether the live element in a slot is one of this level and version. A thin graph does
    /// not know the versions of those it leaves out.
    pub(crate) fn is_same(&self, slot: usize, level: u8, version: u8) -> bool {
        self.nodes.get(slot).map_or(level == 0, |node| {
            node.level == level && node.version == version
        })
    }

    /// The slot of an element on a page, if it is live and the one that is known there.
    pub(crate) fn slot_of(&self, at: Tid, element: &Element<'_>) -> Option<usize> {
        let slot = self.find(at).filter(|_| !element.deleted())?;
        let is_same = self.is_same(slot, element.level(), element.version());
        is_same.then_some(slot)
    }

    /// Elements above the ground layer, those that have gone among them.
    pub(crate) fn above_ground(&self) -> usize {
        self.upper
    }

    /// The slot of a live element.
    pub(crate) fn find(&self, tid: Tid) -> Option<usize> {
        self.live_slot(pack(tid))
    }

    /// The slot of a live element by its packed place.
    #[inline]
    pub(crate) fn live_slot(&self, place: u32) -> Option<usize> {
        self.slots
            .of(place)
            .filter(|&slot| self.live.contains(slot))
    }

    /// The highest layer of an element; of one that a thin graph leaves out, the ground.
    pub(crate) fn level(&self, slot: usize) -> u8 {
        self.nodes.get(slot).map_or(0, |node| node.level)
    }

    /// The layers of an element with the links that are kept, lowest first.
    pub(crate) fn layers(&self, slot: usize) -> impl Iterator<Item = (u8, Layer<'_>)> {
        let (level, list) = self
            .nodes
            .get(slot)
            .map_or((0, NO_LIST), |node| (node.level, node.list));
        (self.floor..=level).zip(self.lists.layers(list))
    }

    /// The links of an element on a layer.
    pub(crate) fn links(&self, slot: usize, layer: u8) -> &[u32] {
        let above_floor = layer.checked_sub(self.floor);
        let found = above_floor.and_then(|nth| self.layers(slot).nth(usize::from(nth)));
        found.map_or(&[], |(_, links)| links.all)
    }

    /// Gives an element of the first look its links. None leaves it without.
    pub(crate) fn set_links(&mut self, tid: Tid, links: Option<Links<'_>>) -> Result<(), Full> {
        let (Some(slot), Some(links)) = (self.find(tid), links) else {
            return Ok(());
        };
        if links.level() < self.floor {
            return Ok(());
        }
        self.check_room()?;
        let mut words = std::mem::take(&mut self.words);
        words.clear();
        for layer in self.floor..=links.level() {
            write_layer(&mut words, links.layer(layer).map(pack), 0);
            self.upper_words += if layer > 0 {
                1 + links.layer(layer).len()
            } else {
                0
            };
        }
        let kept = self.keep(slot, &words);
        self.words = words;
        kept
    }

    /// Takes links read at a later look in place of those kept: a link that was kept before is
    /// settled now, any other is fresh. Tells whether anything changed.
    pub(crate) fn renew_links(
        &mut self,
        slot: usize,
        links: Option<Links<'_>>,
    ) -> Result<bool, Full> {
        let list = self.nodes.get(slot).map_or(NO_LIST, |node| node.list);
        let Some(links) = links else {
            self.set_list(slot, NO_LIST);
            return Ok(list != NO_LIST);
        };
        let mut words = std::mem::take(&mut self.words);
        words.clear();
        let mut changed = false;
        let mut kept = self.lists.layers(list);
        for layer in self.floor..=links.level() {
            let before = kept.next().unwrap_or_default();
            let now = links.layer(layer).map(pack);
            if before.fresh == 0 && now.clone().eq(before.all.iter().copied()) {
                write_layer(&mut words, now, 0);
                continue;
            }
            changed = true;
            let was_there = |link: &u32| before.all.contains(link);
            let fresh = now.clone().filter(|link| !was_there(link));
            let count = fresh.clone().count();
            write_layer(&mut words, now.filter(was_there).chain(fresh), count);
        }
        drop(kept);
        let renewed = match changed {
            true => self.check_room().and_then(|()| self.keep(slot, &words)),
            false => Ok(()),
        };
        self.words = words;
        renewed.map(|()| changed)
    }

    fn keep(&mut self, slot: usize, words: &[u32]) -> Result<(), Full> {
        let list = self.lists.push(words).ok_or(Full)?;
        self.set_list(slot, list);
        Ok(())
    }

    fn set_list(&mut self, slot: usize, list: u32) {
        if let Some(node) = self.nodes.get_mut(slot) {
            node.list = list;
        }
    }
}
