//! Where a row belongs.

use super::Holder;
use crate::vector_index::heap::Root;
use crate::vector_index::shape::IndexShape;
use crate::vector_index::table::{RowSource, is_indexable};
use crate::vector_index::value::Value;
use crate::vector_index::{HeapTid, ReadError};

/// What is to become of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It stays in this element and no other.
    KeptIn(usize),
    /// It is in no element, and need not be.
    Nowhere,
    /// It is in no element that it can stay in, and has to be put back.
    Reinsert,
    /// It may be of a transaction under way.
    Undecided,
}

/// Decides about a row that is in the elements `places`.
pub(super) fn decide(
    row: HeapTid,
    places: &[usize],
    holders: &[Holder],
    table: &mut dyn RowSource,
    shape: &IndexShape,
) -> Result<Decision, ReadError> {
    let sound = || {
        places
            .iter()
            .copied()
            .filter(|&nth| holders[nth].is_sound())
    };
    let sees = |nth: &usize| holders[*nth].seen().any(|seen| seen == row);
    if let Some(data) = table.value(row)? {
        if !is_indexable(shape, data) {
            return Ok(Decision::Nowhere);
        }
        let Ok(own) = Value::decode(shape.value_type, data) else {
            return Ok(Decision::Undecided);
        };
        let same = |nth: &usize| {
            let value = holders[*nth].value.as_deref();
            let value = value.and_then(|data| Value::decode(shape.value_type, data).ok());
            value.is_some_and(|value| value.is_same(&own, shape.normalized))
        };
        let mut kept = sound().filter(same);
        let first = kept.clone().find(sees).or_else(|| kept.next());
        return Ok(first.map_or(Decision::Reinsert, Decision::KeptIn));
    }
    if table.root(row)? != Root::Sound || table.is_dead(row)? {
        return Ok(Decision::Nowhere);
    }
    Ok(Decision::Undecided)
}
