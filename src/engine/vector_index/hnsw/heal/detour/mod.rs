//! The rung for a value that so many rows share that searches end among its elements: they get
//! to pass it by.
//!
//! Ordinary elements give up their links to it but one, to one of the few of its elements in
//! front, which lead on to ordinary elements spread over the graph and to nothing of the value
//! besides themselves: a search that meets them has a few more rows and goes on. What lost its
//! links finds its neighbours anew. The rest of the value stands behind: a search for the value
//! itself comes to it through a few gates, elements that such a search looks at and others hardly.
//! Above the ground nothing leads to the value. Cost: what a build costs, without the value.

mod crowd;
mod gates;
mod join;
mod lists;

use std::collections::HashSet;

use super::PAGE_MS;
use super::edit::{Change, Edit, Judged};
use super::link::{WRITE_MS, look_ms};
use super::search::Search;
use super::survey::Survey;
use super::values::Values;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::hnsw::HnswFigures;
use crate::vector_index::hnsw::slots::unpack;
use crate::vector_index::shape::IndexShape;
use crate::vector_index::{PageSource, ReadError};
use crowd::Crowd;
use join::Joiner;
use lists::Lists;

/// Searches after which the source may end it.
const PULSE: usize = 64;

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Detoured {
    pub(super) edits: Vec<Edit>,
    /// Elements with rows that no search will reach.
    pub(super) left: u64,
}

/// Has searches pass by the value that `key` stands for.
pub(super) fn plan(
    survey: &Survey,
    key: u64,
    shape: &IndexShape,
    source: &mut dyn PageSource,
) -> Result<Detoured, ReadError> {
    let graph = &survey.graph;
    let entry = survey.entry();
    let crowd = Crowd::find(graph, entry, key, source)?;
    if crowd.rest().is_empty() || entry.is_none() {
        return Ok(Detoured::default());
    }
    let slots = graph.slots.count();
    let lists = Lists::without(survey, &crowd, source)?;
    let (live, dimensions) = (graph.live.iter().count(), survey.meta.dimensions as usize);
    let besides = bytes_per_element(survey.meta.m, 0) * live;
    let mut values = Values::new(shape, slots, survey.room.saturating_sub(besides));
    values.fetch_all(source, graph, live, dimensions)?;
    let mut joiner = Joiner {
        survey,
        crowd: &crowd,
        lists,
        concerned: Bitmap::new(slots),
        values,
        search: Search::new(slots),
        source,
    };
    joiner.fan_out();
    joiner.join_all()?;
    joiner.face();
    let gates = joiner.open_gates()?;
    let missed = joiner.lists.missed(joiner.source)?;
    let left = missed.iter().filter(|&slot| graph.rows.contains(slot));
    let (left, before) = (left.count() as u64, survey.orphan_count());
    if left > before {
        return Ok(Detoured {
            edits: Vec::new(),
            left: before,
        });
    }
    Ok(Detoured {
        edits: joiner.edits(&gates)?,
        left,
    })
}

