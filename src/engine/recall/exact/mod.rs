//! The exact nearest neighbours of many queries, in one pass over the rows of a table.
//!
//! Owns what is compared with what and what is left out, as pgvector's indexes leave it out.
//! Must not know where rows come from: they are handed in, in any order, and looked at as they
//! come; the caller may stop between any two.
//!
//! Memory is bounded by the queries alone ([`Exact::bytes`]); a row is not kept.

mod bits;
mod dense;
pub(crate) mod distance;
pub mod kernel;
mod nearest;
pub(crate) mod pair;
mod sparse;

pub use distance::distance;
pub use nearest::{Neighbour, Neighbours};

use bits::Bits;
use dense::Dense;
use distance::Operand;
use nearest::Nearest;
use sparse::Sparse;

use crate::vector_index::HeapTid;
use crate::vector_index::shape::Metric;
use crate::vector_index::value::{Value, ValueType};

/// What neighbours are sought of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Query<'a> {
    /// A value of the indexed column's type.
    pub value: Value<'a>,
    /// The row it was taken from, which is not to count as its own neighbour.
    pub own_row: Option<HeapTid>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It was compared with all queries.
    Compared,
    /// It has no value; an index does not have it.
    Null,
    /// Under cosine it has no direction; an index does not have it.
    ZeroNorm,
    /// Its value is one that pgvector never stores: a component that is not finite, indices out of order,
    /// bits past the end.
    NotANumber,
    /// Its dimensions, or its type, are not those of the queries; an index would not take it.
    OtherDimensions,
}

/// How many rows became what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Compared with all queries.
    pub compared: u64,
    /// Without a value.
    pub null: u64,
    /// Without a direction, under cosine.
    pub zero_norm: u64,
    /// With a value that cannot be.
    pub faulty: u64,
}

/// A search under way.
#[derive(Debug)]
pub struct Exact {
    metric: Metric,
    k: u32,
    value_type: ValueType,
    nearest: Vec<Nearest>,
    queries: Queries,
    tally: Tally,
}

#[derive(Debug)]
enum Queries {
    Dense(Box<Dense>),
    Sparse(Sparse),
    Bits(Bits),
}

impl Exact {
    /// Bytes that a search takes at most: `dimensions` of a sparse vector are its components
    /// that are not 0. Some 4 bytes · dimensions · (2 queries + 400 rows) for floats.
    pub fn bytes(value_type: ValueType, dimensions: u32, queries: u32, k: u32) -> u64 {
        let (dimensions, queries) = (u64::from(dimensions), u64::from(queries));
        let compared = match value_type {
            ValueType::Vector | ValueType::HalfVec => dense::bytes(dimensions, queries),
            ValueType::SparseVec => sparse::bytes(dimensions, queries),
            ValueType::Bit => bits::bytes(dimensions, queries),
        };
        compared + queries * Nearest::bytes(k)
    }

    /// Begins a search for the `k` nearest rows of each query. A query without neighbours stays
    /// in its place with none: one of another type or other dimensions than the first that can
    /// be used, of no direction under cosine, of components that are not finite, or any where the
    /// type does not have the metric.
    pub fn new(metric: Metric, value_type: ValueType, k: u32, queries: &[Query<'_>]) -> Self {
        let mut dimensions = None;
        let operands: Vec<Option<Operand>> = queries
            .iter()
            .map(|query| {
                let operand = usable(metric, value_type, &query.value)?;
                let wanted = *dimensions.get_or_insert(operand.dimensions());
                (operand.dimensions() == wanted).then_some(operand)
            })
            .collect();
        let dimensions = dimensions.unwrap_or(0);
        let nearest = queries
            .iter()
            .map(|query| Nearest::new(k, query.own_row))
            .collect();
        let queries = match value_type {
            ValueType::Vector | ValueType::HalfVec => {
                let floats = |operand| match operand {
                    Some(Operand::Floats(floats)) => Some(floats),
                    _ => None,
                };
                let floats: Vec<_> = operands.into_iter().map(floats).collect();
                Queries::Dense(Box::new(Dense::new(metric, dimensions as usize, &floats)))
            }
            ValueType::SparseVec => Queries::Sparse(Sparse::new(metric, dimensions, operands)),
            ValueType::Bit => Queries::Bits(Bits::new(metric, dimensions, operands)),
        };
        Self {
            metric,
            k,
            value_type,
            nearest,
            queries,
            tally: Tally::default(),
        }
    }

    /// Hands in a row with its value, none for NULL. Each row once.
    pub fn offer(&mut self, row: HeapTid, value: Option<&Value<'_>>) -> Offered {
        let offered = match value {
            None => Offered::Null,
            Some(value) if type_of(value) != self.value_type => Offered::OtherDimensions,
            Some(value) => match &mut self.queries {
                Queries::Dense(queries) => queries.offer(row, value, &mut self.nearest),
                Queries::Sparse(queries) => queries.offer(row, value, &mut self.nearest),
                Queries::Bits(queries) => queries.offer(row, value, &mut self.nearest),
            },
        };
        match offered {
            Offered::Compared => self.tally.compared += 1,
            Offered::Null => self.tally.null += 1,
            Offered::ZeroNorm => self.tally.zero_norm += 1,
            Offered::NotANumber | Offered::OtherDimensions => self.tally.faulty += 1,
        }
        offered
    }

    /// What became of the rows handed in.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The neighbours of each query, in the queries' order.
    pub fn finish(mut self) -> Vec<Neighbours> {
        if let Queries::Dense(queries) = &mut self.queries {
            queries.flush(&mut self.nearest);
        }
        self.nearest
            .into_iter()
            .map(|nearest| nearest.into_neighbours(self.metric, self.k))
            .collect()
    }
}

/// A query's value, if it can have neighbours.
fn usable(metric: Metric, value_type: ValueType, value: &Value<'_>) -> Option<Operand> {
    let bitwise = matches!(metric, Metric::Hamming | Metric::Jaccard);
    if type_of(value) != value_type || bitwise != (value_type == ValueType::Bit) {
        return None;
    }
    let operand = Operand::of(value)?;
    (metric != Metric::Cosine || operand.norm() > 0.0).then_some(operand)
}

fn type_of(value: &Value<'_>) -> ValueType {
    match value {
        Value::Vector(_) => ValueType::Vector,
        Value::HalfVec(_) => ValueType::HalfVec,
        Value::Bit { .. } => ValueType::Bit,
        Value::SparseVec { .. } => ValueType::SparseVec,
    }
}
