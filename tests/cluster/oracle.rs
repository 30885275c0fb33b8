//! A second reader of HNSW indexes, for tests to compare the first with: straight from the files of the data
//! directory, after a checkpoint. Shares no code and no way of reading with the product; knows the format from
//! pgvector's documentation and sources. Trusts what it reads: it is for indexes that PostgreSQL has written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const PAGE: usize = 8192;
const MAGIC: u32 = 0xA953_A953;
const ELEMENT: u8 = 1;
const NEIGHBORS: u8 = 2;

/// Block and offset number of an item.
type Place = (u32, u16);

/// What the files hold.
#[derive(Debug, Default, PartialEq)]
pub struct Figures {
    pub pages: i64,
    pub elements: i64,
    pub live: i64,
    pub deleted: i64,
    /// Heap rows of live elements.
    pub heap_tids: i64,
    /// Live elements by their highest layer.
    pub layers: Vec<i64>,
    pub reachable: i64,
    pub orphans: i64,
    /// Live elements but the entry point that no ground-layer link of a live element points to.
    pub zero_in_degree: i64,
    /// Live elements with fewer than m links on the ground layer.
    pub low_degree: i64,
    /// Links of live elements to what is no element.
    pub dangling: i64,
    /// Links of live elements to deleted ones.
    pub to_deleted: i64,
    /// Mean share of the ground layer's links that an element could have.
    pub degree_fill: f64,
}

struct Element {
    level: u8,
    deleted: bool,
    version: u8,
    heap_tids: i64,
    neighbors: Place,
}

struct Index {
    m: usize,
    entry: Option<Place>,
    elements: BTreeMap<Place, Element>,
    neighbors: BTreeMap<Place, (u8, Vec<Place>)>,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn place_at(bytes: &[u8], at: usize) -> Place {
    let block = u32::from(u16_at(bytes, at)) << 16 | u32::from(u16_at(bytes, at + 2));
    (block, u16_at(bytes, at + 4))
}

/// All segments of a relation, the first of which is `file`.
fn read(file: &Path) -> Vec<u8> {
    let mut bytes =
        std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for segment in 1.. {
        let next = format!("{}.{segment}", file.display());
        let Ok(more) = std::fs::read(next) else { break };
        bytes.extend(more);
    }
    bytes
}

/// Offset numbers and contents of the items on a page.
fn items(page: &[u8]) -> Vec<(u16, &[u8])> {
    let lower = usize::from(u16_at(page, 12));
    let pointers = (24..lower).step_by(4).zip(1..);
    pointers
        .filter_map(|(at, number)| {
            let pointer = u32_at(page, at);
            let (offset, flags) = ((pointer & 0x7FFF) as usize, pointer >> 15 & 3);
            let length = (pointer >> 17) as usize;
            (flags == 1).then(|| (number, &page[offset..offset + length]))
        })
        .collect()
}

impl Index {
    fn parse(bytes: &[u8]) -> Self {
        assert_eq!(u32_at(bytes, 24), MAGIC, "an HNSW index");
        let entry = (u32_at(bytes, 40), u16_at(bytes, 44));
        let mut index = Self {
            m: usize::from(u16_at(bytes, 36)),
            entry: (entry.0 != u32::MAX && entry.1 != 0).then_some(entry),
            elements: BTreeMap::new(),
            neighbors: BTreeMap::new(),
        };
        for (page, block) in bytes.chunks(PAGE).zip(0..).skip(1) {
            for (number, item) in items(page) {
                index.add((block, number), item);
            }
        }
        index
    }

    fn add(&mut self, place: Place, item: &[u8]) {
        match item[0] {
            ELEMENT => {
                let tids = (0..10).filter(|n| place_at(item, 4 + 6 * n).1 != 0);
                let element = Element {
                    level: item[1],
                    deleted: item[2] != 0,
                    version: item[3],
                    heap_tids: tids.count() as i64,
                    neighbors: place_at(item, 64),
                };
                self.elements.insert(place, element);
            }
            NEIGHBORS => {
                let count = usize::from(u16_at(item, 2));
                let links = (0..count).map(|n| place_at(item, 4 + 6 * n));
                self.neighbors.insert(place, (item[1], links.collect()));
            }
            other => panic!("{place:?} is of type {other}"),
        }
    }

