//! The history: every repair, in `ruvector_dag_healing.repair`.
//!
//! A row is committed before the first step; a step's mark is committed together with its
//! effect. Functions here run inside the caller's transaction.

use ruvector_dag_healing_engine::model::{IndexInfo, RepairId};
use ruvector_dag_healing_engine::ports::{ActiveRepair, PortError};
use ruvector_dag_healing_engine::repair::plan::RepairPlan;
use ruvector_dag_healing_engine::repair::recovery::{self, Disposal, Recovery, Spare, Traces};
use ruvector_dag_healing_engine::verification::rollback::StandingSetting;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::shmem::Request;
use super::tuning::KeptSetting;
use super::{lifecycle, sql};

/// This server and this database.
fn here() -> Value {
    json!({
        "system": lifecycle::system_identifier().to_string(),
        "database": lifecycle::my_database(),
    })
}

/// Repairs of this database that have not ended, and those that ended since the last cycle.
pub fn repairs() -> Result<Vec<ActiveRepair>, PortError> {
    sql::rows(
        "SELECT jsonb_build_object(
            'id', repair_id, 'issue_id', issue_id, 'index_oid', index_oid::bigint,
            'table_oid', table_oid::bigint, 'strategy_name', strategy,
            'started_at', (extract(epoch FROM started_at) * 1000000)::bigint,
            'finished', status <> 'running')
         FROM ruvector_dag_healing.repair
         WHERE system_identifier = $1->>'system' AND database_oid = ($1->>'database')::oid
           AND (status = 'running' OR finished_at >
                (SELECT last_check_time FROM ruvector_dag_healing.metrics))",
        &here(),
    )
}

/// A repair as the journal has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepairRow {
    /// Its number.
    pub repair_id: RepairId,
    /// The issue it is to mend.
    pub issue_id: String,
    /// The index in place.
    pub index_oid: u32,
    /// Its table.
    pub table_oid: u32,
    /// Name of the index.
    pub index_name: String,
    /// Where it stands.
    pub status: String,
    /// The index not in place.
    pub spare_index: Option<u32>,
    /// Its name.
    pub spare_name: Option<String>,
    /// Whether the swap was committed.
    pub swapped: bool,
    /// Whether the last step begun is the removal of the spare index.
    pub dropping: bool,
    /// Whether it was begun in this database of this server.
    pub ours: bool,
    /// Whether the spare index is there, under the recorded OID, name and table, and invalid.
    pub leftover: bool,
    /// Whether the spare index is to be kept no longer.
    pub overdue: bool,
    /// Whether the replaced index was valid before the repair.
    pub reversible: bool,
    /// The search setting that it gave to the database, if it did.
    pub setting: Option<KeptSetting>,
    /// Whether that is still what is set.
    pub setting_stands: bool,
    /// Whether rows that it took out of the index are still to be put back, or others to where they
    /// belong in it.
    pub owes_rows: bool,
    /// Whether pages of the index in place were changed.
    pub in_place: bool,
    /// Whether what was changed is still written down, and may be taken back.
    pub keeps_edits: bool,
}

impl RepairRow {
    /// How to close it, now that nobody is working on it.
    pub fn recovery(&self) -> Recovery {
        recovery::decide(Traces {
            ours: self.ours,
            open: self.status == "running",
            swapped: self.swapped,
        })
    }

    /// Whether the repair can be undone: by swapping back, by taking back what was changed in
    /// place, or by setting back.
    pub fn undoable(&self) -> bool {
        self.can_take_back() || self.can_set_back() || self.can_swap_back()
    }

    /// What stands in the way of undoing it, where its status does not.
    pub fn why_not_undoable(&self) -> &'static str {
        match self.setting {
            Some(_) => "the setting is no longer the one it made",
            None => "what it takes to undo it is no longer kept",
        }
    }

    /// Whether a setting that it made can be set back.
    pub fn can_set_back(&self) -> bool {
        self.ours && self.status == "succeeded" && self.setting.is_some() && self.setting_stands
    }

    /// Whether what was changed in place can be taken back.
    pub fn can_take_back(&self) -> bool {
        self.ours && self.status == "succeeded" && self.in_place && self.keeps_edits
    }

    fn can_swap_back(&self) -> bool {
        self.ours
            && self.status == "succeeded"
            && self.swapped
            && self.leftover
            && self.reversible
            && !self.dropping
    }

    /// What to do with the index that is not in place.
    pub fn disposal(&self) -> Disposal {
        recovery::dispose(Spare {
            provably_ours: self.ours && self.leftover,
            overdue: self.overdue,
        })
    }
}

