use postgres::Client;
use serde_json::Value;

use super::{DATABASE, SOON, await_ending, damage, insert};
use crate::harness::{Options, Server};

fn start(enabled: &str) -> Server {
    let server = Server::start(
        Options::new()
            .undemanding()
            .setting("ruvector.dag_healing_interval_ms", 500)
            .setting("ruvector.dag_healing_rollback_enabled", "off")
            .setting("ruvector.dag_healing_enabled", enabled),
    );
    server.create_database(DATABASE, &["vector", "ruvector_dag_healing"]);
    server
}

/// Damages a table and has the fragmentation of its index repaired; the index's OIDs before and
/// after.
fn repair(server: &Server, client: &mut Client, table: &str, index: &str) -> (u32, u32) {
    damage(client, table);
    let oid = |client: &mut Client| -> u32 {
        client
            .query_one("SELECT $1::text::regclass::oid", &[&index])
            .expect("an index")
            .get(0)
    };
    let before = oid(client);
    let check: Value = client
        .query_one(
            "SELECT ruvector_dag_health_check($1::text::regclass)",
            &[&index],
        )
        .expect("a health check")
        .get(0);
    // Counters may still tell of the dead rows that are gone.
    let issues = check["indexes"][0]["issues"].as_array().expect("issues");
    let issue = issues
        .iter()
        .filter_map(Value::as_str)
        .find(|id| id.starts_with("fragmentation"))
        .unwrap_or_else(|| panic!("{check}"));
    let answer: Value = client
        .query_one(
            "SELECT ruvector_dag_repair($1::text::regclass, $2)",
            &[&index, &issue],
        )
        .expect("a repair")
        .get(0);
    let (status, error) = await_ending(server, answer["repair_id"].as_i64().expect("a number"));
    assert_eq!(status, "succeeded", "{index}: {error}");
    (before, oid(client))
}

#[test]
fn a_rebuilt_index_keeps_everything_that_was_its_own() {
    let server = start("off");
    let mut client = server.client(DATABASE);
    client
        .batch_execute(&format!(
            "CREATE TABLE t (id bigint, v vector(8));
             {}
             CREATE INDEX t_idx ON t USING hnsw (v vector_l2_ops) WITH (m = 8, ef_construction = 32);
             COMMENT ON INDEX t_idx IS 'mind the gap';
             ALTER INDEX t_idx SET (ef_construction = 48);",
            insert("t", 8, 1, 3_000)
        ))
        .expect("a table");
    let describe = "SELECT pg_get_indexdef('t_idx'::regclass) || obj_description('t_idx'::regclass, 'pg_class')
                           || (SELECT reloptions::text || relowner::regrole FROM pg_class WHERE relname = 't_idx')";
    let before: String = server.value(DATABASE, describe);
    let (old, new) = repair(&server, &mut client, "t", "t_idx");
    assert_ne!(old, new);
    assert_eq!(server.value::<String>(DATABASE, describe), before);
}

#[test]
fn the_index_of_a_partition_stays_attached() {
    let server = start("off");
    let mut client = server.client(DATABASE);
    client
        .batch_execute(&format!(
            "CREATE TABLE t (id bigint, v vector(8)) PARTITION BY RANGE (id);
             CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10000);
             CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10000) TO (20000);
             CREATE INDEX t_idx ON t USING hnsw (v vector_l2_ops);
             {}{}",
            insert("t", 8, 1, 3_000),
            insert("t", 8, 10_001, 13_000)
        ))
        .expect("a partitioned table");
    let (old, new) = repair(&server, &mut client, "t1", "t1_v_idx");
    assert_ne!(old, new);
    let attached: bool = server.value(
        DATABASE,
        "SELECT array_agg(inhrelid::regclass::text ORDER BY inhrelid::regclass::text) = '{t1_v_idx,t2_v_idx}'
                AND (SELECT bool_and(relispartition) FROM pg_class WHERE relname IN ('t1_v_idx', 't2_v_idx'))
                AND (SELECT indisvalid FROM pg_index WHERE indexrelid = 't_idx'::regclass)
         FROM pg_inherits WHERE inhparent = 't_idx'::regclass",
    );
    assert!(attached);
    // The whole can be asked about by its root.
    let check: Value = server.value(DATABASE, "SELECT ruvector_dag_health_check('t')");
    assert_eq!(
        check["indexes"].as_array().map(Vec::len),
        Some(2),
        "{check}"
    );
}