    /// The live element of a place.
    fn live(&self, place: Place) -> Option<&Element> {
        self.elements.get(&place).filter(|element| !element.deleted)
    }

    /// Links of an element on one of its layers, up to the first empty place as pgvector reads them.
    fn links(&self, element: &Element, layer: u8) -> &[Place] {
        let Some((version, links)) = self.neighbors.get(&element.neighbors) else {
            return &[];
        };
        if *version != element.version || layer > element.level {
            return &[];
        }
        let start = usize::from(element.level - layer) * self.m;
        let room = if layer == 0 { 2 * self.m } else { self.m };
        let links = links.get(start..start + room).unwrap_or_default();
        let end = links.iter().position(|link| link.1 == 0).unwrap_or(room);
        &links[..end.min(links.len())]
    }

    /// What can be reached on the ground layer, going down from the entry point: an element reached on a layer
    /// is a start on the layer below.
    fn reachable(&self) -> BTreeSet<Place> {
        let Some((entry, element)) = self
            .entry
            .and_then(|place| Some((place, self.live(place)?)))
        else {
            return BTreeSet::new();
        };
        let mut reached = BTreeSet::from([entry]);
        for layer in (0..=element.level).rev() {
            let mut todo: Vec<Place> = reached.iter().copied().collect();
            while let Some(place) = todo.pop() {
                for &link in self.links(&self.elements[&place], layer) {
                    let fits = self
                        .live(link)
                        .is_some_and(|element| element.level >= layer);
                    if fits && reached.insert(link) {
                        todo.push(link);
                    }
                }
            }
        }
        reached
    }
}

/// Reads the index in `file` and its further segments.
pub fn hnsw(file: &Path) -> Figures {
    let bytes = read(file);
    let index = Index::parse(&bytes);
    let live: Vec<(Place, &Element)> = index
        .elements
        .iter()
        .filter(|(_, element)| !element.deleted)
        .map(|(place, element)| (*place, element))
        .collect();
    let mut figures = Figures {
        pages: (bytes.len() / PAGE) as i64,
        elements: index.elements.len() as i64,
        live: live.len() as i64,
        deleted: (index.elements.len() - live.len()) as i64,
        heap_tids: live.iter().map(|(_, element)| element.heap_tids).sum(),
        degree_fill: 1.0,
        ..Figures::default()
    };
    let mut pointed_to = BTreeSet::new();
    let mut ground_links = 0;
    for (_, element) in &live {
        let level = usize::from(element.level);
        figures
            .layers
            .resize(figures.layers.len().max(level + 1), 0);
        figures.layers[level] += 1;
        for layer in 0..=element.level {
            for link in index.links(element, layer) {
                match index.elements.get(link) {
                    None => figures.dangling += 1,
                    Some(target) if target.deleted => figures.to_deleted += 1,
                    Some(_) if layer == 0 => _ = pointed_to.insert(*link),
                    Some(_) => {}
                }
            }
        }
        let degree = index.links(element, 0).len();
        ground_links += degree;
        figures.low_degree += i64::from(degree < index.m);
    }
    let room = (2 * index.m).min(live.len().saturating_sub(1));
    if room > 0 {
        figures.degree_fill = ground_links as f64 / (live.len() * room) as f64;
    }
    let alone = |place: &Place| !pointed_to.contains(place) && index.entry != Some(*place);
    figures.zero_in_degree = live.iter().filter(|(place, _)| alone(place)).count() as i64;
    figures.reachable = index.reachable().len() as i64;
    figures.orphans = figures.live - figures.reachable;
    figures
}