/// Closes a repair that nobody is working on. `keep_ms`: how long a replaced index is kept.
pub fn recover(row: &RepairRow, keep_ms: u64) -> Result<(), PortError> {
    let id = row.repair_id;
    match row.recovery() {
        Recovery::Nothing => Ok(()),
        Recovery::CloseFailed => {
            let reason = match row.in_place {
                true => INTERRUPTED_IN_PLACE,
                false => INTERRUPTED,
            };
            end_repair(id, "failed", Some(reason), None, true)
        }
        Recovery::CloseSucceeded => end_repair(id, "succeeded", None, Some(keep_ms), false),
        Recovery::Abandon => {
            if row.status == "running" {
                end_repair(id, "failed", Some("begun in another database"), None, false)?;
            }
            clear_spare(id)
        }
    }
}

const INTERRUPTED: &str = "interrupted: the server or the repair worker stopped; the index that \
                           was in place still is";

const INTERRUPTED_IN_PLACE: &str = "interrupted: the server or the repair worker stopped; what \
                                    was mended by then stays, each change is whole";

/// The repair named by `$1.id`, or where that is absent every one that is not over.
const REPAIR_ROWS: &str = "
SELECT jsonb_build_object(
    'repair_id', r.repair_id, 'issue_id', r.issue_id, 'index_oid', r.index_oid::bigint,
    'table_oid', r.table_oid::bigint, 'index_name', r.index_name, 'status', r.status,
    'spare_index', r.spare_index::bigint, 'spare_name', r.spare_name, 'swapped', r.swapped,
    'dropping', coalesce(r.step = 'drop', false),
    'ours', r.system_identifier = $1->>'system' AND r.database_oid = ($1->>'database')::oid,
    'leftover', EXISTS (
        SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indexrelid = r.spare_index AND i.indrelid = r.table_oid
          AND c.relname = r.spare_name AND NOT i.indisvalid),
    'overdue', coalesce(r.keep_until <= now(), true),
    'reversible', coalesce(
        (r.details->'plan'->'estimate'->>'reversible')::boolean, false),
    'setting', r.details->'setting',
    'setting_stands', EXISTS (
        SELECT FROM pg_db_role_setting s
        WHERE s.setdatabase = r.database_oid AND s.setrole = 0
          AND r.details->'setting'->>'name' || '=' || (r.details->'setting'->>'value')
              = ANY (s.setconfig)),
    'owes_rows', r.moving OR EXISTS (
        SELECT FROM ruvector_dag_healing.detached d WHERE d.repair_id = r.repair_id),
    'in_place', r.repair_type = 'in_place',
    'keeps_edits', coalesce(r.keep_until > now(), false) AND EXISTS (
        SELECT FROM ruvector_dag_healing.edits e WHERE e.repair_id = r.repair_id))
FROM ruvector_dag_healing.repair r
WHERE CASE WHEN $1 ? 'id' THEN r.repair_id = ($1->>'id')::bigint
           ELSE r.status = 'running' OR r.spare_index IS NOT NULL
               OR r.moving OR EXISTS (
               SELECT FROM ruvector_dag_healing.detached d WHERE d.repair_id = r.repair_id) END
ORDER BY r.repair_id";

/// One repair.
pub fn repair(repair_id: RepairId) -> Result<Option<RepairRow>, PortError> {
    let mut values = here();
    values["id"] = json!(repair_id);
    sql::row(REPAIR_ROWS, &values)
}

/// Repairs that somebody must look after: not ended, or with a spare index still there.
pub fn unfinished() -> Result<Vec<RepairRow>, PortError> {
    sql::rows(REPAIR_ROWS, &here())
}

/// Search settings that repairs of this database have set and that still stand.
pub fn standing_settings() -> Result<Vec<StandingSetting>, PortError> {
    sql::rows(
        "SELECT jsonb_build_object(
            'repair_id', r.repair_id, 'identity', r.identity,
            'set_at', (extract(epoch FROM r.finished_at) * 1000000)::bigint,
            'search', format('%s = %s', k.name, k.value),
            'recall_before', k.recall_before, 'buffers', k.buffers)
         FROM ruvector_dag_healing.repair r,
              jsonb_to_record(r.details->'setting')
                  AS k(name text, value text, recall_before float8, buffers float8)
         WHERE r.status = 'succeeded' AND r.swapped AND r.system_identifier = $1->>'system'
           AND r.database_oid = ($1->>'database')::oid
           AND EXISTS (
               SELECT FROM pg_db_role_setting s
               WHERE s.setdatabase = r.database_oid AND s.setrole = 0
                 AND k.name || '=' || k.value = ANY (s.setconfig))",
        &here(),
    )
}

