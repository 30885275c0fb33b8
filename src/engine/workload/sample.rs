//! The sample of queries kept for each index: who gets in, who makes room, and when it is enough.

use std::collections::{BTreeMap, BTreeSet};

use crate::vector_index::sample::SplitMix;
use crate::vector_index::shape::IndexShape;
use crate::vector_index::value::Value;

/// Queries kept of an index.
pub const CAPACITY: u32 = 400;
/// How long a query stays in a full sample, on average, in microseconds: a day, so that it shows
/// what is asked at every hour.
const LIFETIME: u64 = 24 * 3600 * 1_000_000;

/// Queries without which others are preferred, where so many are asked for: half of them, at
/// least 50, at most 200, and never more than all.
pub fn enough(asked: u32) -> u32 {
    (asked / 2).clamp(50, 200).min(asked)
}

/// Whether a captured value is one that an index can be asked for, and has an answer.
pub fn fits(shape: &IndexShape, value: &[u8]) -> bool {
    let Ok(value) = Value::decode(shape.value_type, value) else {
        return false;
    };
    let wanted = shape.dimensions;
    wanted.is_none_or(|dimensions| dimensions == value.dimensions())
        && value.fault().is_none()
        && (!shape.normalized || value.norm() > 0.0)
}

/// The place that the `nth` query, from 0, of an index takes among `places`, until they are
/// collected; none if it is not drawn. Every query is as likely to be there in the end as any other
/// (Vitter, Random sampling with a reservoir, 1985, algorithm R). For the path of a query.
pub fn place(nth: u64, places: usize, seed: &mut u64) -> Option<usize> {
    let places = places as u64;
    let mut random = SplitMix(*seed);
    let place = match nth {
        nth if nth < places => nth,
        nth => random.below(nth.saturating_add(1)),
    };
    *seed = random.0;
    (place < places).then_some(place as usize)
}

/// Places of a sample for new queries: which of `arrivals` goes where. Free places are taken
/// first; in a full sample a query makes room for another after [`LIFETIME`], on average, however
/// many come, and any is as likely to go as any other (Aggarwal, On biased reservoir sampling in
/// the presence of stream evolution, 2006, its rate bound to time). `elapsed`: microseconds in
/// which these came.
pub(super) fn admit(
    taken: &BTreeSet<u32>,
    arrivals: usize,
    elapsed: u64,
    random: &mut SplitMix,
) -> BTreeMap<u32, usize> {
    let free = (0..CAPACITY).filter(|place| !taken.contains(place));
    let mut placed: BTreeMap<u32, usize> = free.zip(0..arrivals).collect();
    let rivals = (arrivals - placed.len()) as u64;
    let renewed = u64::from(CAPACITY).saturating_mul(elapsed);
    for arrival in placed.len()..arrivals {
        if random.below(LIFETIME.saturating_mul(rivals)) < renewed {
            placed.insert(random.below(u64::from(CAPACITY)) as u32, arrival);
        }
    }
    placed
}
