//! Taking up what was captured, once in a check cycle.

use std::collections::BTreeMap;

use super::CapturedQuery;
use super::sample::{admit, fits};
use crate::model::IndexInfo;
use crate::ports::{PortError, World};
use crate::settings::{HealingConfig, Track};
use crate::vector_index::sample::SplitMix;

/// Takes the queries captured in the last `elapsed` microseconds into the samples of their
/// indexes, and forgets those of indexes that are gone and those past retention; all of them
/// where nothing is to be tracked.
pub fn take_up(
    indexes: &[IndexInfo],
    config: &HealingConfig,
    elapsed: u64,
    world: &mut dyn World,
) -> Result<(), PortError> {
    let mut captured: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    for CapturedQuery { index_oid, value } in world.captured() {
        captured.entry(index_oid).or_default().push(value);
    }
    if config.track == Track::None {
        return world.forget_queries(&[], config.history_retention_days);
    }
    let identities: Vec<String> = indexes.iter().map(IndexInfo::identity).collect();
    world.forget_queries(&identities, config.history_retention_days)?;
    let mut random = SplitMix(world.now() as u64);
    for index in indexes {
        let (Some(shape), Some(mut queries)) = (&index.shape, captured.remove(&index.index_oid))
        else {
            continue;
        };
        queries.retain(|query| fits(shape, query));
        if queries.is_empty() {
            continue;
        }
        let taken = world.places_taken(index)?;
        let placed: Vec<(u32, Vec<u8>)> = admit(&taken, queries.len(), elapsed, &mut random)
            .into_iter()
            .map(|(place, nth)| (place, std::mem::take(&mut queries[nth])))
            .collect();
        if !placed.is_empty() {
            world.keep_queries(index, &placed)?;
        }
    }
    Ok(())
}
