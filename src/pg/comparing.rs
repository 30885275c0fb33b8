//! An index compared with its table, in a session or in a transaction of a worker.

use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::finding::Breach;
use ruvector_dag_healing_engine::vector_index::inspection::InspectError;
use ruvector_dag_healing_engine::vector_index::{hnsw, ivfflat, table};

use super::careful::CarefulPages;
use super::{guc, heap};

/// Compares a valid index with its table and reports every breach. `false`: that cannot be done,
/// because it is not valid, or the operator class or the pages of the table are not known. Inside a
/// transaction.
pub fn compare(
    index: &IndexInfo,
    pages: &mut CarefulPages,
    report: &mut dyn FnMut(Breach),
) -> Result<bool, PortError> {
    let Some(shape) = index.shape.as_ref().filter(|_| index.valid) else {
        return Ok(false);
    };
    let list = match index.access_method.as_str() {
        "hnsw" => hnsw::entries,
        _ => ivfflat::entries,
    };
    let mut entries = |sink: &mut table::EntrySink<'_>| list(pages, shape.value_type, sink);
    let limit = guc::maintenance_work_mem();
    let compared = heap::with_table(index.table_oid, index.index_oid, |of_table| {
        table::compare(&mut entries, of_table, shape, limit, report)
    });
    match compared {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        Some(Err(InspectError::Read(error))) => Err(error.into()),
        // The check says what is wrong with the metapage.
        Some(Err(InspectError::NotSuch { .. })) => Ok(true),
    }
}
