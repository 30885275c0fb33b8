//! Commands that need a database for themselves get it at once, although a healer runs there.

use std::time::{Duration, Instant};

use crate::harness::{Options, Server, wait_until};
use crate::workers::{
    LIMIT, assert_no_complaints, assert_no_complaints_but, healer, load, more_checks, runs,
    settled_healer,
};

/// PostgreSQL waits five seconds for others to leave before it gives up.
const AT_ONCE: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;

/// A server whose healers are always up to something.
fn busy_server() -> Server {
    let options = Options::new()
        .setting("max_worker_processes", 16)
        .setting("allow_in_place_tablespaces", "on")
        .setting("ruvector.dag_healing_interval_ms", 100);
    Server::start(options)
}

fn with_healer(server: &Server, database: &str) -> i32 {
    server.create_database(database, &["vector", "ruvector_dag_healing"]);
    load(&mut server.client(database), "docs", 500);
    settled_healer(server, database)
}

#[track_caller]
fn at_once(server: &Server, command: &str) {
    let started = Instant::now();
    server.execute("postgres", command);
    let took = started.elapsed();
    assert!(took < AT_ONCE, "{command} took {took:?}");
}

#[test]
fn a_database_is_dropped_at_once() {
    let server = busy_server();
    for command in ["DROP DATABASE app", "DROP DATABASE app WITH (FORCE)"] {
        for _ in 0..ROUNDS {
            let pid = with_healer(&server, "app");
            at_once(&server, command);
            wait_until("its healer is gone", LIMIT, || !runs(pid));
        }
    }
    // Nobody mourns it. FORCE ends whoever is connected, and that PostgreSQL logs.
    std::thread::sleep(Duration::from_secs(2));
    assert_no_complaints_but(&server, "due to administrator command");
}

#[test]
fn a_database_is_renamed_moved_and_copied_at_once() {
    let server = busy_server();
    server.execute("postgres", "CREATE TABLESPACE elsewhere LOCATION ''");
    with_healer(&server, "app");
    for round in 0..ROUNDS {
        at_once(&server, "ALTER DATABASE app RENAME TO renamed");
        settled_healer(&server, "renamed");
        at_once(&server, "ALTER DATABASE renamed SET TABLESPACE elsewhere");
        settled_healer(&server, "renamed");
        at_once(&server, "ALTER DATABASE renamed SET TABLESPACE pg_default");
        settled_healer(&server, "renamed");
        at_once(&server, "ALTER DATABASE renamed RENAME TO app");
        settled_healer(&server, "app");
        at_once(
            &server,
            &format!("CREATE DATABASE copy_{round} TEMPLATE app"),
        );
        settled_healer(&server, "app");
        settled_healer(&server, &format!("copy_{round}"));
        at_once(&server, &format!("DROP DATABASE copy_{round}"));
    }
    settled_healer(&server, "app");
    assert_no_complaints(&server);
}

#[test]
fn commands_that_fail_or_are_denied_leave_the_healer_or_bring_it_back() {
    let server = busy_server();
    let pid = with_healer(&server, "app");
    server.execute("postgres", "CREATE ROLE nobody LOGIN");
    // Others are connected, so each of these fails after its five seconds, or at once.
    let guest = server.client("app");
    let mut client = server.client("postgres");
    for command in ["DROP DATABASE app", "ALTER DATABASE app RENAME TO postgres"] {
        client
            .batch_execute(command)
            .expect_err("somebody is connected, or the name is taken");
    }
    drop(guest);
    // A healer that came between the two was asked to leave again: after two more cycles it has.
    more_checks(&server, "app", 2);
    let before = settled_healer(&server, "app");

    // What is denied is no reason to go.
    let mut nobody = server.client_as("nobody", "postgres");
    for command in [
        "DROP DATABASE app",
        "ALTER DATABASE app RENAME TO mine",
        "ALTER DATABASE app SET TABLESPACE pg_default",
        "CREATE DATABASE mine TEMPLATE app",
    ] {
        nobody
            .batch_execute(command)
            .expect_err("permission denied");
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(healer(&server, "app"), Some(before), "after {pid}");
    assert_no_complaints(&server);
}
