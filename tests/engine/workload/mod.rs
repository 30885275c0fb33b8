//! Queries captured from statements, without a server: which are kept, for how long, and when they are enough.

// Who gets a place, in a shelf and in a sample.
mod places;
// Taking up what was captured, cycle after cycle.
mod visits;

use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::ValueType;

/// Vectors of three dimensions.
fn shape(metric: Metric) -> IndexShape {
    IndexShape {
        value_type: ValueType::Vector,
        metric,
        normalized: metric == Metric::Cosine,
        dimensions: Some(3),
        option: None,
    }
}

/// A vector as it stands behind its length word.
fn vector(components: &[f32]) -> Vec<u8> {
    let mut bytes = vec![components.len() as u8, 0, 0, 0];
    bytes.extend(components.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}
