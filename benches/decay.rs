//! What it takes to mend an index half of whose rows were churned, against vacuuming it as pgvector does and against
//! rebuilding it, in the same run on the same server: time, log and recall.
//!
//! `make bench`. ROWS and DIMENSIONS may be set in the environment.

#[path = "../tests/cluster/harness/mod.rs"]
mod harness;

use std::io::Write;
use std::time::{Duration, Instant};

use harness::{Dice, Options, Server, literal};
use postgres::Client;
use serde_json::Value;

/// Dimensions that the rows really vary in: embeddings have far more than they use.
const LATENT: usize = 24;

fn main() {
    let rows = from_environment("ROWS", 50_000);
    let dimensions = from_environment("DIMENSIONS", 128);
    let server = Server::start(
        Options::new()
            .setting("shared_buffers", "2GB")
            .setting("max_wal_size", "16GB")
            .setting("checkpoint_timeout", "1h")
            .setting("maintenance_work_mem", "1GB")
            .setting("autovacuum", "off")
            .setting("ruvector.dag_healing_enabled", "off")
            .setting("ruvector.dag_healing_io_limit", 0)
            .setting("ruvector.dag_healing_repair_timeout", "1h")
            .setting("ruvector.dag_healing_interval_ms", 86_400_000),
    );
    server.create_database("churned", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("churned");
    let mut rng = Rows::new(dimensions);
    client
        .batch_execute(&format!(
            "CREATE TABLE docs (id int, v vector({dimensions}))"
        ))
        .expect("a table");
    rng.copy(&mut client, 0..rows);
    client
        .batch_execute("CREATE INDEX docs_hnsw ON docs USING hnsw (v vector_l2_ops)")
        .expect("an index");
    println!("{rows} x {dimensions}, m = 16, ef_construction = 64, in shared buffers");
    println!("fresh: recall {:.4}", recall(&mut client));
    client
        .batch_execute("DELETE FROM docs WHERE id % 2 = 0")
        .expect("rows go");
    let started = Instant::now();
    rng.copy(&mut client, rows..rows + rows / 2);
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
    println!(
        "links led past {} elements {relink:.0} ms, vacuum {vacuum:.0} ms, orphans linked {link:.0} ms: {:.0} % of the rebuild, comparing recall aside",
        details["relink"]["doomed"],
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

/// Rows that vary in few dimensions, as those of embeddings do.
struct Rows {
    dice: Dice,
    spread: Vec<Vec<f64>>,
}

impl Rows {
    fn new(dimensions: usize) -> Self {
        let mut dice = Dice::new(1);
        let spread = (0..dimensions).map(|_| dice.point(LATENT)).collect();
        Self { dice, spread }
    }

    fn copy(&mut self, client: &mut Client, ids: std::ops::Range<usize>) {
        let mut writer = client.copy_in("COPY docs FROM STDIN").expect("COPY starts");
        for id in ids {
            let point = self.dice.point(LATENT);
            let along = |axis: &Vec<f64>| axis.iter().zip(&point).map(|(a, x)| a * x).sum::<f64>();
            let dice = &mut self.dice;
            let vector: Vec<f32> = self
                .spread
                .iter()
                .map(|axis| (along(axis) + 0.3 * dice.normal()) as f32)
                .collect();
            writeln!(writer, "{id}\t{}", literal(&vector)).expect("COPY takes a row");
        }
        writer.finish().expect("COPY ends");
    }
}

fn recall(client: &mut Client) -> f64 {
    value(
        client,
        "SELECT recall FROM ruvector_dag_recall('docs_hnsw', 10, 4000)",
    )
}

/// Bytes of log written so far.
fn log(client: &mut Client) -> i64 {
    value(
        client,
        "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint",
    )
}

fn value<T: postgres::types::FromSqlOwned>(client: &mut Client, query: &str) -> T {
    client.query_one(query, &[]).expect("an answer").get(0)
}

fn from_environment(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
