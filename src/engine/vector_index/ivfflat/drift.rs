//! How far the centres of lists are from their members.
//!
//! For each list the number of its members, their sum and the sum of their squares are enough:
//! Σ‖x − c‖² = Σ‖x‖² − 2 c·Σx + n‖c‖², and moving the centre onto the mean μ removes n‖μ − c‖²
//! of it. For bits the sum counts the ones, the mean is the majority, the distance Hamming's.

use crate::vector_index::shape::{IndexShape, Metric};
use crate::vector_index::value::{Value, ValueType};

/// What is known of the members of one list.
pub(super) struct Members {
    center: Vec<f32>,
    count: u64,
    sum: Vec<f64>,
    squares: f64,
}

/// What the centre of a list costs its members.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Distortion {
    /// Σ‖x − c‖².
    pub(super) whole: f64,
    /// n‖μ − c‖².
    pub(super) removable: f64,
    /// ‖μ − c‖ / √(Σ‖x − c‖² / n).
    pub(super) displacement: f64,
}

/// Bytes that a list of vectors of so many dimensions takes.
pub(super) fn bytes_per_list(dimensions: u16) -> usize {
    usize::from(dimensions) * (size_of::<f32>() + size_of::<f64>()) + size_of::<Members>()
}

/// Whether pgvector's k-means for an operator class works on directions (it has a function for
/// their norm).
pub(super) fn is_spherical(shape: &IndexShape) -> bool {
    matches!(shape.metric, Metric::InnerProduct | Metric::Cosine)
}

impl Members {
    /// A list without members yet. None where its centre cannot be read.
    pub(super) fn new(shape: &IndexShape, center: &[u8]) -> Option<Self> {
        let value = Value::decode(shape.value_type, center).ok()?;
        let center: Vec<f32> = value.components().collect();
        // A sparse vector, which no list has, may claim any dimensions.
        (center.len() == value.dimensions() as usize).then(|| Self {
            count: 0,
            sum: vec![0.0; center.len()],
            squares: 0.0,
            center,
        })
    }

    /// Dimensions of the centre.
    pub(super) fn dimensions(&self) -> usize {
        self.center.len()
    }

    /// A list whose centre does not matter, of so many dimensions.
    pub(super) fn anywhere(dimensions: usize) -> Self {
        Self {
            center: vec![0.0; dimensions],
            count: 0,
            sum: vec![0.0; dimensions],
            squares: 0.0,
        }
    }

    /// Where the centre belongs: the mean, of unit length where directions are compared; of bits
    /// the share of ones. None without members, and where their sum is no number or has no
    /// direction.
    pub(super) fn mean(&self, shape: &IndexShape) -> Option<Vec<f32>> {
        let divisor = match is_spherical(shape) {
            true => self.sum.iter().map(|s| s * s).sum::<f64>().sqrt(),
            false => self.count as f64,
        };
        let mean: Vec<f32> = self.sum.iter().map(|s| (s / divisor) as f32).collect();
        let known = divisor > 0.0 && self.count > 0;
        (known && mean.iter().all(|x| x.is_finite())).then_some(mean)
    }

    /// Adds a member.
    pub(super) fn add(&mut self, shape: &IndexShape, value: &[u8]) {
        let value = Value::decode(shape.value_type, value).ok();
        let Some(value) = value.filter(|v| v.dimensions() as usize == self.sum.len()) else {
            return;
        };
        let scale = match is_spherical(shape).then(|| value.norm()) {
            Some(norm) if norm > 0.0 && norm.is_finite() => 1.0 / norm,
            _ => 1.0,
        };
        self.count += 1;
        match value {
            Value::Vector(bytes) => {
                let floats = bytes.as_chunks().0.iter();
                self.add_components(scale, floats.map(|float| f32::from_le_bytes(*float)));
            }
            _ => self.add_components(scale, value.components()),
        }
    }

    #[inline]
    fn add_components(&mut self, scale: f64, components: impl Iterator<Item = f32>) {
        // Sums that do not wait for one another.
        let mut squares = [0.0; 4];
        for (nth, (sum, x)) in self.sum.iter_mut().zip(components).enumerate() {
            let x = f64::from(x) * scale;
            *sum += x;
            squares[nth % 4] += x * x;
        }
        self.squares += squares.iter().sum::<f64>();
    }

    /// What the centre costs.
    pub(super) fn distortion(&self, shape: &IndexShape) -> Distortion {
        if self.count == 0 {
            return Distortion::default();
        }
        let count = self.count as f64;
        let (whole, removable) = match shape.value_type {
            ValueType::Bit => self.in_bits(count),
            _ => self.in_floats(count, is_spherical(shape)),
        };
        // Values that are no numbers, or beyond all numbers, cost nothing that could be said.
        if !(whole.is_finite() && removable.is_finite()) {
            return Distortion::default();
        }
        let whole = whole.max(0.0);
        let removable = removable.clamp(0.0, whole);
        let displacement = if whole > 0.0 {
            (removable / whole).sqrt()
        } else {
            0.0
        };
        Distortion {
            whole,
            removable,
            displacement,
        }
    }

    fn in_bits(&self, count: f64) -> (f64, f64) {
        let bits = self.center.iter().zip(&self.sum);
        bits.fold((0.0, 0.0), |(whole, removable), (&center, &ones)| {
            let differ = if center > 0.5 { count - ones } else { ones };
            let moved = if differ > count - differ { count } else { 0.0 };
            (whole + differ, removable + moved)
        })
    }

    fn in_floats(&self, count: f64, spherical: bool) -> (f64, f64) {
        let norm = self.sum.iter().map(|s| s * s).sum::<f64>().sqrt();
        let divisor = if spherical && norm > 0.0 { norm } else { count };
        let pairs = || self.center.iter().map(|&c| f64::from(c)).zip(&self.sum);
        let dot: f64 = pairs().map(|(c, s)| c * s).sum();
        let center: f64 = pairs().map(|(c, _)| c * c).sum();
        let moved: f64 = pairs().map(|(c, s)| (s / divisor - c).powi(2)).sum();
        (self.squares - 2.0 * dot + count * center, count * moved)
    }
}
