use std::process::Command;

use crate::harness::{Options, Server, skip};
use crate::workers::{assert_no_complaints, more_checks, settled_healer};

use super::{kept, kept_points, make_docs, watched_server, watchful};

#[test]
fn nobody_but_the_owner_of_the_extension_reads_what_was_asked() {
    let Some(server) = watched_server() else {
        return skip(
            "nobody_but_the_owner_of_the_extension_reads_what_was_asked",
            "no pgvector",
        );
    };
    server.execute(
        "app",
        "CREATE ROLE owner LOGIN; ALTER TABLE docs OWNER TO owner;
         CREATE ROLE monitor LOGIN IN ROLE pg_monitor, pg_read_all_settings;
         CREATE ROLE reader LOGIN; GRANT SELECT ON docs TO reader;
         SELECT id FROM docs ORDER BY v <-> '[7,0,0]' LIMIT 3;
         CREATE PUBLICATION everything FOR ALL TABLES",
    );
    assert_eq!(kept_points(&server), [7]);
    for role in ["owner", "monitor", "reader"] {
        for statement in [
            "SELECT * FROM ruvector_dag_healing.query_sample",
            "COPY ruvector_dag_healing.query_sample TO STDOUT",
            "DELETE FROM ruvector_dag_healing.query_sample",
            "CREATE VIEW pg_temp.mine AS SELECT * FROM ruvector_dag_healing.query_sample; SELECT * FROM pg_temp.mine",
        ] {
            let error = server
                .client_as(role, "app")
                .batch_execute(statement)
                .expect_err(statement);
            let error = error.as_db_error().expect("an error of the server");
            assert_eq!(error.code().code(), "42501", "{role}: {error:?}");
        }
    }
    // Who may read and write everything finds nothing.
    server.execute(
        "app",
        "CREATE ROLE librarian LOGIN IN ROLE pg_read_all_data, pg_write_all_data",
    );
    let mut librarian = server.client_as("librarian", "app");
    let docs: i64 = librarian
        .query_one("SELECT count(*) FROM docs", &[])
        .expect("a table")
        .get(0);
    let touched = librarian
        .execute("DELETE FROM ruvector_dag_healing.query_sample", &[])
        .expect("nothing to delete");
    let seen = librarian
        .query("SELECT * FROM ruvector_dag_healing.query_sample", &[])
        .expect("nothing to see");
    assert_eq!((docs, touched, seen.len()), (500, 0, 0));
    assert_eq!(kept_points(&server), [7]);
    // Where copies are made, it is left out.
    let published: i64 = server.value(
        "app",
        "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'query_sample'",
    );
    let persistence: String = server.value(
        "app",
        "SELECT relpersistence::text FROM pg_class WHERE oid = 'ruvector_dag_healing.query_sample'::regclass",
    );
    assert_eq!((published, persistence.as_str()), (0, "u"));
    let dump = Command::new(server.installation().bin("pg_dump"))
        .args(["--username=postgres", "--dbname=app", "--host"])
        .arg(server.socket_folder())
        .output()
        .expect("pg_dump runs");
    let dump = String::from_utf8_lossy(&dump.stdout);
    assert!(
        dump.contains("CREATE TABLE public.docs") && !dump.contains("query_sample"),
        "{dump}"
    );
}

#[test]
fn what_was_asked_is_never_logged() {
    let options = watchful()
        .setting("log_min_messages", "debug5")
        .setting("log_min_duration_statement", -1)
        .setting("log_parameter_max_length", 0);
    let server = Server::start(options);
    if server.pgvector_version().is_none() {
        return skip("what_was_asked_is_never_logged", "no pgvector");
    }
    make_docs(&server);
    let mut client = server.client("app");
    for _ in 0..60 {
        client
            .query(
                "SELECT id FROM docs ORDER BY v <-> $1::text::vector LIMIT 3",
                &[&"[31337.25,0,0]"],
            )
            .expect("an answer");
    }
    assert_eq!(kept_points(&server), [31337; 60]);
    let source: String = server.value(
        "app",
        "SELECT source FROM ruvector_dag_recall('docs_idx', 10, 60)",
    );
    assert_eq!(source, "captured queries");
    // Kept, used, and forgotten.
    server.set("ruvector.dag_healing_track", "none");
    assert!(kept_points(&server).is_empty());
    let log = server.log();
    assert!(log.contains("DEBUG"), "the log tells everything");
    // As text, as the bytes of a vector, as a component.
    for trace in ["31337", "0003000000", "80d2f446", "80D2F446"] {
        let line = log.lines().find(|line| line.contains(trace));
        assert_eq!(line, None, "{trace}");
    }
}

