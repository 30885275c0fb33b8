//! pgvector's values as they stand in index tuples: `vector`, `halfvec`, `bit`, `sparsevec`.
//!
//! Owns their decoding from hostile bytes. Knows nothing of tuples, pages or distances.

use half::f16;
use serde::{Deserialize, Serialize};

use super::page::{u16_at, u32_at};

/// Types of values an index can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// 32-bit floats.
    Vector,
    /// 16-bit floats.
    HalfVec,
    /// PostgreSQL's bit strings.
    Bit,
    /// 32-bit floats with their indices, zeroes left out.
    SparseVec,
}

/// A value, its bytes not yet copied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Floats of 4 bytes.
    Vector(&'a [u8]),
    /// Floats of 2 bytes.
    HalfVec(&'a [u8]),
    /// Bits, the first of a byte the highest.
    Bit {
        /// How many.
        bits: u32,
        /// Them.
        bytes: &'a [u8],
    },
    /// Indices of 4 bytes, from 0, and as many floats of 4 bytes.
    SparseVec {
        /// Of the whole vector.
        dimensions: u32,
        /// Ascending.
        indices: &'a [u8],
        /// What stands at them.
        values: &'a [u8],
    },
}

impl<'a> Value<'a> {
    /// Reads what follows a value's length word. Fails with what is wrong with it.
    pub fn decode(value_type: ValueType, data: &'a [u8]) -> Result<Self, String> {
        let short = || format!("the value has {} bytes", data.len());
        let exactly = |bytes: &'a [u8], wanted: usize| match bytes.len() == wanted {
            true => Ok(bytes),
            false => Err(format!(
                "the value has {} bytes where its dimensions ask for {wanted}",
                bytes.len()
            )),
        };
        match value_type {
            ValueType::Vector | ValueType::HalfVec => {
                let (head, floats) = data.split_at_checked(4).ok_or_else(short)?;
                let dimensions = u16_at(head, 0).cast_signed();
                if dimensions < 1 {
                    return Err(format!("the value has {dimensions} dimensions"));
                }
                let dimensions = dimensions as usize;
                if value_type == ValueType::Vector {
                    exactly(floats, 4 * dimensions).map(Self::Vector)
                } else {
                    exactly(floats, 2 * dimensions).map(Self::HalfVec)
                }
            }
            ValueType::Bit => {
                let (head, bytes) = data.split_at_checked(4).ok_or_else(short)?;
                let bits = u32_at(head, 0);
                if bits.cast_signed() < 1 {
                    return Err(format!("the value has {} bits", bits.cast_signed()));
                }
                let bytes = exactly(bytes, bits.div_ceil(8) as usize)?;
                Ok(Self::Bit { bits, bytes })
            }
            ValueType::SparseVec => {
                let (head, rest) = data.split_at_checked(12).ok_or_else(short)?;
                let (dimensions, stored) = (u32_at(head, 0), u32_at(head, 4));
                if dimensions.cast_signed() < 1 || stored > dimensions {
                    return Err(format!(
                        "the value has {stored} of {} dimensions",
                        dimensions.cast_signed()
                    ));
                }
                let wanted = usize::try_from(stored)
                    .ok()
                    .and_then(|stored| stored.checked_mul(8))
                    .ok_or_else(short)?;
                let (indices, values) = exactly(rest, wanted)?.split_at(wanted / 2);
                Ok(Self::SparseVec {
                    dimensions,
                    indices,
                    values,
                })
            }
        }
    }

    /// What stands after the length word of a value with these components, a bit being set where
    /// its component is more than a half. None where the type leaves zeroes out, and where a
    /// component leaves its range.
    pub fn encode(value_type: ValueType, components: &[f32]) -> Option<Vec<u8>> {
        let count = u32::try_from(components.len()).ok()?;
        let mut data = count.to_le_bytes().to_vec();
        match value_type {
            ValueType::Vector => data.extend(components.iter().flat_map(|c| c.to_le_bytes())),
            ValueType::HalfVec => {
                let halves = components.iter().map(|&c| f16::from_f32(c));
                data.extend(halves.flat_map(f16::to_le_bytes));
            }
            ValueType::Bit => data.extend(components.chunks(8).map(|bits| {
                let set = (0..8).zip(bits).filter(|(_, bit)| **bit > 0.5);
                set.fold(0, |byte, (nth, _)| byte | 0x80_u8 >> nth)
            })),
            ValueType::SparseVec => return None,
        }
        let value = Value::decode(value_type, &data).ok()?;
        value.fault().is_none().then_some(data)
    }

    /// Dimensions, or bits.
    pub fn dimensions(&self) -> u32 {
        match self {
            Self::Vector(floats) => (floats.len() / 4) as u32,
            Self::HalfVec(floats) => (floats.len() / 2) as u32,
            Self::Bit { bits, .. } => *bits,
            Self::SparseVec { dimensions, .. } => *dimensions,
        }
    }

    /// Its components, those of a sparse vector that are not left out; of bits 0 and 1.
    pub fn components(&self) -> Box<dyn Iterator<Item = f32> + 'a> {
        match *self {
            Self::Vector(floats) | Self::SparseVec { values: floats, .. } => {
                Box::new(floats.chunks_exact(4).map(|c| f32::from_bits(u32_at(c, 0))))
            }
            Self::HalfVec(floats) => Box::new(
                floats
                    .chunks_exact(2)
                    .map(|c| f16::from_bits(u16_at(c, 0)).to_f32()),
            ),
            Self::Bit { bits, bytes } => Box::new(
                (0..bits).map(move |n| f32::from(bytes[n as usize / 8] >> (7 - n % 8) & 1)),
            ),
        }
    }

    /// Puts its components behind others.
    pub fn append_to(&self, floats: &mut Vec<f32>) {
        match self {
            // Most values, copied as they stand.
            Self::Vector(bytes) => {
                floats.extend(bytes.as_chunks().0.iter().map(|c| f32::from_le_bytes(*c)));
            }
            _ => floats.extend(self.components()),
        }
    }

    /// The indices of a sparse vector's components.
    pub fn indices(&self) -> impl Iterator<Item = u32> + 'a {
        let indices: &'a [u8] = match *self {
            Self::SparseVec { indices, .. } => indices,
            _ => &[],
        };
        indices.chunks_exact(4).map(|chunk| u32_at(chunk, 0))
    }

    /// Its Euclidean norm.
    pub fn norm(&self) -> f64 {
        self.components()
            .map(|x| f64::from(x) * f64::from(x))
            .sum::<f64>()
            .sqrt()
    }

    /// What pgvector would never have stored, if anything: not a number or infinite, indices
    /// out of order or range, bits set past the last.
    pub fn fault(&self) -> Option<String> {
        if let Self::Bit { bits, bytes } = *self {
            let past = (8 - bits % 8) % 8;
            let spare = (1_u16 << past) - 1;
            return bytes
                .last()
                .is_some_and(|&last| u16::from(last) & spare != 0)
                .then(|| "bits are set past the last".into());
        }
        if let Some(nth) = self.components().position(|x| !x.is_finite()) {
            return Some(format!("component {} is not finite", nth + 1));
        }
        let mut before = None;
        for index in self.indices() {
            if before.is_some_and(|before| index <= before) || index >= self.dimensions() {
                return Some(format!("index {index} is out of order or range"));
            }
            before = Some(index);
        }
        None
    }

    /// Whether `other` is the same value, or, where this one was stored at unit length, the
    /// same direction: but for rounding, which differs between builds of pgvector.
    pub fn is_same(&self, other: &Value<'_>, normalized: bool) -> bool {
        let scale = match other.norm() {
            norm if normalized && norm > 0.0 => 1.0 / norm,
            _ => 1.0,
        };
        let tolerance = match self {
            Self::HalfVec(_) => 2e-3,
            _ => 1e-5,
        };
        // What rounding leaves of small components of a vector of length 1.
        let small = if normalized { 1e-2 } else { 0.0 };
        let close = |(a, b): (f32, f32)| {
            let (a, b) = (f64::from(a), f64::from(b) * scale);
            (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(small)
        };
        self.dimensions() == other.dimensions()
            && self.indices().eq(other.indices())
            && self.components().count() == other.components().count()
            && self.components().zip(other.components()).all(close)
    }
}
