//! Edits of pages, written down in `ruvector_dag_healing.edits` before they are made, so that they can
//! be taken back. Functions here run inside the caller's transaction.

use ruvector_dag_healing_engine::model::RepairId;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::edit::Undo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::sql;

/// Writes down a batch of edits that is about to be made, and how many of how many were dealt
/// with before.
pub fn intend<E: Undo + Serialize>(
    id: RepairId,
    batch: i32,
    edits: &[E],
    done: usize,
    total: usize,
) -> Result<(), PortError> {
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
struct WrittenBatch<E> {
    edits: Vec<E>,
    made: Option<usize>,
    lost: Option<Vec<usize>>,
}

/// What takes back the edits of a repair, in the order in which it is to be done. Of a batch whose
/// outcome is not known any edit may have been made.
pub fn edits_to_take_back<E>(id: RepairId) -> Result<Vec<E>, PortError>
where
    E: Undo + DeserializeOwned,
{
    let batches: Vec<WrittenBatch<E>> = sql::rows(
        "SELECT jsonb_build_object('edits', edits, 'made', made, 'lost', lost)
         FROM ruvector_dag_healing.edits WHERE repair_id = ($1->>'id')::bigint
         ORDER BY batch DESC",
        &json!({"id": id}),
    )?;
    let taken_back = batches.into_iter().flat_map(|batch| {
        let made = batch.made.unwrap_or(batch.edits.len());
        let lost = batch.lost.unwrap_or_default();
        let edits = batch.edits.into_iter().enumerate().take(made);
        let made: Vec<E> = edits
            .filter(|(nth, _)| !lost.contains(nth))
            .filter_map(|(_, edit)| edit.undo())
            .collect();
        made.into_iter().rev()
    });
    Ok(taken_back.collect())
}

/// Forgets the edits of a repair: they can be taken back no longer.
pub fn forget_edits(id: RepairId) -> Result<(), PortError> {
    sql::run(
        "DELETE FROM ruvector_dag_healing.edits WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id}),
    )
}
