//! One value seen from another, in single precision: as exact as pgvector is itself, and as fast
//! as the processor. For whoever follows a graph and compares as it goes.

use pulp::{Arch, Simd, WithSimd};

use super::distance::{Operand, rank};
use crate::vector_index::shape::Metric;

/// Registers of sums that do not wait for one another.
const SUMS: usize = 4;

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
        let of = match self.metric {
            Metric::L2 => Of::Squares,
            Metric::InnerProduct => Of::Products,
            Metric::L1 => Of::Differences,
            _ => return rank(self.metric, a, b),
        };
        let sum = f64::from(self.arch.dispatch(Sum { of, a: x, b: y }));
        Some(match self.metric {
            Metric::InnerProduct => -sum,
            _ => sum,
        })
    }
}

/// What is summed.
#[derive(Clone, Copy)]
enum Of {
    /// (x − y)².
    Squares,
    /// x · y.
    Products,
    /// |x − y|.
    Differences,
}

/// A sum over dimensions. No closure of it may be called before the instructions are chosen: it
/// would be compiled to those that every processor has.
struct Sum<'a> {
    of: Of,
    a: &'a [f32],
    b: &'a [f32],
}

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let Self { of, a, b } = self;
        match of {
            Of::Squares => sum(
                simd,
                (a, b),
                #[inline(always)]
                |x, y, sum| {
                    let apart = simd.sub_f32s(x, y);
                    simd.mul_add_e_f32s(apart, apart, sum)
                },
                |x, y| (x - y) * (x - y),
            ),
            Of::Products => sum(
                simd,
                (a, b),
                #[inline(always)]
                |x, y, sum| simd.mul_add_e_f32s(x, y, sum),
                |x, y| x * y,
            ),
            Of::Differences => sum(
                simd,
                (a, b),
                #[inline(always)]
                |x, y, sum| simd.add_f32s(sum, simd.abs_f32s(simd.sub_f32s(x, y))),
                |x, y| (x - y).abs(),
            ),
        }
    }
}

/// Σ f(aᵢ, bᵢ): register by register, and one by one what does not fill one.
#[inline(always)]
fn sum<S: Simd>(
    simd: S,
    (a, b): (&[f32], &[f32]),
    add: impl Fn(S::f32s, S::f32s, S::f32s) -> S::f32s,
    one: impl Fn(f32, f32) -> f32,
) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let ((a, a_last), (b, b_last)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
    let mut sums = [simd.splat_f32s(0.0); SUMS];
    for (a, b) in a.iter().zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum = add(*x, *y, *sum);
        }
    }
    for ((sum, x), y) in sums.iter_mut().zip(a_last).zip(b_last) {
        *sum = add(*x, *y, *sum);
    }
    let [p, q, r, s] = sums;
    let all = simd.add_f32s(simd.add_f32s(p, q), simd.add_f32s(r, s));
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| one(*x, *y)).sum();
    simd.reduce_sum_f32s(all) + rest
}