/// Whether another repair of a table is under way or may still be undone.
pub fn table_in_repair(table: u32) -> Result<bool, PortError> {
    let mut values = here();
    values["table"] = json!(table.to_string());
    let found = sql::row(
        "SELECT to_jsonb(EXISTS (
            SELECT FROM ruvector_dag_healing.repair
            WHERE table_oid = ($1->>'table')::oid AND database_oid = ($1->>'database')::oid
              AND (status = 'running' OR spare_index IS NOT NULL)))",
        &values,
    )?;
    Ok(found.unwrap_or(false))
}

/// A number for a new repair.
pub fn next_repair_id() -> Result<RepairId, PortError> {
    let id = sql::written_row(
        "SELECT to_jsonb(nextval('ruvector_dag_healing.repair_id_seq')) WHERE $1 IS NOT NULL",
        &json!({}),
    )?;
    id.ok_or_else(|| PortError::Failed("no repair number".into()))
}

/// Commits nothing by itself: writes the row of a repair that is about to begin.
///
/// `asked_by`: the role that asked for it, 0 for the healer itself.
pub fn begin_repair(id: RepairId, plan: &RepairPlan, asked_by: u32) -> Result<(), PortError> {
    let mut values = here();
    let index = &plan.index;
    values["row"] = json!({
        "repair_id": id, "issue_id": plan.issue_id(), "issue_type": plan.issue.code(),
        "strategy": plan.strategy, "repair_type": plan.repair_type,
        "identity": index.identity(), "table_oid": index.table_oid,
        "index_oid": index.index_oid, "table_name": index.table_name,
        "index_name": index.index_name, "asked_by": asked_by, "plan": plan.to_json(),
    });
    sql::run(
        "INSERT INTO ruvector_dag_healing.repair
            (repair_id, issue_id, issue_type, strategy, repair_type, identity, table_oid,
             index_oid, table_name, index_name, initiated_by, status, details,
             system_identifier, database_oid)
         SELECT r.repair_id, r.issue_id, r.issue_type, r.strategy, r.repair_type, r.identity,
                r.table_oid, r.index_oid, r.table_name, r.index_name,
                CASE WHEN r.asked_by = 0 THEN 'auto' ELSE r.asked_by::regrole::text END,
                'running',
                jsonb_build_object('plan', r.plan), $1->>'system', ($1->>'database')::oid
         FROM jsonb_to_record($1->'row') AS r(repair_id bigint, issue_id text, issue_type text,
             strategy text, repair_type text, identity text, table_oid oid, index_oid oid,
             table_name text, index_name text, asked_by oid, plan jsonb)",
        &values,
    )?;
    sql::run(
        "UPDATE ruvector_dag_healing.issue SET status = 'repairing', refusal = NULL
         WHERE issue_id = $1->'row'->>'issue_id' AND status IN ('open', 'unresolved')",
        &values,
    )?;
    sql::run(
        "UPDATE ruvector_dag_healing.metrics SET repairs_initiated = repairs_initiated + 1
         WHERE $1 IS NOT NULL",
        &values,
    )
}

/// Marks the step that is about to be taken.
pub fn mark_step(id: RepairId, step: &str) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.repair SET step = $1->>'step', step_at = clock_timestamp()
         WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id, "step": step}),
    )
}

/// Records the index that is not in place, in the transaction that makes it so.
pub fn set_spare(id: RepairId, spare: u32, name: &str) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.repair
         SET spare_index = ($1->>'spare')::oid, spare_name = $1->>'name'
         WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id, "spare": spare, "name": name}),
    )
}

/// Records that the two indexes were exchanged, in the transaction that does it.
pub fn set_swapped(
    id: RepairId,
    in_place: u32,
    spare: u32,
    name: &str,
    swapped: bool,
) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.repair
         SET index_oid = ($1->>'in_place')::oid, spare_index = ($1->>'spare')::oid,
             spare_name = $1->>'name', swapped = ($1->>'swapped')::boolean
         WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id, "in_place": in_place, "spare": spare, "name": name, "swapped": swapped}),
    )
}

