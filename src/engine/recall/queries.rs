//! Queries to measure with, drawn from the rows of the table where no others are known.
//!
//! Owns the draw, and the points beside rows. Knows nothing of searches.

use std::collections::HashSet;
use std::ops::Range;

use half::f16;

use super::measure::{Pause, with_pauses};
use crate::vector_index::sample::{Reservoir, SplitMix};
use crate::vector_index::shape::IndexShape;
use crate::vector_index::table::RowSource;
use crate::vector_index::value::{Value, ValueType};
use crate::vector_index::{HeapTid, ReadError};

/// A row whose value serves as a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledRow {
    /// The row, by the head of its chain of updates.
    pub row: HeapTid,
    /// What follows the length word of its value.
    pub value: Vec<u8>,
}

/// Blocks that show how many rows a block can have, before any is drawn from.
const PILOT: usize = 16;
/// Blocks looked at for each row wanted, and besides, before every row is looked at instead.
const PATIENCE: usize = 16;
const PATIENCE_BESIDES: usize = 512;

/// Draws `count` different rows that the index should have, as good as uniformly: a block at
/// random, kept with a probability in proportion to its rows, and one of these. Fewer where
/// there are not as many. A small table, and one of which few blocks have such rows, is read
/// whole. Takes the values drawn, and those of one block.
pub fn sample_rows(
    table: &mut dyn RowSource,
    shape: &IndexShape,
    count: usize,
    seed: u64,
    pause: &mut Pause<'_>,
) -> Result<Vec<SampledRow>, ReadError> {
    let blocks = table.block_count()?;
    let mut random = SplitMix(seed);
    let mut drawn = Vec::new();
    let mut seen = HashSet::new();
    let mut most = 0;
    if blocks as usize > 4 * count {
        for nth in 0..PILOT + PATIENCE * count + PATIENCE_BESIDES {
            if drawn.len() == count {
                return Ok(drawn);
            }
            let block = random.below(u64::from(blocks)) as u32;
            let (mut rows, of) = draw(table, shape, block..block + 1, 1, random.next(), pause)?;
            let kept = nth >= PILOT && random.below(of.max(most).max(1)) < of;
            most = most.max(of);
            drawn.extend(rows.pop().filter(|one| kept && seen.insert(one.row)));
        }
    }
    draw(table, shape, 0..blocks, count, random.next(), pause).map(|(rows, _)| rows)
}

/// Draws at most `count` rows of some blocks; also tells how many there are.
fn draw(
    table: &mut dyn RowSource,
    shape: &IndexShape,
    blocks: Range<u32>,
    count: usize,
    seed: u64,
    pause: &mut Pause<'_>,
) -> Result<(Vec<SampledRow>, u64), ReadError> {
    let mut rows = Reservoir::new(count, seed);
    let mut seen = 0;
    with_pauses(table, blocks, pause, &mut |row, value| {
        if shape.normalized && !has_norm(shape, &value()) {
            return;
        }
        seen += 1;
        rows.offer_with(|| SampledRow {
            row,
            value: value(),
        });
    })?;
    Ok((rows.into_items(), seen))
}

/// Whether a value has a direction; one without is in no index that compares directions.
fn has_norm(shape: &IndexShape, value: &[u8]) -> bool {
    Value::decode(shape.value_type, value).is_ok_and(|value| value.norm() > 0.0)
}

/// Whether values of a type have points beside them.
pub fn mirrors(value_type: ValueType) -> bool {
    matches!(value_type, ValueType::Vector | ValueType::HalfVec)
}

/// The point beside the value of a row, as far from it as another row is on the other side:
/// 2 x − y. Rows as queries flatter an index, which has links for them; such points lie where
/// rows could lie and have none. None for types that have no such point, and where a component
/// leaves its range.
pub fn mirrored(value_type: ValueType, row: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let decode = |bytes| Value::decode(value_type, bytes).ok();
    let (x, y) = (decode(row)?, decode(other)?);
    if x.dimensions() != y.dimensions() {
        return None;
    }
    let mut mirrored = row.get(..4)?.to_vec();
    for (x, y) in x.components().zip(y.components()) {
        let component = 2.0 * x - y;
        match value_type {
            ValueType::Vector => mirrored.extend(component.to_le_bytes()),
            ValueType::HalfVec => mirrored.extend(f16::from_f32(component).to_le_bytes()),
            ValueType::Bit | ValueType::SparseVec => return None,
        }
    }
    let value = Value::decode(value_type, &mirrored).ok()?;
    value.fault().is_none().then_some(mirrored)
}
