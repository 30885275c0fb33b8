//! The third rung: what no search can reach, or find, gets links to it.
//!
//! For each such element a search for its own value tells the reached elements near it. One of
//! them gets a link to it: into a free slot, else in place of a link whose other end is reached
//! without it, has links enough, and is nearer to another that stays (Malkov and Yashunin's
//! criterion for a link that need not be kept), or farther than it. Elements without links of their
//! own get some, reached or not. Where many orphans need many links each, few pages serve them (see
//! `shared`); where most elements have no rows they are linked past these (see `rowless`).
//! No link of the tree is cut (see `draft`). Cost: a search in memory for each element, the page
//! of each value, one page written for each link at most.

mod cover;
mod rowless;
mod shared;

use std::collections::{HashMap, HashSet};

use super::PAGE_MS;
use super::draft::Draft;
use super::edit::{Edit, Judged};
use super::owners::Owners;
use super::search::{Near, Search, Walked};
use super::seen::Seen;
use super::sources::sources_first;
use super::survey::Survey;
use super::values::{Values, diverse};
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
/// Share of the elements up to which one link to each orphan is enough: no more of the neighbours
/// of others is at stake. Of the searches for others a share of e^(−(n − 1) / 5) misses an orphan
/// that n elements link to, as measured on 100,000 × 128 with m = 16 and `hnsw.ef_search` = 40.
const FEW: f64 = 0.003;
const LINKS_TO_FIND: f64 = 8.0;
/// Elements near an orphan that give up a link for one more to it.
const SPARING: usize = 4;
/// Times that an orphan is searched for.
const MAX_TRIES: usize = 3;
/// Rows of orphans kept to search for them afterwards.
const PATIENTS: usize = 256;
/// Searches after which the source may end it.
const PULSE: usize = 64;

/// Time of looking at an element in a search, without and for each dimension, and of making an edit,
/// in milliseconds, as measured on 100,000 × 128 with m = 16.
const LOOK_MS: f64 = 0.000_06;
const LOOK_MS_PER_DIMENSION: f64 = 0.000_001;
pub(super) const WRITE_MS: f64 = 0.02;

/// What it is expected to take, in milliseconds: each orphan is searched for once or twice, and
/// the pages of what searches come to are read once.
pub(super) fn cost_ms(figures: &HnswFigures) -> f64 {
    let (orphans, live) = (figures.orphans_with_rows, figures.live_elements);
    let pages = (figures.pages as f64).min(orphans as f64 * MET_BY_A_SEARCH);
    let look = look_ms(figures.dimensions);
    // Two places in the graph for each that is new to the search.
    let search = 2.0 * MET_BY_A_SEARCH.min(live as f64) * look;
    // Those that others lead to need no more than to be reached.
    let forsaken = figures.zero_in_degree.min(orphans) as f64;
    let links = f64::from(enough(orphans as usize, live as usize, figures.m));
    let written = forsaken * links + (orphans as f64 - forsaken);
    pages * PAGE_MS + orphans as f64 * 1.5 * search + written * WRITE_MS
}

/// Time of looking at an element of so many dimensions in a search, in milliseconds.
pub(super) fn look_ms(dimensions: u32) -> f64 {
    LOOK_MS + LOOK_MS_PER_DIMENSION * f64::from(dimensions)
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
    /// Whether there is more to be done.
    pub(super) more: bool,
}

/// Bytes it takes for so many slots, what is planned aside.
pub(super) fn bytes_for(slots: usize) -> usize {
    Draft::bytes_for(slots) + Values::bytes_for(slots) + Search::bytes_for(slots)
}

