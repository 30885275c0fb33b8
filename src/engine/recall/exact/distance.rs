//! Distances between two values, in double precision.
//!
//! Owns what each metric means; everything faster is checked against this. Must not know of
//! rows or queries.
//!
//! A *rank* is what neighbours are ordered by: the distance, for L2 its square.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::vector_index::shape::Metric;
use crate::vector_index::value::Value;

/// Distances that differ by less than this share are ties.
pub(super) const TIE: f64 = 1e-6;

/// The distance as pgvector's operator of a metric gives it (`<->`, `<#>`, `<=>`, `<+>`, `<~>`,
/// `<%>`). None where there is none: other types or dimensions, a metric that the type does not
/// have, the cosine of a value without norm, a component that is not a number.
pub fn distance(metric: Metric, a: &Value<'_>, b: &Value<'_>) -> Option<f64> {
    let (a, b) = (Operand::of(a)?, Operand::of(b)?);
    let distance = from_rank(metric, rank(metric, &a, &b)?);
    (!distance.is_nan()).then_some(distance)
}

/// A value, decoded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    /// `vector`, `halfvec`.
    Floats(Vec<f32>),
    /// The first bit the highest of the first word; what is past the last bit is 0.
    Bits { bits: u32, words: Vec<u64> },
    /// Indices ascend.
    Sparse {
        dimensions: u32,
        components: Vec<(u32, f32)>,
    },
}

impl Operand {
    /// None where the value is one that pgvector never stores.
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        if value.fault().is_some() {
            return None;
        }
        Some(match *value {
            Value::Vector(_) | Value::HalfVec(_) => {
                let mut floats = vec![0.0; value.dimensions() as usize];
                floats_into(value, &mut floats);
                Self::Floats(floats)
            }
            Value::Bit { bits, bytes } => {
                let mut words = Vec::new();
                words_into(bytes, &mut words);
                Self::Bits { bits, words }
            }
            Value::SparseVec { dimensions, .. } => Self::Sparse {
                dimensions,
                components: value.indices().zip(value.components()).collect(),
            },
        })
    }

    pub(super) fn dimensions(&self) -> u32 {
        match self {
            Self::Floats(floats) => u32::try_from(floats.len()).unwrap_or(u32::MAX),
            Self::Bits { bits, .. } => *bits,
            Self::Sparse { dimensions, .. } => *dimensions,
        }
    }

    /// Euclidean norm; that of bits is not asked for.
    #[inline(always)]
    pub(super) fn norm(&self) -> f64 {
        match self {
            Self::Floats(floats) => norm(floats),
            Self::Bits { .. } => 0.0,
            Self::Sparse { components, .. } => sparse_norm(components),
        }
    }
}

/// Copies the floats of a `vector` or `halfvec` of exactly so many dimensions.
pub(super) fn floats_into(value: &Value<'_>, into: &mut [f32]) {
    match *value {
        Value::Vector(bytes) => {
            for (x, chunk) in into.iter_mut().zip(bytes.as_chunks().0) {
                *x = f32::from_le_bytes(*chunk);
            }
        }
        Value::HalfVec(bytes) => {
            // Through a buffer: the conversion of a slice finds out once what the processor can.
            let mut halves = [f16::ZERO; 64];
            for (into, bytes) in into.chunks_mut(64).zip(bytes.chunks(128)) {
                for (half, chunk) in halves.iter_mut().zip(bytes.as_chunks().0) {
                    *half = f16::from_le_bytes(*chunk);
                }
                halves[..into.len()].convert_to_f32_slice(into);
            }
        }
        _ => {}
    }
}

/// Bytes of a bit string as words, the last filled up with zeroes.
pub(super) fn words_into(bytes: &[u8], words: &mut Vec<u64>) {
    let (whole, rest) = bytes.as_chunks();
    words.extend(whole.iter().map(|chunk| u64::from_be_bytes(*chunk)));
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words.push(u64::from_be_bytes(last));
    }
}

/// The distance of a rank.
pub(super) fn from_rank(metric: Metric, rank: f64) -> f64 {
    match metric {
        Metric::L2 => rank.sqrt(),
        _ => rank,
    }
}

/// The rank of one value seen from another. None where they cannot be compared.
pub(crate) fn rank(metric: Metric, a: &Operand, b: &Operand) -> Option<f64> {
    match (a, b) {
        (Operand::Floats(a), Operand::Floats(b)) if a.len() == b.len() => {
            dense(metric, a, b, norms_for(metric, || (norm(a), norm(b))))
        }
        (Operand::Bits { bits, words }, Operand::Bits { bits: n, words: w }) if bits == n => {
            bitwise(metric, words, w)
        }
        (
            Operand::Sparse {
                dimensions,
                components,
            },
            Operand::Sparse {
                dimensions: n,
                components: c,
            },
        ) if dimensions == n => {
            let norms = norms_for(metric, || (sparse_norm(components), sparse_norm(c)));
            sparse(metric, components, c, norms)
        }
        _ => None,
    }
}