/// Records that a setting was made, as a swap is recorded, in the transaction that makes it.
pub fn mark_made(id: RepairId) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.repair SET swapped = true
         WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id}),
    )
}

/// Records that no second index is left.
pub fn clear_spare(id: RepairId) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.repair
         SET spare_index = NULL, spare_name = NULL, keep_until = NULL
         WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id}),
    )
}

/// Adds a figure to the row: `before` and `after` stand for themselves, all else are details.
pub fn note(id: RepairId, key: &str, value: &Value) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.repair
         SET before = CASE WHEN $1->>'key' = 'before' THEN $1->'value' ELSE before END,
             after = CASE WHEN $1->>'key' = 'after' THEN $1->'value' ELSE after END,
             details = CASE WHEN $1->>'key' IN ('before', 'after') THEN details
                            ELSE details || jsonb_build_object($1->>'key', $1->'value') END
         WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id, "key": key, "value": value}),
    )
}

/// Records whether a repair is moving entries from list to list: until it has ended some are not in the
/// one they belong into.
pub fn set_moving(id: RepairId, moving: bool) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.repair SET moving = ($1->>'moving')::boolean
         WHERE repair_id = ($1->>'id')::bigint",
        &json!({"id": id, "moving": moving}),
    )
}

/// Goes on with another plan under the same number: the one before did not help on this file of
/// the index, for the reason given.
pub fn change_plan(id: RepairId, plan: &RepairPlan, reason: &str) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.repair
         SET repair_type = $1->>'repair_type',
             details = details || jsonb_build_object('plan', $1->'plan', 'in_place', $1->'reason')
         WHERE repair_id = ($1->>'id')::bigint",
        &json!({
            "id": id, "repair_type": plan.repair_type, "plan": plan.to_json(), "reason": reason,
        }),
    )
}

/// Notes that this file of an index could not be mended in place.
pub fn note_in_place_failed(id: RepairId, index: &IndexInfo) -> Result<(), PortError> {
    note(id, "in_place_failed_on", &json!(index.relfilenode))
}

/// Whether that is noted of this file of an index.
pub fn in_place_failed(index: &IndexInfo) -> Result<bool, PortError> {
    let mut values = here();
    values["identity"] = json!(index.identity());
    values["file"] = json!(index.relfilenode);
    let found = sql::row(
        "SELECT to_jsonb(EXISTS (
            SELECT FROM ruvector_dag_healing.repair
            WHERE identity = $1->>'identity' AND database_oid = ($1->>'database')::oid
              AND system_identifier = $1->>'system'
              AND details->'in_place_failed_on' = $1->'file'))",
        &values,
    )?;
    Ok(found.unwrap_or(false))
}

/// Remembers what a build of this many elements took per element, for the next estimate.
pub fn note_build_rate(id: RepairId, elements: u64) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.index_state s
         SET build_ms_per_element = (r.details->>'build_ms')::double precision
                                    / ($1->>'elements')::double precision
         FROM ruvector_dag_healing.repair r
         WHERE r.repair_id = ($1->>'id')::bigint AND s.identity = r.identity",
        &json!({"id": id, "elements": elements}),
    )
}

