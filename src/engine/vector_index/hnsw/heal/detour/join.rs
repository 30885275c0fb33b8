//! An element finds its neighbours anew, as when it was inserted, and they find it.

use super::crowd::Crowd;
use super::lists::{Lists, SLACK};
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::hnsw::heal::search::{Near, Search};
use crate::vector_index::hnsw::heal::survey::Survey;
use crate::vector_index::hnsw::heal::values::{Values, diverse};
use crate::vector_index::{PageSource, ReadError};

/// A graph in which elements are joined to their neighbours.
pub(super) struct Joiner<'a> {
    pub(super) survey: &'a Survey,
    pub(super) crowd: &'a Crowd,
    pub(super) lists: Lists<'a>,
    /// Elements that find their neighbours anew.
    pub(super) concerned: Bitmap,
    pub(super) values: Values,
    pub(super) search: Search,
    pub(super) source: &'a mut dyn PageSource,
}

impl Joiner<'_> {
    /// Gives an element the links that pgvector would: a search for its value on each of its
    /// layers finds the candidates, besides those it has. Those with room for it link back.
    pub(super) fn join(&mut self, slot: usize) -> Result<(), ReadError> {
        let survey = self.survey;
        let graph = &survey.graph;
        self.values.fetch(self.source, graph, &[slot])?;
        let Some(value) = self.values.get(slot).cloned() else {
            return Ok(());
        };
        let (level, width) = (graph.level(slot), usize::from(survey.meta.ef_construction));
        let found = self.search.by_layer(
            &self.lists,
            &mut self.values,
            self.source,
            &value,
            width,
            level,
        )?;
        for (layer, mut near) in (0..=level).rev().zip(found) {
            let links = self.lists.links(slot, layer).iter();
            let links: Vec<usize> = links.map(|&link| link as usize).collect();
            self.values.fetch(self.source, graph, &links)?;
            near.extend(links.into_iter().map(|slot| Near {
                rank: self.values.rank(&value, slot),
                slot,
            }));
            near.retain(|near| {
                near.slot != slot
                    && graph.rows.contains(near.slot)
                    && !self.crowd.contains(near.slot)
            });
            let kept = self.choose(slot, layer, near)?;
            if graph.rows.contains(slot) {
                for to in kept {
                    self.link_back(to as usize, layer, slot)?;
                }
            }
        }
        Ok(())
    }

    /// Has an element keep the best of these links on a layer; what it keeps.
    fn choose(
        &mut self,
        slot: usize,
        layer: u8,
        mut near: Vec<Near>,
    ) -> Result<Vec<u32>, ReadError> {
        let front = self.front_of(slot, layer);
        near.sort_unstable();
        near.dedup_by_key(|near| near.slot);
        let slots: Vec<usize> = near.iter().map(|near| near.slot).collect();
        self.values.fetch(self.source, &self.survey.graph, &slots)?;
        let room = self.lists.room(layer) - usize::from(layer == 0);
        let chosen = diverse(&near, &[], room, |near, others| {
            self.values.is_nearer(near, others)
        });
        let mut kept: Vec<u32> = chosen.into_iter().map(|slot| slot as u32).collect();
        let ordinary = kept.clone();
        kept.extend(front);
        self.lists.set(slot, layer, kept);
        Ok(ordinary)
    }

    /// The link of an element to the front of the crowd, if it has one on this layer.
    fn front_of(&self, slot: usize, layer: u8) -> Option<u32> {
        let mut links = self.lists.links(slot, layer).iter();
        links.find(|&&to| self.crowd.is_front(to as usize)).copied()
    }

    /// Has an element link to another on a layer. Where it has more links than it may, the best
    /// are kept; one that is not concerned itself is left alone then, if enough others link there.
    fn link_back(&mut self, slot: usize, layer: u8, to: usize) -> Result<(), ReadError> {
        let is_full = self.lists.links(slot, layer).len() >= self.lists.room(layer);
        let is_spared = is_full
            && !self.concerned.contains(slot)
            && self.lists.in_degree(to) >= self.survey.meta.m / 2;
        if is_spared || !self.survey.has_sound_links(slot) {
            return Ok(());
        }
        let count = self.lists.push(slot, layer, to);
        match count > self.lists.room(layer) + SLACK {
            true => self.thin(slot, layer),
            false => Ok(()),
        }
    }

    /// Takes the worst links of an overfull list out.
    pub(super) fn thin(&mut self, slot: usize, layer: u8) -> Result<(), ReadError> {
        let links = self.lists.links(slot, layer).iter();
        let mut links: Vec<usize> = links.map(|&link| link as usize).collect();
        if links.len() < self.lists.room(layer) {
            return Ok(());
        }
        links.retain(|&link| !self.crowd.contains(link));
        let mut wanted = links.clone();
        wanted.push(slot);
        self.values
            .fetch(self.source, &self.survey.graph, &wanted)?;
        let Some(value) = self.values.get(slot) else {
            return Ok(());
        };
        let near = links.into_iter().map(|link| Near {
            rank: self.values.rank(value, link),
            slot: link,
        });
        let near = near.collect();
        self.choose(slot, layer, near).map(drop)
    }
}
