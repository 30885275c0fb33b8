use std::time::Duration;

use crate::harness::{Options, Server, skip};
use crate::workers::healer;

/// A measurement that was slow, as on a busy machine, is followed by a pause of a hundred times that.
const SOON: Duration = Duration::from_secs(120);

#[test]
fn low_recall_is_noticed_in_the_background_and_its_end_as_well() {
    let options = Options::new()
        .setting("ruvector.dag_healing_enabled", "off")
        .setting("ruvector.dag_healing_interval_ms", 200)
        .setting("ruvector.dag_healing_target_recall", 0.97);
    let server = Server::start(options);
    if server.pgvector_version().is_none() {
        return skip(
            "low_recall_is_noticed_in_the_background_and_its_end_as_well",
            "no pgvector",
        );
    }
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    // What statements have by default: too little for this graph.
    server.execute("postgres", "ALTER DATABASE app SET hnsw.ef_search = 10");
    server.execute(
        "app",
        "CREATE TABLE docs (v vector(16));
         INSERT INTO docs SELECT (SELECT array_agg(random())::vector FROM generate_series(1, 16) WHERE i > 0)
             FROM generate_series(1, 3000) i;
         CREATE INDEX docs_idx ON docs USING hnsw (v vector_l2_ops) WITH (m = 6, ef_construction = 24)",
    );
    let open = || -> i64 {
        server.value(
            "app",
            "SELECT count(*) FROM ruvector_dag_detected_issues('docs') WHERE issue_type = 'low_recall'",
        )
    };
    server.wait_until("low recall is an issue", SOON, || open() == 1);
    let (cause, advice): (String, String) = {
        let row = server
            .client("app")
            .query_one(
                "SELECT root_cause, impact->>'advice' FROM ruvector_dag_detected_issues('docs')
                 WHERE issue_type = 'low_recall'",
                &[],
            )
            .expect("the issue");
        (row.get(0), row.get(1))
    };
    assert!(cause.contains("hnsw.ef_search = 10"), "{cause}");
    // The advice can be followed as it stands.
    let recommended: Option<i32> = server
        .client("app")
        .query_one(advice.trim_end_matches(';'), &[])
        .expect("the advice is SQL")
        .get("recommended");
    let recommended = recommended.expect("the target can be reached");
    assert!(recommended > 10, "{recommended}");
    server.execute(
        "postgres",
        &format!(
            "ALTER DATABASE app SET hnsw.ef_search = {}",
            4 * recommended
        ),
    );
    server.wait_until("its end is noticed", SOON, || open() == 0);
    // What was read for this is nobody's use of the index or the table.
    let counted: i64 = server.value(
        "app",
        "SELECT (pg_stat_get_numscans('docs_idx'::regclass) + pg_stat_get_numscans('docs'::regclass))",
    );
    // One scan of the table built the index.
    assert!(counted <= 1, "{counted} scans are in the statistics");
    let log = server.log();
    assert!(!log.contains("WARNING") && !log.contains("ERROR"), "{log}");
}

#[test]
fn what_is_set_for_the_database_while_the_healer_connects_is_what_it_measures_with() {
    let options = Options::new()
        .setting("ruvector.dag_healing_enabled", "off")
        .setting("ruvector.dag_healing_interval_ms", 200);
    let server = Server::start(options);
    if server.pgvector_version().is_none() {
        return skip(
            "what_is_set_for_the_database_while_the_healer_connects_is_what_it_measures_with",
            "no pgvector",
        );
    }
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    server.execute(
        "app",
        "CREATE TABLE docs (v vector(3));
         INSERT INTO docs SELECT ARRAY[i, 1, 2]::vector FROM generate_series(1, 2000) i;
         CREATE INDEX docs_idx ON docs USING hnsw (v vector_l2_ops)",
    );
    let mut looking = server.client("app");
    let mut is_measured_with = |setting: &str| {
        server.wait_until(setting, SOON, || {
            let search = "SELECT look->'recall'->'heartbeat'->'circumstances'->>'search'
                 FROM ruvector_dag_healing.index_state";
            let found = looking.query_opt(search, &[]).expect("a look");
            let search: Option<String> = found.and_then(|row| row.get(0));
            search == Some(format!("hnsw.ef_search = {setting}"))
        });
    };
    is_measured_with("40");
    let pid = healer(&server, "app").expect("a healer");
    let mut client = server.client("postgres");
    // Whoever connects waits for so long after it was given the settings of its database.
    server.set("post_auth_delay", "4s");
    client
        .execute("SELECT pg_terminate_backend($1)", &[&pid])
        .expect("its end");
    let next =
        "SELECT FROM pg_stat_activity WHERE pid <> $1 AND backend_type LIKE 'ruvector%healer'";
    server.wait_until("another healer connects", SOON, || {
        client
            .query_opt(next, &[&pid])
            .expect("processes")
            .is_some()
    });
    std::thread::sleep(Duration::from_secs(1));
    client
        .batch_execute("ALTER DATABASE app SET hnsw.ef_search = 17")
        .expect("a setting");
    is_measured_with("17");
}
