//! On a standby indexes can be looked at; nothing is filed, nothing is repaired, until it is promoted.

use postgres::Row;

use crate::harness::{Options, Server, skip, vacuum, wait_until};
use crate::workers::{
    HEALER, LIMIT, assert_no_complaints, healers, load, more_checks, settled_healer,
};

const FIGURES: &str = "SELECT connectivity_score, layer_distribution, entry_point_quality, orphan_count, fragmentation,
    elements, live_elements, deleted_elements, heap_tids, zero_in_degree, low_degree, mean_degree_fill,
    dangling_edges, pages, sampled FROM ruvector_dag_hnsw_health('docs_hnsw')";

fn figures(server: &Server) -> String {
    let text = format!("SELECT to_jsonb(f)::text FROM ({FIGURES}) f");
    server.value("app", &text)
}

fn refused(server: &Server, statement: &str) -> (String, String) {
    let error = server
        .client("app")
        .query(statement, &[])
        .map(|_: Vec<Row>| ())
        .expect_err(statement);
    let error = error.as_db_error().expect("an error of the server").clone();
    (error.code().code().to_owned(), error.message().to_owned())
}

#[test]
fn a_standby_looks_on_and_heals_once_promoted() {
    let options = || {
        Options::new()
            .undemanding()
            .setting("ruvector.dag_healing_interval_ms", 1_000)
    };
    let primary = Server::start(options().setting("autovacuum", "off"));
    if primary.pgvector_version().is_none() {
        return skip("a_standby_looks_on_and_heals_once_promoted", "no pgvector");
    }
    primary.create_database("app", &["vector", "ruvector_dag_healing"]);
    let mut client = primary.client("app");
    load(&mut client, "docs", 2_000);
    load(&mut client, "scratch", 50);
    client
        .batch_execute("ALTER TABLE scratch SET UNLOGGED")
        .unwrap();
    client
        .batch_execute("ALTER SYSTEM SET ruvector.dag_healing_enabled = off")
        .unwrap();
    primary.reload();
    client
        .batch_execute("DELETE FROM docs WHERE id % 5 <> 0")
        .unwrap();
    vacuum(&mut client, "docs");
    settled_healer(&primary, "app");
    let issues =
        "SELECT count(*) FROM ruvector_dag_detected_issues() WHERE issue_type = 'fragmentation'";
    wait_until("the primary has filed it", LIMIT, || {
        primary.value::<i64>("app", issues) == 1
    });

    let standby = primary.standby(options());
    standby.wait_for_replay(&primary);
    assert_eq!(figures(&standby), figures(&primary));
    assert!(
        standby.value::<f32>(
            "app",
            "SELECT fragmentation FROM ruvector_dag_hnsw_health('docs_hnsw')"
        ) > 0.5
    );

    let status = |path: &str| -> String {
        standby.value(
            "app",
            &format!("SELECT ruvector_dag_healing_status() #>> '{path}'"),
        )
    };
    assert_eq!(status("{worker,state}"), "standby");
    assert_eq!(
        standby.value::<Option<String>>(
            "app",
            "SELECT ruvector_dag_healing_status() #>> '{worker,pid}'"
        ),
        None
    );
    let checked: serde_json::Value =
        standby.value("app", "SELECT ruvector_dag_health_check('docs')");
    assert_eq!(
        (&checked["filed"], &checked["status"]),
        (&false.into(), &"degraded".into()),
        "{checked}"
    );
    // What the primary filed can be read.
    assert_eq!(standby.value::<i64>("app", issues), 1);

    let issue: String = standby.value(
        "app",
        "SELECT issue_id FROM ruvector_dag_detected_issues('docs')",
    );
    for statement in [
        format!("SELECT ruvector_dag_repair('docs', '{issue}')"),
        "SELECT ruvector_dag_healing_cycle()".into(),
    ] {
        let (code, message) = refused(&standby, &statement);
        assert_eq!(code, "25006", "{message}");
        assert!(message.contains("during recovery"), "{message}");
    }
    let plan: serde_json::Value = standby.value(
        "app",
        &format!("SELECT ruvector_dag_repair('docs', '{issue}', true)"),
    );
    assert_eq!(plan["status"], "planned");
    for statement in [
        "SELECT ruvector_dag_hnsw_health('scratch_hnsw')",
        "SELECT ruvector_dag_health_check('scratch')",
    ] {
        let (code, message) = refused(&standby, statement);
        assert_eq!(code, "55000", "{message}");
        assert_eq!(message, "cannot access unlogged relations during recovery");
    }
    assert!(healers(&standby).is_empty());
    let started: i64 = standby.value(
        "postgres",
        &format!("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE '{HEALER}%'"),
    );
    assert_eq!(started, 0);
    assert_no_complaints(&standby);

    drop(client);
    drop(primary);
    standby.promote();
    settled_healer(&standby, "app");
    more_checks(&standby, "app", 2);
    assert!(["idle", "running"].contains(&status("{worker,state}").as_str()));
    // The setting that kept the primary from it came along; without it, it heals.
    standby.reset("ruvector.dag_healing_enabled");
    wait_until("what the primary left is mended", LIMIT, || {
        standby.value(
            "app",
            "SELECT fragmentation < 0.3 FROM ruvector_dag_hnsw_health('docs_hnsw')",
        )
    });
    assert_no_complaints(&standby);
}
