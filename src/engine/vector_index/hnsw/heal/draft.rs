//! The graph as it will be once the edits planned so far are made.
//!
//! Owns a tree of links along which searches reach everything they reach: as long as none of
//! them is cut, nothing that can be reached is lost. Memory: some 5 bytes a slot.

use std::collections::{HashMap, VecDeque};

use super::search::Walked;
use super::survey::Survey;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::hnsw::reach::Pulse;
use crate::vector_index::hnsw::slots::pack;
use crate::vector_index::page::Tid;
use crate::vector_index::{PageSource, ReadError};

/// The parent of what has none.
const NO_PARENT: u32 = u32::MAX;

/// A graph being mended.
pub(super) struct Draft<'a> {
    pub(super) survey: &'a Survey,
    /// Links on the ground layer that differ from the survey's, by slot.
    changed: HashMap<usize, Vec<u32>>,
    /// What searches reach.
    reached: Bitmap,
    /// From where the tree comes to each slot.
    parent: Vec<u32>,
    /// Links to each slot on the ground layer, up to 255.
    in_degree: Vec<u8>,
}

impl<'a> Draft<'a> {
    /// Bytes it takes for so many slots, what changes aside.
    pub(super) fn bytes_for(slots: usize) -> usize {
        slots * (size_of::<u32>() + size_of::<u8>()) + Bitmap::bytes_for(slots)
    }

    /// The graph as it is.
    pub(super) fn new(survey: &'a Survey, source: &mut dyn PageSource) -> Result<Self, ReadError> {
        let graph = &survey.graph;
        let count = graph.slots.count();
        let mut draft = Self {
            survey,
            changed: HashMap::new(),
            reached: Bitmap::new(count),
            parent: vec![NO_PARENT; count],
            in_degree: vec![0; count],
        };
        for slot in graph.live.iter() {
            for &link in graph.links(slot, 0) {
                if let Some(target) = graph.live_slot(link) {
                    draft.in_degree[target] = draft.in_degree[target].saturating_add(1);
                }
            }
        }
        draft.grow(source)?;
        Ok(draft)
    }

    /// Grows the tree from the entry point, layer by layer.
    fn grow(&mut self, source: &mut dyn PageSource) -> Result<(), ReadError> {
        let Some(entry) = self.survey.entry() else {
            return Ok(());
        };
        self.reached.insert(entry);
        let (mut starts, mut pulse) = (vec![entry], Pulse::new(source));
        for layer in (0..=self.survey.graph.level(entry)).rev() {
            let new = self.spread(starts.iter().copied().collect(), layer, &mut pulse)?;
            if layer > 0 {
                starts.extend(new);
            }
        }
        Ok(())
    }

    /// Follows links on a layer from what is reached to what is not; returns the latter.
    fn spread(
        &mut self,
        mut agenda: VecDeque<usize>,
        layer: u8,
        pulse: &mut Pulse<'_>,
    ) -> Result<Vec<usize>, ReadError> {
        let mut new = Vec::new();
        while let Some(slot) = agenda.pop_front() {
            pulse.beat()?;
            let targets = self.targets(slot, layer);
            for target in targets {
                if self.reached.insert(target) {
                    self.parent[target] = slot as u32;
                    agenda.push_back(target);
                    if layer > 0 {
                        new.push(target);
                    }
                }
            }
        }
        Ok(new)
    }

    /// The links of an element on a layer, as packed places.
    pub(super) fn links(&self, slot: usize, layer: u8) -> &[u32] {
        match self.changed.get(&slot) {
            Some(links) if layer == 0 => links,
            _ => self.survey.graph.links(slot, layer),
        }
    }

    /// Whether searches reach an element.
    pub(super) fn is_reached(&self, slot: usize) -> bool {
        self.reached.contains(slot)
    }

    /// Whether the tree needs the link from one element to another.
    pub(super) fn is_branch(&self, from: usize, to: usize) -> bool {
        self.parent.get(to) == Some(&(from as u32))
    }

    /// Links to an element on the ground layer, up to 255.
    pub(super) fn in_degree(&self, slot: usize) -> u8 {
        self.in_degree[slot]
    }

    /// Gives an element these links on the ground layer, and follows them where they reach.
    /// Links that the tree needs must be among them.
    pub(super) fn set_links(
        &mut self,
        slot: usize,
        links: &[Tid],
        source: &mut dyn PageSource,
    ) -> Result<(), ReadError> {
        let graph = &self.survey.graph;
        for (sign, packed) in [
            (false, self.links(slot, 0).to_vec()),
            (true, links.iter().copied().map(pack).collect::<Vec<u32>>()),
        ] {
            for target in packed.iter().filter_map(|&link| graph.live_slot(link)) {
                let degree = &mut self.in_degree[target];
                *degree = match (sign, *degree) {
                    // Past it the number is not known.
                    (_, u8::MAX) => u8::MAX,
                    (true, degree) => degree + 1,
                    (false, degree) => degree.saturating_sub(1),
                };
            }
            if sign {
                self.changed.insert(slot, packed);
            }
        }
        if self.is_reached(slot) {
            self.spread(VecDeque::from([slot]), 0, &mut Pulse::new(source))?;
        }
        Ok(())
    }

    /// Whether following every link anew reaches whatever the tree reaches.
    pub(super) fn keeps_its_reach(&self, source: &mut dyn PageSource) -> Result<bool, ReadError> {
        let mut again = Self {
            survey: self.survey,
            changed: self.changed.clone(),
            reached: Bitmap::new(self.parent.len()),
            parent: vec![NO_PARENT; self.parent.len()],
            in_degree: Vec::new(),
        };
        again.grow(source)?;
        Ok(self.reached.iter().all(|slot| again.reached.contains(slot)))
    }
}

impl Walked for Draft<'_> {
    fn survey(&self) -> &Survey {
        self.survey
    }

    fn targets(&self, slot: usize, layer: u8) -> Vec<usize> {
        let graph = &self.survey.graph;
        let on_layer = |target: &usize| layer == 0 || graph.level(*target) >= layer;
        let links = self.links(slot, layer).iter();
        links
            .filter_map(|&link| graph.live_slot(link))
            .filter(on_layer)
            .collect()
    }
}
