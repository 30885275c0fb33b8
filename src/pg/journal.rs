//! The journal: issues, looks and counters in the tables of `sql/schema.sql`.
//!
//! Functions here run inside the caller's transaction. Repairs: see [`super::history`].

use ruvector_dag_healing_engine::cycle::{HealingCycleResult, HealingMetrics};
use ruvector_dag_healing_engine::detection::recall_watch::RecallWatch;
use ruvector_dag_healing_engine::model::{Diagnosis, IndexHealthCheck, IndexInfo};
use ruvector_dag_healing_engine::ports::{IssueState, PortError};
use ruvector_dag_healing_engine::repair::guards::Refusal;
use serde_json::{Value, json};

use super::sql;

/// The last look at an index.
pub fn last_look(index: &IndexInfo) -> Result<Option<IndexHealthCheck>, PortError> {
    // A look stored by another version may not be readable; then there is none.
    let stored: Option<Value> = sql::row(
        "SELECT look FROM ruvector_dag_healing.index_state WHERE identity = $1->>'identity'",
        &json!({"identity": index.identity()}),
    )?;
    Ok(stored.and_then(|look| serde_json::from_value(look).ok()))
}

/// Remembers a look.
pub fn record_look(look: &IndexHealthCheck) -> Result<(), PortError> {
    sql::run(
        "INSERT INTO ruvector_dag_healing.index_state (identity, look, checked_at)
         VALUES ($1->>'identity', $1->'look', now())
         ON CONFLICT (identity) DO UPDATE SET look = excluded.look, checked_at = now()",
        &json!({"identity": look.index.identity(), "look": look}),
    )
}

/// Remembers how the watch on the recall of an index stands.
pub fn record_recall(index: &IndexInfo, watch: &RecallWatch) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.index_state
         SET look = jsonb_set(look, '{recall}', $1->'recall')
         WHERE identity = $1->>'identity'",
        &json!({"identity": index.identity(), "recall": watch}),
    )
}

/// Forgets it: the next measurement begins a new one.
pub fn forget_recall(index: &IndexInfo) -> Result<(), PortError> {
    sql::run(
        "UPDATE ruvector_dag_healing.index_state SET look = look - 'recall'
         WHERE identity = $1->>'identity'",
        &json!({"identity": index.identity()}),
    )
}

