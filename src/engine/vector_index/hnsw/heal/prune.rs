//! The second rung: links that must not be there are taken out, and those after them move up.
//!
//! To what does not exist, is no element or is deleted; on a layer that the other end is not on;
//! to the element itself; a second time; or behind a free slot, where pgvector 0.8 does not see
//! them. Cost: the page of each such element and of what it links to. There is no undo: nobody
//! wants them back.

use super::PAGE_MS;
use super::edit::{Change, Edit, is_legal};
use super::link::WRITE_MS;
use super::seen::Seen;
use super::survey::Survey;
use crate::vector_index::hnsw::HnswFigures;
use crate::vector_index::page::Tid;
use crate::vector_index::{PageSource, ReadError};

/// What it is expected to take, in milliseconds: for each sick element its page and those of its
/// links are read, and the page is written.
pub(super) fn cost_ms(figures: &HnswFigures) -> f64 {
    let sick = figures.dangling_edges.min(figures.live_elements) as f64;
    let pages = 1.0 + 2.0 * f64::from(figures.m) + 1.0;
    sick * (pages * PAGE_MS + WRITE_MS)
}

/// What is to be taken out, element by element, `most` at most.
pub(super) fn plan(
    survey: &Survey,
    source: &mut dyn PageSource,
    most: usize,
) -> Result<Vec<Edit>, ReadError> {
    let mut edits = Vec::new();
    for slot in survey.sick.iter() {
        if edits.len() >= most {
            break;
        }
        let at = survey.graph.slots.place(slot);
        let Some(seen) = at.map_or(Ok(None), |at| Seen::at(source, at, survey.meta.m))? else {
            continue;
        };
        for layer in 0..=seen.judged.level {
            let was = seen.layer(layer).to_vec();
            let stays = legal(source, &seen, layer, &was)?;
            let packed = stays.iter().copied().map(Some);
            if packed.eq(was.iter().copied().take(stays.len()))
                && was.iter().skip(stays.len()).all(Option::is_none)
            {
                continue;
            }
            edits.push(Edit::Links {
                of: seen.judged,
                tuple: seen.tuple,
                layer,
                change: Change::Prune { was, stays },
            });
        }
    }
    Ok(edits)
}

/// The links of a layer that may stay.
pub(super) fn legal(
    source: &mut dyn PageSource,
    seen: &Seen,
    layer: u8,
    was: &[Option<Tid>],
) -> Result<Vec<Tid>, ReadError> {
    let mut stays = Vec::with_capacity(was.len());
    for &link in was.iter().flatten() {
        if link != seen.judged.at && !stays.contains(&link) && is_legal(source, link, layer)? {
            stays.push(link);
        }
    }
    Ok(stays)
}
