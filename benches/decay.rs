//! What it takes to mend an index half of whose rows were churned, against vacuuming it as pgvector does and against
//! rebuilding it, in the same run on the same server: time, log and recall.
//!
//! `make bench`. ROWS and DIMENSIONS may be set in the environment.

#[path = "../tests/cluster/harness/mod.rs"]
mod harness;
#[path = "side_by_side.rs"]
mod side_by_side;

use std::time::{Duration, Instant};

use harness::Server;
use postgres::Client;
use serde_json::Value;
use side_by_side::{Rows, log, number, value};

fn main() {
    let rows = number("ROWS", 50_000);
    let dimensions = number("DIMENSIONS", 128);
    let server = side_by_side::server();
    server.create_database("churned", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("churned");
    let mut rows_of = Rows::new(dimensions);
    client
        .batch_execute(&format!(
            "CREATE TABLE docs (id int, v vector({dimensions}))"
        ))
        .expect("a table");
    rows_of.copy(&mut client, "docs", 0..rows);
    client
        .batch_execute("CREATE INDEX docs_hnsw ON docs USING hnsw (v vector_l2_ops)")
        .expect("an index");
    println!("{rows} x {dimensions}, m = 16, ef_construction = 64, in shared buffers");
    println!("fresh: recall {:.4}", recall(&mut client));
    client
        .batch_execute("DELETE FROM docs WHERE id % 2 = 0")
        .expect("rows go");
    let started = Instant::now();
    rows_of.copy(&mut client, "docs", rows..rows + rows / 2);
    println!(
        "half deleted, as many inserted in {:.1} s: recall {:.4}",
        started.elapsed().as_secs_f64(),
        recall(&mut client)
    );
    drop(client);
    // Files are copied as they are.
    server
        .client("postgres")
        .batch_execute("CREATE DATABASE vacuumed TEMPLATE churned STRATEGY file_copy")
        .expect("a copy");

    let (took, written) = measured(&server, "vacuumed", |client| {
        client.batch_execute("VACUUM docs").expect("a vacuum");
    });
    say(&server, "vacuumed", "VACUUM", took, written);

    let mut repair = Value::Null;
    let (took, written) = measured(&server, "churned", |client| {
        repair = repaired(client);
    });
    assert_eq!(repair["status"], "succeeded", "{repair:#}");
    assert_eq!(repair["repair_type"], "in_place", "{repair:#}");
    say(&server, "churned", "mended", took, written);

    let (took, written) = measured(&server, "churned", |client| {
        client
            .batch_execute("REINDEX INDEX CONCURRENTLY docs_hnsw")
            .expect("a rebuild");
    });
    say(&server, "churned", "REINDEX", took, written);
    let details = &repair["details"];
    let ms = |value: &Value| value.as_f64().unwrap_or(0.0);
    let of = |step: &str| {
        let keys = ["survey_ms", "plan_ms", "write_ms"];
        keys.iter().map(|key| ms(&details[step][*key])).sum::<f64>()
    };
    let (relink, vacuum, link) = (of("relink"), ms(&details["vacuum_ms"]), of("link"));
    let part = |key: &str| ms(&details["relink"][key]);
    println!(
        "links led past {} elements: read in {:.0} ms, planned in {:.0}, written in {:.0}",
        details["relink"]["doomed"],
        part("survey_ms"),
        part("plan_ms"),
        part("write_ms"),
    );
    println!(
        "all of that {relink:.0} ms, vacuum {vacuum:.0} ms, orphans linked {link:.0} ms: {:.0} % of the rebuild, comparing recall aside",
        (relink + vacuum + link) / 10.0 / took.as_secs_f64(),
    );
}

/// Has the index mended for what is found first.
fn repaired(client: &mut Client) -> Value {
    let id: Option<i64> = value(
        client,
        "SELECT (ruvector_dag_repair('docs', (SELECT i->'issues'->>0 FROM ruvector_dag_health_check('docs') c,
                 jsonb_array_elements(c->'indexes') i))->>'repair_id')::bigint",
    );
    let Some(id) = id else {
        return Value::Null;
    };
    client
        .batch_execute(&format!("CALL ruvector_dag_wait({id})"))
        .expect("a repair");
    value(
        client,
        "SELECT to_jsonb(h) FROM ruvector_dag_repair_history('docs') h LIMIT 1",
    )
}

/// How long work takes and how many bytes of log it writes, right after a checkpoint.
fn measured(server: &Server, database: &str, work: impl FnOnce(&mut Client)) -> (Duration, i64) {
    let mut client = server.client(database);
    client.batch_execute("CHECKPOINT").expect("a checkpoint");
    recall(&mut client);
    let before = log(&mut client);
    let started = Instant::now();
    work(&mut client);
    (started.elapsed(), log(&mut client) - before)
}

fn say(server: &Server, database: &str, what: &str, took: Duration, written: i64) {
    let mut client = server.client(database);
    let orphans: i64 = value(
        &mut client,
        "SELECT orphan_count FROM ruvector_dag_hnsw_health('docs_hnsw')",
    );
    println!(
        "{what}: {:.1} s, {:.0} MB of log, recall {:.4}, {orphans} orphans",
        took.as_secs_f64(),
        written as f64 / 1e6,
        recall(&mut client)
    );
}

fn recall(client: &mut Client) -> f64 {
    value(
        client,
        "SELECT recall FROM ruvector_dag_recall('docs_hnsw', 10, 4000)",
    )
}
