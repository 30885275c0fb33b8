//! What an index was born with: a rebuild alone would give the same again.
//!
//! A cause found here stands for the symptoms it explains, so that nobody rebuilds for them.

use crate::model::{IndexIssue, UnreachableCause};
use crate::vector_index::hnsw::HnswFigures;
use crate::vector_index::ivfflat::IvfflatFigures;
use crate::vector_index::shape::{IndexShape, Metric};

/// A value is a sink if this share of all links leads to it: where elements cannot be reached,
/// any such; else only if that is so many times what its number would make.
const MIN_SINK_EDGES: f32 = 0.1;
const MIN_SINK_PULL: f32 = 3.0;
/// By inner product the unreachable are so for their length if they are the shorter of a pair so
/// often.
const MIN_NORM_RANK: f32 = 0.75;
/// Rows lie in tight clusters if the nearest link is so short against the distance of two rows
/// drawn at random.
const MAX_TIGHTNESS: f32 = 0.2;
/// With a larger share of elements without rows, churn may be the cause as well.
const MAX_CHURNED: f32 = 0.01;
/// Lists were not trained if this share of the centres was drawn, and moving them would remove
/// more than the rest of 1 of the distortion.
const MIN_UNTRAINED: f32 = 0.25;
/// See `MIN_UNTRAINED`.
pub const MAX_UNTRAINED_QUALITY: f32 = 0.95;

/// The cause that a graph was born with, if there is one. `unreachable`: whether more elements
/// cannot be reached than a sound graph has.
pub(super) fn of_graph(
    index: &str,
    figures: &HnswFigures,
    shape: Option<&IndexShape>,
    unreachable: bool,
) -> Option<IndexIssue> {
    let index = index.to_owned();
    let live = figures.live_elements.max(1) as f32;
    if let Some(sink) = &figures.duplicate_sink
        && sink.edge_share >= MIN_SINK_EDGES
        && (unreachable || sink.edge_share >= MIN_SINK_PULL * sink.elements as f32 / live)
    {
        return Some(IndexIssue::DuplicateSink {
            index,
            rows: sink.rows,
            unreachable: figures.orphans_with_rows as f32 / live,
        });
    }
    let origin = figures.origin.as_ref().filter(|_| unreachable)?;
    let by_length = origin.norm_rank >= MIN_NORM_RANK
        && shape.is_some_and(|shape| shape.metric == Metric::InnerProduct);
    let churned = (figures.deleted_elements + figures.ghosts) as f32;
    let in_clusters =
        origin.link_tightness <= MAX_TIGHTNESS && churned <= MAX_CHURNED * figures.elements as f32;
    let cause = match (by_length, in_clusters) {
        (true, _) => UnreachableCause::VariedNorms,
        (false, true) => UnreachableCause::TightClusters,
        (false, false) => return None,
    };
    Some(IndexIssue::BornUnreachable {
        index,
        count: figures.orphans_with_rows,
        cause,
    })
}

/// Whether lists were made without rows to train them on.
pub(super) fn of_lists(index: &str, figures: &IvfflatFigures) -> Option<IndexIssue> {
    let share = figures.untrained_lists as f32 / figures.lists.max(1) as f32;
    (share >= MIN_UNTRAINED && figures.centroid_quality < MAX_UNTRAINED_QUALITY).then(|| {
        IndexIssue::BuiltEmpty {
            index: index.to_owned(),
            lists: figures.untrained_lists,
        }
    })
}
