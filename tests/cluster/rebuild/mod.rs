//! Rebuilds on real servers: under load, judged, undone, interrupted.

// Killed or stopped at every step: one valid index and a consistent history remain.
mod crash;
// What belongs to an index goes over to its replacement; which indexes are rebuilt at all.
mod keeps;
// Damage, detection, rebuild, verification while clients go on.
mod load;
// Waiting behind a repair, and repairs that wait.
mod manners;
// A replacement that is worse is undone; a repair can be undone on request.
mod verdict;

use std::time::Duration;

use postgres::Client;
use serde_json::Value;

use crate::harness::{Server, vacuum};

/// Longest wait for what takes a second or two on an idle machine.
pub const SOON: Duration = Duration::from_secs(60);
const DATABASE: &str = "healing";

/// A table of random vectors with an index `NAME_idx`.
fn make_table(client: &mut Client, name: &str, rows: u32, dimensions: u32, options: &str) {
    client
        .batch_execute(&format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, v vector({dimensions}));
             {}
             CREATE INDEX {name}_idx ON {name} USING hnsw (v vector_l2_ops) {options};",
            insert(name, dimensions, 1, rows)
        ))
        .expect("a table with an index");
}

/// Adds random vectors with these ids.
fn insert(table: &str, dimensions: u32, from: u32, to: u32) -> String {
    format!(
        "INSERT INTO {table} SELECT i, (SELECT array_agg(random())::real[]::vector
                                        FROM generate_series(1, {dimensions}) WHERE i > 0)
         FROM generate_series({from}, {to}) i;"
    )
}

/// Deletes four of five rows and vacuums: the index is four fifths empty.
fn damage(client: &mut Client, name: &str) {
    client
        .batch_execute(&format!("DELETE FROM {name} WHERE id % 5 <> 0"))
        .expect("a delete");
    vacuum(client, name);
}

/// The id of an issue of a table, found by looking now.
fn issue(client: &mut Client, table: &str, kind: &str) -> String {
    let check: Value = client
        .query_one(&format!("SELECT ruvector_dag_health_check('{table}')"), &[])
        .expect("a health check")
        .get(0);
    let issues = check["indexes"][0]["issues"].as_array().expect("issues");
    let found = issues
        .iter()
        .filter_map(Value::as_str)
        .find(|id| id.starts_with(kind));
    found
        .unwrap_or_else(|| panic!("no {kind} in {check}"))
        .to_owned()
}

/// Asks for the repair of a table's fragmentation; its number.
fn ask_for_repair(client: &mut Client, table: &str) -> i64 {
    let issue = issue(client, table, "fragmentation");
    let answer: Value = client
        .query_one(
            "SELECT ruvector_dag_repair($1::text::regclass, $2)",
            &[&table, &issue],
        )
        .expect("a repair")
        .get(0);
    assert_eq!(answer["status"], "queued", "{answer}");
    answer["repair_id"].as_i64().expect("a number")
}

/// Status and error of a repair, as far as the history has it.
fn ending(server: &Server, repair: i64) -> (String, String) {
    let mut client = server.client(DATABASE);
    let row = client
        .query_opt(
            "SELECT status, coalesce(error, '') FROM ruvector_dag_healing.repair WHERE repair_id = $1",
            &[&repair],
        )
        .expect("the history");
    row.map_or(("none".into(), String::new()), |row| {
        (row.get(0), row.get(1))
    })
}

/// Waits until a repair has ended; its status and error.
fn await_ending(server: &Server, repair: i64) -> (String, String) {
    server.wait_until("the repair ends", SOON, || {
        !["none", "running"].contains(&ending(server, repair).0.as_str())
    });
    ending(server, repair)
}

/// Waits until a table has its one valid index and nothing else of ours.
fn await_one_index(server: &Server, table: &str) {
    server.wait_until("one valid index of that name remains", SOON, || {
        server.value::<bool>(
            DATABASE,
            &format!(
                "SELECT count(*) = 1 AND bool_and(indisvalid AND indisready AND relname = '{table}_idx')
                 FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = relam
                 WHERE indrelid = '{table}'::regclass AND amname = 'hnsw'"
            ),
        )
    });
}

/// A search through the index returns rows, and the planner does use it.
fn assert_serves(client: &mut Client, table: &str) {
    client
        .batch_execute("SET enable_seqscan = off")
        .expect("a setting");
    let search =
        format!("SELECT id FROM {table} ORDER BY v <-> (SELECT v FROM {table} LIMIT 1) LIMIT 10");
    let plan = client
        .query(&format!("EXPLAIN {search}"), &[])
        .expect("a plan");
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let used = plan
        .iter()
        .any(|line| line.contains(&format!("{table}_idx on")));
    assert!(used, "{plan:#?}");
    assert_eq!(client.query(&search, &[]).expect("a search").len(), 10);
}
