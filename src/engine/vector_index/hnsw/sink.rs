//! A value that so many rows share that searches end among its elements.
//!
//! Only ten rows fit an element, so a value that many rows have stands in many elements. They
//! fill each other's links and take those of everything near; a search that comes among them
//! finds no way out. A fresh build gives the same graph, so this is no decay.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::layout::{Element, Links, Tid};
use super::read_meta;
use super::scan::{Visitor, scan};
use super::slots::pack;
use crate::vector_index::inspection::InspectError;
use crate::vector_index::value::{Value, ValueType};
use crate::vector_index::{HeapTid, PageSource};

/// Elements of one value below which it is not looked at.
pub(super) const MIN_ELEMENTS: u32 = 30;
/// Values looked at, those in most elements.
pub(super) const MAX_VALUES: usize = 16;

/// The value that most links lead to, of those that stand in many elements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DuplicateSink {
    /// Live elements that have it.
    pub elements: u64,
    /// Their rows.
    pub rows: u64,
    /// One of these: block and line pointer, as in `ctid`.
    pub example_row: (u32, u16),
    /// Whether every component is 0.
    pub is_zero: bool,
    /// Share of the links on the ground layer that lead to these elements.
    pub edge_share: f32,
    /// What stands for the value while the index is at hand.
    #[serde(skip)]
    pub key: u64,
}

/// What stands for a value.
pub(super) fn key(element: &Element<'_>) -> u64 {
    xxh3_64(element.value())
}

/// Finds the value among `keys` that most links lead to. Reads every page twice if there are
/// any keys, and takes some 4 bytes for each of their elements.
pub fn duplicate_sink(
    source: &mut dyn PageSource,
    value_type: ValueType,
    keys: &[u64],
) -> Result<Option<DuplicateSink>, InspectError> {
    if keys.is_empty() {
        return Ok(None);
    }
    let blocks = source.block_count()?;
    let m = read_meta(source)?.m;
    let mut copies = Copies {
        value_type,
        found: keys.iter().map(|&key| (key, Crowd::default())).collect(),
    };
    scan(source, m, &mut (1..blocks), &mut copies)?;
    let mut edges = Edges {
        found: copies.found,
        all: 0,
    };
    scan(source, m, &mut (1..blocks), &mut edges)?;
    let most = edges
        .found
        .into_iter()
        .filter(|(_, crowd)| crowd.places.len() >= u64::from(MIN_ELEMENTS))
        .max_by_key(|(_, crowd)| crowd.edges);
    Ok(most.and_then(|(key, crowd)| {
        let row = crowd.example_row?;
        Some(DuplicateSink {
            elements: crowd.places.len(),
            rows: crowd.rows,
            example_row: (row.block, row.offset),
            is_zero: crowd.is_zero,
            edge_share: crowd.edges as f32 / edges.all.max(1) as f32,
            key,
        })
    }))
}

/// The elements of one value.
#[derive(Default)]
struct Crowd {
    places: RoaringBitmap,
    rows: u64,
    example_row: Option<HeapTid>,
    is_zero: bool,
    /// Links to them.
    edges: u64,
}

/// Finds the elements.
struct Copies {
    value_type: ValueType,
    found: Vec<(u64, Crowd)>,
}

impl Visitor for Copies {
    fn element(&mut self, tid: Tid, element: &Element<'_>) {
        let rows = element.heap_tids();
        if element.deleted() || rows.len() == 0 {
            return;
        }
        let wanted = key(element);
        let Some((_, crowd)) = self.found.iter_mut().find(|(key, _)| *key == wanted) else {
            return;
        };
        crowd.places.insert(pack(tid));
        crowd.rows += rows.len() as u64;
        if crowd.example_row.is_none() {
            crowd.example_row = element.heap_tids().next();
            crowd.is_zero = Value::decode(self.value_type, element.value())
                .is_ok_and(|value| value.norm() == 0.0);
        }
    }

    fn links(&mut self, _tid: Tid, _level: u8, _links: Option<Links<'_>>) {}
}

/// Counts the links to them.
struct Edges {
    found: Vec<(u64, Crowd)>,
    all: u64,
}

impl Visitor for Edges {
    fn element(&mut self, _tid: Tid, _element: &Element<'_>) {}

    fn links(&mut self, _tid: Tid, _level: u8, links: Option<Links<'_>>) {
        for link in links.map(|links| links.layer(0)).into_iter().flatten() {
            self.all += 1;
            let place = pack(link);
            for (_, crowd) in &mut self.found {
                crowd.edges += u64::from(crowd.places.contains(place));
            }
        }
    }
}
