//! Lists that were mended in place, or rebuilt, must be mended.

use super::validation::damage_remains;
use crate::detection::birth::MAX_UNTRAINED_QUALITY;
use crate::detection::index_health::{MIN_CENTROID_QUALITY, is_unbalanced};
use crate::model::IndexIssue;
use crate::repair::plan::Measured;
use crate::vector_index::ivfflat::IvfflatFigures;

/// What is still wrong with lists that were mended in place.
pub(super) fn unmended_in_place(
    issue: &IndexIssue,
    old: &IvfflatFigures,
    after: &Measured,
    new: &IvfflatFigures,
) -> Option<String> {
    if let IndexIssue::CorruptPage { .. } = issue {
        return damage_remains(after.damage.as_ref());
    }
    let Some(forecast) = &after.forecast else {
        return Some("what moving the centres would do to recall cannot be told".into());
    };
    let objection = match issue {
        // As long as no row moves.
        IndexIssue::UnbalancedClusters { .. } => unmended(issue, old, new),
        _ => forecast
            .against_moving()
            .or_else(|| unmended(issue, old, new)),
    };
    let reasons = objection.map(|reason| [Some(reason), forecast.against_rebuild()]);
    reasons.map(|reasons| reasons.into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// What is still wrong with lists.
pub(super) fn unmended(
    issue: &IndexIssue,
    old: &IvfflatFigures,
    new: &IvfflatFigures,
) -> Option<String> {
    let quality = |least: f32| {
        (new.centroid_quality < least).then(|| {
            format!(
                "moving the centres would still remove {:.0} % of the distortion",
                100.0 * (1.0 - new.centroid_quality)
            )
        })
    };
    match issue {
        IndexIssue::StaleTraining { .. } => quality(MIN_CENTROID_QUALITY),
        IndexIssue::BuiltEmpty { .. } => quality(MAX_UNTRAINED_QUALITY),
        // Rows that are alike are in one list whatever is done.
        IndexIssue::UnbalancedClusters { .. } => {
            (is_unbalanced(new) && new.imbalance_factor >= old.imbalance_factor).then(|| {
                format!(
                    "a probe still costs {:.1} times what it should",
                    new.imbalance_factor
                )
            })
        }
        _ => None,
    }
}
