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
        let stride = self.panels.stride();
        let mut found = Vec::with_capacity(values.len() / self.dimensions.max(1));
        let mut sums = vec![0.0; AT_ONCE * stride];
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
                found.push(best.0);
            }
        }
        found
    }
}
