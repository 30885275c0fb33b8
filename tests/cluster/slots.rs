//! Few worker slots, many databases: healers take turns, repairs get through, and the log stays short.

use std::time::{Duration, Instant};

use crate::harness::{Options, Server, wait_until};
use crate::workers::{
    HEALER, LIMIT, assert_no_complaints, assert_no_complaints_but, checks, healer, healers, load,
    more_checks, settled_healer, worker_lines,
};

const INTERVAL: &str = "ruvector.dag_healing_interval_ms";

fn count(server: &Server, text: &str) -> usize {
    server.log().matches(text).count()
}

#[test]
fn healers_take_turns_and_a_repair_gets_through() {
    let databases = ["one", "two", "three", "four"];
    // The launcher takes one slot, PostgreSQL's launcher of logical replication another: one is left.
    let options = Options::new()
        .setting("max_worker_processes", 3)
        .setting(INTERVAL, 500);
    let server = Server::start(options);
    for name in databases {
        server.create_database(name, &["vector", "ruvector_dag_healing"]);
    }
    let (started, lines) = (Instant::now(), worker_lines(&server, &["LOG:"]).len());
    for round in 0..2 {
        let before = databases.map(|name| checks(&server, name));
        wait_until("every database has had its turn again", LIMIT, || {
            assert!(
                healers(&server).values().map(Vec::len).sum::<usize>() <= 1,
                "one slot"
            );
            let now = databases.map(|name| checks(&server, name));
            now.iter()
                .zip(before)
                .all(|(now, before)| *now > before + 1)
        });
        println!("round {round} after {:?}", started.elapsed());
    }
    assert_eq!(count(&server, "healers take turns"), 1, "said once");

    let mut client = server.client("three");
    load(&mut client, "docs", 200);
    client
        .batch_execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_hnsw'::regclass",
        )
        .unwrap();
    wait_until("a repair gets its slot", LIMIT, || {
        server.value(
            "three",
            "SELECT count(*) FILTER (WHERE status = 'succeeded') > 0 FROM ruvector_dag_repair_history()",
        )
    });
    // Others are served as before.
    more_checks(&server, "one", 2);
    more_checks(&server, "four", 2);

    while started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let told = worker_lines(&server, &["LOG:"]);
    let told = &told[lines..];
    assert!(told.len() <= 12, "a flood: {told:#?}");
    assert_no_complaints(&server);
}

#[test]
fn without_any_slot_the_server_works_and_the_log_says_so_once() {
    // The one slot goes to our launcher.
    let options = Options::new()
        .setting("max_worker_processes", 1)
        .setting("max_logical_replication_workers", 0)
        .setting(INTERVAL, 100);
    let server = Server::start(options);
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let line = "no background worker slot free";
    wait_until("the log says so", LIMIT, || count(&server, line) > 0);
    load(&mut server.client("app"), "docs", 200);
    let status = "SELECT ruvector_dag_healing_status() #>> '{worker,state}'";
    assert_eq!(server.value::<String>("app", status), "paused");
    let elements = "SELECT elements FROM ruvector_dag_hnsw_health('docs_hnsw')";
    assert_eq!(server.value::<i64>("app", elements), 200);
    // Databases come and go all the same, and calls that would wake somebody are in vain.
    for _ in 0..3 {
        server.create_database("passing", &["ruvector_dag_healing"]);
        server
            .client("passing")
            .query("SELECT ruvector_dag_healing_cycle()", &[])
            .unwrap();
        server.execute("postgres", "DROP DATABASE passing");
    }
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(count(&server, line), 1, "{}", server.log());
    let told = worker_lines(&server, &["LOG:"]);
    assert!(told.len() <= 2, "{told:#?}");
    assert_no_complaints(&server);
    assert!(healers(&server).is_empty());
    server.stop(crate::harness::Mode::Fast);
}

#[test]
fn a_server_without_a_slot_for_the_launcher_works() {
    let server = Server::start(Options::new().setting("max_worker_processes", 1));
    server.create_database("app", &["ruvector_dag_healing"]);
    let status = "SELECT ruvector_dag_healing_status() #>> '{worker,state}'";
    assert_eq!(server.value::<String>("app", status), "paused");
    server.execute("postgres", "ALTER DATABASE app RENAME TO renamed");
    server.execute("postgres", "DROP DATABASE renamed");
    assert_no_complaints(&server);
}

#[test]
fn databases_without_the_extension_are_looked_at_once() {
    // The postmaster tells of each worker it starts.
    let server = Server::start(Options::new().setting("log_min_messages", "debug1"));
    let started = || {
        count(
            &server,
            &format!("starting background worker process \"{HEALER}\""),
        )
    };
    // Those that are there from the beginning: postgres and template1.
    wait_until("what is there is looked at", LIMIT, || {
        started() == 2 && healers(&server).is_empty()
    });
    for n in 0..8 {
        server.create_database(&format!("plain_{n}"), &[]);
    }
    wait_until("each is looked at", LIMIT, || {
        started() == 10 && healers(&server).is_empty()
    });

    // Other extensions, other databases, other changes: only where something has changed.
    server.execute("plain_0", "CREATE EXTENSION vector; DROP EXTENSION vector");
    server.execute("postgres", "ALTER DATABASE plain_1 SET work_mem = '1MB'");
    server.execute("postgres", "CREATE DATABASE plain_8; ");
    server.execute("plain_8", "CREATE EXTENSION ruvector_dag_healing");
    settled_healer(&server, "plain_8");
    std::thread::sleep(Duration::from_secs(4));
    let looks = started() - 10;
    assert!(looks <= 5, "{looks} looks for two databases");
    assert_eq!(healers(&server).keys().collect::<Vec<_>>(), ["plain_8"]);
    let before = started();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(started(), before);
}

#[test]
fn databases_that_nobody_may_connect_to_are_left_alone() {
    let server = Server::start(Options::new());
    for name in ["closed", "broken"] {
        server.create_database(name, &["ruvector_dag_healing"]);
        settled_healer(&server, name);
    }
    server.execute("postgres", "ALTER DATABASE closed ALLOW_CONNECTIONS false");
    // As an interrupted DROP DATABASE leaves it.
    server.execute(
        "postgres",
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'",
    );
    server.restart();
    server.create_database("app", &["ruvector_dag_healing"]);
    settled_healer(&server, "app");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(
        (healer(&server, "closed"), healer(&server, "broken")),
        (None, None)
    );
    // PostgreSQL logs that it ended those that ran at the restart.
    assert_no_complaints_but(&server, "due to administrator command");
    server.execute("postgres", "ALTER DATABASE closed ALLOW_CONNECTIONS true");
    let opened = Instant::now();
    settled_healer(&server, "closed");
    assert!(opened.elapsed() < Duration::from_secs(20), "it was told of");
}