/// Opens an issue or notes that it was seen again.
pub fn file(diagnosis: &Diagnosis) -> Result<IssueState, PortError> {
    let finding = &diagnosis.finding;
    let filed = sql::written_row(
        "WITH old AS (
            SELECT status FROM ruvector_dag_healing.issue WHERE issue_id = $1->>'issue_id'
         ), filed AS (
            INSERT INTO ruvector_dag_healing.issue AS i
                (issue_id, identity, category, issue_type, severity, priority, table_oid,
                 index_oid, table_name, index_name, status, root_cause, recommended_repair,
                 evidence, impact)
            SELECT $1->>'issue_id', $1->>'identity', $1->>'category', $1->>'issue_type',
                   $1->>'severity', ($1->>'priority')::integer, ($1->>'table_oid')::oid,
                   ($1->>'index_oid')::oid, $1->>'table_name', $1->>'index_name', 'open',
                   $1->>'root_cause', $1->>'recommended_repair', $1->'evidence', $1->'impact'
            ON CONFLICT (issue_id) DO UPDATE SET
                severity = excluded.severity, priority = excluded.priority,
                table_oid = excluded.table_oid, index_oid = excluded.index_oid,
                root_cause = excluded.root_cause,
                recommended_repair = excluded.recommended_repair,
                evidence = excluded.evidence, impact = excluded.impact,
                last_seen_at = now(), resolved_at = NULL,
                status = CASE
                    WHEN i.status = 'resolved' THEN 'open'
                    WHEN i.status = 'suppressed' AND i.suppressed_until <= now() THEN 'open'
                    ELSE i.status END,
                detected_at = CASE WHEN i.status = 'resolved' THEN now() ELSE i.detected_at END,
                failures = CASE WHEN i.status = 'resolved' THEN 0 ELSE i.failures END,
                refusal = CASE WHEN i.status = 'resolved' THEN NULL ELSE i.refusal END
            RETURNING *
         ), seen AS (
            SELECT filed.*, coalesce((SELECT status FROM old), 'resolved') = 'resolved' AS is_new
            FROM filed
         )
         SELECT jsonb_build_object(
            'status', status, 'is_new', is_new, 'failures', failures,
            'last_repair', (extract(epoch FROM last_repair) * 1000000)::bigint,
            'last_repair_ms', last_repair_ms,
            'notified', CASE WHEN is_new THEN pg_notify('ruvector_dag_healing',
                jsonb_build_object('event', 'issue_opened', 'issue_id', issue_id,
                                   'issue_type', issue_type, 'severity', severity)::text)::text
                        END)
         FROM seen",
        &json!({
            "issue_id": finding.issue_id(),
            "identity": finding.index.identity(),
            "category": finding.issue.category(),
            "issue_type": finding.issue.code(),
            "severity": diagnosis.severity,
            "priority": diagnosis.priority,
            "table_oid": finding.index.table_oid,
            "index_oid": finding.index.index_oid,
            "table_name": finding.index.table_name,
            "index_name": finding.index.index_name,
            "root_cause": diagnosis.root_cause,
            "recommended_repair": diagnosis.recommended_repair,
            "evidence": finding.evidence,
            "impact": diagnosis.impact,
        }),
    )?;
    filed.ok_or_else(|| PortError::Failed("the issue was not filed".into()))
}

/// Resolves what was not found again; see the port's contract.
pub fn settle(checked: &[(String, Vec<String>)], all: Option<&[String]>) -> Result<u64, PortError> {
    let settled: Vec<Value> = sql::written_rows(
        "WITH checked AS (
            SELECT c->>0 AS identity, c->1 AS ids FROM jsonb_array_elements($1->'checked') c
         ), gone AS (
            UPDATE ruvector_dag_healing.issue i
            SET status = 'resolved', resolved_at = now(), refusal = NULL
            WHERE i.status IN ('open', 'unresolved', 'suppressed')
              AND (EXISTS (SELECT FROM checked c
                           WHERE c.identity = i.identity AND NOT c.ids ? i.issue_id)
                   OR ($1->'all' <> 'null' AND NOT $1->'all' ? i.identity))
            RETURNING i.issue_id, i.issue_type
         )
         SELECT jsonb_build_object('notified', pg_notify('ruvector_dag_healing',
            jsonb_build_object('event', 'issue_resolved', 'issue_id', issue_id,
                               'issue_type', issue_type)::text)::text)
         FROM gone",
        &json!({"checked": checked, "all": all}),
    )?;
    Ok(settled.len() as u64)
}

/// Notes why nothing is done about an issue. `true`: the reason is another than before.
pub fn note_refusal(issue_id: &str, refusal: &Refusal) -> Result<bool, PortError> {
    let changed: Option<bool> = sql::written_row(
        "WITH old AS (
            SELECT refusal->>'code' AS code FROM ruvector_dag_healing.issue
            WHERE issue_id = $1->>'issue_id'
         ), noted AS (
            UPDATE ruvector_dag_healing.issue
            SET refusal = $1->'refusal' || jsonb_build_object('at', now())
            WHERE issue_id = $1->>'issue_id' RETURNING 1
         )
         SELECT to_jsonb(old.code IS DISTINCT FROM $1->'refusal'->>'code') FROM old, noted",
        &json!({"issue_id": issue_id, "refusal": refusal}),
    )?;
    Ok(changed.unwrap_or(false))
}

