//! What an IVFFlat index says of the rows of its table: which are in it, and with which values.

use super::layout;
use super::lists::{each_list, each_page_of_entries};
use crate::vector_index::PageSource;
use crate::vector_index::inspection::InspectError;
use crate::vector_index::page::{RawPage, Tid};
use crate::vector_index::table::EntrySink;
use crate::vector_index::value::{Value, ValueType};

/// Shows every row of every list, in file order. One pass over the pages.
pub fn entries(
    source: &mut dyn PageSource,
    value_type: ValueType,
    sink: &mut EntrySink<'_>,
) -> Result<(), InspectError> {
    let mut starts = Vec::new();
    let lists = each_list(source, &mut |_, _, list| starts.push(list.start))?;
    each_page_of_entries(source, &starts, &lists, &mut |_, block, bytes| {
        for (offset, entry) in layout::entries(&RawPage::new(bytes)) {
            let data = entry.value();
            let value = data.as_deref().map(|data| Value::decode(value_type, data));
            sink(Tid { block, offset }, entry.row, value.and_then(Result::ok));
        }
    })?;
    Ok(())
}
