//! How far measured recall can be trusted, and what it costs: the coverage of its interval against a recall that is
//! known, the gate's verdicts on repairs that are bad, equal and good, the settings that tuning recommends, and the
//! time of exact neighbours against as many statements.
//!
//! `cargo bench -p ruvector_dag_healing_engine --features server-tests --bench recall`. PART (`coverage`, `gate`,
//! `tune`, `truth`) chooses one of them, RUNS says how often repairs and tunings are repeated.

#[path = "../tests/cluster/harness/mod.rs"]
mod harness;

use std::time::{Duration, Instant};

use harness::{Embeddings, Options, Server, vacuum};
use postgres::Client;
use serde_json::Value;

/// What is measured on a server of its own.
type Part = fn(&Server);

fn main() {
    let part = std::env::var("PART").unwrap_or_default();
    let parts: [(&str, Part); 4] = [
        ("truth", truth),
        ("coverage", coverage),
        ("tune", tune),
        ("gate", gate),
    ];
    for (name, run) in parts {
        if part.is_empty() || part == name {
            let server = Server::start(
                Options::new()
                    .setting("shared_buffers", "1GB")
                    .setting("maintenance_work_mem", "512MB")
                    .setting("max_wal_size", "4GB")
                    .setting("autovacuum", "off")
                    .setting("jit", "off")
                    .setting("ruvector.dag_healing_rollback_enabled", "off")
                    .setting("ruvector.dag_healing_enabled", "off"),
            );
            run(&server);
        }
    }
}

fn runs(default: usize) -> usize {
    let set = std::env::var("RUNS").ok();
    set.map_or(default, |value| value.parse().expect("a number"))
}

fn execute(client: &mut Client, statements: &str) {
    if let Err(error) = client.batch_execute(statements) {
        panic!("{statements}\n{error:?}");
    }
}

