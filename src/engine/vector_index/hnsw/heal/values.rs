//! The values of elements, read as they are asked for and kept as long as there is room.

use super::search::Near;
use crate::recall::exact::distance::Operand;
use crate::recall::exact::pair::Pairs;
use crate::vector_index::hnsw::graph::Graph;
use crate::vector_index::hnsw::layout::{Page, Tid};
use crate::vector_index::hnsw::slots::{pack, unpack};
use crate::vector_index::page::PAGE_HEADER;
use crate::vector_index::shape::{IndexShape, Metric};
use crate::vector_index::value::{Value, ValueType};
use crate::vector_index::{PAGE_SIZE, PageSource, ReadError};

/// Where the value of a slot is kept: nowhere yet, or it has none.
const UNREAD: u32 = u32::MAX;
const NONE: u32 = u32::MAX - 1;
/// Bytes of what keeps a value, besides its components.
const OVERHEAD: usize = size_of::<Operand>() + 16;

/// Values by slot.
pub(super) struct Values {
    value_type: ValueType,
    pairs: Pairs,
    places: Vec<u32>,
    /// Where the neighbour tuple of each slot is, packed, once its element was seen.
    tuples: Vec<u32>,
    kept: Vec<Operand>,
    bytes: usize,
    limit: usize,
}

impl Values {
    /// Bytes it takes for so many slots before any value is kept.
    pub(super) fn bytes_for(slots: usize) -> usize {
        // The values of the elements that one step of a search looks at.
        2 * slots * size_of::<u32>() + 256 * PAGE_SIZE
    }

    /// Bytes that a value of so many dimensions takes.
    pub(super) fn bytes_of(dimensions: usize) -> usize {
        dimensions
            .saturating_mul(size_of::<f32>())
            .saturating_add(OVERHEAD)
    }

    /// Keeps at most `limit` bytes of values, but always those of one request.
    pub(super) fn new(shape: &IndexShape, slots: usize, limit: usize) -> Self {
        Self {
            value_type: shape.value_type,
            // Of values of unit length the angle is in their product.
            pairs: Pairs::new(match shape.metric {
                Metric::Cosine if shape.normalized => Metric::InnerProduct,
                metric => metric,
            }),
            places: vec![UNREAD; slots],
            tuples: vec![UNREAD; slots],
            kept: Vec::new(),
            bytes: 0,
            limit,
        }
    }

    /// Reads the values of elements that are not kept. Where there is no more room, the others
    /// are forgotten.
    pub(super) fn fetch(
        &mut self,
        source: &mut dyn PageSource,
        graph: &Graph,
        slots: &[usize],
    ) -> Result<(), ReadError> {
        if slots.iter().all(|&slot| self.places[slot] != UNREAD) {
            return Ok(());
        }
        if self.bytes > self.limit {
            self.kept.clear();
            self.places.fill(UNREAD);
            self.bytes = 0;
        }
        let mut blocks: Vec<u32> = slots
            .iter()
            .filter(|slot| self.places[**slot] == UNREAD)
            .filter_map(|&slot| graph.slots.place(slot).map(|place| place.block))
            .collect();
        blocks.sort_unstable();
        blocks.dedup();
        source.read(&mut blocks.into_iter(), &mut |block, bytes| {
            self.take(graph, block, &Page::new(bytes));
        })?;
        for &slot in slots {
            if self.places[slot] == UNREAD {
                self.places[slot] = NONE;
            }
        }
        Ok(())
    }

    /// Reads the values of all elements, in file order, if there is room for so many of so many
    /// dimensions; tells whether there was.
    pub(super) fn fetch_all(
        &mut self,
        source: &mut dyn PageSource,
        graph: &Graph,
        elements: usize,
        dimensions: usize,
    ) -> Result<bool, ReadError> {
        if elements.saturating_mul(Self::bytes_of(dimensions)) > self.limit {
            return Ok(false);
        }
        let blocks = source.block_count()?;
        source.read(&mut (1..blocks), &mut |block, bytes| {
            self.take(graph, block, &Page::new(bytes));
        })?;
        Ok(true)
    }

    /// Keeps the values of a page.
    fn take(&mut self, graph: &Graph, block: u32, page: &Page<'_>) {
        for (at, element) in page.elements(block) {
            let slot = graph.slot_of(at, &element);
            let Some(slot) = slot.filter(|&slot| self.places[slot] == UNREAD) else {
                continue;
            };
            self.tuples[slot] = pack(element.neighbor_tid());
            let value = Value::decode(self.value_type, element.value()).ok();
            self.places[slot] = match value.and_then(|value| Operand::of(&value)) {
                Some(operand) => {
                    // Components take 4 bytes at most for each 2 they are stored in.
                    self.bytes += 2 * element.value_size().min(PAGE_SIZE - PAGE_HEADER) + OVERHEAD;
                    self.kept.push(operand);
                    self.kept.len() as u32 - 1
                }
                None => NONE,
            };
        }
    }

    /// Where the neighbour tuple of an element is that was fetched.
    pub(super) fn tuple(&self, slot: usize) -> Option<Tid> {
        let tuple = self.tuples.get(slot).filter(|&&tuple| tuple != UNREAD);
        tuple.map(|&tuple| unpack(tuple))
    }

    /// The value of an element that was fetched; none where it cannot be read.
    pub(super) fn get(&self, slot: usize) -> Option<&Operand> {
        self.kept.get(*self.places.get(slot)? as usize)
    }

    /// All values that are kept, by their number.
    pub(super) fn all(&self) -> &[Operand] {
        &self.kept
    }

    /// The number of the value of an element that was fetched.
    pub(super) fn number(&self, slot: usize) -> Option<usize> {
        let number = *self.places.get(slot)? as usize;
        (number < self.kept.len()).then_some(number)
    }

    /// Bytes that values may still take.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes)
    }

    /// How far a fetched element is from a value, for ordering; infinity where that has no answer.
    pub(super) fn rank(&self, from: &Operand, slot: usize) -> f64 {
        let rank = self
            .get(slot)
            .and_then(|value| self.pairs.rank(from, value));
        rank.filter(|rank| !rank.is_nan()).unwrap_or(f64::INFINITY)
    }

    /// The same of two fetched elements.
    pub(super) fn apart(&self, from: usize, slot: usize) -> f64 {
        let from = self.get(from);
        from.map_or(f64::INFINITY, |value| self.rank(value, slot))
    }

    /// Whether a fetched element is nearer to what its rank was taken from than to all of others.
    pub(super) fn is_nearer(&self, near: &Near, others: &[usize]) -> bool {
        let mut others = others.iter();
        others.all(|&other| self.apart(near.slot, other) > near.rank)
    }
}

/// Of the elements near another, nearest first, at most `most` that are nearer to it than to each
/// other and to those that it is `linked` to, and then the nearest of the rest. `is_nearer`: whether
/// one of them is nearer to it than to all of others.
pub(super) fn diverse(
    near: &[Near],
    linked: &[usize],
    most: usize,
    is_nearer: impl Fn(&Near, &[usize]) -> bool,
) -> Vec<usize> {
    let (mut chosen, mut rest) = (Vec::new(), Vec::new());
    for candidate in near.iter().filter(|near| near.rank.is_finite()) {
        if chosen.len() == most {
            break;
        }
        match is_nearer(candidate, linked) && is_nearer(candidate, &chosen) {
            true => chosen.push(candidate.slot),
            false => rest.push(candidate.slot),
        }
    }
    chosen.extend(rest);
    chosen.truncate(most);
    chosen
}
