//! Settings are taken up while the workers run, from every level that the background follows.

use std::io::Write;
use std::time::Duration;

use crate::harness::{Options, Server, wait_until};
use crate::workers::{
    LIMIT, assert_no_complaints, checks, healer, load, more_checks, settled_healer,
};

const INTERVAL: &str = "ruvector.dag_healing_interval_ms";

/// A server with one healer that has run its first cycle and sleeps for five minutes.
fn quiet_server() -> (Server, i32) {
    let server = Server::start(Options::new());
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let pid = settled_healer(&server, "app");
    (server, pid)
}

/// No cycle but one that is under way may still come.
#[track_caller]
fn goes_quiet(server: &Server) {
    let before = checks(server, "app");
    std::thread::sleep(Duration::from_secs(1));
    let after = checks(server, "app");
    assert!(after <= before + 1, "{} cycles in a second", after - before);
}

#[test]
fn the_interval_of_the_system_is_taken_up() {
    let (server, pid) = quiet_server();
    server.set(INTERVAL, "100");
    more_checks(&server, "app", 4);
    server.set(INTERVAL, "86400000");
    goes_quiet(&server);
    server.reset(INTERVAL);
    goes_quiet(&server);
    assert_eq!(healer(&server, "app"), Some(pid), "without a restart");
    assert_no_complaints(&server);
}

#[test]
fn the_interval_of_a_database_is_taken_up() {
    let (server, _) = quiet_server();
    server.create_database("other", &["ruvector_dag_healing"]);
    settled_healer(&server, "other");
    let others = checks(&server, "other");
    server.execute("app", &format!("ALTER DATABASE app SET {INTERVAL} = 100"));
    more_checks(&server, "app", 4);
    // The other way round, from elsewhere, and by the extension's other road.
    server.execute(
        "postgres",
        &format!("ALTER DATABASE app SET {INTERVAL} = 86400000"),
    );
    wait_until("the healer has heard of it", LIMIT, || {
        let before = checks(&server, "app");
        std::thread::sleep(Duration::from_millis(500));
        checks(&server, "app") == before
    });
    server.execute("postgres", "ALTER DATABASE app RESET ALL");
    server.set(INTERVAL, "150");
    more_checks(&server, "app", 2);
    more_checks(&server, "other", 2);
    assert!(others < checks(&server, "other"));
    assert_no_complaints(&server);
}

#[test]
fn switching_healing_on_and_off_is_taken_up() {
    let (server, pid) = quiet_server();
    server.set("ruvector.dag_healing_enabled", "off");
    server.set(INTERVAL, "100");
    let mut client = server.client("app");
    load(&mut client, "docs", 100);
    client
        .batch_execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_hnsw'::regclass",
        )
        .unwrap();
    let mut is = |query: &str| -> bool { client.query_one(query, &[]).expect(query).get(0) };
    let refused = "SELECT count(*) > 0 FROM ruvector_dag_detected_issues('docs')
                   WHERE issue_type = 'invalid_index' AND evidence->'refusal'->>'code' = 'disabled'";
    wait_until("it is filed and left alone", LIMIT, || is(refused));
    let invalid = "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = 'docs_hnsw'::regclass";
    std::thread::sleep(Duration::from_millis(500));
    assert!(is(invalid), "nothing is repaired by itself");
    assert!(is("SELECT count(*) = 0 FROM ruvector_dag_repair_history()"));

    server.set("ruvector.dag_healing_enabled", "on");
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'docs_hnsw'::regclass";
    wait_until("it is repaired", LIMIT, || is(valid));
    assert_eq!(healer(&server, "app"), Some(pid), "without a restart");
}

#[test]
fn a_bad_value_in_the_file_is_logged_and_ignored() {
    let (server, pid) = quiet_server();
    let file = server.data_dir().join("postgresql.conf");
    let good = std::fs::read(&file).expect("a postgresql.conf");
    let write = |line: &str| {
        let mut file = std::fs::File::create(&file).expect("a postgresql.conf");
        file.write_all(&good)
            .and_then(|()| writeln!(file, "{line}"))
            .expect("a line");
        drop(file);
        let reload = "SELECT pg_reload_conf()";
        assert!(server.value::<bool>("postgres", reload));
    };
    let shown = || server.value::<String>("postgres", &format!("SHOW {INTERVAL}"));
    let logged = |text: &str| wait_until(text, LIMIT, || server.log().contains(text));

    write(&format!("{INTERVAL} = 5"));
    logged(
        "5 is outside the valid range for parameter \"ruvector.dag_healing_interval_ms\" (100 .. 86400000)",
    );
    assert_eq!(shown(), "300000");
    write("ruvector.dag_healing_window = 'nights'");
    logged("invalid value for parameter \"ruvector.dag_healing_window\": \"nights\"");
    write(&format!("{INTERVAL} = 100"));
    more_checks(&server, "app", 3);
    assert_eq!(shown(), "100");
    assert_eq!(healer(&server, "app"), Some(pid), "nothing was restarted");
}
