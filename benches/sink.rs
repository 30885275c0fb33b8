//! What a value that many rows share costs among real embeddings, and what gets searches past it: the graph as it is
//! built, the same led past the value in place, and an index without the value.
//!
//! `make bench`. EMBEDDINGS (a file of NumPy's, float16) and EVERY (one row in so many is the zero vector) may be set
//! in the environment: the slice in `tests/data` is so small that it takes a tenth of its rows.

#[path = "../tests/cluster/harness/mod.rs"]
mod harness;

use std::collections::HashSet;
use std::io::Write;
use std::time::{Duration, Instant};

use harness::{Embeddings, Options, Server, literal};
use postgres::Client;
use serde_json::Value;

const DATABASE: &str = "bench";
const BREADTHS: [u32; 5] = [10, 20, 40, 80, 200];

fn main() {
    let server = Server::start(
        Options::new()
            .setting("shared_buffers", "1GB")
            .setting("max_wal_size", "16GB")
            .setting("checkpoint_timeout", "1h")
            .setting("maintenance_work_mem", "512MB")
            .setting("max_parallel_maintenance_workers", 0)
            .setting("autovacuum", "off")
            .setting("ruvector.dag_healing_enabled", "off")
            .setting("ruvector.dag_healing_io_limit", 0)
            .setting("ruvector.dag_healing_interval_ms", 86_400_000),
    );
    server.create_database(DATABASE, &["vector", "ruvector_dag_healing"]);
    let mut client = server.client(DATABASE);
    let embeddings = match std::env::var("EMBEDDINGS") {
        Ok(path) => Embeddings::read_vectors(path.as_ref()),
        Err(_) => Embeddings::descriptions(),
    };
    let every: usize = match std::env::var("EVERY") {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => 10,
    };
    let dimensions = embeddings.dimensions;
    fill(&mut client, &embeddings, every);
    let zero = format!("array_fill(0::real, ARRAY[{dimensions}])::vector");
    let queries: Vec<String> = Embeddings::queries()
        .rows
        .iter()
        .map(|row| literal(row))
        .collect();
    let truth: Vec<HashSet<i32>> = queries
        .iter()
        .map(|query| exact(&mut client, query, every))
        .collect();

    let build = timed(
        &mut client,
        "CREATE INDEX docs_v ON docs USING hnsw (v vector_l2_ops)",
    );
    println!(
        "\n{} x {dimensions} real embeddings, every {every}th row the zero vector, L2, m = 16, ef_construction = 64",
        embeddings.rows.len()
    );
    println!(
        "share of the ordinary rows among the ten nearest that is found, by hnsw.ef_search; rows found for the value itself"
    );
    println!(
        "                  {}",
        BREADTHS.map(|breadth| format!("{breadth:>6}")).join(" ")
    );
    curve(&mut client, "as built", &queries, &truth, "", &zero);
    client.batch_execute("CHECKPOINT").expect("a checkpoint");
    let (before, started) = (log(&mut client), Instant::now());
    let history = repair(&mut client);
    let (took, written) = (started.elapsed(), log(&mut client) - before);
    curve(&mut client, "led past", &queries, &truth, "", &zero);
    client.batch_execute("CHECKPOINT").expect("a checkpoint");
    let before = log(&mut client);
    let condition = format!("WHERE v <> {zero}");
    let partial = timed(
        &mut client,
        &format!(
            "DROP INDEX docs_v; CREATE INDEX docs_v ON docs USING hnsw (v vector_l2_ops) {condition}"
        ),
    );
    let partial_written = log(&mut client) - before;
    curve(
        &mut client,
        "without it",
        &queries,
        &truth,
        &condition,
        &zero,
    );
    let detour = &history["details"]["detour"];
    let estimate = &history["details"]["plan"]["estimate"];
    println!(
        "built in {:.1} s, without the value in {:.1} s and {:.0} MB of log; led past it in {:.1} s and {:.0} MB: planned in {} ms, {} of {} lists rewritten in {} ms; estimated at {} ms and {:.0} MB",
        build.as_secs_f64(),
        partial.as_secs_f64(),
        partial_written as f64 / 1e6,
        took.as_secs_f64(),
        written as f64 / 1e6,
        detour["plan_ms"],
        detour["made"],
        detour["planned"],
        detour["write_ms"],
        estimate["duration_ms"],
        estimate["bytes"].as_f64().unwrap_or(0.0) / 1e6,
    );
    let recall = |side: &str| {
        history[side]["probe"]["recall"]
            .as_f64()
            .unwrap_or(f64::NAN)
    };
    println!(
        "recall@10 of the repair's own queries, rows of the table: {:.3} before, {:.3} after",
        recall("before"),
        recall("after")
    );
}

