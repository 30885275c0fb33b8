//! Which centre is nearest to a value, for many values at once.

use crate::recall::exact::kernel::{Panels, Sum};
use crate::vector_index::ivfflat::drift::is_spherical;
use crate::vector_index::shape::IndexShape;

/// Values compared at a time: what their sums take stays small.
const AT_ONCE: usize = 60;

/// Centres, arranged to be compared with.
pub(super) struct Centers {
    panels: Panels,
    dimensions: usize,
    /// ½‖c‖² of each centre where distances are Euclidean (or Hamming's: bits are 0 and 1), else 0.
    offsets: Vec<f32>,
}

impl Centers {
    /// Centres of so many dimensions, one after another.
    pub(super) fn new(shape: &IndexShape, centers: &[f32], dimensions: usize) -> Self {
        let each = centers.chunks_exact(dimensions.max(1));
        let offsets = each.map(|center| match is_spherical(shape) {
            true => 0.0,
            false => center.iter().map(|x| x * x).sum::<f32>() / 2.0,
        });
        Self {
            offsets: offsets.collect(),
            panels: Panels::new(centers, dimensions),
            dimensions,
        }
    }

    /// The number of the centre that pgvector would put each of `values` to, these being one after
    /// another.
    pub(super) fn nearest(&self, values: &[f32]) -> Vec<u32> {
        let mut found = Vec::with_capacity(values.len() / self.dimensions.max(1));
        self.nearest_each(values, &mut |_, nearest, _| found.push(nearest));
        found
    }

    /// Shows for each of `values` its number, that of the nearest centre, and how near it is: more is
    /// nearer, by the product of the two less [`Self::offset`].
    pub(super) fn nearest_each(&self, values: &[f32], visit: &mut dyn FnMut(usize, u32, f32)) {
        let stride = self.panels.stride();
        let mut sums = vec![0.0; AT_ONCE * stride];
        let mut number = 0;
        for values in values.chunks(AT_ONCE * self.dimensions.max(1)) {
            let count = values.len() / self.dimensions.max(1);
            let sums = &mut sums[..count * stride];
            self.panels.sums(Sum::Products, values, sums);
            for sums in sums.chunks_exact(stride.max(1)) {
                let nearness = sums
                    .iter()
                    .zip(&self.offsets)
                    .map(|(sum, offset)| sum - offset);
                let best = (0..)
                    .zip(nearness)
                    .fold((0, f32::NEG_INFINITY), |best, one| {
                        if one.1 > best.1 { one } else { best }
                    });
                visit(number, best.0, best.1);
                number += 1;
            }
        }
    }

    /// What is taken off a product with a centre.
    pub(super) fn offset(&self, center: u32) -> f32 {
        self.offsets[center as usize]
    }
}

/// The sum of the products of components.
pub(super) fn product(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, b_lanes) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (a, b) in a_lanes.0.iter().zip(b_lanes.0) {
        for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += x * y;
        }
    }
    let rest = a_lanes.1.iter().zip(b_lanes.1);
    rest.map(|(x, y)| x * y).sum::<f32>() + sums.iter().sum::<f32>()
}
