//! HNSW.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{PAGE, Place, items, place_at, read, u16_at, u32_at};

const MAGIC: u32 = 0xA953_A953;
const ELEMENT: u8 = 1;
const NEIGHBORS: u8 = 2;

/// What the files hold.
#[derive(Clone, Debug, Default, PartialEq)]
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
    pub m: i64,
    pub ef_construction: i64,
    pub dimensions: i64,
    /// Level of the entry point, if that is a live element.
    pub entry_level: Option<i64>,
    /// How high the entry point is and how much of its own layer it leads to.
    pub entry_quality: f64,
    /// Live elements without rows.
    pub ghosts: i64,
    /// Elements with rows that cannot be reached.
    pub orphans_with_rows: i64,
    /// Links of live elements on the ground layer.
    pub ground_links: i64,
    /// Those of them that repeat another of the same element.
    pub repeated_on_ground: i64,
    /// Links on any layer that repeat another of the same element and layer.
    pub repeated: i64,
    /// Links of elements to themselves.
    pub to_self: i64,
    /// Links to live elements that are not on the layer.
    pub to_lower: i64,
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
    ef_construction: u16,
    dimensions: u32,
    entry: Option<Place>,
    elements: BTreeMap<Place, Element>,
    neighbors: BTreeMap<Place, (u8, Vec<Place>)>,
}

impl Index {
    fn parse(bytes: &[u8]) -> Self {
        assert_eq!(u32_at(bytes, 24), MAGIC, "an HNSW index");
        let entry = (u32_at(bytes, 40), u16_at(bytes, 44));
        let mut index = Self {
            m: usize::from(u16_at(bytes, 36)),
            ef_construction: u16_at(bytes, 38),
            dimensions: u32_at(bytes, 32),
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

    /// The entry point, if it is a live element.
    fn live_entry(&self) -> Option<(Place, &Element)> {
        let entry = self.entry?;
        Some((entry, self.live(entry)?))
    }

    /// What can be reached on a layer, going down from the entry point: an element reached on a layer is a start
    /// on the layer below.
    fn reached(&self, floor: u8) -> BTreeSet<Place> {
        let Some((entry, element)) = self.live_entry() else {
            return BTreeSet::new();
        };
        let mut reached = BTreeSet::from([entry]);
        for layer in (floor..=element.level).rev() {
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

    /// (Level of the entry point / highest level, 1 if that is 0) × reached share of the entry point's own layer.
    fn entry_quality(&self) -> f64 {
        let levels = self.elements.values().filter(|e| !e.deleted);
        let levels: Vec<u8> = levels.map(|element| element.level).collect();
        let Some(highest) = levels.iter().max() else {
            return 1.0;
        };
        let Some((_, Element { level, .. })) = self.live_entry() else {
            return 0.0;
        };
        let height = if *highest == 0 {
            1.0
        } else {
            f64::from(*level) / f64::from(*highest)
        };
        let layer = levels.iter().filter(|other| *other >= level).count();
        height * self.reached(*level).len() as f64 / layer as f64
    }
}

/// Reads the index in `file` and its further segments.
pub fn figures(file: &Path) -> Figures {
    let bytes = read(file);
    let index = Index::parse(&bytes);
    let live = index.elements.iter().filter(|(_, e)| !e.deleted);
    let live: Vec<(Place, &Element)> = live.map(|(place, e)| (*place, e)).collect();
    let reached = index.reached(0);
    let missed = live.iter().filter(|(place, _)| !reached.contains(place));
    let mut figures = Figures {
        pages: (bytes.len() / PAGE) as i64,
        elements: index.elements.len() as i64,
        live: live.len() as i64,
        deleted: (index.elements.len() - live.len()) as i64,
        heap_tids: live.iter().map(|(_, element)| element.heap_tids).sum(),
        ghosts: live.iter().filter(|(_, e)| e.heap_tids == 0).count() as i64,
        reachable: reached.len() as i64,
        orphans: missed.clone().count() as i64,
        orphans_with_rows: missed.filter(|(_, e)| e.heap_tids > 0).count() as i64,
        m: index.m as i64,
        ef_construction: index.ef_construction.into(),
        dimensions: index.dimensions.into(),
        entry_level: index.live_entry().map(|(_, entry)| entry.level.into()),
        entry_quality: index.entry_quality(),
        degree_fill: 1.0,
        ..Figures::default()
    };
    let mut pointed_to = BTreeSet::new();
    for (place, element) in &live {
        let level = usize::from(element.level);
        figures
            .layers
            .resize(figures.layers.len().max(level + 1), 0);
        figures.layers[level] += 1;
        for layer in 0..=element.level {
            let links = index.links(element, layer);
            figures.count(&index, *place, layer, links);
            if layer == 0 {
                pointed_to.extend(links.iter().copied());
            }
        }
    }
    let room = (2 * index.m).min(live.len().saturating_sub(1));
    if room > 0 {
        figures.degree_fill = figures.ground_links as f64 / (live.len() * room) as f64;
    }
    let alone = |place: &Place| !pointed_to.contains(place) && index.entry != Some(*place);
    figures.zero_in_degree = live.iter().filter(|(place, _)| alone(place)).count() as i64;
    figures
}

impl Figures {
    /// Counts the links of an element on one of its layers.
    fn count(&mut self, index: &Index, from: Place, layer: u8, links: &[Place]) {
        for link in links {
            match index.elements.get(link) {
                None => self.dangling += 1,
                Some(target) if target.deleted => self.to_deleted += 1,
                Some(target) => self.to_lower += i64::from(target.level < layer),
            }
            self.to_self += i64::from(*link == from);
        }
        let different: BTreeSet<_> = links.iter().collect();
        let repeated = (links.len() - different.len()) as i64;
        self.repeated += repeated;
        if layer == 0 {
            self.ground_links += links.len() as i64;
            self.repeated_on_ground += repeated;
            self.low_degree += i64::from(links.len() < index.m);
        }
    }
}
