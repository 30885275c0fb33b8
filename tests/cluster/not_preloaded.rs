//! The library is not loaded at server start: whatever needs no standing worker works all the same.

use std::time::Duration;

use postgres::Client;
use serde_json::Value;

use crate::harness::{Options, Server, skip, vacuum, wait_until};
use crate::workers::{LIMIT, assert_no_crash, healers, load};

fn server() -> Option<(Server, Client)> {
    let server = Server::start(Options::new().preload(false).setting("autovacuum", "off"));
    server.pgvector_version()?;
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let client = server.client("app");
    Some((server, client))
}

fn value(client: &mut Client, query: &str) -> Value {
    client
        .query_one(query, &[])
        .unwrap_or_else(|error| panic!("{query}: {error:?}"))
        .get(0)
}

#[test]
fn what_needs_no_standing_worker_works() {
    let Some((server, mut client)) = server() else {
        return skip("what_needs_no_standing_worker_works", "no pgvector");
    };
    let status = value(&mut client, "SELECT ruvector_dag_healing_status()");
    assert_eq!(status["worker"]["state"], "not_preloaded", "{status}");
    assert_eq!(
        status["config"]["ruvector.dag_healing_interval_ms"],
        300_000
    );

    load(&mut client, "docs", 2_000);
    client
        .batch_execute("DELETE FROM docs WHERE id % 5 <> 0")
        .unwrap();
    vacuum(&mut client, "docs");
    let health = "SELECT to_jsonb(h) FROM ruvector_dag_hnsw_health('docs_hnsw') h";
    let before = value(&mut client, health);
    assert_eq!(before["live_elements"], 400, "{before}");
    let check = value(&mut client, "SELECT ruvector_dag_health_check('docs')");
    assert_eq!(
        (&check["filed"], &check["status"]),
        (&false.into(), &"degraded".into()),
        "{check}"
    );
    let issue = check["indexes"][0]["issues"][0]
        .as_str()
        .expect("an issue")
        .to_owned();

    // The repair, by a worker started for it, waited for outside a transaction.
    let query = format!("SELECT ruvector_dag_repair('docs', '{issue}')");
    let queued = value(&mut client, &query);
    assert_eq!(queued["status"], "queued", "{queued}");
    client
        .batch_execute(&format!("CALL ruvector_dag_wait({})", queued["repair_id"]))
        .unwrap();
    let row = client
        .query_one("SELECT status, initiated_by, error, repair_id FROM ruvector_dag_repair_history('docs')", &[])
        .expect("one repair");
    let (status, by, error): (String, String, Option<String>) =
        (row.get(0), row.get(1), row.get(2));
    assert_eq!(
        (status.as_str(), by.as_str()),
        ("succeeded", "postgres"),
        "{error:?}"
    );
    assert_eq!(Value::from(row.get::<_, i64>(3)), queued["repair_id"]);
    let after = value(&mut client, health);
    assert!(
        after["pages"].as_i64() < before["pages"].as_i64(),
        "{after}"
    );
    assert_eq!(after["live_elements"], 400);
    let valid = "SELECT to_jsonb(count(*) FILTER (WHERE indisvalid)) FROM pg_index WHERE indrelid = 'docs'::regclass
                 AND indexrelid = 'docs_hnsw'::regclass";
    assert_eq!(value(&mut client, valid), 1);
    assert_no_crash(&server);
}

#[test]
fn lists_are_not_split_where_no_healer_would_end_it() {
    let Some((_server, mut client)) = server() else {
        return skip(
            "lists_are_not_split_where_no_healer_would_end_it",
            "no pgvector",
        );
    };
    client
        .batch_execute(
            "CREATE TABLE docs AS SELECT ARRAY[i % 20, i % 20]::real[]::vector(2) AS v
                 FROM generate_series(1, 400) i;
             CREATE INDEX docs_ivf ON docs USING ivfflat (v vector_l2_ops) WITH (lists = 20);
             INSERT INTO docs SELECT ARRAY[100 + i % 50, i % 50]::real[]::vector FROM generate_series(1, 4000) i;
             ANALYZE docs",
        )
        .unwrap();
    let check = value(&mut client, "SELECT ruvector_dag_health_check('docs')");
    let issues = check["indexes"][0]["issues"].as_array().expect("issues");
    let mut issues = issues.iter().filter_map(Value::as_str);
    let issue = issues.find(|issue| issue.starts_with("unbalanced_clusters"));
    let issue = issue.unwrap_or_else(|| panic!("{check:#}"));
    let plan = value(
        &mut client,
        &format!("SELECT ruvector_dag_repair('docs', '{issue}', true)"),
    );
    let steps = plan["steps"].as_array().expect("steps");
    assert!(!steps.is_empty(), "{plan:#}");
    assert!(
        steps.iter().all(|step| step["step"] != "regroup"),
        "{plan:#}"
    );
}

#[test]
fn what_needs_one_says_how_to_have_it() {
    let Some((server, mut client)) = server() else {
        return skip("what_needs_one_says_how_to_have_it", "no pgvector");
    };
    for statement in [
        "SELECT ruvector_dag_healing_cycle()",
        "SELECT ruvector_dag_cancel_repair(1)",
    ] {
        let error = client.query(statement, &[]).expect_err(statement);
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(error.code().code(), "55000", "{statement}: {error:?}");
        let hint = error.hint().unwrap_or_default();
        assert!(
            hint.contains("shared_preload_libraries"),
            "{statement}: {error:?}"
        );
    }
    // Settings exist once the library is loaded, as by the calls above.
    client
        .batch_execute("SET ruvector.dag_healing_interval_ms = 1000")
        .unwrap();
    client
        .query("SELECT ruvector_dag_healing_status()", &[])
        .unwrap();
    client
        .batch_execute("SET ruvector.dag_healing_interval_ms = 1")
        .expect_err("out of range");
    std::thread::sleep(Duration::from_secs(1));
    assert!(healers(&server).is_empty());
    // Preloaded on the next start, it heals without further ado.
    server.execute(
        "postgres",
        "ALTER SYSTEM SET shared_preload_libraries = 'ruvector_dag_healing'",
    );
    server.restart();
    wait_until("a healer comes", LIMIT, || {
        healers(&server).contains_key("app")
    });
}
