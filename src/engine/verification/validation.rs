//! The figures a repair set out to mend must be better, and searching must not be worse.

use super::{Verdict, lists};
use crate::detection::damage::Damage;
use crate::detection::index_health::{MIN_CONNECTIVITY, is_decayed_by_dead_rows};
use crate::model::{IndexIssue, Issue};
use crate::recall::paired::{MARGIN, Standing};
use crate::repair::plan::{Measured, ProbeFigures};
use crate::vector_index::hnsw::HnswFigures;

/// A rebuilt index is fragmented less than this.
const VALID_FRAGMENTATION: f32 = 0.3;
/// Orphans that may remain: this many, or this share of the live elements.
const VALID_ORPHANS: f64 = 10.0;
const VALID_ORPHAN_SHARE: f64 = 0.000_01;
/// Share of the orphans that may remain where they are linked in place.
const VALID_REMAINDER: f64 = 0.01;
/// Buffers that a search may look at, as a multiple of before, where recall is no better for it.
pub(super) const VALID_COST: f64 = 1.5;
/// Standard errors above nothing from which on recall is taken to have risen.
const SHOWN: f64 = 3.0;
/// Buffers that a search may look at for better recall before a person has to decide, as a multiple
/// of before.
const AFFORDABLE_COST: f64 = 5.0;

/// Judges a replacement against the index in place.
pub fn rebuilt(issue: &Issue, before: &Measured, after: &Measured) -> Verdict {
    let Issue::Index(issue) = issue;
    let unmended = match (&after.hnsw, &after.ivfflat) {
        (Some(new), _) => graph_unmended(issue, new),
        (None, Some(new)) => {
            let old = before.ivfflat.as_ref();
            old.and_then(|old| lists::unmended(issue, old, new))
        }
        (None, None) => Some("the replacement could not be read".into()),
    };
    let unmended = unmended.or_else(|| match issue {
        IndexIssue::CorruptPage { .. } => damage_remains(after.damage.as_ref()),
        _ => None,
    });
    if let Some(reason) = unmended {
        return Verdict::Undo(reason);
    }
    // Damage is worse than what was not shown to be worse.
    let shown_worse = |probe: &ProbeFigures| probe.standing == Some(Standing::Worse);
    if matches!(issue, IndexIssue::CorruptPage { .. })
        && !after.probe.as_ref().is_some_and(shown_worse)
    {
        return Verdict::Keep;
    }
    // Recall is the judge. Reachability stands in where nothing could be searched for: in an
    // inner-product graph what cannot be reached may be nobody's nearest.
    match (&after.probe, &before.hnsw, &after.hnsw) {
        (Some(probe), ..) if before.valid && before.probe.is_some() => {
            if let Some(reason) = searched_worse(before.probe.as_ref(), probe) {
                return Verdict::Undo(reason);
            }
        }
        (_, Some(old), Some(new)) if before.valid => {
            let lost = f64::from(old.reachable()) - f64::from(new.reachable());
            if lost > MARGIN {
                return Verdict::Undo(format!(
                    "connectivity fell from {:.3} to {:.3}",
                    old.reachable(),
                    new.reachable()
                ));
            }
        }
        _ => {}
    }
    Verdict::Keep
}

/// Judges an index that was mended in place.
pub fn mended(issue: &Issue, before: &Measured, after: &Measured) -> Verdict {
    let Issue::Index(issue) = issue;
    let unmended = match (&before.hnsw, &after.hnsw, &before.ivfflat, &after.ivfflat) {
        (Some(old), Some(new), ..) => graph_unmended_in_place(issue, (before, after), (old, new)),
        (.., Some(old), Some(new)) => lists::unmended_in_place(issue, (before, after), (old, new)),
        _ => Some("the index could not be read".into()),
    };
    let worse = || {
        let probe = after.probe.as_ref()?;
        searched_worse(before.probe.as_ref(), probe)
    };
    match unmended.or_else(worse) {
        Some(reason) => Verdict::Undo(reason),
        None => Verdict::Keep,
    }
}

/// What is still wrong with a graph that was mended in place.
fn graph_unmended_in_place(
    issue: &IndexIssue,
    (before, after): (&Measured, &Measured),
    (old, new): (&HnswFigures, &HnswFigures),
) -> Option<String> {
    match issue {
        IndexIssue::OrphanNodes { .. } | IndexIssue::BornUnreachable { .. } => {
            orphans_remain(old, new)
        }
        IndexIssue::PoorConnectivity { .. } => (new.reachable() < MIN_CONNECTIVITY)
            .then(|| format!("connectivity is still {:.3}", new.reachable())),
        IndexIssue::DanglingEdges { .. } => (new.dangling_edges > 0)
            .then(|| format!("{} dangling edges remain", new.dangling_edges)),
        IndexIssue::DeadEntryPoint { .. } => (new.live_elements > 0
            && new.entry_point_quality == 0.0)
            .then(|| "the entry point is still missing".into()),
        IndexIssue::DuplicateSink { .. } => not_found_more(after),
        IndexIssue::WrongLevel { .. } => (new.entry_level <= old.entry_level)
            .then(|| "searches still start on the same level".into()),
        IndexIssue::DistantInsertPage { .. } => (new.pages_per_insert >= old.pages_per_insert)
            .then(|| format!("inserts still go through {:.0} pages", new.pages_per_insert)),
        IndexIssue::DeadTuples { .. } => match vacuumed(before, after) {
            Verdict::Undo(reason) => Some(reason),
            Verdict::Keep => None,
        },
        IndexIssue::CorruptPage { .. } => damage_remains(after.damage.as_ref()),
        other => Some(format!("{} is not mended in place", other.code())),
    }
}

