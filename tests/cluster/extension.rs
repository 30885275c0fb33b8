//! A healer comes with the extension, goes with it, and is found in copies of a template.

use std::time::{Duration, Instant};

use crate::harness::{Options, Server, wait_until};
use crate::workers::{
    LIMIT, assert_no_complaints, checks, healer, healers, more_checks, runs, settled_healer,
};

const EXTENSION: &str = "ruvector_dag_healing";
/// Longer than the launcher needs to answer a call.
const MOMENT: Duration = Duration::from_millis(1_500);

/// Looks for a moment: no healer may come.
#[track_caller]
fn no_healer_comes(server: &Server, database: &str) {
    let started = Instant::now();
    while started.elapsed() < MOMENT {
        assert_eq!(healer(server, database), None);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One may still come to see that the extension is gone, but none stays.
fn no_healer_stays(server: &Server, database: &str) {
    let mut since = Instant::now();
    wait_until("no healer stays", LIMIT, || {
        if healer(server, database).is_some() {
            since = Instant::now();
        }
        since.elapsed() > MOMENT
    });
}

#[test]
fn a_healer_comes_and_goes_with_the_extension() {
    let server = Server::start(Options::new());
    server.create_database("app", &[]);
    // What the launcher has to look at by itself is looked at: from here on somebody must call it.
    wait_until("every database has been looked at", LIMIT, || {
        healers(&server).is_empty()
    });
    std::thread::sleep(MOMENT);

    let mut client = server.client("app");
    let create = "CREATE EXTENSION ruvector_dag_healing";
    client.batch_execute("BEGIN").unwrap();
    client.batch_execute(create).unwrap();
    no_healer_comes(&server, "app");
    client.batch_execute("ROLLBACK").unwrap();
    no_healer_comes(&server, "app");
    client.batch_execute("BEGIN; SAVEPOINT s").unwrap();
    client.batch_execute(create).unwrap();
    client.batch_execute("ROLLBACK TO s; COMMIT").unwrap();
    wait_until("no healer stays without the extension", LIMIT, || {
        healer(&server, "app").is_none()
    });

    let mut last = 0;
    for _ in 0..3 {
        let started = Instant::now();
        client.batch_execute(create).unwrap();
        wait_until("a healer comes", LIMIT, || healer(&server, "app").is_some());
        let took = started.elapsed();
        assert!(took < Duration::from_secs(10), "it took {took:?}");
        let pid = settled_healer(&server, "app");
        assert_ne!(pid, last, "another one");
        last = pid;
        client
            .batch_execute("DROP EXTENSION ruvector_dag_healing")
            .unwrap();
        wait_until("the healer leaves", LIMIT, || !runs(pid));
        no_healer_stays(&server, "app");
    }
    assert_no_complaints(&server);
}

#[test]
fn a_drop_in_the_middle_of_cycles_is_no_error() {
    let server = Server::start(Options::new().setting("ruvector.dag_healing_interval_ms", 100));
    server.create_database("app", &["vector"]);
    let mut client = server.client("app");
    for _ in 0..5 {
        client
            .batch_execute("CREATE EXTENSION ruvector_dag_healing")
            .unwrap();
        settled_healer(&server, "app");
        let started = Instant::now();
        client
            .batch_execute("DROP EXTENSION ruvector_dag_healing")
            .unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "DROP EXTENSION waited"
        );
    }
    wait_until("the healer leaves", LIMIT, || {
        healer(&server, "app").is_none()
    });
    assert_no_complaints(&server);
}

#[test]
fn copies_of_a_template_are_found() {
    let server = Server::start(Options::new().setting("max_worker_processes", 16));
    server.create_database("pattern", &[EXTENSION]);
    server.execute("postgres", "ALTER DATABASE pattern IS_TEMPLATE true");
    settled_healer(&server, "pattern");
    server.execute("postgres", "CREATE DATABASE copied TEMPLATE pattern");
    let pid = settled_healer(&server, "copied");
    assert_ne!(Some(pid), healer(&server, "pattern"));

    // A copy counts its own cycles.
    server.execute(
        "postgres",
        "ALTER DATABASE copied SET ruvector.dag_healing_interval_ms = 100",
    );
    let before = checks(&server, "pattern");
    more_checks(&server, "copied", 3);
    assert_eq!(checks(&server, "pattern"), before);
    settled_healer(&server, "pattern");
    assert_no_complaints(&server);
}

#[test]
fn the_extension_in_template1_does_not_stand_in_the_way() {
    let server = Server::start(Options::new().setting("max_worker_processes", 16));
    server.execute("template1", "CREATE EXTENSION ruvector_dag_healing");
    settled_healer(&server, "template1");
    for name in ["first", "second", "third"] {
        let started = Instant::now();
        server.execute("postgres", &format!("CREATE DATABASE {name}"));
        let took = started.elapsed();
        assert!(
            took < Duration::from_secs(4),
            "CREATE DATABASE {name} took {took:?}"
        );
    }
    for name in ["first", "second", "third", "template1"] {
        settled_healer(&server, name);
    }
    assert_no_complaints(&server);
}