#[test]
fn none_captures_nothing_and_forgets_what_was_kept() {
    let Some(server) = watched_server() else {
        return skip(
            "none_captures_nothing_and_forgets_what_was_kept",
            "no pgvector",
        );
    };
    let search = "SELECT id FROM docs ORDER BY v <-> '[7,0,0]' LIMIT 3";
    let mut client = server.client("app");
    client.batch_execute(search).expect("an answer");
    assert_eq!(kept_points(&server), [7]);
    server.set("ruvector.dag_healing_track", "none");
    client.batch_execute(search).expect("an answer");
    assert!(kept_points(&server).is_empty());
    // At the level of the database, with the healer asleep when it is asked.
    server.reset("ruvector.dag_healing_track");
    more_checks(&server, "app", 1);
    server
        .client("app")
        .batch_execute(search)
        .expect("an answer");
    assert_eq!(kept_points(&server), [7]);
    server.execute(
        "postgres",
        "ALTER DATABASE app SET ruvector.dag_healing_track = 'none'",
    );
    server.wait_until("it is forgotten", crate::workers::LIMIT, || {
        kept(&server).is_empty()
    });
    server
        .client("app")
        .batch_execute(search)
        .expect("an answer");
    assert!(kept_points(&server).is_empty());
    let shown: String = server.value(
        "app",
        "SELECT ruvector_dag_healing_status() #>> '{config,ruvector.dag_healing_track}'",
    );
    assert_eq!(shown, "none");
    assert_no_complaints(&server);
}

#[test]
fn what_was_kept_for_longer_than_retention_is_forgotten() {
    let Some(server) = watched_server() else {
        return skip(
            "what_was_kept_for_longer_than_retention_is_forgotten",
            "no pgvector",
        );
    };
    server.execute(
        "app",
        "SELECT id FROM docs ORDER BY v <-> '[7,0,0]' LIMIT 3;
         SELECT id FROM docs ORDER BY v <-> '[8,0,0]' LIMIT 3",
    );
    assert_eq!(kept_points(&server), [7, 8]);
    server.execute(
        "app",
        "UPDATE ruvector_dag_healing.query_sample SET captured_at = now() - interval '30 days' + interval '1 hour' * place * 100",
    );
    assert_eq!(kept(&server).len(), 1);
}

#[test]
fn a_database_without_the_extension_is_not_watched() {
    let Some(server) = watched_server() else {
        return skip(
            "a_database_without_the_extension_is_not_watched",
            "no pgvector",
        );
    };
    let search = "SELECT id FROM docs ORDER BY v <-> '[7,0,0]' LIMIT 3";
    server.execute("app", search);
    server.execute("app", "DROP EXTENSION ruvector_dag_healing");
    server.wait_until("the healer leaves", crate::workers::LIMIT, || {
        crate::workers::healer(&server, "app").is_none()
    });
    server.execute("app", search);
    server.execute("app", "CREATE EXTENSION ruvector_dag_healing");
    settled_healer(&server, "app");
    assert_eq!(kept(&server).len(), 0);
    server.execute("app", search);
    assert_eq!(kept_points(&server), [7]);
}

#[test]
fn a_standby_captures_nothing_and_measures_with_rows() {
    let Some(server) = watched_server() else {
        return skip(
            "a_standby_captures_nothing_and_measures_with_rows",
            "no pgvector",
        );
    };
    let search = "SELECT id FROM docs ORDER BY v <-> '[7,0,0]' LIMIT 3";
    for _ in 0..60 {
        server.execute("app", search);
    }
    assert_eq!(kept(&server).len(), 60);
    let source = |server: &Server| -> String {
        server.value(
            "app",
            "SELECT source FROM ruvector_dag_recall('docs_idx', 10, 60)",
        )
    };
    assert_eq!(source(&server), "captured queries");
    let standby = server.standby(watchful());
    standby.wait_for_replay(&server);
    standby.execute("app", search);
    assert_eq!(source(&standby), "sampled rows");
    let status: serde_json::Value = standby.value(
        "app",
        "SELECT ruvector_dag_healing_status()->'captured_queries'",
    );
    assert_eq!(status["kept"], 0);
    drop(server);
    standby.promote();
    settled_healer(&standby, "app");
    assert_eq!(kept(&standby).len(), 0);
    standby.execute("app", search);
    assert_eq!(kept_points(&standby), [7]);
}

#[test]
fn where_the_library_is_not_preloaded_rows_serve() {
    let server = Server::start(Options::new().preload(false));
    if server.pgvector_version().is_none() {
        return skip(
            "where_the_library_is_not_preloaded_rows_serve",
            "no pgvector",
        );
    }
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("app");
    crate::workers::load(&mut client, "docs", 300);
    let row = client
        .query_one(
            "SELECT source, ruvector_dag_healing_status()->'captured_queries' FROM ruvector_dag_recall('docs_hnsw', 10, 60)",
            &[],
        )
        .expect("recall");
    assert_eq!(row.get::<_, &str>(0), "sampled rows");
    let status: serde_json::Value = row.get(1);
    assert_eq!(status, serde_json::json!({"kept": 0, "dropped": null}));
}