impl Joiner<'_> {
    /// Has the elements of the value lead to ordinary ones, spread over the graph; those behind
    /// to one another as well.
    fn fan_out(&mut self) {
        let graph = &self.survey.graph;
        let ordinary = |slot: &usize| graph.rows.contains(*slot) && !self.crowd.contains(*slot);
        let mut spread: Vec<usize> = graph.live.iter().filter(ordinary).collect();
        // Which elements are on the upper layers was drawn at random.
        spread.sort_by_key(|&slot| std::cmp::Reverse(graph.level(slot)));
        let crowd = self.crowd;
        let (front, rest) = (crowd.front(), crowd.rest());
        let mut next = 0;
        for (nth, &slot) in crowd.slots.iter().enumerate() {
            if !self.survey.has_sound_links(slot) {
                continue;
            }
            for layer in 0..=graph.level(slot) {
                let on_layer = spread.partition_point(|&slot| graph.level(slot) >= layer.max(1));
                let pool = match on_layer {
                    0 if layer == 0 => &spread[..],
                    count => &spread[..count],
                };
                let mut links: Vec<u32> = match nth.checked_sub(front.len()) {
                    _ if layer > 0 => Vec::new(),
                    None => front.iter().map(|&slot| slot as u32).collect(),
                    Some(behind) => onwards(behind, rest.len())
                        .map(|behind| rest[behind] as u32)
                        .take(usize::from(self.survey.meta.m))
                        .collect(),
                };
                links.retain(|&link| link as usize != slot);
                let room = self.lists.room(layer);
                for _ in 0..pool.len().min(room - links.len().min(room)) {
                    links.push(pool[next % pool.len()] as u32);
                    next += 1;
                }
                let mut seen = HashSet::new();
                links.retain(|link| seen.insert(*link));
                self.lists.set(slot, layer, links);
            }
        }
    }

    /// Joins what lost links to the value, and what cannot be reached without it; those on the
    /// highest layers first, as searches come by them.
    fn join_all(&mut self) -> Result<(), ReadError> {
        let graph = &self.survey.graph;
        let missed = self.lists.missed(self.source)?;
        let concerned = |slot: &usize| {
            !self.crowd.contains(*slot)
                && self.survey.has_sound_links(*slot)
                && (self.lists.bereft.contains(*slot) || missed.contains(*slot))
        };
        let mut order: Vec<usize> = graph.live.iter().filter(concerned).collect();
        for &slot in &order {
            self.concerned.insert(slot);
        }
        order.sort_by_key(|&slot| std::cmp::Reverse(graph.level(slot)));
        for (nth, &slot) in order.iter().enumerate() {
            if nth % PULSE == 0 {
                self.source.block_count()?;
            }
            self.join(slot)?;
        }
        for slot in graph.live.iter() {
            for layer in 0..=graph.level(slot) {
                if self.lists.links(slot, layer).len() > self.lists.room(layer) {
                    self.thin(slot, layer)?;
                }
            }
        }
        Ok(())
    }

    /// Has whatever led to the value lead to one of its elements in front.
    fn face(&mut self) {
        let front = self.crowd.front();
        let touched: Vec<usize> = self.lists.touched.iter().collect();
        for (nth, slot) in touched.into_iter().enumerate() {
            let links = self.lists.links(slot, 0);
            let faces = links.iter().any(|&to| self.crowd.is_front(to as usize));
            if faces || !self.survey.graph.rows.contains(slot) {
                continue;
            }
            let mut links = links.to_vec();
            links.truncate(self.lists.room(0) - 1);
            links.push(front[nth % front.len()] as u32);
            self.lists.set(slot, 0, links);
        }
    }

    /// What makes the links so: first those of the front and the gates, then those of ordinary
    /// elements, so that nothing is cut off before there is another way to it.
    fn edits(&mut self, gates: &[usize]) -> Result<Vec<Edit>, ReadError> {
        let graph = &self.survey.graph;
        let mut order: Vec<usize> = self.crowd.front().iter().chain(gates).copied().collect();
        let first: HashSet<usize> = order.iter().copied().collect();
        let ordinary = |slot: &usize| !first.contains(slot) && !self.crowd.contains(*slot);
        order.extend(graph.live.iter().filter(ordinary));
        order.extend_from_slice(self.crowd.rest());
        let mut edits = Vec::new();
        for slot in order {
            let sound = self.survey.has_sound_links(slot);
            let Some(of) = self.survey.judged(slot).filter(|_| sound) else {
                continue;
            };
            for layer in 0..=graph.level(slot) {
                let (was, to) = (graph.links(slot, layer), self.lists.links(slot, layer));
                let was_slots = was.iter().map(|&link| graph.live_slot(link));
                // Above the ground one that shares a layer with the value alone is left by itself.
                let is_needed = layer == 0 || self.crowd.contains(slot);
                if was_slots.eq(to.iter().map(|&to| Some(to as usize)))
                    || to.is_empty() && is_needed
                {
                    continue;
                }
                let judged = |slot: Option<usize>| slot.and_then(|slot| self.survey.judged(slot));
                let before: Option<Vec<Judged>> = was
                    .iter()
                    .map(|&link| judged(graph.find(unpack(link))))
                    .collect();
                let after: Option<Vec<Judged>> =
                    to.iter().map(|&to| judged(Some(to as usize))).collect();
                self.values.fetch(self.source, graph, &[slot])?;
                let (Some(was), Some(to), Some(tuple)) = (before, after, self.values.tuple(slot))
                else {
                    continue;
                };
                edits.push(Edit::Links {
                    of,
                    tuple,
                    layer,
                    change: Change::Rewrite { was, to },
                });
            }
        }
        Ok(edits)
    }
}

/// Where each of `count` leads to, so that from any of them all are soon reached: as far on as
/// each power of two.
fn onwards(from: usize, count: usize) -> impl Iterator<Item = usize> {
    let steps = std::iter::successors(Some(1_usize), |step| step.checked_mul(2));
    let steps = steps.take_while(move |step| *step < count);
    steps.map(move |step| (from + step) % count)
}

/// Elements that joining one looks at, as a share of the links of those that its search passes
/// through, as measured on 20,000 × 384 with m = 16: most have been met before.
const NEW_IN_A_SEARCH: f64 = 0.25;

/// What it is expected to take, in milliseconds: a search as wide as those of the build for each
/// element, its neighbours compared with one another, and every page read and written.
pub(super) fn cost_ms(figures: &HnswFigures) -> f64 {
    let live = figures.live_elements as f64;
    let (m, width) = (f64::from(figures.m), f64::from(figures.ef_construction));
    let looks = NEW_IN_A_SEARCH * width * 2.0 * m;
    let pages = 2.0 * m * PAGE_MS;
    live * (looks * look_ms(figures.dimensions) + pages + WRITE_MS)
}

/// Bytes of memory that planning takes for an element of so many links and dimensions, besides
/// the graph: its links, its value, and the edit of them.
pub(super) fn bytes_per_element(m: u16, dimensions: u32) -> usize {
    let edit = size_of::<Edit>() + 2 * 2 * usize::from(m) * size_of::<Judged>();
    let value = Values::bytes_of(dimensions as usize);
    Lists::bytes_per_element(m) + value + edit
}
