//! Links past what the next vacuum deletes: whoever links to such an element is given some of what
//! that linked to, so that the vacuum finds nothing to search for.
//!
//! pgvector's vacuum searches the graph anew for each element that has a link to a deleted one,
//! or room for another on the ground layer: per element what it took to build it in, and more. What
//! an element lost can be found two links away (Singh et al., FreshDiskANN, 2021, algorithm 4),
//! and what is nearest of that and not behind another link is chosen as pgvector chooses
//! (Malkov and Yashunin, 2018, algorithm 4). No link to an element that stays is taken out.
//!
//! Cost: every value is read once and each page with links written once; for an element up to
//! [`MAX_MET`] comparisons of codes, and some 250 between those that are nearest. Memory: a byte a component more than
//! the values.

use super::PAGE_MS;
use super::codes::Codes;
use super::doomed::{Doomed, Graveyard};
use super::edit::{Change, Edit, Judged};
use super::met::Met;
use super::search::Near;
use super::survey::Survey;
use super::values::{Values, diverse};
use crate::vector_index::hnsw::HnswFigures;
use crate::vector_index::hnsw::slots::unpack;
use crate::vector_index::page::Tid;
use crate::vector_index::shape::IndexShape;
use crate::vector_index::{PageSource, ReadError};

/// Elements that may get a link, for each that is missing, and at least.
const POOL_PER_LINK: usize = 2;
const MIN_POOL: usize = 32;
/// Elements met on the way to them, about, at most. By more nothing is found that is better: recall
/// stays the same up to 1,024, as measured on 50,000 × 128 half of which were churned.
const MAX_MET: usize = 192;
/// Elements that are planned for between two looks at whether to go on.
const RUN: usize = 256;

/// Time to plan for an element and to write its links, without and for each dimension, in
/// milliseconds, as measured on 50,000 × 128 with m = 16 (see `benches/decay.rs`).
const ELEMENT_MS: f64 = 0.02;
const ELEMENT_MS_PER_DIMENSION: f64 = 0.000_1;

/// What it is expected to take with so many bytes of memory for values, in milliseconds: where they
/// do not fit, each element's pool is read from as many pages.
pub fn cost_ms(figures: &HnswFigures, room: u64) -> f64 {
    let live = figures.live_elements as f64;
    let dimensions = f64::from(figures.dimensions);
    let each = ELEMENT_MS + ELEMENT_MS_PER_DIMENSION * dimensions;
    let reads = match live * (dimensions * 4.0 + 64.0) > room as f64 {
        true => live * f64::from(figures.m) * 4.0,
        false => figures.pages as f64,
    };
    live * each + reads * PAGE_MS
}

/// An index whose links are led past what is doomed, run by run in file order.
pub struct Relinking<'a> {
    survey: &'a Survey,
    doomed: Doomed,
    values: Values,
    /// Where all values are kept, and there is room for them.
    codes: Option<Codes>,
    met: Met,
    next: usize,
}

impl Survey {
    /// Prepares links past the elements that `table` has no living row of. None where there is
    /// not enough memory.
    pub fn relink(
        &self,
        shape: &IndexShape,
        source: &mut dyn PageSource,
        table: &mut dyn Graveyard,
    ) -> Result<Option<Relinking<'_>>, ReadError> {
        let slots = self.graph.slots.count();
        let Some((doomed, room)) = Doomed::find(self, source, table, self.room)? else {
            return Ok(None);
        };
        let mut values = Values::new(shape, slots, room);
        let live = self.graph.live.iter().count();
        let dimensions = self.meta.dimensions as usize;
        let all = values.fetch_all(source, &self.graph, live, dimensions)?;
        let has_room = Codes::bytes_for(live, dimensions) <= values.room();
        let codes = (all && has_room)
            .then(|| Codes::of(&values, shape.metric))
            .flatten();
        Ok(Some(Relinking {
            survey: self,
            doomed,
            values,
            codes,
            met: Met::new(slots),
            next: 0,
        }))
    }
}

