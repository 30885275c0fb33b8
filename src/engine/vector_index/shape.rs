//! What the catalog says of an index that its own pages do not: the type of its values and how
//! its operator class compares them.

use serde::{Deserialize, Serialize};

use super::value::ValueType;

/// How an operator class compares values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Euclidean distance.
    L2,
    /// Inner product.
    InnerProduct,
    /// Cosine distance: the inner product of values stored at unit length.
    Cosine,
    /// Taxicab distance.
    L1,
    /// Bits that differ.
    Hamming,
    /// 1 − shared bits / bits of either.
    Jaccard,
}

/// What the catalog says of an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexShape {
    /// Type of the indexed column or expression.
    pub value_type: ValueType,
    /// How its operator class compares values.
    pub metric: Metric,
    /// Whether values are stored at unit length (the operator class has a norm function) and
    /// those without a norm left out.
    pub normalized: bool,
    /// Dimensions the column's type modifier asks for.
    pub dimensions: Option<u32>,
    /// `m` of an HNSW index, `lists` of an IVFFlat index, as the index's options have it now;
    /// an index built before they were changed has another.
    pub option: Option<u32>,
}
