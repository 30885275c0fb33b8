//! Which centre is nearest to a value, for many values at once.
//!
//! Products in single precision tell which centres may be the nearest; which of them is follows
//! from distances, as where values are far from nothing and near one another they say little.

use std::iter::Sum as Summed;
use std::ops::AddAssign;

use crate::recall::exact::kernel::{Panels, Sum};
use crate::vector_index::ivfflat::drift::is_spherical;
use crate::vector_index::shape::IndexShape;

/// Values compared at a time: what their sums take stays small.
const AT_ONCE: usize = 60;
/// Numbers that are computed at a time.
const LANES: usize = 8;
/// Half the distance of two neighbouring numbers of single precision at 1: what a product is rounded by.
const ROUNDING: f32 = f32::EPSILON / 2.0;

/// Centres, arranged to be compared with.
pub(super) struct Centers {
    panels: Panels,
    /// One after another.
    floats: Vec<f32>,
    dimensions: usize,
    spherical: bool,
    /// ½‖c‖² of each centre where distances are Euclidean (or Hamming's: bits are 0 and 1), else 0.
    offsets: Vec<f32>,
    /// The largest ‖c‖.
    longest: f32,
}

impl Centers {
    /// Centres of so many dimensions, one after another.
    pub(super) fn new(shape: &IndexShape, centers: &[f32], dimensions: usize) -> Self {
        let each = || centers.chunks_exact(dimensions.max(1));
        let spherical = is_spherical(shape);
        let offset = |center| match spherical {
            true => 0.0,
            false => product(center, center) / 2.0,
        };
        let lengths = each().map(|center| product(center, center).sqrt());
        Self {
            offsets: each().map(offset).collect(),
            longest: lengths.fold(0.0, f32::max),
            panels: Panels::new(centers, dimensions),
            floats: centers.to_vec(),
            dimensions,
            spherical,
        }
    }

    /// One of them.
    pub(super) fn center(&self, number: u32) -> &[f32] {
        &self.floats[number as usize * self.dimensions..][..self.dimensions]
    }

    /// All of them.
    pub(super) fn each(&self) -> impl Iterator<Item = &[f32]> {
        self.floats.chunks_exact(self.dimensions.max(1))
    }

    /// How far a value is from a centre, as pgvector compares: the square of the distance, or the
    /// negative product where directions are compared.
    pub(super) fn apart(&self, value: &[f32], center: &[f32]) -> f64 {
        match self.spherical {
            true => -sum_over(value, center, |x, c| f64::from(x) * f64::from(c)),
            false => sum_over(value, center, |x, c| (f64::from(x) - f64::from(c)).powi(2)),
        }
    }

    /// The number of the centre that pgvector would put each of `values` to, these being one after
    /// another.
    pub(super) fn nearest(&self, values: &[f32]) -> Vec<u32> {
        let mut found = Vec::with_capacity(values.len() / self.dimensions.max(1));
        self.nearest_each(values, &mut |_, nearest, _| found.push(nearest));
        found
    }

    /// Shows for each of `values` its number, that of the nearest centre, and how far that is.
    pub(super) fn nearest_each(&self, values: &[f32], visit: &mut dyn FnMut(usize, u32, f64)) {
        let (stride, dimensions) = (self.panels.stride(), self.dimensions.max(1));
        let mut sums = vec![0.0; AT_ONCE * stride];
        let mut number = 0;
        for values in values.chunks(AT_ONCE * dimensions) {
            let sums = &mut sums[..values.len() / dimensions * stride];
            self.panels.sums(Sum::Products, values, sums);
            let each = values.chunks_exact(dimensions);
            for (value, sums) in each.zip(sums.chunks_exact(stride.max(1))) {
                let (nearest, apart) = self.nearest_by(value, sums);
                visit(number, nearest, apart);
                number += 1;
            }
        }
    }

    /// The nearest of those that may be by their products with a value.
    fn nearest_by(&self, value: &[f32], sums: &[f32]) -> (u32, f64) {
        let sums = &sums[..self.offsets.len()];
        let best = best_difference(sums, &self.offsets);
        let length = product(value, value).sqrt().max(self.longest);
        let error = self.dimensions as f32 * ROUNDING * length * length;
        let least = best - 2.0 * error;
        let mut nearest = (0, f64::INFINITY);
        for (nth, (sums, offsets)) in sums
            .chunks(LANES)
            .zip(self.offsets.chunks(LANES))
            .enumerate()
        {
            if best_difference(sums, offsets) < least {
                continue;
            }
            for (number, (sum, offset)) in (nth * LANES..).zip(sums.iter().zip(offsets)) {
                if sum - offset >= least {
                    let apart = self.apart(value, self.center(number as u32));
                    if apart < nearest.1 {
                        nearest = (number as u32, apart);
                    }
                }
            }
        }
        nearest
    }
}

/// The largest difference of numbers, in lanes that do not wait for one another.
fn best_difference(from: &[f32], less: &[f32]) -> f32 {
    let (from, less) = (from.as_chunks::<LANES>(), less.as_chunks::<LANES>());
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let larger = |best: &mut f32, (from, less): (&f32, &f32)| {
        let difference = from - less;
        *best = if difference > *best {
            difference
        } else {
            *best
        };
    };
    for (from, less) in from.0.iter().zip(less.0) {
        for (best, pair) in lanes.iter_mut().zip(from.iter().zip(less)) {
            larger(best, pair);
        }
    }
    let rest = from.1.iter().zip(less.1);
    lanes
        .iter_mut()
        .zip(rest)
        .for_each(|(best, pair)| larger(best, pair));
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The square of the distance between two points.
pub(super) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    sum_over(a, b, |x, y| (x - y) * (x - y))
}

/// The sum of the products of components.
fn product(a: &[f32], b: &[f32]) -> f32 {
    sum_over(a, b, |x, y| x * y)
}

/// What is made of each pair of components, summed in lanes that do not wait for one another.
pub(super) fn sum_over<T>(a: &[f32], b: &[f32], made: impl Fn(f32, f32) -> T) -> T
where
    T: Copy + Default + AddAssign + Summed,
{
    let (a_lanes, b_lanes) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [T::default(); LANES];
    for (a, b) in a_lanes.0.iter().zip(b_lanes.0) {
        for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += made(*x, *y);
        }
    }
    let rest = a_lanes.1.iter().zip(b_lanes.1);
    let rest = rest.map(|(x, y)| made(*x, *y));
    rest.chain(sums).sum()
}
