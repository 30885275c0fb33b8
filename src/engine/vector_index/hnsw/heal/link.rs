//! The third rung: what no search can reach, or find, gets links to it.
//!
//! For each such element a search for its own value tells the reached elements near it. One of
//! them gets a link to it: into a free slot, else in place of a link whose other end is reached
//! without it, has links enough, and is nearer to another that stays (Malkov and Yashunin's
//! criterion for a link that need not be kept). Elements without links of their own get some.
//! No link of the tree is cut (see `draft`). Cost: a search in memory for each element, the page
//! of each value, one page written for each link.

use std::collections::{HashMap, HashSet};

use super::PAGE_MS;
use super::draft::Draft;
use super::edit::{Change, Edit};
use super::search::{Near, Search};
use super::seen::Seen;
use super::sources::sources_first;
use super::survey::Survey;
use super::values::Values;
use crate::recall::exact::distance::Operand;
use crate::vector_index::hnsw::HnswFigures;
use crate::vector_index::hnsw::slots::pack;
use crate::vector_index::page::Tid;
use crate::vector_index::shape::IndexShape;
use crate::vector_index::{HeapTid, PageSource, ReadError};

/// How wide the searches are: what they find, pgvector finds at its default `hnsw.ef_search`.
pub(super) const WIDTH: usize = 40;
/// Elements near an orphan that may get the link. Among them those on pages that are written to
/// anyway go first: a page costs the log 8 kB when it is first written to after a checkpoint.
const NEAR: usize = 12;
/// Links to an element below which none of them is replaced by another.
const MIN_IN_DEGREE: u8 = 3;
/// Times an element is looked for again and given one more link.
const MAX_TRIES: usize = 3;
/// Rows of orphans kept to search for them afterwards.
const PATIENTS: usize = 256;
/// Searches after which the source may end it.
const PULSE: usize = 64;

/// Time of a search in memory and of planning a link, and of making an edit, in milliseconds, as
/// measured on 100,000 × 128 with m = 16.
const SEARCH_MS: f64 = 0.15;
pub(super) const WRITE_MS: f64 = 0.05;

/// What it is expected to take, in milliseconds: each orphan is searched for twice, and the pages of
/// what searches come to are read once.
pub(super) fn cost_ms(figures: &HnswFigures) -> f64 {
    let orphans = figures.orphans_with_rows as f64;
    let pages = (figures.pages as f64).min(orphans * MET_BY_A_SEARCH);
    pages * PAGE_MS + orphans * (2.0 * SEARCH_MS + WRITE_MS)
}

/// Pages that a search comes to, about as many as elements.
const MET_BY_A_SEARCH: f64 = 600.0;

/// What is to be done, and for whom.
#[derive(Debug, Default)]
pub(super) struct Linked {
    pub(super) edits: Vec<Edit>,
    /// Elements that nothing could be given a link to.
    pub(super) left: u64,
    /// Rows of some of the elements that no search could reach.
    pub(super) patients: Vec<HeapTid>,
}

/// Bytes it takes for so many slots, what is planned aside.
pub(super) fn bytes_for(slots: usize) -> usize {
    Draft::bytes_for(slots) + Values::bytes_for(slots) + Search::bytes_for(slots)
}

/// Links every orphan, with `most` edits at most.
pub(super) fn plan(
    survey: &Survey,
    shape: &IndexShape,
    source: &mut dyn PageSource,
    most: usize,
) -> Result<Linked, ReadError> {
    let orphans: Vec<usize> = survey.orphans().collect();
    if orphans.is_empty() || survey.entry().is_none() {
        return Ok(Linked {
            left: orphans.len() as u64,
            ..Linked::default()
        });
    }
    let slots = survey.graph.slots.count();
    let mut linker = Linker {
        draft: Draft::new(survey, source)?,
        values: Values::new(shape, slots, survey.room),
        search: Search::new(slots),
        source,
        owners: HashMap::new(),
        written: HashSet::new(),
        linked: Linked::default(),
        most,
    };
    let every = orphans.len().div_ceil(PATIENTS);
    for &orphan in orphans.iter().step_by(every) {
        let seen = linker.seen(orphan)?;
        linker
            .linked
            .patients
            .extend(seen.and_then(|seen| seen.row));
    }
    let mut order = sources_first(&linker.draft, &orphans);
    for _ in 0..MAX_TRIES {
        let mut given = Vec::new();
        for (nth, &orphan) in order.iter().enumerate() {
            if nth % PULSE == 0 {
                linker.source.block_count()?;
            }
            if linker.linked.edits.len() < linker.most && linker.give_link(orphan)? {
                given.push(orphan);
            }
        }
        order = given;
        if order.is_empty() {
            break;
        }
    }
    let draft = &linker.draft;
    let left = orphans.iter().filter(|&&orphan| !draft.is_reached(orphan));
    linker.linked.left = left.count() as u64;
    // The tree says so; followed anew the links must say the same.
    if !linker.draft.keeps_its_reach(linker.source)? {
        linker.linked.edits.clear();
        linker.linked.left = orphans.len() as u64;
    }
    Ok(linker.linked)
}

