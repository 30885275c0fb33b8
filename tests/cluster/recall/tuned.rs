use std::time::Duration;

use serde_json::Value;

use crate::harness::{Options, Server, holds_within, skip};

/// A measurement that was slow, as on a busy machine, is followed by a pause of a hundred times that.
const SOON: Duration = Duration::from_secs(120);

/// A server whose database searches too little of an index, with a table of random vectors.
fn lossy(using: &str, tuning: &str, settings: &str) -> Option<Server> {
    let options = Options::new()
        .setting("ruvector.dag_healing_interval_ms", 300)
        .setting("ruvector.dag_healing_target_recall", 0.97)
        .setting("ruvector.dag_healing_parameter_tuning", tuning)
        .setting("autovacuum", "off");
    let server = Server::start(options);
    server.pgvector_version()?;
    // A name that has to be quoted.
    server.create_database("a \"b\"", &["vector", "ruvector_dag_healing"]);
    server.execute(
        "postgres",
        &format!("ALTER DATABASE \"a \"\"b\"\"\" SET {settings}"),
    );
    server.execute(
        DATABASE,
        &format!(
            "CREATE TABLE docs (v vector(16));
             INSERT INTO docs SELECT (SELECT array_agg(random())::vector FROM generate_series(1, 16) WHERE i > 0)
                 FROM generate_series(1, 4000) i;
             CREATE INDEX docs_idx ON docs USING {using}"
        ),
    );
    Some(server)
}

const DATABASE: &str = "a \"b\"";
const HNSW: &str = "hnsw (v vector_l2_ops) WITH (m = 6, ef_construction = 24)";

/// What the database gives to new connections.
fn given(server: &Server, setting: &str) -> i32 {
    let value: String = server.value(DATABASE, &format!("SHOW {setting}"));
    value.parse().expect("a number")
}

/// The last repair: its number, status, error and details.
fn last_repair(server: &Server) -> Option<(i64, String, String, Value)> {
    let row = server
        .client(DATABASE)
        .query_opt(
            "SELECT repair_id, status, coalesce(error, ''), details FROM ruvector_dag_repair_history()
             WHERE issue_type = 'low_recall' ORDER BY repair_id DESC LIMIT 1",
            &[],
        )
        .expect("the history")?;
    Some((row.get(0), row.get(1), row.get(2), row.get(3)))
}

#[track_caller]
fn await_status(server: &Server, status: &str) -> (i64, String, Value) {
    let mut last = None;
    let came = holds_within(SOON, || {
        last = last_repair(server);
        last.as_ref().is_some_and(|(_, is, ..)| is == status)
    });
    assert!(came, "not {status} but {last:?}");
    let (id, _, error, details) = last.expect("a repair");
    (id, error, details)
}

#[test]
fn a_setting_is_made_for_the_database_and_taken_back_on_request() {
    let Some(server) = lossy(HNSW, "apply", "hnsw.ef_search = 8") else {
        return skip(
            "a_setting_is_made_for_the_database_and_taken_back_on_request",
            "no pgvector",
        );
    };
    let (id, _, details) = await_status(&server, "succeeded");
    let set = given(&server, "hnsw.ef_search");
    assert!(set > 8, "{details}");
    assert_eq!(details["setting"]["value"], set.to_string());
    assert_eq!(details["setting"]["before"], "8");
    let measured: f64 = server.value(
        DATABASE,
        "SELECT recall FROM ruvector_dag_recall('docs_idx')",
    );
    assert!(measured > 0.95, "{set}: {measured}");
    let open = || -> i64 {
        server.value(
            DATABASE,
            "SELECT count(*) FROM ruvector_dag_detected_issues() WHERE issue_type = 'low_recall'",
        )
    };
    server.wait_until("the issue is over", SOON, || open() == 0);

    server.set("ruvector.dag_healing_parameter_tuning", "advise");
    let answer: Value = server.value(DATABASE, &format!("SELECT ruvector_dag_rollback({id})"));
    assert_eq!(answer["status"], "queued");
    let (_, error, _) = await_status(&server, "rolled_back");
    assert!(error.contains("on request"), "{error}");
    assert_eq!(given(&server, "hnsw.ef_search"), 8);
    // It is as bad as it was, and only said.
    server.wait_until("the advice is recorded", SOON, || {
        server.value::<i64>(
            DATABASE,
            "SELECT count(*) FROM ruvector_dag_detected_issues()
             WHERE issue_type = 'low_recall' AND evidence->'refusal'->>'code' = 'advice_only'",
        ) == 1
    });
    assert_eq!(given(&server, "hnsw.ef_search"), 8);
    let log = server.log();
    assert!(!log.contains("WARNING") && !log.contains("ERROR"), "{log}");
}

