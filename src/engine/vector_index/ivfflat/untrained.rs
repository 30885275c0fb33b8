//! Centres that were never trained.
//!
//! Where pgvector has no rows to train on, or fewer than lists, it draws the components of the
//! centres that are missing from 0 to 1, each as likely as the next, and never looks at them
//! again.

use crate::vector_index::shape::IndexShape;
use crate::vector_index::value::{Value, ValueType};

/// Fewer components tell nothing.
const MIN_COMPONENTS: usize = 64;
/// Components looked at, at most.
const MAX_COMPONENTS: usize = 1 << 16;
/// The Kolmogorov–Smirnov statistic that one in a thousand samples of the distribution exceeds
/// (Stephens, EDF statistics for goodness of fit, 1974, case 0).
const CRITICAL: f64 = 1.95;

/// Collects the centres that could have been drawn so.
#[derive(Debug, Default)]
pub(super) struct Untrained {
    centers: u64,
    components: Vec<f32>,
}

impl Untrained {
    /// Shows it a centre. Of bits a drawn centre cannot be told from a trained one.
    pub(super) fn offer(&mut self, shape: &IndexShape, center: &Value<'_>) {
        if !matches!(shape.value_type, ValueType::Vector | ValueType::HalfVec) {
            return;
        }
        let largest = center.components().fold(0.0_f32, f32::max);
        // Where centres are brought to unit length, the largest component was close to 1.
        let scale = if shape.normalized && largest > 0.0 {
            1.0 / largest
        } else {
            1.0
        };
        let drawn = |x: f32| (0.0..=1.0).contains(&(x * scale));
        if largest > 0.0 && center.components().all(drawn) {
            self.centers += 1;
            let room = MAX_COMPONENTS.saturating_sub(self.components.len());
            let scaled = center.components().map(|x| x * scale);
            self.components.extend(scaled.take(room));
        }
    }

    /// How many centres were drawn: all that could have been, if their components together are
    /// spread as evenly as drawn ones would be; else none.
    pub(super) fn count(mut self) -> u64 {
        let n = self.components.len() as f64;
        if self.components.len() < MIN_COMPONENTS {
            return 0;
        }
        self.components.sort_unstable_by(f32::total_cmp);
        let apart = self.components.iter().enumerate().map(|(i, &x)| {
            let (below, to) = (i as f64 / n, (i + 1) as f64 / n);
            (f64::from(x) - below).max(to - f64::from(x))
        });
        let largest = apart.fold(0.0, f64::max);
        let statistic = largest * (n.sqrt() + 0.12 + 0.11 / n.sqrt());
        if statistic < CRITICAL {
            self.centers
        } else {
            0
        }
    }
}