struct Linker<'a> {
    draft: Draft<'a>,
    values: Values,
    search: Search,
    source: &'a mut dyn PageSource,
    /// Elements whose links change: as they were read, none where they cannot be changed, and
    /// the links they will have on the ground layer.
    owners: HashMap<usize, Option<(Seen, Vec<Tid>)>>,
    /// Blocks that are written to.
    written: HashSet<u32>,
    linked: Linked,
    most: usize,
}

impl Linker<'_> {
    /// Sees to it that a search for an element's own value finds it. Tells whether it got a link.
    fn give_link(&mut self, orphan: usize) -> Result<bool, ReadError> {
        let graph = &self.draft.survey.graph;
        self.values.fetch(self.source, graph, &[orphan])?;
        let Some(value) = self.values.get(orphan).cloned() else {
            return Ok(false);
        };
        let near =
            self.search
                .nearest(&self.draft, &mut self.values, self.source, &value, WIDTH)?;
        if near.iter().any(|near| near.slot == orphan) {
            return Ok(false);
        }
        self.values.fetch(self.source, graph, &[orphan])?;
        let own = self.values.rank(&value, orphan);
        let all_as_near = near.len() >= WIDTH && near.iter().all(|near| near.rank <= own);
        if all_as_near && self.draft.is_reached(orphan) {
            return Ok(false);
        }
        let near: Vec<Near> = near
            .into_iter()
            .filter(|near| near.slot != orphan && graph.rows.contains(near.slot))
            .collect();
        self.fill(orphan, &near)?;
        Ok(self.link_from_free_slot(orphan, &near)? || self.link_for_another(orphan, &near)?)
    }

    /// An element's tuples, if they are there as in the survey.
    fn seen(&mut self, slot: usize) -> Result<Option<Seen>, ReadError> {
        let survey = self.draft.survey;
        let Some(judged) = survey.judged(slot) else {
            return Ok(None);
        };
        let seen = Seen::at(self.source, judged.at, survey.meta.m)?;
        Ok(seen.filter(|seen| seen.judged == judged))
    }

    /// The links on the ground layer that an element has or will have, if they can be changed.
    fn owner(&mut self, slot: usize) -> Result<Option<&mut (Seen, Vec<Tid>)>, ReadError> {
        if !self.owners.contains_key(&slot) {
            let seen = self.seen(slot)?;
            let owner = seen.and_then(|seen| {
                let links = seen.links(0);
                let mut now: Vec<u32> = links.iter().copied().map(pack).collect();
                let mut known = self.draft.links(slot, 0).to_vec();
                (now.sort_unstable(), known.sort_unstable());
                let compact = seen.layer(0).iter().flatten().count() == links.len();
                (now == known && compact).then_some((seen, links))
            });
            self.owners.insert(slot, owner);
        }
        Ok(self.owners.get_mut(&slot).and_then(Option::as_mut))
    }

    /// Gives an element that has fewer than half of its links on the ground layer some more.
    fn fill(&mut self, orphan: usize, near: &[Near]) -> Result<(), ReadError> {
        let m = usize::from(self.draft.survey.meta.m);
        if self.draft.links(orphan, 0).len() >= m {
            return Ok(());
        }
        let Some((_, links)) = self.owner(orphan)? else {
            return Ok(());
        };
        let after = links.clone();
        let linked: HashSet<u32> = after.iter().copied().map(pack).collect();
        let chosen = self.diverse(near, m - after.len().min(m), &linked)?;
        let survey = self.draft.survey;
        let to: Vec<_> = chosen
            .into_iter()
            .filter_map(|slot| survey.judged(slot))
            .collect();
        if to.is_empty() {
            return Ok(());
        }
        let added: Vec<Tid> = to.iter().map(|to| to.at).collect();
        let links = [after.clone(), added].concat();
        self.change(orphan, links, Change::Append { after, to })
    }

    /// Of the elements near another, at most `most` that are nearer to it than to each other, and
    /// then the nearest of the rest.
    fn diverse(
        &mut self,
        near: &[Near],
        most: usize,
        linked: &HashSet<u32>,
    ) -> Result<Vec<usize>, ReadError> {
        let graph = &self.draft.survey.graph;
        let slots: Vec<usize> = near.iter().map(|near| near.slot).collect();
        self.values.fetch(self.source, graph, &slots)?;
        let (mut chosen, mut rest) = (Vec::new(), Vec::new());
        for candidate in near {
            let place = graph.slots.place(candidate.slot);
            if place.is_none_or(|place| linked.contains(&pack(place))) {
                continue;
            }
            let Some(value) = self.values.get(candidate.slot) else {
                continue;
            };
            let apart = |other: &usize| self.values.rank(value, *other) > candidate.rank;
            match chosen.len() < most && chosen.iter().all(apart) {
                true => chosen.push(candidate.slot),
                false => rest.push(candidate.slot),
            }
        }
        chosen.extend(rest);
        chosen.truncate(most);
        Ok(chosen)
    }

    /// Has an element with a free slot link to the orphan.
    fn link_from_free_slot(&mut self, orphan: usize, near: &[Near]) -> Result<bool, ReadError> {
        let room = 2 * usize::from(self.draft.survey.meta.m);
        let mut nearest: Vec<usize> = near
            .iter()
            .map(|near| near.slot)
            .filter(|&slot| self.draft.links(slot, 0).len() < room)
            .take(NEAR)
            .collect();
        let graph = &self.draft.survey.graph;
        let is_written = |slot: &usize| {
            let place = graph.slots.place(*slot);
            place.is_some_and(|place| self.written.contains(&place.block))
        };
        nearest.sort_by_key(|slot| !is_written(slot));
        let Some(to) = self.draft.survey.judged(orphan) else {
            return Ok(false);
        };
        for slot in nearest {
            let Some((_, links)) = self.owner(slot)? else {
                continue;
            };
            if links.len() >= room || links.contains(&to.at) {
                continue;
            }
            let mut links = links.clone();
            let put = Change::Put {
                slot: links.len() as u16,
                was: None,
                to,
            };
            links.push(to.at);
            self.change(slot, links, put)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Has an element link to the orphan instead of another: the farthest that can be spared.
    fn link_for_another(&mut self, orphan: usize, near: &[Near]) -> Result<bool, ReadError> {
        let survey = self.draft.survey;
        let Some(to) = survey.judged(orphan) else {
            return Ok(false);
        };
        for candidate in near {
            let Some((_, links)) = self.owner(candidate.slot)? else {
                continue;
            };
            let mut links = links.clone();
            if links.contains(&to.at) {
                continue;
            }
            let Some((nth, was)) = self.spare(candidate.slot, &links)? else {
                continue;
            };
            links[nth] = to.at;
            let put = Change::Put {
                slot: nth as u16,
                was: Some(was),
                to,
            };
            self.change(candidate.slot, links, put)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// The farthest link of an element that it need not keep, if there is one.
    fn spare(
        &mut self,
        owner: usize,
        links: &[Tid],
    ) -> Result<Option<(usize, super::edit::Judged)>, ReadError> {
        let survey = self.draft.survey;
        let graph = &survey.graph;
        let slots: Vec<Option<usize>> = links.iter().map(|link| graph.find(*link)).collect();
        let mut wanted: Vec<usize> = slots.iter().flatten().copied().collect();
        wanted.push(owner);
        self.values.fetch(self.source, graph, &wanted)?;
        let Some(value) = self.values.get(owner) else {
            return Ok(None);
        };
        let enough = MIN_IN_DEGREE.max((survey.meta.m / 4) as u8);
        let mut spare: Vec<(f64, usize, usize)> = (0..)
            .zip(&slots)
            .filter_map(|(nth, slot)| Some((nth, (*slot)?)))
            .filter(|&(_, slot)| !self.draft.is_branch(owner, slot))
            .filter(|&(_, slot)| self.draft.in_degree(slot) >= enough)
            .map(|(nth, slot)| (self.values.rank(value, slot), nth, slot))
            .collect();
        spare.sort_by(|a, b| b.0.total_cmp(&a.0));
        let is_occluded = |&(rank, nth, slot): &(f64, usize, usize)| {
            let Some(other) = self.values.get(slot) else {
                return true;
            };
            let by = |(at, by): (usize, &Option<usize>)| {
                at != nth && by.is_some_and(|by| self.rank(other, by) <= rank)
            };
            slots.iter().enumerate().any(by)
        };
        let found = spare.into_iter().find(is_occluded);
        Ok(found.and_then(|(_, nth, slot)| Some((nth, survey.judged(slot)?))))
    }

    fn rank(&self, from: &Operand, slot: usize) -> f64 {
        self.values.rank(from, slot)
    }

    /// Plans a change to the links of an element on the ground layer.
    fn change(&mut self, slot: usize, links: Vec<Tid>, change: Change) -> Result<(), ReadError> {
        self.draft.set_links(slot, &links, self.source)?;
        if let Some(Some((seen, now))) = self.owners.get_mut(&slot) {
            *now = links;
            self.written.insert(seen.tuple.block);
            self.linked.edits.push(Edit::Links {
                of: seen.judged,
                tuple: seen.tuple,
                layer: 0,
                change,
            });
        }
        Ok(())
    }
}
