//! Indexes are read while others write to them, and while others drop them.

use std::time::{Duration, Instant};

use crate::harness::{Busy, Options, Server, skip};
use crate::workers::{assert_no_complaints, checks, load, settled_healer};

#[test]
fn no_fault_is_seen_that_is_not_there() {
    const READS: usize = 30;
    let options = Options::new()
        .setting("autovacuum", "off")
        .setting("ruvector.dag_healing_enabled", "off");
    let server = Server::start(options);
    if server.pgvector_version() < Some((0, 8, 5)) {
        return skip(
            "no_fault_is_seen_that_is_not_there",
            "older pgvectors make such faults themselves",
        );
    }
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("app");
    load(&mut client, "docs", 3_000);
    // Read-only: nothing is filed. What a vacuum is about to delete has no rows any more and may be out of reach.
    client
        .batch_execute("SET default_transaction_read_only = on")
        .unwrap();
    let mut health = || -> (i64, i64, i64) {
        let look = "SELECT ruvector_dag_health_check('docs_hnsw') -> 'indexes' -> 0";
        let look: serde_json::Value = client.query_one(look, &[]).expect("health").get(0);
        let figure = |key: &str| {
            look[key]
                .as_i64()
                .unwrap_or_else(|| panic!("{key} in {look}"))
        };
        (
            figure("orphans_with_rows"),
            figure("dangling_edges"),
            figure("elements"),
        )
    };
    let (quiet, dangling, _) = health();
    assert_eq!(dangling, 0);

    let writer = Busy::start(
        server.client("app"),
        vec![
            "INSERT INTO docs SELECT n, array_agg(random())::real[]::vector
             FROM (SELECT max(id) AS top FROM docs) m, generate_series(top + 1, top + 20) n, generate_series(1, 16)
             GROUP BY n"
                .into(),
            "DELETE FROM docs WHERE id IN (SELECT id FROM docs ORDER BY id LIMIT 20)".into(),
        ],
    );
    let vacuum = Busy::start(
        server.client("app"),
        vec!["VACUUM (INDEX_CLEANUP ON) docs".into()],
    );
    let mut reads = Vec::new();
    while reads.len() < READS || writer.rounds() < 30 || vacuum.rounds() < 30 {
        reads.push(health());
    }
    let rounds = (writer.rounds(), vacuum.rounds());
    writer.stop();
    vacuum.stop();
    let quiet = quiet.max(health().0);
    let seen: Vec<i64> = reads
        .iter()
        .map(|read| read.0)
        .filter(|orphans| *orphans > 0)
        .collect();
    println!(
        "{rounds:?} rounds, {quiet} orphans when quiet, {} reads, of them with orphans: {seen:?}",
        reads.len()
    );
    for (orphans, dangling, elements) in reads {
        // The one writer may be between writing an element and the links to it: until then no search finds it.
        assert!(
            orphans <= quiet + 1,
            "{orphans} orphans, {quiet} when quiet"
        );
        assert_eq!(dangling, 0);
        assert!(elements >= 2_900, "{elements} elements");
    }
}

#[test]
fn indexes_dropped_while_they_are_read_are_no_error() {
    let options = Options::new()
        .setting("ruvector.dag_healing_interval_ms", 100)
        .setting("ruvector.dag_healing_io_limit", 2);
    let server = Server::start(options);
    if server.pgvector_version().is_none() {
        return skip(
            "indexes_dropped_while_they_are_read_are_no_error",
            "no pgvector",
        );
    }
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("app");
    load(&mut client, "docs", 1_500);
    client.batch_execute("DROP INDEX docs_hnsw").unwrap();
    let pid = settled_healer(&server, "app");
    let before = checks(&server, "app");

    let copy = |name: &str| format!("CREATE TABLE {name} AS SELECT * FROM docs");
    let index =
        |name: &str| format!("CREATE INDEX {name}_hnsw ON {name} USING hnsw (v vector_l2_ops)");
    // Long enough for it to be found, and for the slow reader to be in the middle of it.
    let pause = || "SELECT pg_sleep(0.25)".to_owned();
    let busy = [
        Busy::start(
            server.client("app"),
            vec![
                copy("a"),
                index("a"),
                pause(),
                "DROP INDEX a_hnsw".into(),
                pause(),
                "DROP TABLE a".into(),
            ],
        ),
        Busy::start(
            server.client("app"),
            vec![
                copy("b"),
                index("b"),
                pause(),
                "REINDEX INDEX b_hnsw".into(),
                pause(),
                "TRUNCATE b".into(),
                pause(),
                "BEGIN; ALTER INDEX b_hnsw RENAME TO c; SELECT pg_sleep(0.2); DROP TABLE b; COMMIT"
                    .into(),
            ],
        ),
    ];
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(6) || busy.iter().any(|busy| busy.rounds() < 3) {
        std::thread::sleep(Duration::from_millis(100));
    }
    busy.into_iter().for_each(Busy::stop);
    assert!(checks(&server, "app") > before, "the healer was at work");
    assert_eq!(settled_healer(&server, "app"), pid, "and is the same still");
    assert_no_complaints(&server);
}
