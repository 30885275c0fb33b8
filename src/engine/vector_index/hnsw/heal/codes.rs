//! Values in a byte a component, for telling which of many are about nearest: a quarter of the memory,
//! and of the time to fetch it.

use pulp::{Arch, Simd, WithSimd};

use super::values::Values;
use crate::recall::exact::distance::Operand;
use crate::vector_index::shape::Metric;

/// Components are cut off at so many times their root mean square.
const CUT_OFF: f64 = 5.0;
const HIGHEST: f64 = 127.0;

/// Codes of values, one after another.
pub(super) struct Codes {
    arch: Arch,
    is_product: bool,
    dimensions: usize,
    codes: Vec<i8>,
}

impl Codes {
    /// Bytes they take for so many values.
    pub(super) fn bytes_for(values: usize, dimensions: usize) -> usize {
        values.saturating_mul(dimensions)
    }

    /// Codes of all values that are kept, by their number, to be compared by a metric, or by the
    /// Euclidean instead of one that goes along with it; none where these are no floats.
    pub(super) fn of(values: &Values, metric: Metric) -> Option<Self> {
        let (mut squares, mut count, mut dimensions) = (0.0, 0_usize, None);
        for operand in values.all() {
            let Operand::Floats(floats) = operand else {
                return None;
            };
            if *dimensions.get_or_insert(floats.len()) != floats.len() {
                return None;
            }
            squares += floats.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            count += floats.len();
        }
        let dimensions = dimensions.filter(|&dimensions| dimensions > 0)?;
        let step = CUT_OFF * (squares / count as f64).sqrt() / HIGHEST;
        let scale = if step > 0.0 { (1.0 / step) as f32 } else { 0.0 };
        let mut codes = Vec::with_capacity(count);
        for operand in values.all() {
            if let Operand::Floats(floats) = operand {
                // A conversion of floats ends at the limits.
                codes.extend(floats.iter().map(|x| (x * scale).round() as i8));
            }
        }
        Some(Self {
            arch: Arch::new(),
            is_product: metric == Metric::InnerProduct,
            dimensions,
            codes,
        })
    }

    fn code(&self, number: usize) -> &[i8] {
        let start = number * self.dimensions;
        self.codes
            .get(start..start + self.dimensions)
            .unwrap_or_default()
    }

    /// What elements are about ordered by, seen from one: the smaller the nearer, in units of its own;
    /// infinity where one of them has no value.
    pub(super) fn apart(&self, values: &Values, from: usize, slot: usize) -> f64 {
        let both = values.number(from).zip(values.number(slot));
        both.map_or(f64::INFINITY, |(a, b)| f64::from(self.rank(a, b)))
    }

    fn rank(&self, a: usize, b: usize) -> i32 {
        self.arch.dispatch(Rank {
            is_product: self.is_product,
            a: self.code(a),
            b: self.code(b),
        })
    }
}

/// Σ (a − b)², or −Σ ab.
struct Rank<'a> {
    is_product: bool,
    a: &'a [i8],
    b: &'a [i8],
}

impl WithSimd for Rank<'_> {
    type Output = i32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> i32 {
        let mut sum = 0;
        let pairs = self.a.iter().zip(self.b);
        if self.is_product {
            for (a, b) in pairs {
                sum -= i32::from(i16::from(*a) * i16::from(*b));
            }
        } else {
            for (a, b) in pairs {
                let apart = i32::from(i16::from(*a) - i16::from(*b));
                sum += apart * apart;
            }
        }
        sum
    }
}
