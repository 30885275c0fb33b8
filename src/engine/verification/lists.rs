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
    (before, after): (&Measured, &Measured),
    (old, new): (&IvfflatFigures, &IvfflatFigures),
) -> Option<String> {
    if let IndexIssue::CorruptPage { .. } = issue {
        return damage_remains(after.damage.as_ref());
    }
    let Some(forecast) = &after.forecast else {
        return Some("what moving the centres would do to recall cannot be told".into());
    };
    let objection = match issue {
        // Without having been asked for nothing moves, and nothing is mended.
        IndexIssue::UnbalancedClusters { .. } => {
            let regrouped = forecast.regrouped.is_some();
            let objection = regrouped.then(|| forecast.against_regrouping()).flatten();
            objection
                .or_else(|| unmended(issue, old, new))
                .or_else(|| regrouped.then(|| as_dear(before, after)).flatten())
        }
        _ => forecast
            .against_moving()
            .or_else(|| unmended(issue, old, new)),
    };
    let reasons = objection.map(|reason| [Some(reason), forecast.against_rebuild()]);
    reasons.map(|reasons| reasons.into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// Where searches that find as much look at as much as before.
fn as_dear(before: &Measured, after: &Measured) -> Option<String> {
    let (old, new) = (before.probe.as_ref()?, after.probe.as_ref()?);
    (new.buffers >= old.buffers).then(|| {
        format!(
            "a search that finds as much looks at {:.0} buffers instead of {:.0}",
            new.buffers, old.buffers
        )
    })
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
