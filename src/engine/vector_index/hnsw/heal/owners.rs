//! The elements whose links on the ground layer will change, and the edits that change them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::edit::{Change, Edit, Judged};
use super::survey::Survey;
use super::values::Values;
use crate::vector_index::hnsw::slots::unpack;
use crate::vector_index::page::Tid;

/// An element whose links change.
#[derive(Debug)]
struct Owner {
    of: Judged,
    tuple: Tid,
    /// The links it will have.
    links: Vec<Tid>,
    /// How many of them it has already.
    before: usize,
    /// Slots that get another link: what they lead to, and what they shall.
    replaced: Vec<(u16, Judged, Judged)>,
    appended: Vec<Judged>,
}

/// All of them, by slot.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owners: HashMap<usize, Owner>,
    /// Blocks that are written to.
    written: HashSet<u32>,
    /// Links planned so far.
    pub(super) count: usize,
}

impl Owners {
    /// The links on the ground layer that an element has or will have; none where they cannot be
    /// changed: its tuples were not seen, or they are sick.
    pub(super) fn links(
        &mut self,
        survey: &Survey,
        values: &Values,
        slot: usize,
    ) -> Option<&[Tid]> {
        let owner = match self.owners.entry(slot) {
            Entry::Occupied(owner) => owner.into_mut(),
            Entry::Vacant(place) => {
                let links = survey.graph.links(slot, 0).iter();
                let links: Vec<Tid> = links.map(|&link| unpack(link)).collect();
                place.insert(Owner {
                    of: survey
                        .judged(slot)
                        .filter(|_| survey.has_sound_links(slot))?,
                    tuple: values.tuple(slot)?,
                    before: links.len(),
                    links,
                    replaced: Vec::new(),
                    appended: Vec::new(),
                })
            }
        };
        Some(&owner.links)
    }

    /// Whether a slot of an element has a link that is there already.
    pub(super) fn is_old(&self, slot: usize, nth: usize) -> bool {
        let is_old = |owner: &Owner| {
            let is_new = |(replaced, ..): &(u16, Judged, Judged)| usize::from(*replaced) == nth;
            nth < owner.before && !owner.replaced.iter().any(is_new)
        };
        self.owners.get(&slot).is_some_and(is_old)
    }

    /// Plans more links after those that an element has. Returns all it will have.
    pub(super) fn append(&mut self, slot: usize, to: &[Judged]) -> &[Tid] {
        let Some(owner) = self.owners.get_mut(&slot) else {
            return &[];
        };
        owner.links.extend(to.iter().map(|to| to.at));
        owner.appended.extend_from_slice(to);
        self.written.insert(owner.tuple.block);
        self.count += to.len();
        &owner.links
    }

    /// Plans a link in the place of one that is there. Returns all the element will have.
    pub(super) fn replace(&mut self, slot: usize, nth: usize, was: Judged, to: Judged) -> &[Tid] {
        let Some(owner) = self.owners.get_mut(&slot) else {
            return &[];
        };
        owner.links[nth] = to.at;
        owner.replaced.push((nth as u16, was, to));
        self.written.insert(owner.tuple.block);
        self.count += 1;
        &owner.links
    }

    /// Whether a page is written to anyway.
    pub(super) fn writes_to(&self, block: u32) -> bool {
        self.written.contains(&block)
    }

    /// The edits, page by page.
    pub(super) fn into_edits(self) -> Vec<Edit> {
        let mut owners: Vec<Owner> = self.owners.into_values().collect();
        owners.sort_by_key(|owner| (owner.tuple, owner.of.at));
        owners.into_iter().flat_map(Owner::edits).collect()
    }
}

impl Owner {
    fn edits(self) -> impl Iterator<Item = Edit> {
        let (of, tuple) = (self.of, self.tuple);
        let replaced = self.replaced.into_iter();
        let replaced = replaced.map(|(slot, was, to)| Change::Replace { slot, was, to });
        let appended = (!self.appended.is_empty()).then_some(Change::Append {
            slot: self.before as u16,
            to: self.appended,
        });
        replaced.chain(appended).map(move |change| Edit::Links {
            of,
            tuple,
            layer: 0,
            change,
        })
    }
}
