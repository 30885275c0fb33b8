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

    /// Tells `each` of elements, by their number in the list, what they are about ordered by seen from
    /// one: the smaller the nearer, in units of its own; infinity where one of them has no value.
    /// Goes on as long as it says so; whether it went to the end.
    pub(super) fn apart(
        &self,
        values: &Values,
        from: usize,
        slots: &[usize],
        each: impl FnMut(usize, f64) -> bool,
    ) -> bool {
        self.arch.dispatch(Apart {
            codes: self,
            values,
            from,
            slots,
            each,
        })
    }
}

/// See [`Codes::apart`]: in one piece, so that the memory of the next is fetched meanwhile.
struct Apart<'a, Each> {
    codes: &'a Codes,
    values: &'a Values,
    from: usize,
    slots: &'a [usize],
    each: Each,
}

impl<Each: FnMut(usize, f64) -> bool> WithSimd for Apart<'_, Each> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> bool {
        let code = |slot| Some(self.codes.code(self.values.number(slot)?));
        let from = code(self.from);
        let mut slots = self.slots.iter().enumerate();
        slots.all(|(nth, &slot)| {
            let apart = match (from, code(slot)) {
                (Some(a), Some(b)) => f64::from(rank(self.codes.is_product, a, b)),
                _ => f64::INFINITY,
            };
            (self.each)(nth, apart)
        })
    }
}

/// Σ (a − b)², or −Σ ab.
#[inline(always)]
fn rank(is_product: bool, a: &[i8], b: &[i8]) -> i32 {
    let mut sum = 0;
    let pairs = a.iter().zip(b);
    if is_product {
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
