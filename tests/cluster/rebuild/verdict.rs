use postgres::error::SqlState;
use serde_json::Value;

use super::{
    DATABASE, SOON, ask_for_repair, assert_serves, await_ending, await_one_index, damage, insert,
    make_table,
};
use crate::harness::{Options, Server};

fn start(interval_ms: u32, enabled: &str) -> Server {
    let server = Server::start(
        Options::new()
            .undemanding()
            .setting("ruvector.dag_healing_interval_ms", interval_ms)
            .setting("ruvector.dag_healing_enabled", enabled),
    );
    server.create_database(DATABASE, &["vector", "ruvector_dag_healing"]);
    server
}

fn oid_of_index(server: &Server) -> u32 {
    server.value(DATABASE, "SELECT 't_idx'::regclass::oid")
}

/// The options of an index say how it is rebuilt, not how it was built: here the rebuild is worse.
#[test]
fn a_rebuild_that_is_worse_is_undone_by_itself() {
    let server = start(500, "off");
    let mut client = server.client(DATABASE);
    make_table(
        &mut client,
        "t",
        20_000,
        16,
        "WITH (m = 16, ef_construction = 64)",
    );
    client
        .batch_execute("ALTER INDEX t_idx SET (m = 2, ef_construction = 4)")
        .expect("an option");
    damage(&mut client, "t");
    let before = oid_of_index(&server);
    let repair = ask_for_repair(&mut client, "t");
    let (status, error) = await_ending(&server, repair);
    assert_eq!(status, "rolled_back", "{error}");
    assert!(
        error.contains("recall") || error.contains("connectivity"),
        "{error}"
    );
    await_one_index(&server, "t");
    assert_eq!(oid_of_index(&server), before);
    assert_serves(&mut client, "t");
    let status: String = server.value(
        DATABASE,
        "SELECT status FROM ruvector_dag_detected_issues('t')",
    );
    assert_eq!(status, "unresolved");
    // Now that it may act by itself, it rests after what did not help.
    server.set("ruvector.dag_healing_enabled", "on");
    server.wait_until("the healer says why it waits", SOON, || {
        server.value::<Option<String>>(
            DATABASE,
            "SELECT evidence->'refusal'->>'code' FROM ruvector_dag_detected_issues('t')",
        ) == Some("backoff".into())
    });
    let repairs: i64 = server.value(
        DATABASE,
        "SELECT count(*) FROM ruvector_dag_repair_history()",
    );
    assert_eq!(repairs, 1);
}

#[test]
fn a_repair_is_undone_on_request_until_its_grace_period_ends() {
    let server = start(60_000, "off");
    let mut client = server.client(DATABASE);
    make_table(&mut client, "t", 3_000, 8, "");
    damage(&mut client, "t");
    let old = oid_of_index(&server);
    let repair = ask_for_repair(&mut client, "t");
    client
        .batch_execute(&format!("CALL ruvector_dag_wait({repair})"))
        .expect("a wait");
    let (status, error) = await_ending(&server, repair);
    assert_eq!(status, "succeeded", "{error}");
    let new = oid_of_index(&server);
    assert_ne!(new, old);

    // What is written after the swap goes into both.
    client
        .batch_execute(&insert("t", 8, 10_001, 10_500))
        .expect("rows");
    let answer: Value = client
        .query_one("SELECT ruvector_dag_rollback($1)", &[&repair])
        .expect("an undo")
        .get(0);
    assert_eq!(answer["status"], "queued");
    server.wait_until("the old index is back", SOON, || {
        oid_of_index(&server) == old
    });
    await_one_index(&server, "t");
    assert_serves(&mut client, "t");
    let found = client
        .query(
            "SELECT n.id FROM t, LATERAL (SELECT id FROM t n ORDER BY n.v <-> t.v LIMIT 1) n
             WHERE t.id > 10000 AND n.id = t.id",
            &[],
        )
        .expect("searches")
        .len();
    assert!(
        found > 490,
        "only {found} of 500 rows written after the swap are found"
    );
    let (status, error) = await_ending(&server, repair);
    assert_eq!(status, "rolled_back");
    assert!(error.contains("on request"), "{error}");

    let refused = client
        .query_one("SELECT ruvector_dag_rollback($1)", &[&repair])
        .unwrap_err();
    let refused = refused.as_db_error().expect("an error of the server");
    assert_eq!(refused.code(), &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    assert!(refused.hint().is_some());
}

#[test]
fn a_dry_run_changes_nothing_and_a_running_repair_can_be_cancelled() {
    let server = start(500, "off");
    let mut client = server.client(DATABASE);
    make_table(&mut client, "t", 3_000, 8, "");
    damage(&mut client, "t");
    let issue = super::issue(&mut client, "t", "fragmentation");
    let plan: Value = client
        .query_one("SELECT ruvector_dag_repair('t', $1, true)", &[&issue])
        .expect("a plan")
        .get(0);
    assert_eq!(
        (&plan["status"], &plan["repair_id"]),
        (&"planned".into(), &Value::Null)
    );
    assert_eq!(plan["steps"].as_array().map(Vec::len), Some(6), "{plan}");
    assert_eq!(plan["estimate"]["reversible"], true);

    let mut blocker = server.client(DATABASE);
    blocker
        .batch_execute("BEGIN; UPDATE t SET id = id WHERE id = 5")
        .expect("an open transaction");
    let repair = ask_for_repair(&mut client, "t");
    server.wait_until("it waits for the transaction", SOON, || {
        server.value::<i64>(
            DATABASE,
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE '%repair worker' AND wait_event = 'virtualxid'",
        ) == 1
    });
    let progress: String = server.value(DATABASE, "SELECT phase FROM ruvector_dag_repair_progress");
    assert_eq!(progress, "build");
    let cancelled: bool = client
        .query_one("SELECT ruvector_dag_cancel_repair($1)", &[&repair])
        .expect("a cancellation")
        .get(0);
    assert!(cancelled);
    let (status, error) = await_ending(&server, repair);
    assert_eq!(
        (status.as_str(), error.as_str()),
        ("failed", "cancelled on request")
    );
    // The leftover goes as soon as the transaction no longer stands in the way.
    blocker.batch_execute("COMMIT").expect("a commit");
    await_one_index(&server, "t");
    assert_serves(&mut client, "t");
}