/// Links every orphan, with `most` links or so at most.
pub(super) fn plan(
    survey: &Survey,
    shape: &IndexShape,
    source: &mut dyn PageSource,
    most: usize,
) -> Result<Linked, ReadError> {
    let orphans: Vec<usize> = survey.orphans().collect();
    let lonely: Vec<usize> = rowless::lonely(survey).collect();
    if orphans.is_empty() && lonely.is_empty() || survey.entry().is_none() {
        return Ok(Linked {
            left: orphans.len() as u64,
            ..Linked::default()
        });
    }
    let slots = survey.graph.slots.count();
    let live = survey.graph.live.iter().count();
    let enough = enough(orphans.len(), live, survey.meta.m);
    let each = shared::bytes_per_orphan(2 * usize::from(survey.meta.m));
    let together = match shared::is_worth_it(orphans.len(), enough, source.block_count()?) {
        true => orphans.len().min(survey.room / 4 / each),
        false => 0,
    };
    let mut linker = Linker {
        draft: Draft::new(survey, source)?,
        values: Values::new(shape, slots, survey.room - together * each),
        search: Search::new(slots),
        source,
        owners: Owners::default(),
        near: HashMap::new(),
        most,
        enough,
        looks: rowless::MAX_LOOKS,
    };
    let mut patients = Vec::new();
    let every = orphans.len().div_ceil(PATIENTS).max(1);
    for &orphan in orphans.iter().step_by(every) {
        if let Some(at) = survey.graph.slots.place(orphan) {
            let seen = Seen::at(linker.source, at, survey.meta.m)?;
            patients.extend(seen.and_then(|seen| seen.row));
        }
    }
    if orphans.len() as f64 * MET_BY_A_SEARCH > f64::from(linker.source.block_count()?) {
        let dimensions = survey.meta.dimensions as usize;
        linker
            .values
            .fetch_all(linker.source, &survey.graph, live, dimensions)?;
    }
    let mut order = sources_first(&linker.draft, &orphans);
    linker.link_from_shared_pages(&order[..together])?;
    for nth in 0..MAX_TRIES {
        let mut given = Vec::new();
        for (at, &orphan) in order.iter().enumerate() {
            linker.pulse(at)?;
            if linker.owners.count >= linker.most {
                break;
            }
            // What cannot be reached yet may be linked from what is reached by then.
            if linker.give_links(orphan)? || !linker.draft.is_reached(orphan) {
                given.push(orphan);
            }
        }
        // What few link to may be found no more after what was linked later; and orphans that are
        // near have been linked since, which can link to it as well.
        order = if nth == 0 { order } else { given };
        let few = linker.enough.min(survey.meta.m).max(2);
        order.retain(|&orphan| u16::from(linker.draft.in_degree(orphan)) < few);
    }
    for (at, &slot) in lonely.iter().enumerate() {
        linker.pulse(at)?;
        if linker.owners.count < linker.most {
            linker.complete(slot)?;
        }
    }
    let is_left = |orphan: &&usize| !linker.draft.is_reached(**orphan);
    let left = orphans.iter().filter(is_left).count() as u64;
    // The tree says so; followed anew the links must say the same.
    if !linker.draft.keeps_its_reach(linker.source)? {
        return Ok(Linked {
            left: orphans.len() as u64,
            ..Linked::default()
        });
    }
    Ok(Linked {
        more: linker.owners.count >= most,
        edits: linker.owners.into_edits(),
        left,
        patients,
    })
}

/// Links that each of so many orphans needs for others to find it: three quarters of those that
/// there is room for at most.
fn enough(orphans: usize, live: usize, m: u16) -> u16 {
    let share = orphans as f64 / live.max(1) as f64;
    let links = 1.0 + LINKS_TO_FIND * (share / FEW).ln();
    links.clamp(1.0, 1.5 * f64::from(m)) as u16
}

struct Linker<'a> {
    draft: Draft<'a>,
    values: Values,
    search: Search,
    source: &'a mut dyn PageSource,
    owners: Owners,
    /// What is near to some of the orphans, as far as they were searched for already.
    near: HashMap<usize, Vec<Near>>,
    most: usize,
    /// Links that each orphan shall have to it.
    enough: u16,
    /// Elements that may still be looked at where searches find none with rows.
    looks: usize,
}