/// The embeddings, one in so many replaced.
fn fill(client: &mut Client, embeddings: &Embeddings, every: usize) {
    let create = format!(
        "CREATE TABLE docs (id int, v vector({}))",
        embeddings.dimensions
    );
    client.batch_execute(&create).expect("a table");
    let zero = literal(&vec![0.0; embeddings.dimensions]);
    let mut writer = client.copy_in("COPY docs FROM STDIN").expect("COPY starts");
    for row in 0..embeddings.rows.len() {
        let value = match row % every {
            0 => zero.clone(),
            _ => embeddings.literal(row),
        };
        writeln!(writer, "{row}\t{value}").expect("COPY takes a row");
    }
    writer.finish().expect("COPY ends");
}

/// The ordinary rows among the ten nearest.
fn exact(client: &mut Client, query: &str, every: usize) -> HashSet<i32> {
    let nearest = format!("SELECT id FROM docs ORDER BY v <-> '{query}', id LIMIT 10");
    let rows = client.query(&nearest, &[]).expect("neighbours");
    rows.iter()
        .map(|row| row.get(0))
        .filter(|id: &i32| !(*id as usize).is_multiple_of(every))
        .collect()
}

fn curve(
    client: &mut Client,
    name: &str,
    queries: &[String],
    truth: &[HashSet<i32>],
    condition: &str,
    zero: &str,
) {
    client
        .batch_execute("SET enable_seqscan = off")
        .expect("a setting");
    let (mut shares, mut of_the_value) = (Vec::new(), Vec::new());
    for breadth in BREADTHS {
        let set = format!("SET hnsw.ef_search = {breadth}");
        client.batch_execute(&set).expect("a setting");
        let mut found = 0;
        for (query, wanted) in queries.iter().zip(truth) {
            let nearest =
                format!("SELECT id FROM docs {condition} ORDER BY v <-> '{query}' LIMIT 10");
            let rows = client.query(&nearest, &[]).expect("neighbours");
            found += rows
                .iter()
                .filter(|row| wanted.contains(&row.get(0)))
                .count();
        }
        let wanted: usize = truth.iter().map(HashSet::len).sum();
        shares.push(format!("{:>6.3}", found as f64 / wanted as f64));
        let rows = format!(
            "SELECT count(*) FROM (SELECT v <-> {zero} AS far FROM docs {condition} ORDER BY v <-> {zero} LIMIT 10000) s
             WHERE far = 0"
        );
        let count: i64 = client
            .query_one(&rows, &[])
            .expect("rows of the value")
            .get(0);
        of_the_value.push(format!("{count:>6}"));
    }
    client
        .batch_execute("RESET enable_seqscan")
        .expect("a setting");
    println!(
        "{name:<17} {}   {}",
        shares.join(" "),
        of_the_value.join(" ")
    );
}

/// Has searches led past the value; what the history says of it.
fn repair(client: &mut Client) -> Value {
    let ask = "SELECT (ruvector_dag_repair('docs', (SELECT i->'issues'->>0 FROM ruvector_dag_health_check('docs') c,
                       jsonb_array_elements(c->'indexes') i))->>'repair_id')::bigint";
    let id: i64 = client.query_one(ask, &[]).expect("a repair").get(0);
    client
        .batch_execute(&format!("CALL ruvector_dag_wait({id})"))
        .expect("it ends");
    let history = "SELECT to_jsonb(h) FROM ruvector_dag_repair_history('docs') h LIMIT 1";
    let history: Value = client.query_one(history, &[]).expect("the history").get(0);
    assert_eq!(history["status"], "succeeded", "{history:#}");
    history
}

fn timed(client: &mut Client, statements: &str) -> Duration {
    let started = Instant::now();
    client.batch_execute(statements).expect("statements");
    started.elapsed()
}

/// Bytes of log written so far.
fn log(client: &mut Client) -> i64 {
    let position = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
    client.query_one(position, &[]).expect("a position").get(0)
}
