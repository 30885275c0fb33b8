//! Where the centres of a rebuild would be, about: k-means on a small sample.
//!
//! Seeds as pgvector does (Arthur and Vassilvitskii, k-means++, 2007), then Lloyd's iterations, few:
//! what a forecast is wanted for is whether a rebuild is worth its time.

use super::centers::{Centers, sum_over};
use crate::vector_index::ivfflat::drift::is_spherical;
use crate::vector_index::sample::SplitMix;
use crate::vector_index::shape::IndexShape;

/// Iterations.
pub(super) const ITERATIONS: usize = 6;

/// Centres for as many lists from a sample, all one after another; those of the samples where
/// there are no more of them than lists.
pub(super) fn train(
    shape: &IndexShape,
    sample: &[f32],
    dimensions: usize,
    lists: usize,
    seed: u64,
) -> Vec<f32> {
    if sample.len() <= lists * dimensions {
        return sample.to_vec();
    }
    let mut centers = seeds(sample, dimensions, lists, seed);
    for _ in 0..ITERATIONS {
        let nearest = Centers::new(shape, &centers, dimensions).nearest(sample);
        move_to_means(shape, sample, dimensions, &nearest, &mut centers);
    }
    centers
}

/// Each further one drawn with a probability that rises with the square of its distance from those drawn.
fn seeds(sample: &[f32], dimensions: usize, lists: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix(seed);
    let count = sample.len() / dimensions;
    let one = |nth: usize| &sample[nth * dimensions..][..dimensions];
    let mut apart = vec![f32::INFINITY; count];
    let mut drawn = random.below(count as u64) as usize;
    let mut centers = Vec::with_capacity(lists * dimensions);
    loop {
        centers.extend_from_slice(one(drawn));
        if centers.len() == lists * dimensions {
            return centers;
        }
        for (nth, apart) in apart.iter_mut().enumerate() {
            *apart = apart.min(squared(one(nth), one(drawn)));
        }
        let whole: f64 = apart.iter().map(|&apart| f64::from(apart)).sum();
        let mut left = whole * (random.below(1 << 53) as f64 / (1_u64 << 53) as f64);
        let passed = apart.iter().position(|&apart| {
            left -= f64::from(apart);
            left < 0.0
        });
        drawn = passed.unwrap_or_else(|| random.below(count as u64) as usize);
    }
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    sum_over(a, b, |x, y| (x - y) * (x - y))
}

/// Moves centres to the means of those nearest to them; one that has none stays.
fn move_to_means(
    shape: &IndexShape,
    sample: &[f32],
    dimensions: usize,
    nearest: &[u32],
    centers: &mut [f32],
) {
    let mut sums = vec![0.0_f32; centers.len()];
    let mut counts = vec![0_u32; centers.len() / dimensions];
    for (value, &list) in sample.chunks_exact(dimensions).zip(nearest) {
        counts[list as usize] += 1;
        let sum = &mut sums[list as usize * dimensions..][..dimensions];
        for (sum, x) in sum.iter_mut().zip(value) {
            *sum += x;
        }
    }
    let both = centers
        .chunks_exact_mut(dimensions)
        .zip(sums.chunks_exact(dimensions));
    for ((center, sum), &count) in both.zip(&counts) {
        let divisor = match is_spherical(shape) {
            true => sum.iter().map(|s| s * s).sum::<f32>().sqrt(),
            false => count as f32,
        };
        if count > 0 && divisor > 0.0 {
            for (x, sum) in center.iter_mut().zip(sum) {
                *x = sum / divisor;
            }
        }
    }
}
