//! Links where most of what searches come to has no rows.
//!
//! Elements that a vacuum has emptied and not deleted yet are led through and not linked to. Where
//! vacuums fail again and again, as on a damaged graph, they may be nearly all there are: an insert
//! finds nobody to link to then, and a search for an orphan nobody who could link to it.

use super::{Linker, WIDTH};
use crate::vector_index::ReadError;
use crate::vector_index::hnsw::heal::search::Near;
use crate::vector_index::hnsw::heal::survey::Survey;

/// How wide searches are where too few of what is found has rows.
const PAST_ROWLESS: usize = 10 * WIDTH;
/// Elements looked at in all where searches find none with rows.
pub(super) const MAX_LOOKS: usize = 20_000_000;
/// Elements looked at together: their values fit into memory.
const AT_ONCE: usize = 4096;

/// Elements with rows and without links on the ground layer that searches reach all the same.
pub(super) fn lonely(survey: &Survey) -> impl Iterator<Item = usize> + '_ {
    let graph = &survey.graph;
    graph.live.iter().filter(move |&slot| {
        graph.rows.contains(slot)
            && graph.counted.contains(slot)
            && !survey.missed.contains(slot)
            && graph.links(slot, 0).is_empty()
    })
}

impl Linker<'_> {
    /// The others with rows among what a search for an element has found; where these are too few
    /// those that a wider one finds, and where that finds none the nearest of all.
    pub(super) fn others_with_rows(
        &mut self,
        slot: usize,
        found: Vec<Near>,
    ) -> Result<Vec<Near>, ReadError> {
        let graph = &self.draft.survey.graph;
        let is_other = |near: &Near| near.slot != slot && graph.rows.contains(near.slot);
        let mut others: Vec<Near> = found.into_iter().filter(is_other).collect();
        if others.len() < usize::from(self.draft.survey.meta.m) {
            let wide = self.search_for(slot, PAST_ROWLESS)?;
            others = wide.into_iter().flatten().filter(is_other).collect();
            if others.is_empty() {
                others = self.nearest_of_all(slot)?;
            }
            others.truncate(WIDTH);
        }
        Ok(others)
    }

    /// Gives an element without links on the ground layer some.
    pub(super) fn complete(&mut self, slot: usize) -> Result<(), ReadError> {
        let Some(found) = self.search_for(slot, WIDTH)? else {
            return Ok(());
        };
        let others = self.others_with_rows(slot, found)?;
        self.fill(slot, &others)
    }

    /// The nearest others with rows that can be reached, as long as there was not too much to be
    /// looked at.
    fn nearest_of_all(&mut self, slot: usize) -> Result<Vec<Near>, ReadError> {
        let survey = self.draft.survey;
        let graph = &survey.graph;
        let mut nearest: Vec<Near> = Vec::new();
        let Some(value) = self.values.get(slot).cloned() else {
            return Ok(nearest);
        };
        let draft = &self.draft;
        let others: Vec<usize> = graph
            .rows
            .iter()
            .filter(|&other| other != slot && graph.live.contains(other) && draft.is_reached(other))
            .collect();
        let Some(left) = self.looks.checked_sub(others.len()) else {
            return Ok(nearest);
        };
        self.looks = left;
        for others in others.chunks(AT_ONCE) {
            self.values.fetch(self.source, graph, others)?;
            let near = others.iter().map(|&slot| Near {
                rank: self.values.rank(&value, slot),
                slot,
            });
            nearest.extend(near.filter(|near| near.rank.is_finite()));
            nearest.sort_unstable();
            nearest.truncate(WIDTH);
        }
        Ok(nearest)
    }
}
