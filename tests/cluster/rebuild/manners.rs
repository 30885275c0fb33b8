use std::time::{Duration, Instant};

use super::{
    DATABASE, SOON, ask_for_repair, assert_serves, await_ending, await_one_index, damage,
    make_table,
};
use crate::harness::{Options, Server};

fn start(settings: &[(&str, &str)]) -> Server {
    let options = Options::new()
        .undemanding()
        .setting("ruvector.dag_healing_interval_ms", 500)
        .setting("ruvector.dag_healing_enabled", "off");
    let server = Server::start(settings.iter().fold(options, |options, (name, value)| {
        options.setting(name, *value)
    }));
    server.create_database(DATABASE, &["vector", "ruvector_dag_healing"]);
    let mut client = server.client(DATABASE);
    make_table(&mut client, "t", 3_000, 8, "");
    damage(&mut client, "t");
    server
}

fn await_waiting_repair(server: &Server) {
    server.wait_until("the repair waits for a transaction", SOON, || {
        server.value::<i64>(
            DATABASE,
            "SELECT count(*) FROM pg_stat_activity
             WHERE backend_type LIKE '%repair worker' AND wait_event = 'virtualxid'",
        ) == 1
    });
}

#[test]
fn whoever_waits_behind_a_repair_wins() {
    let server = start(&[("ruvector.dag_healing_lock_timeout", "200ms")]);
    let mut client = server.client(DATABASE);
    let mut blocker = server.client(DATABASE);
    blocker
        .batch_execute("BEGIN; UPDATE t SET id = id WHERE id = 5")
        .expect("an open transaction");
    let repair = ask_for_repair(&mut client, "t");
    await_waiting_repair(&server);
    let began = Instant::now();
    client.batch_execute("VACUUM t").expect("a vacuum");
    let waited = began.elapsed();
    assert!(
        waited < Duration::from_secs(5),
        "a vacuum waited {waited:?} behind a repair"
    );
    let (status, error) = await_ending(&server, repair);
    assert_eq!(status, "failed");
    assert!(error.contains("gave way"), "{error}");
    blocker.batch_execute("COMMIT").expect("a commit");
    await_one_index(&server, "t");
    assert_serves(&mut client, "t");
}

#[test]
fn a_repair_past_its_time_is_cancelled() {
    let server = start(&[("ruvector.dag_healing_repair_timeout", "2s")]);
    let mut client = server.client(DATABASE);
    let mut blocker = server.client(DATABASE);
    blocker
        .batch_execute("BEGIN; UPDATE t SET id = id WHERE id = 5")
        .expect("an open transaction");
    let repair = ask_for_repair(&mut client, "t");
    let (status, error) = await_ending(&server, repair);
    assert_eq!(status, "failed");
    assert!(error.contains("repair_timeout"), "{error}");
    blocker.batch_execute("COMMIT").expect("a commit");
    await_one_index(&server, "t");
}

#[test]
fn fast_shutdown_is_not_held_up_by_a_repair() {
    let server = start(&[]);
    let mut client = server.client(DATABASE);
    let mut blocker = server.client(DATABASE);
    blocker
        .batch_execute("BEGIN; UPDATE t SET id = id WHERE id = 5")
        .expect("an open transaction");
    ask_for_repair(&mut client, "t");
    await_waiting_repair(&server);
    let took = server.stop(crate::harness::Mode::Fast);
    assert!(took < Duration::from_secs(5), "{took:?}");
    server.start_again();
    await_one_index(&server, "t");
}

#[test]
fn every_reason_not_to_act_is_recorded_and_ends_with_its_cause() {
    let server = start(&[("ruvector.dag_healing_enabled", "off")]);
    let refusal = |code: &str| {
        server.wait_until(&format!("the refusal {code}"), SOON, || {
            server.value::<Option<String>>(
                DATABASE,
                "SELECT evidence->'refusal'->>'code' FROM ruvector_dag_detected_issues('t')",
            ) == Some(code.into())
        });
    };
    refusal("disabled");
    // A window that is not now: the hour that ended two hours ago.
    let window: String = server.value(
        DATABASE,
        "SELECT to_char(now() - interval '3 hours', 'HH24:MI') || '-' || to_char(now() - interval '2 hours', 'HH24:MI')",
    );
    server.set("ruvector.dag_healing_window", &window);
    server.set("ruvector.dag_healing_enabled", "on");
    refusal("outside_window");
    // Before the window opens: then there is nothing to wait for.
    server.set("ruvector.dag_healing_repair_timeout", "1s");
    let mut client = server.client(DATABASE);
    client
        .batch_execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t; SELECT pg_sleep(0.6)",
        )
        .expect("an old transaction");
    server.set("ruvector.dag_healing_window", "");
    server.wait_until("some refusal of its own", SOON, || {
        let code: Option<String> = server.value(
            DATABASE,
            "SELECT evidence->'refusal'->>'code' FROM ruvector_dag_detected_issues('t')",
        );
        ["old_transaction", "estimate_over_timeout"].contains(&code.unwrap_or_default().as_str())
    });
    let begun: i64 = server.value(
        DATABASE,
        "SELECT count(*) FROM ruvector_dag_repair_history()",
    );
    assert_eq!(begun, 0);
    client.batch_execute("COMMIT").expect("a commit");
    server.reset("ruvector.dag_healing_repair_timeout");
    server.wait_until("it is healed once nothing speaks against it", SOON, || {
        server.value::<i64>(
            DATABASE,
            "SELECT count(*) FROM ruvector_dag_repair_history() WHERE status = 'succeeded'",
        ) == 1
    });
}
