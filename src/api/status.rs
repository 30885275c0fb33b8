//! How the healing is doing.

use pgrx::datum::JsonB;
use pgrx::prelude::*;
use ruvector_dag_healing_engine::cycle::HealingMetrics;
use ruvector_dag_healing_engine::vector_index::release::vacuum_fault;
use serde_json::{Value, json};

use crate::pg::error::or_raise;
use crate::pg::privilege::{as_owner, require_monitoring, require_reading};
use crate::pg::shmem::{self, HealerState, Phase};
use crate::pg::{captures, catalog, guc, journal, lifecycle, progress, query_sample};

/// Settings, worker, open issues, repairs under way, counters.
#[pg_extern(sql = "")]
fn ruvector_dag_healing_status() -> JsonB {
    require_monitoring("healing status", "It tells of every table in the database.");
    let config = guc::config();
    let mut status = or_raise(as_owner(journal::status));
    let metrics: HealingMetrics =
        serde_json::from_value(status["metrics"].take()).unwrap_or_default();
    let (success_rate, avg) = (metrics.success_rate(), metrics.avg_repair_time_ms());
    status["metrics"] = json!({
        "checks_performed": metrics.checks_performed,
        "issues_detected": metrics.issues_detected,
        "repairs_initiated": metrics.repairs_initiated,
        "repairs_successful": metrics.repairs_successful,
        "repairs_failed": metrics.repairs_failed,
        "repairs_rolled_back": metrics.repairs_rolled_back,
        "success_rate": success_rate,
        "avg_repair_time_ms": avg,
        "last_check_time": status["worker"]["last_cycle"],
    });
    status["enabled"] = json!(config.auto_heal_enabled);
    status["config"] = guc::to_json(&config);
    status["captured_queries"] = captured_queries();
    status["pgvector"] = pgvector();
    let last_cycle = status["worker"]["last_cycle"].take();
    status["worker"] = worker(last_cycle);
    JsonB(status)
}

/// The release of pgvector, and what is wrong with it.
fn pgvector() -> Value {
    let release = or_raise(as_owner(catalog::pgvector));
    release.map_or(
        Value::Null,
        |release| json!({"version": release.to_string(), "vacuum_fault": vacuum_fault(&release)}),
    )
}

/// How many queries are kept, and how many were not even taken in, by the reason.
fn captured_queries() -> Value {
    let dropped = captures::dropped().map(|[contended, no_room, too_long]| {
        json!({"contended": contended, "no_room": no_room, "too_long": too_long})
    });
    json!({"kept": or_raise(as_owner(query_sample::kept)), "dropped": dropped})
}

fn worker(last_cycle: Value) -> Value {
    let database = lifecycle::my_database();
    let healer = shmem::read(|board| board.healer(database).copied()).flatten();
    let (state, pid, next) = match healer {
        _ if lifecycle::in_recovery() => ("standby", 0, 0),
        _ if !shmem::preloaded() => ("not_preloaded", 0, 0),
        None => ("paused", 0, 0),
        Some(healer) => match healer.state {
            HealerState::Cycling => ("running", healer.pid, healer.next_cycle),
            _ => ("idle", healer.pid, healer.next_cycle),
        },
    };
    let next = (next != 0).then(|| lifecycle::timestamp_text(next));
    json!({
        "state": state,
        "pid": (pid != 0).then_some(pid),
        "last_cycle": last_cycle,
        "next_cycle": next,
    })
}

/// A relation, its partitions and their indexes, for the functions written in SQL.
#[pg_extern(sql = "")]
fn targets(relation: pg_sys::Oid) -> SetOfIterator<'static, pg_sys::Oid> {
    let named = catalog::named(relation.to_u32());
    catalog::require_relation(&named);
    require_reading(named.table_oid, &named.table_name);
    let indexes = or_raise(as_owner(|| catalog::indexes_of(relation.to_u32())));
    let mut oids = vec![relation];
    oids.extend(
        indexes
            .iter()
            .map(|index| pg_sys::Oid::from(index.index_oid)),
    );
    SetOfIterator::new(oids)
}

/// Indexes being read in this database.
#[pg_extern(sql = "")]
#[allow(clippy::type_complexity)]
fn readings() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(index_oid, pg_sys::Oid),
        name!(phase, String),
        name!(pages_done, i64),
        name!(pages_total, i64),
    ),
> {
    let count = |pages: u64| i64::try_from(pages).unwrap_or(i64::MAX);
    TableIterator::new(progress::readings().into_iter().map(move |reading| {
        let phase = match reading.phase {
            Phase::Index => "index",
            Phase::Table => "table",
        };
        (
            reading.pid,
            pg_sys::Oid::from(reading.index),
            phase.into(),
            count(reading.done),
            count(reading.total),
        )
    }))
}