/// Ends a repair: its row, its issue, the counters, and a notification, together.
/// `keep_ms`: how long the replaced index is kept; `failed`: the next try has to wait longer.
pub fn end_repair(
    id: RepairId,
    status: &str,
    error: Option<&str>,
    keep_ms: Option<u64>,
    failed: bool,
) -> Result<(), PortError> {
    let ended: Vec<Value> = sql::written_rows(
        "WITH ended AS (
            UPDATE ruvector_dag_healing.repair
            SET status = $1->>'status', error = $1->>'error', finished_at = clock_timestamp(),
                keep_until = clock_timestamp()
                             + ($1->>'keep_ms')::double precision * interval '1 ms'
            WHERE repair_id = ($1->>'id')::bigint AND status = 'running'
            RETURNING *, extract(epoch FROM clock_timestamp() - started_at) * 1000 AS ms
         ), issue AS (
            UPDATE ruvector_dag_healing.issue i
            SET status = CASE $1->>'status' WHEN 'succeeded' THEN 'resolved'
                                            WHEN 'rolled_back' THEN 'unresolved'
                                            ELSE 'open' END,
                resolved_at = CASE WHEN $1->>'status' = 'succeeded' THEN clock_timestamp() END,
                failures = CASE WHEN $1->>'status' = 'succeeded' THEN 0
                                ELSE failures + ($1->>'failed')::boolean::integer END,
                last_repair = CASE WHEN $1->>'status' = 'succeeded' OR ($1->>'failed')::boolean
                                   THEN clock_timestamp() ELSE last_repair END,
                last_repair_ms = ended.ms
            FROM ended
            WHERE i.issue_id = ended.issue_id
              AND i.status IN ('repairing', 'open', 'unresolved')
         ), counted AS (
            UPDATE ruvector_dag_healing.metrics
            SET repairs_successful = repairs_successful
                    + (ended.status = 'succeeded')::integer,
                repairs_failed = repairs_failed + (ended.status = 'failed')::integer,
                repairs_rolled_back = repairs_rolled_back
                    + (ended.status = 'rolled_back')::integer,
                total_repair_time_ms = total_repair_time_ms + ended.ms
            FROM ended
         )
         SELECT jsonb_build_object('notified', pg_notify('ruvector_dag_healing',
            jsonb_build_object('event', 'repair_' || status, 'repair_id', repair_id,
                               'issue_id', issue_id, 'issue_type', issue_type)::text)::text)
         FROM ended",
        &json!({
            "id": id, "status": status, "error": error, "keep_ms": keep_ms, "failed": failed,
        }),
    )?;
    match ended.len() {
        0 => Err(PortError::Gone(format!("repair {id}"))),
        _ => Ok(()),
    }
}

/// Records a repair that ended before it began: nothing was changed. Does nothing where the
/// repair has a row already.
pub fn record_failure(
    id: RepairId,
    request: &Request,
    issue_type: &str,
    reason: &str,
) -> Result<(), PortError> {
    let mut values = here();
    values["id"] = json!(id);
    values["index"] = json!(request.index_oid.to_string());
    values["table"] = json!(request.table_oid.to_string());
    values["asked_by"] = json!(request.asked_by.to_string());
    values["issue_type"] = json!(issue_type);
    values["reason"] = json!(reason);
    sql::run(
        "INSERT INTO ruvector_dag_healing.repair
            (repair_id, issue_id, issue_type, strategy, repair_type, identity, table_oid,
             index_oid, table_name, index_name, initiated_by, status, finished_at, error,
             system_identifier, database_oid)
         SELECT ($1->>'id')::bigint, coalesce(i.issue_id, ''), $1->>'issue_type',
                coalesce(i.recommended_repair, 'none'), 'none', coalesce(i.identity, ''),
                ($1->>'table')::oid, ($1->>'index')::oid, ($1->>'table')::oid::regclass::text,
                ($1->>'index')::oid::regclass::text,
                CASE $1->>'asked_by' WHEN '0' THEN 'auto'
                     ELSE ($1->>'asked_by')::oid::regrole::text END,
                'failed', clock_timestamp(), $1->>'reason', $1->>'system',
                ($1->>'database')::oid
         FROM (SELECT) one
         LEFT JOIN ruvector_dag_healing.issue i
           ON i.index_oid = ($1->>'index')::oid AND i.issue_type = $1->>'issue_type'
         LIMIT 1
         ON CONFLICT (repair_id) DO NOTHING",
        &values,
    )
}

/// Marks a finished repair as undone. `asked_by`: a role, or 0 where it is taken back because it did
/// not help after all.
pub fn roll_back_ended(id: RepairId, asked_by: u32) -> Result<(), PortError> {
    sql::run(
        "WITH undone AS (
            UPDATE ruvector_dag_healing.repair
            SET status = 'rolled_back', keep_until = NULL,
                error = CASE $1->>'who'
                    WHEN '0' THEN 'taken back: ' || (details->>'regret')
                    ELSE 'undone on request of ' || ($1->>'who')::oid::regrole END
            WHERE repair_id = ($1->>'id')::bigint AND status = 'succeeded'
            RETURNING issue_id
         ), counted AS (
            UPDATE ruvector_dag_healing.metrics
            SET repairs_rolled_back = repairs_rolled_back + 1,
                repairs_successful = repairs_successful - 1
            FROM undone
         )
         UPDATE ruvector_dag_healing.issue i
         SET status = 'unresolved', resolved_at = NULL, failures = failures + 1,
             last_repair = clock_timestamp()
         FROM undone WHERE i.issue_id = undone.issue_id",
        &json!({"id": id, "who": asked_by.to_string()}),
    )
}
