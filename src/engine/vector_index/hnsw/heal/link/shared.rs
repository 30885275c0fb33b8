//! Links to many orphans from few pages.
//!
//! A page costs the log 8 kB when it is first written to after a checkpoint, and the disk a write
//! at some time, however many links on it change. Most orphans have dozens of elements near them
//! and need but a few links, so of the pages with these those go first that serve the most orphans.

use std::collections::HashSet;

use super::cover::{Want, shared_pages};
use super::{Linker, WIDTH};
use crate::vector_index::ReadError;
use crate::vector_index::hnsw::heal::search::{Near, Walked};

/// Times that pages are chosen: what had no room for a link, or none to spare, is not asked again.
const MAX_CHOICES: usize = 4;
/// Bytes that an orphan takes meanwhile, for each link that there may be to it or from it.
const BYTES_PER_LINK: usize = 32;

/// An element that nothing leads to.
struct Forsaken {
    orphan: usize,
    /// Those near it that may lead to it and were not asked yet, nearest first.
    owners: Vec<usize>,
}

/// Bytes that an orphan takes meanwhile, with so many links of an element on the ground layer.
pub(super) fn bytes_per_orphan(links: usize) -> usize {
    (WIDTH + links) * BYTES_PER_LINK
}

/// Whether choosing pages leaves many of them unwritten: where an orphan gets a single link its
/// nearness matters more, and with two links a page nearly every page is written to anyway.
pub(super) fn is_worth_it(orphans: usize, links: u16, pages: u32) -> bool {
    links > 1 && orphans * usize::from(links) <= 2 * pages as usize
}

impl Linker<'_> {
    /// Gives links to orphans that nothing leads to, from pages that serve several of them. What is
    /// near to them is kept for what they still lack.
    pub(super) fn link_from_shared_pages(&mut self, orphans: &[usize]) -> Result<(), ReadError> {
        let mut forsaken = Vec::new();
        for (at, &orphan) in orphans.iter().enumerate() {
            self.pulse(at)?;
            if self.draft.in_degree(orphan) > 0 {
                continue;
            }
            let Some(near) = self.search_for(orphan, WIDTH)? else {
                continue;
            };
            let owners = self.owners_near(orphan, &near);
            self.near.insert(orphan, near);
            forsaken.push(Forsaken { orphan, owners });
        }
        for _ in 0..MAX_CHOICES {
            let wants = forsaken.iter().map(|forsaken| Want {
                open: self.lacks(forsaken.orphan),
                pages: forsaken
                    .owners
                    .iter()
                    .filter_map(|&owner| self.page(owner))
                    .collect(),
            });
            let pages = shared_pages(wants.collect());
            if pages.is_empty() {
                break;
            }
            for (at, forsaken) in forsaken.iter_mut().enumerate() {
                self.pulse(at)?;
                let owners = std::mem::take(&mut forsaken.owners);
                let (asked, others): (Vec<usize>, _) = owners
                    .into_iter()
                    .partition(|&owner| self.page(owner).is_some_and(|page| pages.contains(&page)));
                forsaken.owners = others;
                self.link_from(&asked, forsaken.orphan)?;
            }
        }
        Ok(())
    }

    /// Has elements link to an orphan until enough do: first those with free slots.
    fn link_from(&mut self, owners: &[usize], orphan: usize) -> Result<(), ReadError> {
        let Some(to) = self.draft.survey.judged(orphan) else {
            return Ok(());
        };
        let graph = &self.draft.survey.graph;
        self.values.fetch(self.source, graph, owners)?;
        for put in [Self::put_into_free_slot, Self::put_for_another] {
            for &owner in owners {
                if self.lacks(orphan) == 0 || self.owners.count >= self.most {
                    return Ok(());
                }
                put(self, owner, to)?;
            }
        }
        Ok(())
    }

    /// The elements that may lead to an orphan: those near it, and those that it leads to.
    fn owners_near(&self, orphan: usize, near: &[Near]) -> Vec<usize> {
        let around = self.draft.targets(orphan, 0);
        let nearest = near.iter().map(|near| near.slot);
        let mut seen = HashSet::from([orphan]);
        let is_one =
            |slot: &usize| self.draft.survey.graph.rows.contains(*slot) && seen.insert(*slot);
        nearest.chain(around).filter(is_one).collect()
    }

    /// Links that an orphan lacks.
    fn lacks(&self, orphan: usize) -> u16 {
        self.enough
            .saturating_sub(self.draft.in_degree(orphan).into())
    }
}