/// Counts a cycle, remembers its outcome, forgets what is past retention.
pub fn close_cycle(
    result: &HealingCycleResult,
    opened: usize,
    retention_days: u32,
) -> Result<HealingMetrics, PortError> {
    let values = json!({"result": result, "opened": opened, "days": retention_days});
    sql::run(
        "DELETE FROM ruvector_dag_healing.repair
         WHERE status <> 'running' AND spare_index IS NULL
           AND finished_at < now() - ($1->>'days')::integer * interval '1 day'",
        &values,
    )?;
    sql::run(
        "DELETE FROM ruvector_dag_healing.edits e
         USING ruvector_dag_healing.repair r
         WHERE e.repair_id = r.repair_id AND r.status <> 'running'
           AND (r.keep_until > now()) IS NOT TRUE
           AND $1 IS NOT NULL",
        &values,
    )?;
    sql::run(
        "DELETE FROM ruvector_dag_healing.issue
         WHERE status = 'resolved'
           AND resolved_at < now() - ($1->>'days')::integer * interval '1 day'",
        &values,
    )?;
    sql::run(
        "DELETE FROM ruvector_dag_healing.index_state
         WHERE checked_at < now() - greatest(2, ($1->>'days')::integer) * interval '1 day'",
        &values,
    )?;
    let metrics = sql::written_row(
        "UPDATE ruvector_dag_healing.metrics
         SET checks_performed = checks_performed + 1,
             issues_detected = issues_detected + ($1->>'opened')::bigint,
             last_check_time = clock_timestamp(), last_cycle = $1->'result'
         RETURNING to_jsonb(metrics) || jsonb_build_object('last_check_time',
             (extract(epoch FROM last_check_time) * 1000000)::bigint)",
        &values,
    )?;
    Ok(metrics.unwrap_or_default())
}

/// The end of the last cycle in microseconds, 0 before the first.
pub fn last_cycle_end() -> Result<i64, PortError> {
    let end: Option<Option<i64>> = sql::row(
        "SELECT to_jsonb((extract(epoch FROM last_check_time) * 1000000)::bigint)
         FROM ruvector_dag_healing.metrics WHERE $1 IS NOT NULL",
        &json!({}),
    )?;
    Ok(end.flatten().unwrap_or_default())
}

/// How long the last build of an index took per element, in milliseconds.
pub fn build_rate(index: &IndexInfo) -> Result<Option<f64>, PortError> {
    sql::row(
        "SELECT to_jsonb(build_ms_per_element) FROM ruvector_dag_healing.index_state
         WHERE identity = $1->>'identity'",
        &json!({"identity": index.identity()}),
    )
    .map(Option::flatten)
}

/// What the journal has to say about how the healing is doing.
pub fn status() -> Result<Value, PortError> {
    let status = sql::row(
        "SELECT jsonb_build_object(
            'version', (SELECT extversion FROM pg_extension
                        WHERE extname = 'ruvector_dag_healing'),
            'database', current_database(),
            'worker', jsonb_build_object('last_cycle', m.last_check_time),
            'open_issues', (
                SELECT jsonb_object_agg(s.severity, (
                    SELECT count(*) FROM ruvector_dag_healing.issue i
                    WHERE i.severity = s.severity AND i.status <> 'resolved'))
                FROM unnest('{critical,high,medium,low}'::text[]) s(severity)),
            'active_repairs', coalesce((
                SELECT jsonb_agg(jsonb_build_object(
                    'repair_id', r.repair_id, 'issue_id', r.issue_id, 'strategy', r.strategy,
                    'index', r.index_name, 'step', r.step, 'started_at', r.started_at)
                    ORDER BY r.repair_id)
                FROM ruvector_dag_healing.repair r WHERE r.status = 'running'), '[]'),
            'last_cycle', m.last_cycle,
            'metrics', to_jsonb(m) - 'last_check_time' - 'last_cycle' - 'singleton')
         FROM ruvector_dag_healing.metrics m WHERE $1 IS NOT NULL",
        &json!({}),
    )?;
    status.ok_or_else(|| PortError::Failed("the counters are missing".into()))
}
