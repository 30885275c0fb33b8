//! What speaks for and against a repair, and handing it to a worker.

use ruvector_dag_healing_engine::model::RepairId;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::repair::guards::{Conditions, OldestTransaction};
use ruvector_dag_healing_engine::repair::plan::RepairPlan;
use serde::Deserialize;
use serde_json::json;

use super::history::RepairRow;
use super::shmem::{Repair, RepairState, Request};
use super::{lifecycle, shmem, sql, system};

/// Codes of the issue types as they travel in a request.
pub const ISSUE_CODES: [&str; 16] = [
    "fragmentation",
    "orphan_nodes",
    "poor_connectivity",
    "invalid_index",
    "dead_tuples",
    "dangling_edges",
    "unbalanced_clusters",
    "stale_training",
    "dead_entry_point",
    "low_recall",
    "wrong_level",
    "distant_insert_page",
    "born_unreachable",
    "duplicate_sink",
    "corrupt_page",
    "built_empty",
];

#[derive(Deserialize)]
struct Facts {
    minute_of_day: u16,
    directory: String,
    oldest_seconds: Option<f64>,
    oldest_who: Option<String>,
    freeze_age: f64,
    table_in_repair: bool,
    locked_by: Option<String>,
}

/// A concurrent build waits for every transaction of the database that is older and holds a
/// snapshot or a lock; prepared transactions wait for somebody to end them. Who has had
/// the table locked for less than lock_timeout is no obstacle: locks are tried for as long.
const FACTS: &str = "
WITH oldest AS (
    SELECT extract(epoch FROM clock_timestamp() - xact_start)::double precision AS seconds,
           'process ' || pid AS who
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
      AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)
      AND backend_type NOT LIKE 'ruvector_dag_healing%'
  UNION ALL
    SELECT extract(epoch FROM clock_timestamp() - prepared)::double precision,
           'prepared transaction ' || quote_literal(gid)
    FROM pg_prepared_xacts WHERE database = current_database()
  ORDER BY seconds DESC LIMIT 1
)
SELECT jsonb_build_object(
    'minute_of_day', extract(hour FROM localtime)::integer * 60
                     + extract(minute FROM localtime)::integer,
    'directory', coalesce(
        nullif(pg_tablespace_location(nullif(x.reltablespace, 0)), ''),
        nullif(pg_tablespace_location(d.dattablespace), ''),
        current_setting('data_directory')),
    'oldest_seconds', (SELECT seconds FROM oldest),
    'oldest_who', (SELECT who FROM oldest),
    'freeze_age', greatest(
        CASE WHEN t.relfrozenxid <> '0' THEN age(t.relfrozenxid)::double precision
             / current_setting('autovacuum_freeze_max_age')::double precision ELSE 0 END,
        CASE WHEN t.relminmxid <> '0' THEN mxid_age(t.relminmxid)::double precision
             / current_setting('autovacuum_multixact_freeze_max_age')::double precision
             ELSE 0 END),
    'table_in_repair', EXISTS (
        SELECT FROM ruvector_dag_healing.repair r
        WHERE r.table_oid = t.oid AND (r.status = 'running' OR r.spare_index IS NOT NULL)
          AND r.database_oid = d.oid),
    'locked_by', (
        SELECT coalesce('process ' || l.pid, 'a prepared transaction') || ' (' || l.mode || ')'
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'relation' AND l.granted AND l.database = d.oid
          AND l.relation IN (t.oid, x.oid)
          AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock',
                         'ExclusiveLock', 'AccessExclusiveLock')
          AND coalesce(clock_timestamp() - a.xact_start
                       > current_setting('ruvector.dag_healing_lock_timeout')::interval, true)
        LIMIT 1))
FROM pg_class x, pg_class t, pg_database d
WHERE x.oid = ($1->>'index')::oid AND t.oid = ($1->>'table')::oid
  AND d.datname = current_database()";

/// What speaks for and against a heavy repair of an index now.
pub fn conditions(plan: &RepairPlan) -> Result<Conditions, PortError> {
    let index = &plan.index;
    let values = json!({
        "index": index.index_oid.to_string(),
        "table": index.table_oid.to_string(),
    });
    let facts: Option<Facts> = sql::row(FACTS, &values)?;
    let Some(facts) = facts else {
        return Err(PortError::Gone(index.index_name.clone()));
    };
    let queued = shmem::read(|board| {
        board.repairs.iter().any(|repair| {
            repair.state != RepairState::Free && repair.request.table_oid == index.table_oid
        })
    });
    Ok(Conditions {
        minute_of_day: facts.minute_of_day,
        free_disk: system::free_disk(facts.directory.as_ref()),
        free_memory: system::free_memory(),
        oldest_transaction: facts
            .oldest_seconds
            .zip(facts.oldest_who)
            .map(|(seconds, who)| OldestTransaction { seconds, who }),
        freeze_age: facts.freeze_age,
        table_in_repair: facts.table_in_repair || queued.unwrap_or(false),
        locked_by: facts.locked_by,
    })
}

/// The request that asks a worker to carry out a plan.
pub fn request(plan: &RepairPlan, repair_id: RepairId, asked_by: u32, ef_search: i32) -> Request {
    let code = plan.issue.code();
    let issue_type = ISSUE_CODES.iter().position(|known| *known == code);
    Request {
        task: shmem::Task::Repair,
        database: lifecycle::my_database(),
        repair_id,
        index_oid: plan.index.index_oid,
        table_oid: plan.index.table_oid,
        issue_type: issue_type.unwrap_or_default() as u8,
        asked_by,
        ef_search,
    }
}

/// The request that asks a worker to undo a repair.
pub fn undo(row: &RepairRow, asked_by: u32) -> Request {
    Request {
        task: shmem::Task::RollBack,
        database: lifecycle::my_database(),
        repair_id: row.repair_id,
        index_oid: row.index_oid,
        table_oid: row.table_oid,
        asked_by,
        ..Request::default()
    }
}

/// Queues a request for a worker. `false`: there is no room.
pub fn enqueue(request: Request) -> bool {
    let now = lifecycle::now();
    let queued = shmem::write(|board| board.enqueue(request, now)).flatten();
    shmem::wake_launcher();
    queued.is_some()
}

/// The requests of this database that are queued or under way.
pub fn on_board() -> Vec<Repair> {
    let me = lifecycle::my_database();
    let mine =
        |repair: &&Repair| repair.state != RepairState::Free && repair.request.database == me;
    shmem::read(|board| board.repairs)
        .map(|repairs| repairs.iter().filter(mine).copied().collect())
        .unwrap_or_default()
}
