//! How long it takes to know the health of an HNSW index, against merely reading its pages and against building
//! it, all in one run on one server; how it grows; and what it costs in memory.
//!
//! `make bench`. ROWS and GROWTH (a list of row counts) may be set in the environment.

#[path = "../tests/cluster/harness/mod.rs"]
mod harness;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Options, Server, workspace};
use postgres::Client;

const REPEATS: usize = 5;

fn main() {
    let rows: u32 = from_environment("ROWS", "200000")[0];
    let server = Server::start(
        Options::new()
            .setting("shared_buffers", "2GB")
            .setting("max_wal_size", "8GB")
            .setting("autovacuum", "off")
            .setting("ruvector.dag_healing_enabled", "off")
            .setting("ruvector.dag_healing_interval_ms", 86_400_000),
    );
    server.create_database("bench", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("bench");
    let library = compile(&server);
    client
        .batch_execute(&format!(
            "CREATE FUNCTION read_pages(regclass, copy boolean) RETURNS bigint STRICT LANGUAGE c AS '{}'",
            library.display()
        ))
        .expect("the yardstick loads");

    println!("\nExact health of {rows} x 128, m = 16, in shared buffers");
    let build = build(&mut client, rows, 128);
    let pages: i64 = value(&mut client, "SELECT pg_relation_size('docs_hnsw') / 8192");
    set_memory(&mut client, "1GB");
    let [read, copied, health, check] = interleaved(
        &mut client,
        [
            "SELECT read_pages('docs_hnsw', false)",
            "SELECT read_pages('docs_hnsw', true)",
            HEALTH,
            "SELECT count(*) FROM ruvector_dag_index_check('docs_hnsw')",
        ],
    );
    let needed = u64::from(rows) * 170;
    println!("  build            {:9.1} ms   {pages} pages", ms(build));
    println!("  reading pages    {:9.1} ms", ms(read));
    println!("  and copying them {:9.1} ms", ms(copied));
    println!(
        "  health           {:9.1} ms   {:.2} x reading (at most 3), {:.2} x copying, 1/{:.0} of building (at most 1/100)",
        ms(health),
        ratio(health, read),
        ratio(health, copied),
        ratio(build, health)
    );
    println!(
        "  index_check      {:9.1} ms   {:.2} x reading",
        ms(check),
        ratio(check, read)
    );

    println!("\nMemory, each in a session of its own that has looked at a small index before");
    let mut client = warm_session(&server);
    set_memory(&mut client, "1GB");
    let (roomy, grown) = watched(&mut client, HEALTH);
    println!(
        "  in memory        {:9.1} ms   {:.1} MB, {:.0} bytes an element (at most 170)",
        ms(roomy),
        grown as f64 / 1e6,
        grown as f64 / f64::from(rows)
    );
    let mut client = warm_session(&server);
    let tenth = needed / 10 / 1024;
    set_memory(&mut client, &format!("{}kB", tenth.max(1024)));
    let (narrow, grown) = watched(&mut client, HEALTH);
    println!(
        "  a tenth of it    {:9.1} ms   {:.1} MB of {:.1} MB (at most +10 %), {:.2} x as long (at most 6)",
        ms(narrow),
        grown as f64 / 1e6,
        tenth as f64 * 1024.0 / 1e6,
        ratio(narrow, roomy)
    );

    println!("\nGrowth, 32 dimensions");
    set_memory(&mut client, "1GB");
    for rows in from_environment("GROWTH", "10000,50000,200000,500000") {
        build_quietly(&mut client, rows, 32);
        let [read, health] = interleaved(
            &mut client,
            ["SELECT read_pages('docs_hnsw', true)", HEALTH],
        );
        println!(
            "  {rows:8} elements {:9.1} ms   {:.3} us an element, {:.2} x copying",
            ms(health),
            health.as_secs_f64() * 1e6 / f64::from(rows),
            ratio(health, read)
        );
    }
}

const HEALTH: &str = "SELECT orphan_count FROM ruvector_dag_hnsw_health('docs_hnsw')";

/// A session that has loaded what every first call loads.
fn warm_session(server: &Server) -> Client {
    let mut client = server.client("bench");
    client
        .batch_execute(
            "CREATE TEMP TABLE few (v vector(3));
             INSERT INTO few SELECT ARRAY[i, 1, 2]::real[]::vector FROM generate_series(1, 100) i;
             CREATE INDEX few_idx ON few USING hnsw (v vector_l2_ops);
             SELECT * FROM ruvector_dag_hnsw_health('few_idx')",
        )
        .expect("a small index");
    client
}

fn from_environment(name: &str, default: &str) -> Vec<u32> {
    let text = std::env::var(name).unwrap_or_else(|_| default.into());
    let numbers = text.split(',').map(|n| n.trim().parse().expect("a number"));
    numbers.collect()
}

/// Compiles the yardstick for the server under test.
fn compile(server: &Server) -> PathBuf {
    let include =
        output(Command::new(server.installation().bin("pg_config")).arg("--includedir-server"));
    let library = workspace().join("target/read_pages.so");
    let status = Command::new("cc")
        .args(["-O2", "-fPIC", "-shared", "-I", include.trim(), "-o"])
        .arg(&library)
        .arg(workspace().join("benches/read_pages.c"))
        .status()
        .expect("a C compiler");
    assert!(status.success(), "the yardstick compiles");
    library
}

/// What a command prints.
fn output(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn build(client: &mut Client, rows: u32, dimensions: u32) -> Duration {
    client
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS docs;
             CREATE TABLE docs (id int, v vector({dimensions}));
             INSERT INTO docs SELECT i, ARRAY(SELECT random() - 0.5 FROM generate_series(1, {dimensions})
                                              WHERE i IS NOT NULL)::vector
             FROM generate_series(1, {rows}) i;
             SET maintenance_work_mem = '2GB'"
        ))
        .expect("rows");
    let started = Instant::now();
    client
        .batch_execute("CREATE INDEX docs_hnsw ON docs USING hnsw (v vector_l2_ops)")
        .expect("an index");
    let took = started.elapsed();
    client.batch_execute("CHECKPOINT").expect("a checkpoint");
    set_memory(client, "1GB");
    took
}