#[test]
fn any_name_and_any_definition_is_rebuilt() {
    let server = start("off");
    let mut client = server.client(DATABASE);
    client
        .batch_execute(&format!(
            r#"CREATE SCHEMA "we.ird";
             CREATE TABLE "we.ird"."ta""ble ünï" (id bigint, v vector(8));
             {}
             CREATE INDEX "ind""ex.ünï" ON "we.ird"."ta""ble ünï" USING hnsw (v vector_cosine_ops);
             CREATE UNLOGGED TABLE u (id bigint, v real[]);
             INSERT INTO u SELECT i, ARRAY[random(), random(), random(), random()] FROM generate_series(1, 3000) i;
             CREATE INDEX u_idx ON u USING hnsw ((v::vector(4)) vector_ip_ops) WHERE id > 10;"#,
            insert(r#""we.ird"."ta""ble ünï""#, 8, 1, 3_000)
        ))
        .expect("tables");
    let (old, new) = repair(
        &server,
        &mut client,
        r#""we.ird"."ta""ble ünï""#,
        r#""we.ird"."ind""ex.ünï""#,
    );
    assert_ne!(old, new);
    let (old, new) = repair(&server, &mut client, "u", "u_idx");
    assert_ne!(old, new);
}

#[test]
fn an_invalid_index_is_built_a_leftover_reported_and_one_under_way_left_alone() {
    let server = start("on");
    let mut client = server.client(DATABASE);
    client
        .batch_execute(&format!(
            "CREATE TABLE t (id bigint, v vector(8)); {0}
             CREATE TABLE kept (id bigint, v vector(8)); {1}
             CREATE INDEX kept_idx ON kept USING hnsw (v vector_l2_ops);",
            insert("t", 8, 1, 2_000),
            insert("kept", 8, 1, 2_000)
        ))
        .expect("tables");

    // A live build that waits for a transaction is nobody's issue.
    let mut blocker = server.client(DATABASE);
    blocker
        .batch_execute(
            "BEGIN; UPDATE t SET id = id WHERE id = 5; UPDATE kept SET id = id WHERE id = 5",
        )
        .expect("an open transaction");
    let cancelled = |statement: &'static str| {
        let mut builder = server.client(DATABASE);
        let cancel = builder.cancel_token();
        let build = std::thread::spawn(move || builder.batch_execute(statement));
        server.wait_until("the build waits", SOON, || {
            server.value::<i64>(
                DATABASE,
                "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid <> 0",
            ) > 0
                && server.value::<i64>(
                    DATABASE,
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'virtualxid'",
                ) > 0
        });
        (cancel, build)
    };
    let checks = || -> i64 {
        server.value(
            DATABASE,
            "SELECT checks_performed FROM ruvector_dag_healing.metrics",
        )
    };
    let (cancel, build) =
        cancelled("CREATE INDEX CONCURRENTLY t_idx ON t USING hnsw (v vector_l2_ops)");
    let seen = checks();
    server.wait_until("three more cycles", SOON, || checks() >= seen + 3);
    assert_eq!(
        server.value::<i64>(DATABASE, "SELECT count(*) FROM ruvector_dag_healing.issue"),
        0
    );
    cancel
        .cancel_query(postgres::NoTls)
        .expect("a cancellation");
    assert!(build.join().expect("a thread").is_err());

    // Cancelled, it is one, and waits for the transaction; then it is built under its own name.
    server.wait_until("the issue", SOON, || {
        server.value::<i64>(
            DATABASE,
            "SELECT count(*) FROM ruvector_dag_healing.issue WHERE issue_type = 'invalid_index'",
        ) == 1
    });
    let (cancel, build) = cancelled("REINDEX INDEX CONCURRENTLY kept_idx");
    cancel
        .cancel_query(postgres::NoTls)
        .expect("a cancellation");
    assert!(build.join().expect("a thread").is_err());
    blocker.batch_execute("COMMIT").expect("a commit");
    server.wait_until("the index is valid", SOON, || {
        server.value::<bool>(
            DATABASE,
            "SELECT count(*) = 1 AND bool_and(indisvalid) FROM pg_index WHERE indrelid = 't'::regclass",
        )
    });

    // A copy that somebody's REINDEX left behind is somebody's: reported, not touched.
    server.wait_until("the leftover is reported", SOON, || {
        server.value::<i64>(
            DATABASE,
            "SELECT count(*) FROM ruvector_dag_detected_issues('kept')
             WHERE issue_type = 'invalid_index' AND recommended_repair = 'none'
               AND impact->>'advice' LIKE 'DROP INDEX CONCURRENTLY public.kept_idx_ccnew;%'
               AND evidence->'refusal'->>'code' = 'advice_only'",
        ) == 1
    });
    let left: i64 = server.value(
        DATABASE,
        "SELECT count(*) FROM pg_index WHERE indrelid = 'kept'::regclass",
    );
    assert_eq!(left, 2);
}
