//! What one session alone cannot show of the functions: others' temporary tables, and what the healer files.

use serde_json::Value;

use crate::harness::{Options, Server, skip, wait_until};
use crate::workers::{LIMIT, load, settled_healer};

#[test]
fn temporary_tables_of_others_are_refused() {
    let server = Server::start(Options::new().undemanding());
    if server.pgvector_version().is_none() {
        return skip("temporary_tables_of_others_are_refused", "no pgvector");
    }
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let mut owner = server.client("app");
    owner
        .batch_execute(
            "CREATE TEMPORARY TABLE mine (v vector(3));
             INSERT INTO mine VALUES ('[1,2,3]');
             CREATE INDEX mine_hnsw ON mine USING hnsw (v vector_l2_ops)",
        )
        .unwrap();
    let oid = |name: &str| -> u32 {
        owner
            .query_one("SELECT $1::text::regclass::oid", &[&name])
            .expect(name)
            .get(0)
    };
    let (table, index) = {
        let mut oid = oid;
        (oid("mine"), oid("mine_hnsw"))
    };
    for call in [
        format!("ruvector_dag_hnsw_health({index})"),
        format!("ruvector_dag_health_check({table})"),
        format!("ruvector_dag_health_check({index})"),
        format!("ruvector_dag_repair({table}, 'fragmentation-0')"),
        format!("ruvector_dag_detected_issues({table})"),
        format!("ruvector_dag_repair_history({index})"),
    ] {
        let error = server
            .client("app")
            .query(&format!("SELECT {call}"), &[])
            .expect_err(&call);
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(error.code().code(), "0A000", "{call}: {error:?}");
        assert_eq!(
            error.message(),
            "cannot access temporary tables of other sessions"
        );
        assert!(
            error.detail().is_some() && error.hint().is_some(),
            "{error:?}"
        );
    }
    // Its owner is not affected, the healer never looks.
    let found: i64 = owner
        .query_one(
            "SELECT elements FROM ruvector_dag_hnsw_health('mine_hnsw')",
            &[],
        )
        .expect("its own")
        .get(0);
    assert_eq!(found, 1);
    settled_healer(&server, "app");
    assert_eq!(
        server.value::<i64>(
            "app",
            "SELECT count(*) FROM ruvector_dag_healing.index_state"
        ),
        0
    );
}

#[test]
fn what_a_session_sees_is_filed_and_resolved() {
    let server = Server::start(
        Options::new()
            .undemanding()
            .setting("ruvector.dag_healing_enabled", "off"),
    );
    if server.pgvector_version().is_none() {
        return skip("what_a_session_sees_is_filed_and_resolved", "no pgvector");
    }
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    settled_healer(&server, "app");
    let mut client = server.client("app");
    load(&mut client, "docs", 100);
    // The healer files within five seconds, unless the machine is very slow: then it does so later.
    let check = |client: &mut postgres::Client| -> Value {
        let check: Value = client
            .query_one("SELECT ruvector_dag_health_check('docs')", &[])
            .expect("a check")
            .get(0);
        assert!(
            check["filed"].is_boolean() && check["duration_ms"].is_f64(),
            "{check}"
        );
        check
    };
    let open = |client: &mut postgres::Client| -> Vec<(String, String)> {
        let issues = "SELECT issue_id, status FROM ruvector_dag_detected_issues('docs')";
        let rows = client.query(issues, &[]).expect("issues");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    assert_eq!(check(&mut client)["status"], "healthy");
    let invalid = |valid: bool| {
        format!("UPDATE pg_index SET indisvalid = {valid} WHERE indexrelid = 'docs_hnsw'::regclass")
    };
    client.batch_execute(&invalid(false)).unwrap();
    // Rolled back with its transaction is only what the session did itself.
    client.batch_execute("BEGIN").unwrap();
    let seen = check(&mut client);
    client.batch_execute("ROLLBACK").unwrap();
    assert_eq!(seen["status"], "degraded", "{seen}");
    let id = seen["indexes"][0]["issues"][0]
        .as_str()
        .expect("an issue")
        .to_owned();
    wait_until("it is filed", LIMIT, || {
        open(&mut client) == [(id.clone(), "open".to_owned())]
    });
    // The same fault is the same issue.
    assert_eq!(check(&mut client)["indexes"][0]["issues"][0], id);
    assert_eq!(open(&mut client).len(), 1);
    client.batch_execute(&invalid(true)).unwrap();
    assert_eq!(check(&mut client)["status"], "healthy");
    wait_until("it is resolved", LIMIT, || open(&mut client).is_empty());
}
