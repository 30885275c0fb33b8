//! The corruption that pgvector before 0.8.3 makes by itself: made, found, named and mended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres::Client;

use super::stage::{DATABASE, Stage, options};
use crate::harness::skip;

const ROWS: i32 = 60;
/// The race is lost within seconds on an idle machine.
const LONGEST: Duration = Duration::from_secs(240);

/// Three clients update rows while another vacuums, until searches raise errors and go on doing so when
/// all have stopped. A vacuum that overtakes an insert of a new entry point does not see to its links.
fn lose_the_race(stage: &Stage) {
    let started = Instant::now();
    while search(stage).is_ok() {
        assert!(
            started.elapsed() < LONGEST,
            "the index was not damaged in {LONGEST:?}"
        );
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let run = |statements: Vec<String>| {
                let (mut client, over) = (stage.server.client(DATABASE), &over);
                scope.spawn(move || {
                    for statement in statements.iter().cycle() {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        // Once the index is damaged these fail as well.
                        let _ = client.batch_execute(statement);
                    }
                });
            };
            let update = |id| {
                format!(
                    "UPDATE t SET v = ARRAY[random(), random(), random()]::vector WHERE id = {id}"
                )
            };
            for first in 1..=3 {
                run((first..=ROWS).step_by(3).map(update).collect());
            }
            run(vec!["VACUUM t".into()]);
            while search(stage).is_ok() && started.elapsed() < LONGEST {
                std::thread::sleep(Duration::from_millis(50));
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}

/// Searches through the index.
fn search(stage: &Stage) -> Result<(), postgres::Error> {
    let mut client: Client = stage.server.client(DATABASE);
    client.batch_execute("SET enable_seqscan = off; SET hnsw.ef_search = 1000")?;
    let nearest = "SELECT id FROM t ORDER BY v <-> '[0.5,0.5,0.5]' LIMIT 1000";
    client.query(nearest, &[]).map(|_| ())
}

#[test]
fn what_vacuum_and_insert_break_is_found_named_and_mended() {
    let stage = Stage::start(options().setting("ruvector.dag_healing_enabled", "off"));
    let version = stage.server.pgvector_version();
    if version.is_none_or(|version| version >= (0, 8, 3)) {
        return skip(
            "what_vacuum_and_insert_break_is_found_named_and_mended",
            "pgvector 0.8.3 and later do not lose this race",
        );
    }
    stage.execute(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, v vector(3));
         INSERT INTO t SELECT i, ARRAY[random(), random(), random()]::vector FROM generate_series(1, {ROWS}) i;
         CREATE INDEX t_idx ON t USING hnsw (v vector_l2_ops) WITH (m = 2, ef_construction = 4)"
    ));
    lose_the_race(&stage);
    stage.execute("SELECT ruvector_dag_health_check('t')");
    // Elements that lost all their links are more than that.
    let row = stage
        .client()
        .query_one(
            "SELECT issue_id, root_cause FROM ruvector_dag_detected_issues('t')
             WHERE issue_type IN ('dangling_edges', 'corrupt_page')",
            &[],
        )
        .expect("the issue");
    let (issue, cause): (String, String) = (row.get(0), row.get(1));
    assert!(cause.contains("pgvector before 0.8.4"), "{cause}");
    stage.execute(&format!("SELECT ruvector_dag_repair('t', '{issue}')"));
    let repair = stage.ended_repair("t");
    assert_eq!(repair.status, "succeeded", "{repair:?}");
    let row = stage
        .client()
        .query_one(
            "SELECT repair_type, details::text FROM ruvector_dag_repair_history('t') LIMIT 1",
            &[],
        )
        .expect("the repair");
    let (how, details): (String, String) = (row.get(0), row.get(1));
    assert_eq!(how, "in_place", "{details}");
    assert!(search(&stage).is_ok());
    let lost: i64 = stage.value(
        "SELECT (after->'hnsw'->>'orphans_with_rows')::bigint FROM ruvector_dag_repair_history('t') LIMIT 1",
    );
    assert_eq!(lost, 0);
    for statement in [
        "INSERT INTO t SELECT i, ARRAY[i, 2, 3]::real[]::vector FROM generate_series(100, 120) i",
        "DELETE FROM t WHERE id = 100",
        "VACUUM t",
    ] {
        stage.execute(statement);
    }
    let faults: i64 = stage.value(
        "SELECT count(*) FROM ruvector_dag_index_check('t_idx', true) WHERE severity <> 'notice'",
    );
    assert_eq!(faults, 0);
}
