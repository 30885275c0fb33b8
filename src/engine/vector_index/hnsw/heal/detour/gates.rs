//! The way to the rest of the value: ordinary elements that lead there. A search for the value looks
//! at them, and as few others as can be: those end behind them.

use std::cell::RefCell;
use std::collections::HashMap;

use super::PULSE;
use super::join::Joiner;
use super::lists::Lists;
use crate::vector_index::ReadError;
use crate::vector_index::hnsw::heal::link::WIDTH;
use crate::vector_index::hnsw::heal::search::Walked;
use crate::vector_index::hnsw::heal::survey::Survey;

/// Elements from which a search for the value comes to the rest of it.
const GATES: usize = 4;
/// Searches for other values that tell what is looked at by many.
const SAMPLE: usize = 256;

impl Joiner<'_> {
    /// Has some of the elements that a search for the value looks at lead to the rest of it, those
    /// that searches for other values look at least.
    pub(super) fn open_gates(&mut self) -> Result<Vec<usize>, ReadError> {
        let (graph, rest) = (&self.survey.graph, self.crowd.rest());
        self.values.fetch(self.source, graph, &rest[..1])?;
        let Some(value) = self.values.get(rest[0]).cloned() else {
            return Ok(Vec::new());
        };
        let near =
            self.search
                .nearest(&self.lists, &mut self.values, self.source, &value, WIDTH)?;
        let may = |slot: &usize| !self.crowd.contains(*slot) && self.survey.has_sound_links(*slot);
        let mut gates: Vec<usize> = near.into_iter().map(|near| near.slot).filter(may).collect();
        let looks = self.looks()?;
        gates.sort_by_key(|gate| looks.get(gate).copied().unwrap_or(0));
        gates.truncate(GATES);
        for (nth, &gate) in gates.iter().enumerate() {
            let mut links = self.lists.links(gate, 0).to_vec();
            if links.len() >= self.lists.room(0) {
                // The farthest but one: the last may lead to the front.
                links.remove(links.len() - 2);
            }
            links.push(rest[nth * rest.len() / gates.len()] as u32);
            self.lists.set(gate, 0, links);
        }
        Ok(gates)
    }

    /// How many searches for other values look at an element on the ground layer, of a sample.
    fn looks(&mut self) -> Result<HashMap<usize, u32>, ReadError> {
        let graph = &self.survey.graph;
        let ordinary = |slot: &usize| graph.rows.contains(*slot) && !self.crowd.contains(*slot);
        let others: Vec<usize> = graph.live.iter().filter(ordinary).collect();
        let watched = Watched {
            lists: &self.lists,
            looks: RefCell::default(),
        };
        let each = others.len().div_ceil(SAMPLE).max(1);
        for (nth, &other) in others.iter().step_by(each).enumerate() {
            if nth % PULSE == 0 {
                self.source.block_count()?;
            }
            self.values.fetch(self.source, graph, &[other])?;
            if let Some(value) = self.values.get(other).cloned() {
                self.search
                    .nearest(&watched, &mut self.values, self.source, &value, WIDTH)?;
            }
        }
        Ok(watched.looks.into_inner())
    }
}

/// Links of which is known who was asked for them.
struct Watched<'a> {
    lists: &'a Lists<'a>,
    looks: RefCell<HashMap<usize, u32>>,
}

impl Walked for Watched<'_> {
    fn survey(&self) -> &Survey {
        self.lists.survey()
    }

    fn targets(&self, slot: usize, layer: u8) -> Vec<usize> {
        if layer == 0 {
            *self.looks.borrow_mut().entry(slot).or_default() += 1;
        }
        self.lists.targets(slot, layer)
    }
}
