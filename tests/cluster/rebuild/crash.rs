use std::time::Duration;

use postgres::Client;

use super::{
    DATABASE, SOON, ask_for_repair, assert_serves, await_ending, await_one_index, damage, ending,
    make_table,
};
use crate::harness::{Mode, Options, Server};

/// Where a repair is stopped: as the intent of this step is about to be committed, so that the
/// step before has just taken effect …
const BETWEEN: [&str; 7] = [
    "create_copy",
    "build",
    "validate",
    "check",
    "swap",
    "ended",
    "drop",
];
/// … or inside this step, which waits for a transaction of somebody else.
const INSIDE: [&str; 2] = ["build", "validate"];

/// Whoever holds this advisory lock holds the repair worker.
const LOCK: &str = "4711";

fn kill_the_worker(server: &Server, worker: i32) {
    server.crash_by_killing(worker);
}

fn stop_at_once(server: &Server, _worker: i32) {
    server.stop(Mode::Immediate);
    server.start_again();
}

#[test]
fn killed_between_any_two_steps() {
    for step in BETWEEN {
        interrupted_between(step, kill_the_worker);
    }
}

#[test]
fn stopped_at_once_between_any_two_steps() {
    for step in BETWEEN {
        interrupted_between(step, stop_at_once);
    }
}

#[test]
fn killed_inside_the_steps_that_wait() {
    for step in INSIDE {
        interrupted_inside(step, kill_the_worker);
    }
}

#[test]
fn stopped_at_once_inside_the_steps_that_wait() {
    for step in INSIDE {
        interrupted_inside(step, stop_at_once);
    }
}

fn start() -> Server {
    let server = Server::start(
        Options::new()
            .undemanding()
            .setting("ruvector.dag_healing_interval_ms", 500)
            .setting("ruvector.dag_healing_enabled", "off")
            .setting("restart_after_crash", "on"),
    );
    server.create_database(DATABASE, &["vector", "ruvector_dag_healing"]);
    let mut client = server.client(DATABASE);
    make_table(&mut client, "t", 3_000, 8, "");
    damage(&mut client, "t");
    server
}

fn interrupted_between(step: &str, interrupt: fn(&Server, i32)) {
    let server = start();
    let mut client = server.client(DATABASE);
    client
        .batch_execute(&format!(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF (NEW.step = TG_ARGV[0] AND OLD.step IS DISTINCT FROM NEW.step)
                   OR (TG_ARGV[0] = 'ended' AND OLD.status = 'running' AND NEW.status <> 'running') THEN
                    PERFORM pg_advisory_xact_lock_shared({LOCK});
                END IF;
                RETURN NEW;
             END $$;
             CREATE TRIGGER hold BEFORE UPDATE ON ruvector_dag_healing.repair
                FOR EACH ROW EXECUTE FUNCTION hold('{step}');
             SELECT pg_advisory_lock({LOCK});"
        ))
        .expect("something that holds the worker");
    let repair = ask_for_repair(&mut client, "t");
    let worker = await_worker(&server, "advisory");
    interrupt(&server, worker);
    server.execute(DATABASE, "DROP TRIGGER hold ON ruvector_dag_healing.repair");
    // The swap is committed before the repair ends, and the repair ends before the drop.
    let expected = match step {
        "ended" | "drop" => "succeeded",
        _ => "failed",
    };
    assert_recovers(&server, repair, step, expected);
}

fn interrupted_inside(step: &str, interrupt: fn(&Server, i32)) {
    let server = start();
    let mut client = server.client(DATABASE);
    let mut blocker = server.client(DATABASE);
    blocker
        .batch_execute(match step {
            "build" => "BEGIN; UPDATE t SET id = id WHERE id = 5",
            _ => "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class",
        })
        .expect("an open transaction");
    let repair = ask_for_repair(&mut client, "t");
    let worker = await_worker(&server, "virtualxid");
    let at: String = server.value(DATABASE, "SELECT step FROM ruvector_dag_healing.repair");
    assert_eq!(at, step);
    interrupt(&server, worker);
    assert_recovers(&server, repair, step, "failed");
}

/// The repair worker, once it waits for a lock of that kind.
fn await_worker(server: &Server, wait: &str) -> i32 {
    let query = format!(
        "SELECT coalesce(max(pid), 0) FROM pg_stat_activity
         WHERE backend_type = 'ruvector_dag_healing repair worker' AND wait_event = '{wait}'"
    );
    server.wait_until("the repair worker waits", SOON, || {
        server.value::<i32>(DATABASE, &query) != 0
    });
    server.value(DATABASE, &query)
}

fn assert_recovers(server: &Server, repair: i64, step: &str, expected: &str) {
    // Before the first step there is a row; the worker may be held before that is committed.
    let (status, error) = await_ending(server, repair);
    assert_eq!(status, expected, "at {step}: {error}");
    if expected == "failed" {
        assert!(error.contains("interrupted"), "at {step}: {error}");
    }
    await_one_index(server, "t");
    let mut client: Client = server.client(DATABASE);
    assert_serves(&mut client, "t");
    let open: i64 = server.value(
        DATABASE,
        "SELECT count(*) FROM ruvector_dag_healing.repair WHERE status = 'running' OR spare_index IS NOT NULL",
    );
    assert_eq!(open, 0, "at {step}");
    if expected == "failed" {
        let again = ask_for_repair(&mut client, "t");
        assert_eq!(
            await_ending(server, again).0,
            "succeeded",
            "after {step}: {:?}",
            ending(server, again)
        );
        assert_serves(&mut client, "t");
    }
    assert!(server.stop(Mode::Fast) < Duration::from_secs(10));
}
