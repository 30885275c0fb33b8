//! The first rung: where searches start, and where inserts begin to look for room.
//!
//! The metapage is changed; where searches start at an element that leads nowhere it gets a link.
//! Cost: a walk over the graph for each element that might be the new entry point, or that the old
//! one might lead to.

use super::edit::{Change, Edit, Judged};
use super::prune::legal;
use super::seen::Seen;
use super::survey::Survey;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::hnsw::HnswFigures;
use crate::vector_index::hnsw::reach::{Pulse, reach};
use crate::vector_index::{PageSource, ReadError};

/// Time to walk over an element with all its links, in milliseconds, as measured on 100,000 × 128
/// with m = 16.
const WALK_MS_PER_ELEMENT: f64 = 0.0003;
/// Elements that are tried.
const MAX_TRIED: usize = 8;

/// What it is expected to take, in milliseconds: where the entry point is as it should be nothing
/// is walked.
pub(super) fn cost_ms(figures: &HnswFigures) -> f64 {
    let highest = figures.layer_distribution.len().checked_sub(1);
    let is_right = figures.entry_level.map(usize::from) == highest;
    match is_right {
        true => 0.0,
        false => (MAX_TRIED + 1) as f64 * figures.live_elements as f64 * WALK_MS_PER_ELEMENT,
    }
}

/// What is to be changed on the metapage. The new entry point is on the highest layer there is,
/// and searches from it reach whatever they reach now.
pub(super) fn plan(survey: &Survey, source: &mut dyn PageSource) -> Result<Vec<Edit>, ReadError> {
    let mut edits = Vec::new();
    if let Some(to) = survey.better_insert_page() {
        let was = survey.meta.insert_page;
        edits.push(Edit::InsertPage { was, to });
    }
    let graph = &survey.graph;
    let entry = survey.entry();
    let with_rows = || graph.live.iter().filter(|&slot| graph.rows.contains(slot));
    let any = || graph.live.iter();
    let highest =
        |slots: &mut dyn Iterator<Item = usize>| slots.map(|slot| graph.level(slot)).max();
    let Some(top) = highest(&mut with_rows()).or_else(|| highest(&mut any())) else {
        return Ok(edits);
    };
    let level_now = entry.map(|entry| graph.level(entry));
    if level_now.is_some_and(|level| level >= top) {
        let level = level_now.map_or(-1, i16::from);
        if let Some(to) = entry.and_then(|entry| survey.judged(entry))
            && survey.meta.entry_level != level
        {
            edits.push(to_entry(survey, to));
        }
        if let Some(entry) = entry {
            edits.extend(lead_on(survey, entry, source)?);
        }
        return Ok(edits);
    }
    let missed_now = missed(survey, entry, source)?;
    let mut best: Option<(usize, usize)> = None;
    let on_top = |slot: &usize| graph.level(*slot) == top;
    let tried = with_rows().filter(on_top).chain(any().filter(on_top));
    for slot in tried.take(MAX_TRIED) {
        let missed = missed(survey, Some(slot), source)?;
        let count = missed.iter().count();
        let loses_none = missed.iter().all(|slot| missed_now.contains(slot));
        if loses_none && best.is_none_or(|(least, _)| count < least) {
            best = Some((count, slot));
        }
    }
    if let Some(to) = best.and_then(|(_, slot)| survey.judged(slot)) {
        edits.push(to_entry(survey, to));
    }
    Ok(edits)
}

/// What cannot be reached from an element.
fn missed(
    survey: &Survey,
    from: Option<usize>,
    source: &mut dyn PageSource,
) -> Result<Bitmap, ReadError> {
    Ok(reach(&survey.graph, from, &mut Pulse::new(source))?.missed)
}

/// Where searches start at an element that leads nowhere above the ground, a link on the highest layer
/// that it shares with others, to that of them from which most is reached. pgvector before 0.8.4 could
/// leave an entry point so, all of whose neighbours a vacuum had deleted.
fn lead_on(
    survey: &Survey,
    entry: usize,
    source: &mut dyn PageSource,
) -> Result<Vec<Edit>, ReadError> {
    let graph = &survey.graph;
    let others = || {
        let with_rows = graph.live.iter().filter(|&slot| graph.rows.contains(slot));
        with_rows.filter(|&slot| slot != entry)
    };
    let Some(shared) = others().map(|slot| graph.level(slot)).max() else {
        return Ok(Vec::new());
    };
    let shared = shared.min(graph.level(entry));
    let leads_on = |layer| {
        let mut targets = graph.links(entry, layer).iter();
        targets.any(|&link| graph.live_slot(link).is_some_and(|slot| slot != entry))
    };
    // One whose links cannot be read is another matter.
    if survey.has_no_links(entry) || (shared.min(1)..=graph.level(entry)).any(leads_on) {
        return Ok(Vec::new());
    }
    let mut best: Option<(usize, usize)> = None;
    let on_layer = others().filter(|&slot| graph.level(slot) >= shared);
    for slot in on_layer.take(MAX_TRIED) {
        let count = missed(survey, Some(slot), source)?.iter().count();
        if best.is_none_or(|(least, _)| count < least) {
            best = Some((count, slot));
        }
    }
    let to = best.and_then(|(_, slot)| survey.judged(slot));
    let at = graph.slots.place(entry);
    let seen = at.map_or(Ok(None), |at| Seen::at(source, at, survey.meta.m))?;
    let (Some(to), Some(seen)) = (to, seen) else {
        return Ok(Vec::new());
    };
    let change = |change| Edit::Links {
        of: seen.judged,
        tuple: seen.tuple,
        layer: shared,
        change,
    };
    let was = seen.layer(shared).to_vec();
    // One behind a free slot, which nothing reads, is one again.
    let stays = legal(source, &seen, shared, &was)?;
    let mut edits = Vec::new();
    if stays.is_empty() {
        let (slot, to) = (0, vec![to]);
        edits.push(change(Change::Append { slot, to }));
    }
    if was.iter().any(Option::is_some) {
        edits.insert(0, change(Change::Prune { was, stays }));
    }
    Ok(edits)
}

fn to_entry(survey: &Survey, to: Judged) -> Edit {
    Edit::Entry {
        was: survey.meta.entry,
        was_level: survey.meta.entry_level,
        to,
    }
}
