//! Rows that were taken out of an index and are to be put back, in `ruvector_dag_healing.detached`.
//! Functions here run inside the caller's transaction.

use std::collections::BTreeSet;

use ruvector_dag_healing_engine::model::{IndexInfo, RepairId};
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::HeapTid;
use serde_json::json;

use super::{history, lifecycle, sql};

/// Writes down rows that are about to be taken out.
pub fn intend(id: RepairId, rows: &[HeapTid]) -> Result<(), PortError> {
    sql::run(
        "INSERT INTO ruvector_dag_healing.detached (repair_id, block, \"offset\")
         SELECT ($1->>'id')::bigint, r.block, r.\"offset\"
         FROM jsonb_to_recordset($1->'rows') AS r(block bigint, \"offset\" integer)
         ON CONFLICT DO NOTHING",
        &json!({"id": id, "rows": rows}),
    )
}

/// The rows that repairs of an index have to put back. Where it was built anew since, there are
/// none.
pub fn of_index(index: &IndexInfo) -> Result<Vec<HeapTid>, PortError> {
    sql::rows(
        "SELECT DISTINCT jsonb_build_object('block', d.block, 'offset', d.\"offset\")
         FROM ruvector_dag_healing.detached d JOIN ruvector_dag_healing.repair r USING (repair_id)
         WHERE r.index_oid = ($1->>'index')::oid AND r.identity = $1->>'identity'
           AND r.system_identifier = $1->>'system'
           AND r.database_oid = ($1->>'database')::oid",
        &of(index),
    )
}

/// Takes rows off the list that were put back.
pub fn settle(index: &IndexInfo, rows: &BTreeSet<HeapTid>) -> Result<(), PortError> {
    let mut values = of(index);
    values["rows"] = json!(rows);
    sql::run(
        "DELETE FROM ruvector_dag_healing.detached d
         USING ruvector_dag_healing.repair r,
               jsonb_to_recordset($1->'rows') AS row(block bigint, \"offset\" integer)
         WHERE r.repair_id = d.repair_id AND r.identity = $1->>'identity'
           AND d.block = row.block AND d.\"offset\" = row.\"offset\"",
        &values,
    )
}

/// Takes all rows of an index off the list.
pub fn forget(index: &IndexInfo) -> Result<(), PortError> {
    sql::run(
        "DELETE FROM ruvector_dag_healing.detached d USING ruvector_dag_healing.repair r
         WHERE r.repair_id = d.repair_id AND r.identity = $1->>'identity'",
        &of(index),
    )
}

/// Takes the rows of a repair off the list, and those that are to move: its index is gone.
pub fn forget_repair(id: RepairId) -> Result<(), PortError> {
    history::set_moving(id, false)?;
    sql::run(
        "DELETE FROM ruvector_dag_healing.detached WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id}),
    )
}

fn of(index: &IndexInfo) -> serde_json::Value {
    json!({
        "index": index.index_oid.to_string(),
        "identity": index.identity(),
        "system": lifecycle::system_identifier().to_string(),
        "database": lifecycle::my_database(),
    })
}
