//! What an HNSW index says of the rows of its table: which are in it, and with which values.

use super::layout::Page;
use crate::vector_index::inspection::InspectError;
use crate::vector_index::table::EntrySink;
use crate::vector_index::value::{Value, ValueType};
use crate::vector_index::{PageSource, ReadError};

/// Shows every row of every live element, in file order. One pass over the pages; a page that
/// cannot be read is left out.
pub fn entries(
    source: &mut dyn PageSource,
    value_type: ValueType,
    sink: &mut EntrySink<'_>,
) -> Result<(), InspectError> {
    let mut blocks = 1..source.block_count()?;
    loop {
        let left = blocks.start;
        let read = source.read(&mut blocks, &mut |block, bytes| {
            for (at, element) in Page::new(bytes).elements(block) {
                if element.deleted() {
                    continue;
                }
                let value = Value::decode(value_type, element.value()).ok();
                element.heap_tids().for_each(|row| sink(at, row, value));
            }
        });
        match read {
            Err(ReadError::Unreadable { .. }) if blocks.start > left => {}
            read => return read.map_err(InspectError::from),
        }
    }
}