#[test]
fn whoever_asks_gets_it_set_and_what_others_set_stands() {
    let lists = "ivfflat (v vector_l2_ops) WITH (lists = 50)";
    let Some(server) = lossy(lists, "advise", "ivfflat.probes = 1") else {
        return skip(
            "whoever_asks_gets_it_set_and_what_others_set_stands",
            "no pgvector",
        );
    };
    let mut issue = None;
    server.wait_until("low recall is an issue", SOON, || {
        issue = server
            .client(DATABASE)
            .query_opt(
                "SELECT issue_id FROM ruvector_dag_detected_issues() WHERE issue_type = 'low_recall'",
                &[],
            )
            .expect("issues")
            .map(|row| row.get::<_, String>(0));
        issue.is_some()
    });
    let issue = issue.expect("an issue");
    let ask = |dry: bool| -> Value {
        server.value(
            DATABASE,
            &format!("SELECT ruvector_dag_repair('docs', '{issue}', {dry})"),
        )
    };
    let plan = ask(true);
    assert_eq!(plan["strategy"], "parameter_tuning");
    assert_eq!(plan["estimate"]["locks"][0], "AccessShareLock", "{plan}");
    // Somebody who writes for long is in nobody's way.
    let mut writer = server.client(DATABASE);
    writer
        .batch_execute("BEGIN; LOCK TABLE docs IN SHARE ROW EXCLUSIVE MODE")
        .expect("a lock");
    let answer = ask(false);
    assert_eq!(answer["status"], "queued", "{answer}");
    let (id, error, details) = await_status(&server, "succeeded");
    let set = given(&server, "ivfflat.probes");
    assert!(set > 1, "{error} {details}");

    // Set by hand since: that is not ours to take back.
    server.execute(
        "postgres",
        "ALTER DATABASE \"a \"\"b\"\"\" SET ivfflat.probes = 33",
    );
    let error = server
        .client(DATABASE)
        .query_one(&format!("SELECT ruvector_dag_rollback({id})"), &[])
        .expect_err("it cannot be undone");
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.code().code(), "55000");
    assert!(
        error.detail().expect("a detail").contains("setting"),
        "{error:?}"
    );
    assert_eq!(given(&server, "ivfflat.probes"), 33);
}

#[test]
fn a_killed_worker_leaves_the_setting_made_or_not() {
    let Some(server) = lossy(HNSW, "apply", "hnsw.ef_search = 8") else {
        return skip(
            "a_killed_worker_leaves_the_setting_made_or_not",
            "no pgvector",
        );
    };
    let mut kills = 0;
    server.wait_until("a repair was killed, and another one set it", SOON, || {
        let pid: Option<i32> = server
            .client(DATABASE)
            .query_opt(
                "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '%repair worker'",
                &[],
            )
            .expect("workers")
            .map(|row| row.get(0));
        if let Some(pid) = pid.filter(|_| kills == 0) {
            server.crash_by_killing(pid);
            kills += 1;
        }
        kills == 1 && last_repair(&server).is_some_and(|(_, status, ..)| status != "running")
    });
    let (_, status, error, _) = last_repair(&server).expect("a repair");
    let set = given(&server, "hnsw.ef_search");
    assert_eq!(set > 8, status == "succeeded", "{status} {error}: {set}");
}
