//! What tests see of the workers from outside: processes, counters, log lines. Checks nothing by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use postgres::Client;

use crate::harness::{Server, wait_until};

/// Generous: machines are slow, and a worker that died rests before the next one comes.
pub const LIMIT: Duration = Duration::from_secs(60);
pub const LAUNCHER: &str = "ruvector_dag_healing launcher";
pub const HEALER: &str = "ruvector_dag_healing healer";

/// Databases and the pids of the healers connected to them.
pub fn healers(server: &Server) -> BTreeMap<String, Vec<i32>> {
    let rows = server
        .client("postgres")
        .query(
            "SELECT datname::text, array_agg(pid) FROM pg_stat_activity
             WHERE backend_type = $1 AND datname IS NOT NULL GROUP BY 1",
            &[&HEALER],
        )
        .expect("pg_stat_activity");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The healer of a database; never are there two.
#[track_caller]
pub fn healer(server: &Server, database: &str) -> Option<i32> {
    let pids = healers(server).remove(database).unwrap_or_default();
    assert!(pids.len() <= 1, "{database} has the healers {pids:?}");
    pids.first().copied()
}

/// Waits for a healer that has entered its idle wait at least once, so that it is there to stay.
#[track_caller]
pub fn settled_healer(server: &Server, database: &str) -> i32 {
    let mut found = None;
    wait_until("a healer comes and settles", LIMIT, || {
        found = healer(server, database);
        found.is_some() && checks(server, database) > 0
    });
    found.expect("a healer")
}

/// Waits until a database has another healer than `old`.
#[track_caller]
pub fn next_healer(server: &Server, database: &str, old: i32) -> i32 {
    let mut found = None;
    wait_until("another healer comes", LIMIT, || {
        found = healer(server, database).filter(|pid| *pid != old);
        found.is_some()
    });
    found.expect("a healer")
}

/// Cycles that the healer of a database has run.
pub fn checks(server: &Server, database: &str) -> i64 {
    server.value(
        database,
        "SELECT (ruvector_dag_healing_status()->'metrics'->>'checks_performed')::bigint",
    )
}

/// Waits for so many more cycles.
#[track_caller]
pub fn more_checks(server: &Server, database: &str, more: i64) {
    let mut client = server.client(database);
    let mut count = || -> i64 {
        let counted = "SELECT checks_performed FROM ruvector_dag_healing.metrics";
        client.query_one(counted, &[]).expect("counters").get(0)
    };
    let goal = count() + more;
    wait_until("the healer goes on checking", LIMIT, || count() >= goal);
}

/// Whether a process of this machine runs.
pub fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit(") ").next();
        !state.is_some_and(|rest| rest.starts_with('Z'))
    })
}

/// Lines that our workers logged with one of these severities.
pub fn worker_lines(server: &Server, severities: &[&str]) -> Vec<String> {
    let log = server.log();
    let ours = log
        .lines()
        .filter(|line| line.contains("] ruvector_dag_healing "));
    let told = ours.filter(|line| severities.iter().any(|severity| line.contains(severity)));
    told.map(str::to_owned).collect()
}

/// Panics if one of our workers complained, or any process crashed.
#[track_caller]
pub fn assert_no_complaints(server: &Server) {
    assert_no_complaints_but(server, "\0");
}

/// Panics if one of our workers complained of anything but `expected`, or any process crashed.
#[track_caller]
pub fn assert_no_complaints_but(server: &Server, expected: &str) {
    let mut lines = worker_lines(server, &["ERROR:", "FATAL:", "PANIC:", "WARNING:"]);
    lines.retain(|line| !line.contains(expected));
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    assert_no_crash(server);
}

/// Panics if any process of the server crashed.
#[track_caller]
pub fn assert_no_crash(server: &Server) {
    let log = server.log();
    let crash = |line: &&str| line.contains("PANIC:") || line.contains("was terminated by signal");
    let crashes: Vec<_> = log.lines().filter(crash).collect();
    assert!(crashes.is_empty(), "{}", crashes.join("\n"));
}

/// A table `name` with an index `name_hnsw` on `rows` random vectors of 16 dimensions, the same every time.
pub fn load(client: &mut Client, name: &str, rows: u32) {
    client
        .batch_execute(&format!(
            "SELECT setseed(0.5);
             CREATE TABLE {name} (id int PRIMARY KEY, v vector(16));
             INSERT INTO {name} SELECT i, array_agg(random())::real[]::vector
                 FROM generate_series(1, {rows}) i, generate_series(1, 16) d GROUP BY i;
             CREATE INDEX {name}_hnsw ON {name} USING hnsw (v vector_l2_ops)"
        ))
        .expect("a table with an index");
}