impl Relinking<'_> {
    /// Elements that the next vacuum deletes.
    pub fn doomed(&self) -> u64 {
        self.doomed.elements.iter().count() as u64
    }

    /// How many rows they have, and how many all elements.
    pub fn rows(&self) -> (u64, u64) {
        let rows = |slot: usize| u64::from(self.doomed.rows[slot]);
        let all = self.doomed.rows.iter().map(|&rows| u64::from(rows));
        (self.doomed.elements.iter().map(rows).sum(), all.sum())
    }

    /// Slots of the graph dealt with, and how many there are.
    pub fn progress(&self) -> (u64, u64) {
        (self.next as u64, self.survey.graph.slots.count() as u64)
    }

    /// The edits for the next elements in the file, at least `most` if there are so many left;
    /// none once there is nothing left to do.
    pub fn next(
        &mut self,
        source: &mut dyn PageSource,
        most: usize,
    ) -> Result<Vec<Edit>, ReadError> {
        let (mut edits, slots) = (Vec::new(), self.survey.graph.slots.count());
        while self.next < slots && edits.len() < most {
            let end = slots.min(self.next + RUN);
            for slot in self.next..end {
                self.element(slot, source, &mut edits)?;
            }
            self.next = end;
            source.block_count()?;
        }
        Ok(edits)
    }

    /// Whether an element is there and stays.
    fn stays(&self, slot: usize) -> bool {
        self.survey.graph.live.contains(slot) && !self.doomed.elements.contains(slot)
    }

    /// Plans for an element, layer by layer.
    fn element(
        &mut self,
        slot: usize,
        source: &mut dyn PageSource,
        edits: &mut Vec<Edit>,
    ) -> Result<(), ReadError> {
        let survey = self.survey;
        if !self.stays(slot) || !survey.has_sound_links(slot) {
            return Ok(());
        }
        let Some(of) = survey.judged(slot) else {
            return Ok(());
        };
        for layer in 0..=of.level {
            let Some(change) = self.layer(slot, layer, source)? else {
                continue;
            };
            let Some(tuple) = self.values.tuple(slot) else {
                continue;
            };
            edits.push(Edit::Links {
                of,
                tuple,
                layer,
                change,
            });
        }
        Ok(())
    }

    /// What to change on a layer of an element.
    fn layer(
        &mut self,
        slot: usize,
        layer: u8,
        source: &mut dyn PageSource,
    ) -> Result<Option<Change>, ReadError> {
        let survey = self.survey;
        let graph = &survey.graph;
        let m = usize::from(survey.meta.m);
        let room = if layer == 0 { 2 * m } else { m };
        let links = graph.links(slot, layer);
        let mut out: Vec<(Tid, u8)> = Vec::new();
        let mut lost = Vec::new();
        let mut kept = Vec::with_capacity(room);
        for &link in links {
            let Some(target) = graph.live_slot(link) else {
                // Sick, or new since: not now.
                return Ok(None);
            };
            match self.doomed.elements.contains(target) {
                true => {
                    out.push((unpack(link), self.doomed.rows[target]));
                    lost.push(target);
                }
                false => kept.push(target),
            }
        }
        // A vacuum searches for whoever has room on the ground layer.
        let missing = room.saturating_sub(kept.len());
        if out.is_empty() && (layer > 0 || missing == 0) {
            return Ok(None);
        }
        let pool = self.pool(slot, layer, &kept, lost, missing);
        let new = self.choose(slot, &kept, pool, missing, source)?;
        if out.is_empty() && new.is_empty() {
            return Ok(None);
        }
        Ok(Some(Change::Relink {
            slots: links.len() as u16,
            out,
            new,
        }))
    }

    /// Elements that an element may be given links to: first those that what it lost links to,
    /// then those that what it keeps does.
    fn pool(
        &mut self,
        slot: usize,
        layer: u8,
        kept: &[usize],
        lost: Vec<usize>,
        missing: usize,
    ) -> Vec<usize> {
        let survey = self.survey;
        let graph = &survey.graph;
        self.met.begin();
        self.met.meet(slot);
        for &slot in kept.iter().chain(&lost) {
            self.met.meet(slot);
        }
        let wanted = (POOL_PER_LINK * missing).max(MIN_POOL);
        let is_on = |slot: usize| layer == 0 || graph.level(slot) >= layer;
        let mut pool: Vec<usize> = Vec::new();
        let losses = lost.len();
        let mut agenda = lost;
        let mut at = 0;
        while at < agenda.len() && (at < losses || pool.len() < wanted) && pool.len() < MAX_MET {
            let from = agenda[at];
            at += 1;
            for &link in graph.links(from, layer) {
                let Some(target) = graph.live_slot(link) else {
                    continue;
                };
                if !self.met.meet(target) {
                    continue;
                }
                if self.doomed.elements.contains(target) {
                    agenda.push(target);
                } else if is_on(target) && graph.rows.contains(target) {
                    pool.push(target);
                }
            }
        }
        for &from in kept {
            if pool.len() >= wanted {
                break;
            }
            for &link in graph.links(from, layer) {
                if let Some(target) = graph.live_slot(link)
                    && self.met.meet(target)
                    && self.stays(target)
                    && is_on(target)
                    && graph.rows.contains(target)
                {
                    pool.push(target);
                }
            }
        }
        pool
    }

    /// Of a pool those to link to: the nearest that are nearer to the element than to anything it
    /// links to, and then the nearest of the rest.
    fn choose(
        &mut self,
        slot: usize,
        kept: &[usize],
        pool: Vec<usize>,
        missing: usize,
        source: &mut dyn PageSource,
    ) -> Result<Vec<Judged>, ReadError> {
        let survey = self.survey;
        // Of all there are codes only where all values are kept.
        if self.codes.is_none() {
            let wanted = [&pool, kept, &[slot]].concat();
            self.values.fetch(source, &survey.graph, &wanted)?;
        }
        let mut near = Vec::with_capacity(pool.len());
        self.apart(slot, &pool, |nth, rank| {
            near.push(Near {
                rank,
                slot: pool[nth],
            });
            true
        });
        let most = (POOL_PER_LINK * missing).max(MIN_POOL);
        if near.len() > most {
            near.select_nth_unstable(most);
            near.truncate(most);
        }
        near.sort_unstable();
        let chosen = diverse(&near, kept, missing, |near, others| {
            self.apart(near.slot, others, |_, apart| apart > near.rank)
        });
        Ok(chosen
            .into_iter()
            .filter_map(|slot| survey.judged(slot))
            .collect())
    }

    /// Tells `each` of elements, by their number in the list, how far they are from one; see
    /// [`Codes::apart`]. Codes of all are near enough to the values, and nearer at hand.
    fn apart(
        &self,
        from: usize,
        others: &[usize],
        mut each: impl FnMut(usize, f64) -> bool,
    ) -> bool {
        if let Some(codes) = &self.codes {
            return codes.apart(&self.values, from, others, each);
        }
        let mut others = others.iter().enumerate();
        others.all(|(nth, &other)| each(nth, self.values.apart(from, other)))
    }
}
