//! Idle workers cost next to nothing. Prints what they do cost; the bounds are loose.

use std::time::Duration;

use crate::harness::{Options, Server};
use crate::workers::{LAUNCHER, load, settled_healer};

const SECONDS: u64 = 20;
const MAX_CPU_SECONDS: f64 = 0.2;
const MAX_WAKE_UPS: u64 = 40;

/// Voluntary context switches, and seconds of processor time.
fn cost(pid: i32) -> (u64, f64) {
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a process");
    let status = read("status");
    let switches = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .and_then(|number| number.trim().parse().ok())
        .expect("a counter");
    // User and system time are the 14th and 15th field; the 2nd, in brackets, may hold anything.
    let stat = read("stat");
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .expect("fields")
        .split(' ')
        .collect();
    let ticks: f64 = fields[11..13]
        .iter()
        .map(|n| n.parse::<f64>().expect("ticks"))
        .sum();
    let per_second = ticks_per_second();
    (switches, ticks / per_second)
}

fn ticks_per_second() -> f64 {
    let answer = std::process::Command::new("getconf")
        .arg("CLK_TCK")
        .output()
        .expect("getconf");
    String::from_utf8_lossy(&answer.stdout)
        .trim()
        .parse()
        .expect("a number")
}

#[test]
fn idle_workers_sleep() {
    let server = Server::start(Options::new());
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    load(&mut server.client("app"), "docs", 1_000);
    let workers = [
        ("healer", settled_healer(&server, "app")),
        (
            "launcher",
            server.pid_of_worker(LAUNCHER, None).expect("a launcher"),
        ),
    ];
    // What follows from starting up is over.
    std::thread::sleep(Duration::from_secs(2));
    let before = workers.map(|(_, pid)| cost(pid));
    std::thread::sleep(Duration::from_secs(SECONDS));
    for ((name, pid), (switches, seconds)) in workers.into_iter().zip(before) {
        let now = cost(pid);
        let (wake_ups, cpu) = (now.0 - switches, now.1 - seconds);
        println!("{name}: {wake_ups} wake-ups and {cpu:.2} s of processor time in {SECONDS} s");
        assert!(
            wake_ups < MAX_WAKE_UPS && cpu < MAX_CPU_SECONDS,
            "{name}: {wake_ups}, {cpu} s"
        );
    }
}
