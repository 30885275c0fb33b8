//! Values as pgvector stores them, and their distances, computed as plainly as can be.

use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::vector_index::shape::Metric;
use ruvector_dag_healing_engine::vector_index::value::{Value, ValueType};

/// Every metric that a type has.
pub const KINDS: [(ValueType, Metric); 14] = [
    (ValueType::Vector, Metric::L2),
    (ValueType::Vector, Metric::InnerProduct),
    (ValueType::Vector, Metric::Cosine),
    (ValueType::Vector, Metric::L1),
    (ValueType::HalfVec, Metric::L2),
    (ValueType::HalfVec, Metric::InnerProduct),
    (ValueType::HalfVec, Metric::Cosine),
    (ValueType::HalfVec, Metric::L1),
    (ValueType::SparseVec, Metric::L2),
    (ValueType::SparseVec, Metric::InnerProduct),
    (ValueType::SparseVec, Metric::Cosine),
    (ValueType::SparseVec, Metric::L1),
    (ValueType::Bit, Metric::Hamming),
    (ValueType::Bit, Metric::Jaccard),
];

/// The bytes of a value after its length word; of bits, what is not 0.
pub fn encode(value_type: ValueType, components: &[f32]) -> Vec<u8> {
    let count = components.len() as u32;
    let mut data = count.to_le_bytes().to_vec();
    match value_type {
        ValueType::Vector => components.iter().for_each(|x| data.extend(x.to_le_bytes())),
        ValueType::HalfVec => components
            .iter()
            .for_each(|x| data.extend(half::f16::from_f32(*x).to_le_bytes())),
        ValueType::Bit => {
            for byte in components.chunks(8) {
                let bits = byte.iter().zip((0..8).rev());
                data.push(bits.map(|(x, at)| u8::from(*x != 0.0) << at).sum());
            }
        }
        ValueType::SparseVec => {
            let stored = || (0_u32..).zip(components).filter(|(_, x)| **x != 0.0);
            data.extend((stored().count() as u32).to_le_bytes());
            data.extend([0; 4]);
            stored().for_each(|(index, _)| data.extend(index.to_le_bytes()));
            stored().for_each(|(_, x)| data.extend(x.to_le_bytes()));
        }
    }
    data
}

pub fn decode(value_type: ValueType, data: &[u8]) -> Value<'_> {
    Value::decode(value_type, data).expect("as encoded")
}

/// The distance as pgvector's operator gives it; of bits, what is not 0 is 1.
pub fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
    let sum = |f: fn((f64, f64)) -> f64| pairs().map(f).sum::<f64>();
    let count = |f: fn(&(f64, f64)) -> bool| pairs().filter(f).count() as f64;
    match metric {
        Metric::L2 => sum(|(x, y)| (x - y).powi(2)).sqrt(),
        // Zero has one sign.
        Metric::InnerProduct => 0.0 - sum(|(x, y)| x * y),
        Metric::Cosine => {
            let norms = sum(|(x, _)| x * x).sqrt() * sum(|(_, y)| y * y).sqrt();
            1.0 - (sum(|(x, y)| x * y) / norms).clamp(-1.0, 1.0)
        }
        Metric::L1 => sum(|(x, y)| (x - y).abs()),
        Metric::Hamming => count(|(x, y)| (*x != 0.0) != (*y != 0.0)),
        Metric::Jaccard => {
            let both = count(|(x, y)| *x != 0.0 && *y != 0.0);
            let either = count(|(x, y)| *x != 0.0 || *y != 0.0);
            if both == 0.0 {
                1.0
            } else {
                1.0 - both / either
            }
        }
    }
}

/// Rows stand seven to a block.
pub fn tid(number: usize) -> HeapTid {
    HeapTid {
        block: (number / 7) as u32,
        offset: (number % 7) as u16 + 1,
    }
}
