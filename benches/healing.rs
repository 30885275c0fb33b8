//! What it takes to link orphans in place, against rebuilding the index, in the same run on the same server: time,
//! log, whether they are found, and recall.
//!
//! `make bench`. ROWS, DIMENSIONS and EVERY (a list: one element in so many is planted as an orphan) may be set in
//! the environment.

#[path = "../tests/cluster/harness/mod.rs"]
mod harness;
#[path = "../tests/cluster/check/pages.rs"]
mod pages;
#[path = "side_by_side.rs"]
mod side_by_side;

use std::process::Command;
use std::time::Instant;

use harness::{Mode, Server};
use serde_json::Value;
use side_by_side::{Rows, log, number, numbers, value};

const DATABASE: &str = "bench";

fn main() {
    let rows = number("ROWS", 100_000);
    let dimensions = number("DIMENSIONS", 128);
    let server = side_by_side::server();
    server.create_database(DATABASE, &["vector", "ruvector_dag_healing"]);
    let mut client = server.client(DATABASE);
    client
        .batch_execute(&format!(
            "CREATE TABLE docs (id int, v vector({dimensions}))"
        ))
        .expect("a table");
    Rows::new(dimensions).copy(&mut client, "docs", 0..rows);
    println!(
        "\n{rows} x {dimensions}, m = 16, ef_construction = 64, in shared buffers, right after a checkpoint"
    );
    println!(
        "orphans | read graph, plan, write (ms) | of a rebuild's time | whole repair | log, of a rebuild's | find themselves | recall@10: before, mended, rebuilt"
    );
    for every in numbers("EVERY", "850,93,19") {
        trial(&server, every);
    }
}

fn trial(server: &Server, every: usize) {
    server
        .client(DATABASE)
        .batch_execute(
            "DROP INDEX IF EXISTS docs_hnsw; CREATE INDEX docs_hnsw ON docs USING hnsw (v vector_l2_ops)",
        )
        .expect("an index");
    let sound = recall(server);
    plant(server, every);
    let mut client = server.client(DATABASE);
    client
        .batch_execute("SELECT ruvector_dag_recall('docs_hnsw', 10, 10); SELECT * FROM ruvector_dag_hnsw_health('docs_hnsw')")
        .expect("everything is in memory");
    let orphans: i64 = value(
        &mut client,
        "SELECT orphan_count FROM ruvector_dag_hnsw_health('docs_hnsw')",
    );
    let before = log(&mut client);
    let started = Instant::now();
    let id: i64 = value(
        &mut client,
        "SELECT (ruvector_dag_repair('docs', (SELECT i->'issues'->>0 FROM ruvector_dag_health_check('docs') c,
                 jsonb_array_elements(c->'indexes') i))->>'repair_id')::bigint",
    );
    client
        .batch_execute(&format!("CALL ruvector_dag_wait({id})"))
        .expect("a repair");
    let repair = started.elapsed();
    let written = log(&mut client) - before;
    let history: Value = value(
        &mut client,
        "SELECT to_jsonb(h) FROM ruvector_dag_repair_history('docs') h LIMIT 1",
    );
    assert_eq!(history["status"], "succeeded", "{history:#}");
    assert_eq!(history["repair_type"], "in_place", "{history:#}");
    let left: i64 = value(
        &mut client,
        "SELECT orphan_count FROM ruvector_dag_hnsw_health('docs_hnsw')",
    );
    let link = &history["details"]["link"];
    let entry = &history["details"]["entry"];
    let figure = |of: &Value, key: &str| of[key].as_f64().unwrap_or(0.0);
    let (survey, plan, write) = (
        figure(entry, "survey_ms") + figure(link, "survey_ms"),
        figure(link, "plan_ms"),
        figure(link, "write_ms"),
    );
    let found = &history["after"]["former_orphans"];
    let mended = recall(server);

    client.batch_execute("CHECKPOINT").expect("a checkpoint");
    let before = log(&mut client);
    let started = Instant::now();
    client
        .batch_execute("REINDEX INDEX CONCURRENTLY docs_hnsw")
        .expect("a rebuild");
    let rebuild = started.elapsed();
    let rebuilt_written = log(&mut client) - before;
    let rebuilt = recall(server);
    let share = |ms: f64| ms / 10.0 / rebuild.as_secs_f64();
    println!(
        "{orphans:6} -> {left} | {survey:.0}, {plan:.0}, {write:.0} | planned and written {:.2} %, with reading {:.2} % of {:.1} s | {:.2} s, {:.1} % | {:.2} MB, 1/{:.0} of {:.0} MB | {}/{} | {sound:.4} sound, {:.4} mended, {:.4} rebuilt, edits {} lost {}",
        share(plan + write),
        share(survey + plan + write),
        rebuild.as_secs_f64(),
        repair.as_secs_f64(),
        100.0 * repair.as_secs_f64() / rebuild.as_secs_f64(),
        written as f64 / 1e6,
        rebuilt_written as f64 / written as f64,
        rebuilt_written as f64 / 1e6,
        found["found"],
        found["queries"],
        mended,
        rebuilt,
        link["made"],
        link["lost"],
    );
}

/// Takes all links to one element in `every` out, in the file of the stopped server.
fn plant(server: &Server, every: usize) {
    let file = server.index_file(DATABASE, "docs_hnsw");
    server.stop(Mode::Fast);
    let checksums = Command::new(server.installation().bin("pg_checksums"))
        .args(["--disable", "--pgdata"])
        .arg(server.data_dir())
        .output();
    checksums.expect("pg_checksums runs");
    let mut index = pages::File::open(&file);
    let which = index.ordinary(every);
    index.cut(&which, |_| true);
    drop(index);
    server.start_again();
}

fn recall(server: &Server) -> f64 {
    value(
        &mut server.client(DATABASE),
        "SELECT recall FROM ruvector_dag_recall('docs_hnsw', 10, 5000)",
    )
}
