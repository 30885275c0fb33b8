//! The first rung: where searches start, and where inserts begin to look for room.
//!
//! The metapage alone is changed. Cost: a walk over the graph for each element that might be the
//! new entry point.

use super::edit::{Edit, Judged};
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
        return Ok(edits);
    }
    let mut missed = |from| -> Result<Bitmap, ReadError> {
        Ok(reach(graph, from, &mut Pulse::new(source))?.missed)
    };
    let missed_now = missed(entry)?;
    let mut best: Option<(usize, usize)> = None;
    let on_top = |slot: &usize| graph.level(*slot) == top;
    let tried = with_rows().filter(on_top).chain(any().filter(on_top));
    for slot in tried.take(MAX_TRIED) {
        let missed = missed(Some(slot))?;
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

fn to_entry(survey: &Survey, to: Judged) -> Edit {
    Edit::Entry {
        was: survey.meta.entry,
        was_level: survey.meta.entry_level,
        to,
    }
}