/// Exact neighbours of 200 queries in one pass, against 200 statements that sort the table.
fn truth(server: &Server) {
    const ROWS: u32 = 100_000;
    server.create_database("bench", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("bench");
    execute(
        &mut client,
        &format!(
            "CREATE TABLE docs (v vector(384));
             ALTER TABLE docs ALTER v SET STORAGE PLAIN;
             INSERT INTO docs SELECT l2_normalize(ARRAY(SELECT random() - 0.5 FROM generate_series(1, 384)
                                                        WHERE i IS NOT NULL)::vector)
             FROM generate_series(1, {ROWS}) i;
             CREATE INDEX docs_idx ON docs USING hnsw (v vector_cosine_ops) WITH (m = 4, ef_construction = 8);
             SET max_parallel_workers_per_gather = 0"
        ),
    );
    execute(&mut client, "VACUUM ANALYZE docs");
    let queries: Vec<String> = client
        .query("SELECT v::text FROM docs ORDER BY random() LIMIT 200", &[])
        .expect("queries")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..3 {
        let started = Instant::now();
        let statement = "SELECT recall FROM ruvector_dag_recall('docs_idx', 10, 200)";
        client.query(statement, &[]).expect("recall");
        fastest[0] = fastest[0].min(started.elapsed());
        let started = Instant::now();
        execute(&mut client, "SET enable_indexscan = off");
        for query in &queries {
            let nearest = "SELECT ctid FROM docs ORDER BY v <=> $1::text::vector LIMIT 10";
            client.query(nearest, &[query]).expect("neighbours");
        }
        fastest[1] = fastest[1].min(started.elapsed());
        execute(&mut client, "RESET enable_indexscan");
    }
    let [pass, statements] = fastest.map(|time| time.as_secs_f64() * 1e3);
    println!("200 queries over {ROWS} x 384, cosine, k = 10, one core");
    println!("  200 statements            {statements:9.1} ms");
    println!(
        "  ruvector_dag_recall       {pass:9.1} ms   {:.1} times as fast (at least 5), the index searched as well",
        statements / pass
    );
}

/// Recall of every row, and how often the interval of 200 rows holds it.
fn coverage(server: &Server) {
    const MEASUREMENTS: u32 = 300;
    server.create_database("bench", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("bench");
    let all = embeddings(&mut client, &with("m = 4, ef_construction = 10"));
    println!("{MEASUREMENTS} measurements by 200 of {all} rows of real embeddings, k = 10");
    let mut recall = |ef_search: u32, queries: i32| -> (f64, f64, f64) {
        execute(&mut client, &format!("SET hnsw.ef_search = {ef_search}"));
        let measured =
            "SELECT recall, ci_low, ci_high FROM ruvector_dag_recall('docs_idx', 10, $1)";
        let row = client.query_one(measured, &[&queries]).expect("recall");
        (row.get(0), row.get(1), row.get(2))
    };
    for wanted in [0.80, 0.90, 0.95, 0.99] {
        if wanted == 0.99 {
            // More than the first index can give.
            let better = with("m = 8, ef_construction = 32");
            server.execute(
                "bench",
                &format!("DROP INDEX docs_idx; CREATE INDEX docs_idx ON docs USING {better}"),
            );
        }
        // The setting whose recall over all rows is nearest.
        let (mut low, mut high) = (10, 1_000);
        while high - low > 1 {
            let middle = (low + high) / 2;
            match recall(middle, all).0 < wanted {
                true => low = middle,
                false => high = middle,
            }
        }
        let known = recall(high, all).0;
        let (mut held, mut width) = (0, 0.0);
        for _ in 0..MEASUREMENTS {
            let (_, from, to) = recall(high, 200);
            held += u32::from((from..=to).contains(&known));
            width += (to - from) / f64::from(MEASUREMENTS);
        }
        println!(
            "  ef_search {high:4}: recall {known:.4}, held by {:.1} % of the intervals (at least 93), mean width {width:.4}",
            100.0 * f64::from(held) / f64::from(MEASUREMENTS)
        );
    }
}

/// An HNSW index with these options.
fn with(options: &str) -> String {
    format!("hnsw (v vector_cosine_ops) WITH ({options})")
}

/// A table of real embeddings with an index; how many rows.
fn embeddings(client: &mut Client, using: &str) -> i32 {
    let descriptions = Embeddings::descriptions();
    execute(
        client,
        "CREATE TABLE docs (id int, body text, v vector(384))",
    );
    descriptions.copy_into(client, "docs", 0..descriptions.rows.len());
    execute(
        client,
        &format!("CREATE INDEX docs_idx ON docs USING {using}; ANALYZE docs"),
    );
    descriptions.rows.len() as i32
}

/// Whether what tuning recommends is enough for queries held back.
fn tune(server: &Server) {
    const TARGET: f64 = 0.95;
    server.create_database("bench", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("bench");
    embeddings(&mut client, &with("m = 8, ef_construction = 32"));
    let queries = Embeddings::queries();
    let order = |row: usize| format!("v <=> '{}' LIMIT 10", queries.literal(row));
    let ask = |client: &mut Client, row: usize| -> Vec<i32> {
        let rows = client.query(&format!("SELECT id FROM docs ORDER BY {}", order(row)), &[]);
        rows.expect("neighbours")
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    execute(&mut client, "SET enable_indexscan = off");
    let truth: Vec<_> = (0..queries.rows.len())
        .map(|row| ask(&mut client, row))
        .collect();
    execute(
        &mut client,
        "RESET enable_indexscan; SET enable_seqscan = off",
    );
    let mut held_back = |ef_search: i32| -> f64 {
        execute(&mut client, &format!("SET hnsw.ef_search = {ef_search}"));
        let found = |(row, truth): (usize, &Vec<i32>)| {
            let answer = ask(&mut client, row);
            answer.iter().filter(|id| truth.contains(id)).count()
        };
        let found: usize = truth.iter().enumerate().map(found).sum();
        found as f64 / (10 * truth.len()) as f64
    };
    let runs = runs(20);
    let (mut enough, mut largest) = (0, 0);
    let mut tuner = server.client("bench");
    for run in 1..=runs {
        let statement = "SELECT recommended, curve FROM ruvector_dag_tune('docs_idx', 0.95)";
        let row = tuner.query_one(statement, &[]).expect("a tuning");
        let recommended = row.get::<_, Option<i32>>(0).expect("it can be reached");
        let curve: Value = row.get(1);
        let points = curve["points"].as_array().expect("points");
        let smaller = points
            .iter()
            .filter(|point| point["setting"].as_i64() < Some(recommended.into()));
        let met = smaller
            .filter(|point| point["ci_low"].as_f64() >= Some(TARGET))
            .count();
        assert_eq!(met, 0, "a smaller setting tested meets the target");
        let recall = held_back(recommended);
        enough += usize::from(recall >= TARGET);
        largest = largest.max(recommended);
        println!(
            "  run {run:2}: ef_search {recommended:3}, recall {recall:.3} of queries held back"
        );
    }
    println!(
        "  {enough} of {runs} runs reach {TARGET} (at least 19 of 20), none by a setting above {largest}"
    );
}

/// Verdicts on rebuilds with options that make them worse, as they were, and better.
fn gate(server: &Server) {
    const USUAL: &str = "m = 8, ef_construction = 40";
    const POOR: &str = "m = 8, ef_construction = 23";
    let runs = runs(50);
    for (stage, options) in [("usual", USUAL), ("poor", POOR)] {
        server.create_database(stage, &["vector", "ruvector_dag_healing"]);
        let mut client = server.client(stage);
        let random =
            "ARRAY(SELECT random() FROM generate_series(1, 24) WHERE i IS NOT NULL)::vector";
        // The rows that have come and gone were far from those that stay: the graph of these is as it was built.
        execute(
            &mut client,
            &format!(
                "CREATE TABLE docs (id int, v vector(24));
                 INSERT INTO docs SELECT i, {random} FROM generate_series(1, 5000) i;
                 CREATE INDEX docs_idx ON docs USING hnsw (v vector_l2_ops) WITH ({options});
                 INSERT INTO docs SELECT -i, {random} + array_fill(1000, ARRAY[24])::vector
                     FROM generate_series(1, 7000) i;
                 DELETE FROM docs WHERE id < 0"
            ),
        );
        vacuum(&mut client, "docs");
        execute(&mut client, "ANALYZE docs");
    }
    for (kind, stage, options, wanted) in [
        ("bad", "usual", POOR, "rolled_back"),
        ("equal", "usual", USUAL, "succeeded"),
        ("good", "poor", USUAL, "succeeded"),
    ] {
        let (mut as_wanted, mut difference, mut queries) = (0, 0.0, 0.0);
        for _ in 0..runs {
            let (status, error, after) = rebuild(server, stage, options);
            as_wanted += usize::from(status == wanted);
            if status != wanted {
                println!("    {kind}: {status} {error}");
            }
            difference += after["probe"]["difference"].as_f64().unwrap_or_default() / runs as f64;
            queries += after["probe"]["queries"].as_f64().unwrap_or_default() / runs as f64;
        }
        println!(
            "  {kind:5} rebuilds, recall {:+.1} points in the mean: {as_wanted} of {runs} {wanted}, after {queries:.0} queries",
            difference * 100.0
        );
    }
}

/// Rebuilds the index of a copy of the stage; how that ended, and the figures of the replacement.
fn rebuild(server: &Server, stage: &str, options: &str) -> (String, String, Value) {
    server.execute("postgres", "DROP DATABASE IF EXISTS run (FORCE)");
    server.execute("postgres", &format!("CREATE DATABASE run TEMPLATE {stage}"));
    let mut client = server.client("run");
    execute(
        &mut client,
        &format!("ALTER INDEX docs_idx SET ({options})"),
    );
    let check = "SELECT issue FROM jsonb_array_elements_text(
                     ruvector_dag_health_check('docs') -> 'indexes' -> 0 -> 'issues') issue
                 WHERE issue LIKE 'fragmentation%'";
    let issue: String = client.query_one(check, &[]).expect("an issue").get(0);
    let repair = "SELECT ruvector_dag_repair('docs', $1)";
    let repair: Value = client
        .query_one(repair, &[&issue])
        .expect("a repair")
        .get(0);
    let id = repair["repair_id"].as_i64().expect("a number");
    execute(&mut client, &format!("CALL ruvector_dag_wait({id})"));
    let row = client
        .query_one(
            "SELECT status, coalesce(error, ''), after FROM ruvector_dag_repair_history() WHERE repair_id = $1",
            &[&id],
        )
        .expect("the history");
    (
        row.get(0),
        row.get(1),
        row.get::<_, Option<Value>>(2).unwrap_or_default(),
    )
}
