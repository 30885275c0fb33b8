//! Edits of pages, written down in `ruvector_dag_healing.edits` before they are made, so that they can
//! be taken back. Functions here run inside the caller's transaction.

use std::collections::HashSet;

use ruvector_dag_healing_engine::model::RepairId;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::edit::{Read, Undo, Write};
use serde::Deserialize;
use serde_json::{Value, json};

use super::sql;

/// Writes down a batch of edits that is about to be made, and how many of how many were dealt
/// with before.
pub fn intend<E: Write>(
    id: RepairId,
    batch: i32,
    edits: &[E],
    done: usize,
    total: usize,
) -> Result<(), PortError> {
    let edits = E::write(edits).map_err(unreadable)?;
    sql::run(
        "INSERT INTO ruvector_dag_healing.edits (repair_id, batch, edits)
         VALUES (($1->>'id')::bigint, ($1->>'batch')::integer, $1->'edits')",
        &json!({"id": id, "batch": batch, "edits": edits}),
    )?;
    sql::run(
        "UPDATE ruvector_dag_healing.repair
         SET details = details || jsonb_build_object('progress',
                 jsonb_build_object('done', $1->'done', 'total', $1->'total'))
         WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id, "done": done, "total": total}),
    )
}

/// Writes down what became of a batch: how many edits of it were dealt with, and which were lost;
/// and that as many more were dealt with.
pub fn settle_batch(
    id: RepairId,
    batch: i32,
    made: usize,
    lost: &[usize],
) -> Result<(), PortError> {
    let values = json!({"id": id, "batch": batch, "made": made, "lost": lost});
    sql::run(
        "UPDATE ruvector_dag_healing.repair
         SET details = jsonb_set(details, '{progress,done}', to_jsonb(
                 (details->'progress'->>'done')::bigint + ($1->>'made')::bigint))
         WHERE repair_id = ($1->>'id')::bigint",
        &values,
    )?;
    sql::run(
        "UPDATE ruvector_dag_healing.edits
         SET made = ($1->>'made')::integer, lost = nullif($1->'lost', '[]')
         WHERE repair_id = ($1->>'id')::bigint AND batch = ($1->>'batch')::integer",
        &values,
    )
}

/// A batch of edits as it was written down.
#[derive(Deserialize)]
struct WrittenBatch {
    edits: Value,
    made: Option<usize>,
    lost: Option<Vec<usize>>,
}

/// What takes back the edits of a repair, in the order in which it is to be done. Of a batch whose
/// outcome is not known any edit may have been made.
pub fn edits_to_take_back<E>(id: RepairId) -> Result<Vec<E>, PortError>
where
    E: Undo + Read,
{
    let batches: Vec<WrittenBatch> = sql::rows(
        "SELECT jsonb_build_object('edits', edits, 'made', made, 'lost', lost)
         FROM ruvector_dag_healing.edits WHERE repair_id = ($1->>'id')::bigint
         ORDER BY batch DESC",
        &json!({"id": id}),
    )?;
    let mut taken_back = Vec::new();
    for batch in batches {
        let edits = E::read(batch.edits).map_err(unreadable)?;
        let made = batch.made.unwrap_or(edits.len());
        let lost: HashSet<usize> = batch.lost.unwrap_or_default().into_iter().collect();
        let edits = edits.iter().enumerate().take(made);
        let made = edits.filter(|(nth, _)| !lost.contains(nth)).rev();
        taken_back.extend(made.filter_map(|(_, edit)| edit.undo()));
    }
    Ok(taken_back)
}

fn unreadable(error: serde_json::Error) -> PortError {
    PortError::Failed(format!("edits as they are written down: {error}"))
}

/// Forgets the edits of a repair: they can be taken back no longer.
pub fn forget_edits(id: RepairId) -> Result<(), PortError> {
    sql::run(
        "DELETE FROM ruvector_dag_healing.edits WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id}),
    )
}