fn build_quietly(client: &mut Client, rows: u32, dimensions: u32) {
    build(client, rows, dimensions);
}

fn set_memory(client: &mut Client, memory: &str) {
    client
        .batch_execute(&format!("SET maintenance_work_mem = '{memory}'"))
        .expect("the setting");
}

fn value<T: postgres::types::FromSqlOwned>(client: &mut Client, query: &str) -> T {
    client.query_one(query, &[]).expect("an answer").get(0)
}

/// The shortest of some runs of each query, the queries taking turns.
fn interleaved<const N: usize>(client: &mut Client, queries: [&str; N]) -> [Duration; N] {
    let mut best = [Duration::MAX; N];
    for _ in 0..=REPEATS {
        for (query, best) in queries.iter().zip(&mut best) {
            let started = Instant::now();
            client.query(*query, &[]).expect("an answer");
            *best = (*best).min(started.elapsed());
        }
    }
    best
}

/// How long a query takes, and by how many bytes its backend's own memory grows.
fn watched(client: &mut Client, query: &str) -> (Duration, u64) {
    let pid: i32 = value(client, "SELECT pg_backend_pid()");
    let before = own_memory(pid);
    let ended = Arc::new(AtomicBool::new(false));
    let watcher = {
        let ended = Arc::clone(&ended);
        std::thread::spawn(move || {
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(own_memory(pid));
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        })
    };
    let started = Instant::now();
    client.query(query, &[]).expect("an answer");
    let took = started.elapsed();
    ended.store(true, Ordering::Relaxed);
    let most = watcher.join().expect("a watcher that ends");
    (took, most.saturating_sub(before))
}

fn own_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
