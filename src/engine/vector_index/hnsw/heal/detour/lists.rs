//! The links of a graph while most of them change, without those to the elements that are to be
//! passed by.

use std::collections::HashMap;

use super::crowd::Crowd;
use crate::vector_index::agenda::Agenda;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::hnsw::heal::search::Walked;
use crate::vector_index::hnsw::heal::survey::Survey;
use crate::vector_index::hnsw::reach::Pulse;
use crate::vector_index::{PageSource, ReadError};

/// Links by element and layer, as slots.
pub(super) struct Lists<'a> {
    survey: &'a Survey,
    ground: Vec<Vec<u32>>,
    upper: HashMap<(u32, u8), Vec<u32>>,
    /// Elements that lost links to the crowd, and on some layer more than one.
    pub(super) touched: Bitmap,
    pub(super) bereft: Bitmap,
    /// Links to each element on the ground layer, up to 255.
    in_degree: Vec<u8>,
}

impl<'a> Lists<'a> {
    /// Bytes that so many elements with `m` links take.
    pub(super) fn bytes_per_element(m: u16) -> usize {
        let m = usize::from(m.max(2));
        // An element has a slot, and its neighbour tuple another. Lists may be overfull.
        let ground = 2 * (size_of::<Vec<u32>>() + 1) + 4 * (2 * m + SLACK) + 16;
        let upper = (2 * size_of::<((u32, u8), Vec<u32>)>() + 4 * (m + SLACK) + 16) / (m - 1);
        ground + upper
    }

    /// The links as they are, but for those from and to the crowd. An ordinary element keeps the
    /// first to the front of it on the ground layer; one whose links cannot be changed keeps all.
    pub(super) fn without(
        survey: &'a Survey,
        crowd: &Crowd,
        source: &mut dyn PageSource,
    ) -> Result<Self, ReadError> {
        let graph = &survey.graph;
        let count = graph.slots.count();
        let mut lists = Self {
            survey,
            ground: vec![Vec::new(); count],
            upper: HashMap::new(),
            touched: Bitmap::new(count),
            bereft: Bitmap::new(count),
            in_degree: vec![0; count],
        };
        let mut pulse = Pulse::new(source);
        for slot in graph.live.iter() {
            pulse.beat()?;
            let is_fixed = !survey.has_sound_links(slot);
            if crowd.contains(slot) && !is_fixed {
                continue;
            }
            for layer in 0..=graph.level(slot) {
                let links = graph.links(slot, layer).iter();
                let mut links: Vec<u32> = links
                    .filter_map(|&link| graph.live_slot(link))
                    .map(|target| target as u32)
                    .collect();
                let before = links.len();
                let mut front = usize::from(layer > 0);
                if !is_fixed {
                    links.retain(|&link| match crowd.contains(link as usize) {
                        true if crowd.is_front(link as usize) => {
                            front += 1;
                            front == 1
                        }
                        is_in => !is_in,
                    });
                }
                let lost = before - links.len();
                if lost > 0 {
                    lists.touched.insert(slot);
                }
                if lost > 1 {
                    lists.bereft.insert(slot);
                }
                if layer == 0 {
                    links.iter().for_each(|&link| lists.count(link as usize));
                }
                lists.set(slot, layer, links);
            }
        }
        Ok(lists)
    }

    fn count(&mut self, slot: usize) {
        self.in_degree[slot] = self.in_degree[slot].saturating_add(1);
    }

    /// Links to an element on the ground layer, up to 255; those that were taken out since are
    /// counted still.
    pub(super) fn in_degree(&self, slot: usize) -> u16 {
        u16::from(self.in_degree[slot])
    }

    /// The links of an element on a layer.
    pub(super) fn links(&self, slot: usize, layer: u8) -> &[u32] {
        match layer {
            0 => self.ground.get(slot).map_or(&[], Vec::as_slice),
            _ => self
                .upper
                .get(&(slot as u32, layer))
                .map_or(&[], Vec::as_slice),
        }
    }

    /// Gives an element these links on a layer.
    pub(super) fn set(&mut self, slot: usize, layer: u8, links: Vec<u32>) {
        match layer {
            0 => self.ground[slot] = links,
            _ => {
                self.upper.insert((slot as u32, layer), links);
            }
        }
    }

    /// Adds a link of an element on a layer, if it is not there; how many there are then.
    pub(super) fn push(&mut self, slot: usize, layer: u8, to: usize) -> usize {
        let links = match layer {
            0 => &mut self.ground[slot],
            _ => self.upper.entry((slot as u32, layer)).or_default(),
        };
        let is_new = !links.contains(&(to as u32));
        if is_new {
            links.push(to as u32);
        }
        let count = links.len();
        if is_new && layer == 0 {
            self.count(to);
        }
        count
    }

    /// How many links an element has room for on a layer.
    pub(super) fn room(&self, layer: u8) -> usize {
        let m = usize::from(self.survey.meta.m);
        if layer == 0 { 2 * m } else { m }
    }

    /// Live elements that searches along these links do not reach.
    pub(super) fn missed(&self, source: &mut dyn PageSource) -> Result<Bitmap, ReadError> {
        let graph = &self.survey.graph;
        let mut missed = graph.live.clone();
        let Some(entry) = self.survey.entry() else {
            return Ok(missed);
        };
        missed.remove(entry);
        let (mut starts, mut pulse) = (vec![entry], Pulse::new(source));
        let mut agenda = Agenda::new(graph.slots.count());
        for layer in (0..=graph.level(entry)).rev() {
            starts.iter().for_each(|&start| agenda.add(start));
            while let Some(slot) = agenda.next() {
                pulse.beat()?;
                for target in self.targets(slot, layer) {
                    if missed.remove(target) {
                        agenda.add(target);
                        if layer > 0 {
                            starts.push(target);
                        }
                    }
                }
            }
        }
        Ok(missed)
    }
}

/// Links by which a list may be overfull until the worst of them are taken out.
pub(super) const SLACK: usize = 8;

impl Walked for Lists<'_> {
    fn survey(&self) -> &Survey {
        self.survey
    }

    fn targets(&self, slot: usize, layer: u8) -> Vec<usize> {
        let graph = &self.survey.graph;
        let links = self.links(slot, layer).iter();
        links
            .map(|&target| target as usize)
            .filter(|&target| layer == 0 || graph.level(target) >= layer)
            .collect()
    }
}