/// Norms are only asked for by the cosine.
fn norms_for(metric: Metric, norms: impl FnOnce() -> (f64, f64)) -> (f64, f64) {
    match metric {
        Metric::Cosine => norms(),
        _ => (0.0, 0.0),
    }
}

/// What the rounding of a distance is relative to, besides the distance itself: pgvector sums
/// products in single precision, and they may cancel. `norms`: of the two values.
pub(super) fn rounding_scale(metric: Metric, norms: (f64, f64)) -> f64 {
    match metric {
        Metric::InnerProduct => norms.0 * norms.1,
        Metric::Cosine => 1.0,
        _ => 0.0,
    }
}

/// The rank of floats of the same number of dimensions. `norms`: theirs, for the cosine.
#[inline(always)]
pub(super) fn dense(metric: Metric, a: &[f32], b: &[f32], norms: (f64, f64)) -> Option<f64> {
    match metric {
        Metric::L2 => Some(sum(a, b, |x, y| (x - y) * (x - y))),
        Metric::InnerProduct => Some(-sum(a, b, |x, y| x * y)),
        Metric::Cosine => cosine(sum(a, b, |x, y| x * y), norms),
        Metric::L1 => Some(sum(a, b, |x, y| (x - y).abs())),
        Metric::Hamming | Metric::Jaccard => None,
    }
}

/// 1 − the cosine, as pgvector keeps it within 0 … 2.
#[inline(always)]
fn cosine(product: f64, norms: (f64, f64)) -> Option<f64> {
    let cosine = product / (norms.0 * norms.1);
    (norms.0 > 0.0 && norms.1 > 0.0).then(|| 1.0 - cosine.clamp(-1.0, 1.0))
}

/// Euclidean norm.
pub(super) fn norm(a: &[f32]) -> f64 {
    sum(a, a, |x, y| x * y).sqrt()
}

/// Σ f(aᵢ, bᵢ), in sums that do not wait for one another.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], f: impl Fn(f64, f64) -> f64) -> f64 {
    let f = |x: &f32, y: &f32| f(f64::from(*x), f64::from(*y));
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += f(x, y);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| f(x, y)).sum();
    sums.iter().sum::<f64>() + rest
}

/// The rank of bit strings of the same length. Without a shared bit pgvector's Jaccard distance
/// is 1, of two empty sets too.
#[inline(always)]
pub(super) fn bitwise(metric: Metric, a: &[u64], b: &[u64]) -> Option<f64> {
    let count = |f: fn(u64, u64) -> u64| -> u64 {
        let words = a.iter().zip(b);
        words.map(|(&x, &y)| u64::from(f(x, y).count_ones())).sum()
    };
    match metric {
        Metric::Hamming => Some(count(|x, y| x ^ y) as f64),
        Metric::Jaccard => Some(jaccard(count(|x, y| x & y), count(|x, y| x | y))),
        _ => None,
    }
}

/// 1 − shared / either.
pub(super) fn jaccard(shared: u64, either: u64) -> f64 {
    match shared {
        0 => 1.0,
        _ => 1.0 - shared as f64 / either as f64,
    }
}

/// The rank of sparse vectors of the same number of dimensions. `norms`: theirs, for the cosine.
pub(super) fn sparse(
    metric: Metric,
    a: &[(u32, f32)],
    b: &[(u32, f32)],
    norms: (f64, f64),
) -> Option<f64> {
    match metric {
        Metric::L2 => Some(merge(a, b, |x, y| (x - y) * (x - y))),
        Metric::InnerProduct => Some(-merge(a, b, |x, y| x * y)),
        Metric::Cosine => cosine(merge(a, b, |x, y| x * y), norms),
        Metric::L1 => Some(merge(a, b, |x, y| (x - y).abs())),
        Metric::Hamming | Metric::Jaccard => None,
    }
}

/// Euclidean norm of a sparse vector.
pub(super) fn sparse_norm(a: &[(u32, f32)]) -> f64 {
    a.iter()
        .map(|(_, x)| f64::from(*x) * f64::from(*x))
        .sum::<f64>()
        .sqrt()
}

/// Σ f(aᵢ, bᵢ) over the indices that either has.
fn merge(a: &[(u32, f32)], b: &[(u32, f32)], f: impl Fn(f64, f64) -> f64) -> f64 {
    let (mut i, mut j, mut total) = (0, 0, 0.0);
    loop {
        let (x, y) = match (a.get(i), b.get(j)) {
            (Some(&(at, x)), Some(&(other, y))) if at == other => (x, y),
            (Some(&(at, x)), Some(&(other, _))) if at < other => (x, 0.0),
            (Some(&(_, x)), None) => (x, 0.0),
            (_, Some(&(_, y))) => (0.0, y),
            (None, None) => return total,
        };
        let (at, other) = (a.get(i).map(|c| c.0), b.get(j).map(|c| c.0));
        i += usize::from(at.is_some_and(|at| other.is_none_or(|other| at <= other)));
        j += usize::from(other.is_some_and(|other| at.is_none_or(|at| other <= at)));
        total += f(f64::from(x), f64::from(y));
    }
}
