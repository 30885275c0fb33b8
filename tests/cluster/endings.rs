//! Workers end when they are told to, come back when they should, and never twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::harness::{Mode, Options, Server, wait_until};
use crate::workers::{
    LAUNCHER, LIMIT, assert_no_complaints_but, assert_no_crash, checks, healer, load, more_checks,
    next_healer, runs, settled_healer, worker_lines,
};

const INTERVAL: &str = "ruvector.dag_healing_interval_ms";

fn terminate(server: &Server, pid: i32) {
    let sent: bool = server.value("postgres", &format!("SELECT pg_terminate_backend({pid})"));
    assert!(sent, "process {pid} is there");
}

fn launcher(server: &Server) -> Option<i32> {
    let types =
        "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE backend_type = $1";
    let pids: Vec<i32> = server
        .client("postgres")
        .query_one(types, &[&LAUNCHER])
        .expect("pg_stat_activity")
        .get(0);
    assert!(pids.len() <= 1, "the launchers {pids:?}");
    pids.first().copied()
}

/// Changes more than a cycle overlooks, again and again, until told to stop or disconnected.
struct Unrest(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Unrest {
    fn start(mut client: Client, table: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let update = format!("UPDATE {table} SET v = v WHERE id % 10 = $1");
        let thread = std::thread::spawn(move || {
            for n in (0..10).cycle() {
                if seen.load(Ordering::Relaxed) || client.execute(&update, &[&n]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Unrest {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_terminated_healer_is_followed_by_another_after_a_rest() {
    let server = Server::start(Options::new().setting(INTERVAL, 100));
    server.create_database("app", &["ruvector_dag_healing"]);
    let pid = settled_healer(&server, "app");
    let killed = Instant::now();
    terminate(&server, pid);
    wait_until("it is gone", LIMIT, || !runs(pid));
    let next = next_healer(&server, "app", pid);
    let rest = killed.elapsed();
    assert!(rest > Duration::from_secs(3), "it came back after {rest:?}");
    more_checks(&server, "app", 3);
    assert_eq!(healer(&server, "app"), Some(next));
    assert_no_crash(&server);
}

#[test]
fn a_terminated_launcher_comes_back_and_doubles_nothing() {
    let server = Server::start(Options::new().setting(INTERVAL, 100));
    for database in ["one", "two"] {
        server.create_database(database, &["ruvector_dag_healing"]);
    }
    let before = [
        settled_healer(&server, "one"),
        settled_healer(&server, "two"),
    ];
    let pid = launcher(&server).expect("a launcher");
    terminate(&server, pid);
    wait_until("it is gone", LIMIT, || !runs(pid));
    wait_until("another comes", LIMIT, || launcher(&server).is_some());
    // Long enough for it to start whatever it would.
    for _ in 0..20 {
        let now = [healer(&server, "one"), healer(&server, "two")];
        assert_eq!(now, before.map(Some), "the healers went on");
        std::thread::sleep(Duration::from_millis(100));
    }
    // It does its work: somebody new is served.
    server.create_database("three", &["ruvector_dag_healing"]);
    settled_healer(&server, "three");
    assert_eq!(
        [healer(&server, "one"), healer(&server, "two")],
        before.map(Some)
    );
}

#[test]
fn nothing_is_doubled_after_a_crash() {
    let server = Server::start(Options::new().setting(INTERVAL, 100));
    for database in ["one", "two"] {
        server.create_database(database, &["ruvector_dag_healing"]);
    }
    let mut before = [
        settled_healer(&server, "one"),
        settled_healer(&server, "two"),
    ];
    for crash in ["a backend", "a healer", "the launcher"] {
        match crash {
            "a backend" => server.crash_and_wait(),
            "a healer" => server.crash_by_killing(before[0]),
            _ => server.crash_by_killing(launcher(&server).expect("a launcher")),
        }
        let now = [
            next_healer(&server, "one", before[0]),
            next_healer(&server, "two", before[1]),
        ];
        // Workers with a restart time of their own would come up again only now.
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(6) {
            assert!(launcher(&server).is_some(), "after the crash of {crash}");
            assert_eq!(
                [healer(&server, "one"), healer(&server, "two")],
                now.map(Some)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        more_checks(&server, "one", 2);
        more_checks(&server, "two", 2);
        before = now;
    }
    assert_eq!(worker_lines(&server, &["PANIC:"]), Vec::<String>::new());
}

/// Phases: asleep, between two cycles that follow closely, reading, kept waiting by the limit on reading, and
/// waiting to file what it found.
#[test]
fn a_healer_ends_within_a_second_of_being_told() {
    let server = Server::start(Options::new().setting("max_worker_processes", 16));
    let phases = ["asleep", "hurried", "reading", "throttled", "locked_out"];
    for phase in phases {
        server.create_database(phase, &["vector", "ruvector_dag_healing"]);
        settled_healer(&server, phase);
        let set = |name: &str, value: i32| {
            server.execute(
                "postgres",
                &format!("ALTER DATABASE {phase} SET ruvector.dag_healing_{name} = {value}"),
            );
        };
        match phase {
            "asleep" => continue,
            "throttled" => {
                set("io_limit", 1);
                load(&mut server.client(phase), "docs", 5_000);
            }
            "reading" => load(&mut server.client(phase), "docs", 5_000),
            _ => {}
        }
        set("interval_ms", 100);
    }
    let mut locker = server.client("locked_out");
    locker
        .batch_execute("BEGIN; LOCK TABLE ruvector_dag_healing.metrics IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let _unrest = [
        Unrest::start(server.client("reading"), "docs"),
        Unrest::start(server.client("throttled"), "docs"),
    ];
    let waits = |database: &str, event: &str| -> bool {
        server.value(
            "postgres",
            &format!(
                "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{database}'
                 AND backend_type LIKE 'ruvector%healer' AND coalesce(wait_event_type, 'CPU') LIKE '{event}'"
            ),
        )
    };
    wait_until("it is kept waiting for a lock", LIMIT, || {
        waits("locked_out", "Lock")
    });
    more_checks(&server, "hurried", 2);
    more_checks(&server, "reading", 1);
    wait_until("it reads", LIMIT, || {
        server.value(
            "postgres",
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'throttled'
             AND backend_type LIKE 'ruvector%healer' AND query LIKE 'checking%' AND state = 'active'",
        )
    });
    for phase in phases {
        let mut pid = None;
        wait_until("its healer runs", LIMIT, || {
            pid = healer(&server, phase);
            pid.is_some()
        });
        let pid = pid.expect("a healer");
        let told = Instant::now();
        terminate(&server, pid);
        while runs(pid) {
            let took = told.elapsed();
            assert!(
                took < Duration::from_secs(1),
                "{phase}: it has run on for {took:?}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert_no_crash(&server);
}

#[test]
fn a_fast_stop_is_not_held_up() {
    let server = Server::start(Options::new());
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    settled_healer(&server, "app");
    stop_at_once(&server, "idle");

    server.start_again();
    load(&mut server.client("app"), "docs", 5_000);
    server.set(INTERVAL, "100");
    let unrest = Unrest::start(server.client("app"), "docs");
    more_checks(&server, "app", 3);
    stop_at_once(&server, "cycling");
    drop(unrest);

    // With a limit that makes a look at this index take seconds.
    server.start_again();
    server.set("ruvector.dag_healing_io_limit", "1");
    server.execute("app", "UPDATE docs SET v = v WHERE id % 3 = 0");
    wait_until("a look is under way", LIMIT, || {
        server.value(
            "postgres",
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'ruvector%healer'
             AND datname = 'app' AND query LIKE 'checking%' AND state = 'active'",
        )
    });
    stop_at_once(&server, "reading slowly");
    server.start_again();
    let counted = checks(&server, "app");
    assert!(counted > 3, "the counters survive: {counted}");
    assert_no_complaints_but(&server, "due to administrator command");
}

#[track_caller]
fn stop_at_once(server: &Server, phase: &str) {
    server.execute("postgres", "CHECKPOINT");
    let took = server.stop(Mode::Fast);
    assert!(
        took < Duration::from_secs(2),
        "{phase}: a fast stop took {took:?}"
    );
}