/// What a structural check still finds.
pub(super) fn damage_remains(damage: Option<&Damage>) -> Option<String> {
    match damage {
        None => Some("the index could not be checked".into()),
        Some(damage) if damage.count() > 0 => {
            Some(format!("there are still {}", damage.in_words()))
        }
        Some(_) => None,
    }
}

/// Where more orphans remain than a rebuild may leave, or than one in a hundred of those there were.
fn orphans_remain(old: &HnswFigures, new: &HnswFigures) -> Option<String> {
    let (before, after) = (old.orphans_with_rows, new.orphans_with_rows);
    let allowed = VALID_ORPHANS
        .max(new.live_elements as f64 * VALID_ORPHAN_SHARE)
        .max(before as f64 * VALID_REMAINDER);
    (after >= before || after as f64 >= allowed)
        .then(|| format!("{after} of {before} orphans remain"))
}

/// In what searching is worse than before, if it is. What was not shown either way is judged by
/// the mean.
fn searched_worse(before: Option<&ProbeFigures>, after: &ProbeFigures) -> Option<String> {
    let fell = after.standing == Some(Standing::Worse)
        || (after.is_undecided() && after.difference < -MARGIN);
    if fell {
        return Some(format!(
            "recall@{} on {} rows fell by {:.3} (standard error {:.3}, {MARGIN} allowed)",
            after.k, after.queries, -after.difference, after.difference_se
        ));
    }
    let costs = before.map_or(0.0, |before| before.buffers);
    let dearer = costs > 0.0 && after.buffers > costs * VALID_COST;
    (dearer && after.standing != Some(Standing::Better)).then(|| {
        format!(
            "a search looks at {:.0} buffers instead of {costs:.0} and finds no more",
            after.buffers
        )
    })
}

/// What a rebuilt graph was to be rid of and is not.
fn graph_unmended(issue: &IndexIssue, new: &HnswFigures) -> Option<String> {
    if new.dangling_edges > 0 {
        return Some(format!(
            "the replacement has {} dangling edges",
            new.dangling_edges
        ));
    }
    match issue {
        IndexIssue::Fragmentation { .. } => (new.fragmentation >= VALID_FRAGMENTATION)
            .then(|| format!("fragmentation is still {:.2}", new.fragmentation)),
        IndexIssue::OrphanNodes { .. } => {
            let allowed = VALID_ORPHANS.max(new.live_elements as f64 * VALID_ORPHAN_SHARE);
            (new.orphans_with_rows as f64 >= allowed)
                .then(|| format!("{} orphans remain", new.orphans_with_rows))
        }
        IndexIssue::DeadEntryPoint { .. } => (new.live_elements > 0
            && new.entry_point_quality == 0.0)
            .then(|| "the entry point is still missing".into()),
        IndexIssue::PoorConnectivity { .. } => (new.reachable() < MIN_CONNECTIVITY)
            .then(|| format!("connectivity is still {:.3}", new.reachable())),
        _ => None,
    }
}

/// Judges a search setting: `before` and `after` are the same index at the setting in force and at
/// the one proposed.
pub fn tuned(before: &Measured, after: &Measured) -> Verdict {
    let (Some(old), Some(new)) = (&before.probe, &after.probe) else {
        return Verdict::Undo("nothing could be searched for".into());
    };
    if let Some(reason) = not_shown_to_rise(new) {
        return Verdict::Undo(reason);
    }
    if new.buffers > old.buffers * AFFORDABLE_COST {
        return Verdict::Undo(format!(
            "a search would look at {:.0} buffers instead of {:.0}, more than {AFFORDABLE_COST:.0} times \
             as many: whether that is worth it is for you to say",
            new.buffers, old.buffers
        ));
    }
    Verdict::Keep
}

/// Why recall was not shown to rise, if so. The comparison ends as soon as it is shown not to fall,
/// which may be before it is shown to rise.
fn not_shown_to_rise(after: &ProbeFigures) -> Option<String> {
    let rose = after.standing == Some(Standing::Better)
        || after.standing == Some(Standing::NotWorse)
            && after.difference > SHOWN * after.difference_se;
    (!rose).then(|| {
        format!(
            "recall@{} on {} rows was not shown to rise: by {:.3} (standard error {:.3})",
            after.k, after.queries, after.difference, after.difference_se
        )
    })
}

/// Why a search is not shown to find more than before, where that is all it was for.
fn not_found_more(after: &Measured) -> Option<String> {
    match &after.probe {
        Some(probe) => not_shown_to_rise(probe),
        None => Some("nothing could be searched for".into()),
    }
}

/// Judges a vacuum. It has no undo: this only tells whether it helped.
pub fn vacuumed(before: &Measured, after: &Measured) -> Verdict {
    let (dead, live) = (
        after.dead_rows.unwrap_or_default(),
        after.live_rows.unwrap_or_default(),
    );
    if is_decayed_by_dead_rows(before.hnsw.is_some(), dead, live) {
        return Verdict::Undo(format!(
            "{dead} of {} dead rows remain: something still needs them",
            before.dead_rows.unwrap_or_default()
        ));
    }
    Verdict::Keep
}