impl Linker<'_> {
    /// Lets the source end it, now and then.
    fn pulse(&mut self, nth: usize) -> Result<(), ReadError> {
        match nth % PULSE {
            0 => self.source.block_count().map(drop),
            _ => Ok(()),
        }
    }

    /// Sees to it that a search for an element's own value finds it, and that those for others do.
    /// Tells whether it was not found.
    fn give_links(&mut self, orphan: usize) -> Result<bool, ReadError> {
        let known = self.near.remove(&orphan);
        let is_linked = known.is_some() && self.draft.is_reached(orphan);
        let found = match known {
            Some(near) => Some(near),
            None => self.search_for(orphan, WIDTH)?,
        };
        let Some(near) = found else {
            return Ok(false);
        };
        if near.iter().any(|near| near.slot == orphan) {
            self.strengthen(orphan, &near)?;
            return Ok(false);
        }
        let graph = &self.draft.survey.graph;
        self.values.fetch(self.source, graph, &[orphan])?;
        let own = self.values.apart(orphan, orphan);
        let all_as_near = near.len() >= WIDTH && near.iter().all(|near| near.rank <= own);
        if all_as_near && self.draft.is_reached(orphan) {
            return Ok(false);
        }
        let near = self.others_with_rows(orphan, near)?;
        self.fill(orphan, &near)?;
        let given = is_linked || self.link(orphan, &near)?;
        self.strengthen(orphan, &near)?;
        Ok(given)
    }

    /// What a search for the value of an element finds; none where that cannot be read.
    fn search_for(&mut self, slot: usize, width: usize) -> Result<Option<Vec<Near>>, ReadError> {
        let graph = &self.draft.survey.graph;
        self.values.fetch(self.source, graph, &[slot])?;
        let Some(value) = self.values.get(slot).cloned() else {
            return Ok(None);
        };
        let (draft, values) = (&self.draft, &mut self.values);
        let near = self
            .search
            .nearest(draft, values, self.source, &value, width)?;
        Ok(Some(near))
    }

    /// The links on the ground layer that an element has or will have, if they can be changed.
    fn links(&mut self, slot: usize) -> Option<&[Tid]> {
        self.owners.links(self.draft.survey, &self.values, slot)
    }

    /// Gives an element that has fewer than half of its links on the ground layer some more.
    fn fill(&mut self, orphan: usize, near: &[Near]) -> Result<(), ReadError> {
        let survey = self.draft.survey;
        let m = usize::from(survey.meta.m);
        self.values.fetch(self.source, &survey.graph, &[orphan])?;
        let Some(links) = self.links(orphan) else {
            return Ok(());
        };
        let missing = m.saturating_sub(links.len());
        if missing == 0 {
            return Ok(());
        }
        let linked: HashSet<u32> = links.iter().copied().map(pack).collect();
        let chosen = self.diverse(near, missing, &linked)?;
        let to: Vec<_> = chosen
            .into_iter()
            .filter_map(|slot| survey.judged(slot))
            .collect();
        match to.is_empty() {
            true => Ok(()),
            false => self.append(orphan, &to),
        }
    }

    /// Of the elements near another, the `most` best to link to of those that are not `linked`.
    fn diverse(
        &mut self,
        near: &[Near],
        most: usize,
        linked: &HashSet<u32>,
    ) -> Result<Vec<usize>, ReadError> {
        let graph = &self.draft.survey.graph;
        let is_new = |near: &&Near| {
            let place = graph.slots.place(near.slot);
            place.is_some_and(|place| !linked.contains(&pack(place)))
        };
        let near: Vec<Near> = near.iter().filter(is_new).copied().collect();
        let slots: Vec<usize> = near.iter().map(|near| near.slot).collect();
        self.values.fetch(self.source, graph, &slots)?;
        Ok(diverse(&near, &[], most, |near, others| {
            self.values.is_nearer(near, others)
        }))
    }

    /// Has elements near an orphan link to it as well, those with free slots, until enough do:
    /// first those that it links to itself, which lie all around it, then the nearest. Among them those on
    /// pages that are written to anyway go first.
    fn strengthen(&mut self, orphan: usize, near: &[Near]) -> Result<(), ReadError> {
        let survey = self.draft.survey;
        let Some(to) = survey.judged(orphan) else {
            return Ok(());
        };
        // What is an island with others has links enough, but for those that lead there.
        if u16::from(self.draft.in_degree(orphan)) >= survey.meta.m {
            return Ok(());
        }
        let around = self.draft.targets(orphan, 0);
        self.values.fetch(self.source, &survey.graph, &around)?;
        let nearest = near.iter().map(|near| near.slot);
        let mut owners: Vec<usize> = around.into_iter().chain(nearest).collect();
        owners.sort_by_key(|&slot| !self.is_written(slot));
        for slot in owners {
            if u16::from(self.draft.in_degree(orphan)) >= self.enough {
                break;
            }
            if slot != orphan && survey.graph.rows.contains(slot) {
                self.put_into_free_slot(slot, to)?;
            }
        }
        // Where too few have room, some of the nearest make it.
        let mut made = 0;
        for near in near {
            if made == SPARING || u16::from(self.draft.in_degree(orphan)) >= self.enough {
                break;
            }
            if near.slot != orphan && survey.graph.rows.contains(near.slot) {
                made += usize::from(self.put_for_another(near.slot, to)?);
            }
        }
        Ok(())
    }

    fn is_written(&self, slot: usize) -> bool {
        self.page(slot)
            .is_some_and(|page| self.owners.writes_to(page))
    }

    /// The page that an element is on, and as a rule its links.
    fn page(&self, slot: usize) -> Option<u32> {
        let place = self.draft.survey.graph.slots.place(slot);
        place.map(|place| place.block)
    }

    /// Has an element with a free slot link to another; tells whether it does now.
    fn put_into_free_slot(&mut self, slot: usize, to: Judged) -> Result<bool, ReadError> {
        let room = 2 * usize::from(self.draft.survey.meta.m);
        let links = self.links(slot);
        let may = links.is_some_and(|links| links.len() < room && !links.contains(&to.at));
        if may {
            self.append(slot, &[to])?;
        }
        Ok(may)
    }

    /// Has one of the elements near an orphan link to it: the nearest on a page that is written to
    /// anyway, else the nearest; from farther away only if none of these can.
    fn link(&mut self, orphan: usize, near: &[Near]) -> Result<bool, ReadError> {
        let Some(to) = self.draft.survey.judged(orphan) else {
            return Ok(false);
        };
        let (nearest, rest) = near.split_at(near.len().min(NEAR));
        let mut order: Vec<usize> = nearest.iter().map(|near| near.slot).collect();
        order.sort_by_key(|&slot| !self.is_written(slot));
        order.extend(rest.iter().map(|near| near.slot));
        for owner in order {
            if self.put_into_free_slot(owner, to)? || self.put_for_another(owner, to)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Has an element link to another in the place of a link that it can spare; tells whether it
    /// does now.
    fn put_for_another(&mut self, owner: usize, to: Judged) -> Result<bool, ReadError> {
        let links = self.links(owner).map(<[Tid]>::to_vec);
        let Some(links) = links.filter(|links| !links.contains(&to.at)) else {
            return Ok(false);
        };
        let Some((nth, was)) = self.spare(owner, &links, to.at)? else {
            return Ok(false);
        };
        let links = self.owners.replace(owner, nth, was, to);
        self.draft.set_links(owner, links, self.source)?;
        Ok(true)
    }

    /// The farthest link of an element that it need not keep beside one to another; if there is none, the
    /// farthest, if that leads farther. So does pgvector when it links to what is inserted.
    fn spare(
        &mut self,
        owner: usize,
        links: &[Tid],
        to: Tid,
    ) -> Result<Option<(usize, Judged)>, ReadError> {
        let survey = self.draft.survey;
        let graph = &survey.graph;
        let slots: Vec<Option<usize>> = links.iter().map(|link| graph.find(*link)).collect();
        let mut wanted: Vec<usize> = slots.iter().flatten().copied().collect();
        let new = graph.find(to);
        wanted.extend([owner].into_iter().chain(new));
        self.values.fetch(self.source, graph, &wanted)?;
        let Some(value) = self.values.get(owner) else {
            return Ok(None);
        };
        let enough = MIN_IN_DEGREE.max((survey.meta.m / 4) as u8);
        let mut spare: Vec<(f64, usize, usize)> = (0..)
            .zip(&slots)
            .filter_map(|(nth, slot)| Some((nth, (*slot)?)))
            .filter(|&(nth, _)| self.owners.is_old(owner, nth))
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
            slots.iter().chain([&new]).enumerate().any(by)
        };
        let reach = new.map_or(f64::INFINITY, |new| self.values.rank(value, new));
        let farthest = spare.first().copied().filter(|&(rank, ..)| rank > reach);
        let found = spare.into_iter().find(is_occluded).or(farthest);
        Ok(found.and_then(|(_, nth, slot)| Some((nth, survey.judged(slot)?))))
    }

    fn rank(&self, from: &Operand, slot: usize) -> f64 {
        self.values.rank(from, slot)
    }

    /// Plans more links of an element on the ground layer.
    fn append(&mut self, slot: usize, to: &[Judged]) -> Result<(), ReadError> {
        let links = self.owners.append(slot, to);
        self.draft.set_links(slot, links, self.source)
    }
}
