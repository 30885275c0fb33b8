//! One value seen from another, in single precision: as exact as pgvector is itself, and as fast
//! as the processor. For whoever follows a graph and compares as it goes.

use pulp::Arch;

use super::distance::{Operand, rank};
use crate::vector_index::shape::Metric;

/// Sums that do not wait for one another.
const LANES: usize = 16;

/// How values are compared.
pub(crate) struct Pairs {
    metric: Metric,
    arch: Arch,
}

impl Pairs {
    /// Compares by a metric.
    pub(crate) fn new(metric: Metric) -> Self {
        Self {
            metric,
            arch: Arch::new(),
        }
    }

    /// What values are ordered by, seen from `a`: the smaller the nearer. None where they cannot
    /// be compared.
    pub(crate) fn rank(&self, a: &Operand, b: &Operand) -> Option<f64> {
        let (Operand::Floats(x), Operand::Floats(y)) = (a, b) else {
            return rank(self.metric, a, b);
        };
        if x.len() != y.len() {
            return None;
        }
        let sum = match self.metric {
            Metric::L2 => self.sum(x, y, |x, y| (x - y) * (x - y)),
            Metric::InnerProduct => -self.sum(x, y, |x, y| x * y),
            Metric::L1 => self.sum(x, y, |x, y| (x - y).abs()),
            _ => return rank(self.metric, a, b),
        };
        Some(f64::from(sum))
    }

    fn sum(&self, a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
        self.arch.dispatch(
            #[inline(always)]
            || {
                let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
                let mut sums = [0.0; LANES];
                for (a, b) in a.iter().zip(b) {
                    for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
                        *sum += f(*x, *y);
                    }
                }
                let rest = a_rest.iter().zip(b_rest).map(|(x, y)| f(*x, *y));
                sums.iter().sum::<f32>() + rest.sum::<f32>()
            },
        )
    }
}
