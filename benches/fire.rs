//! What clients notice of repairs: the same load without and with them, damage planted again and again, in one run on
//! the same server. Fails where a row is lost, comes twice, or a statement raises an error.
//!
//! `make bench`. SECONDS may be set in the environment: how long it goes on in all.

#[path = "../tests/cluster/in_place/fire.rs"]
mod fire;
#[path = "../tests/cluster/harness/mod.rs"]
mod harness;
#[path = "../tests/cluster/check/pages.rs"]
mod pages;

use std::time::{Duration, Instant};

use fire::{Ends, Field, Log};
use harness::{Options, Server, vacuum};

const DATABASE: &str = "bench";
const ROWS: usize = 30_000;
/// Between one damage and the next, and between two vacuums.
const EVERY: Duration = Duration::from_secs(15);

fn main() {
    let seconds = std::env::var("SECONDS").map_or(600, |text| text.parse().expect("a number"));
    let server = Server::start(
        Options::new()
            .undemanding()
            .setting("shared_buffers", "1GB")
            .setting("maintenance_work_mem", "256MB")
            .setting("autovacuum_naptime", "5s")
            .setting("max_wal_size", "4GB")
            .setting("ruvector.dag_healing_enabled", "off")
            .setting("ruvector.dag_healing_interval_ms", 1_000),
    );
    server.create_database(DATABASE, &["vector", "ruvector_dag_healing"]);
    fire::fill(&mut server.client(DATABASE), ROWS);
    let phase = Duration::from_secs(seconds) / 4;
    let mut all = Vec::new();
    println!("clients | statements | p50, p99 without repairs | with | p99 ratio | repairs");
    for (nth, clients) in [1, 4].into_iter().enumerate() {
        let first = 100 * nth as i64;
        let quiet = run(&server, first, clients, phase, false);
        server.set("ruvector.dag_healing_enabled", "on");
        let under_fire = run(&server, first + 50, clients, phase, true);
        server.set("ruvector.dag_healing_enabled", "off");
        let (before, after) = (times(&quiet), times(&under_fire));
        println!(
            "{clients} | {} and {} | {:.2}, {:.2} ms | {:.2}, {:.2} ms | {:.2} | {}",
            before.count,
            after.count,
            before.p50,
            before.p99,
            after.p50,
            after.p99,
            after.p99 / before.p99,
            repairs(&server),
        );
        all.extend(quiet);
        all.extend(under_fire);
    }
    let mut client = server.client(DATABASE);
    vacuum(&mut client, "fire");
    let (rows, missed) = fire::account(&mut client, &all);
    let faults: i64 = server.value(
        DATABASE,
        "SELECT count(*) FROM ruvector_dag_index_check('fire_hnsw', true)",
    );
    println!(
        "{rows} rows of the clients: none lost, {missed} not found at ef_search 100; {faults} rows of the check"
    );
    assert_eq!(faults, 0);
}

/// Lets clients use the table for a while.
fn run(server: &Server, first: i64, clients: i64, time: Duration, damaged: bool) -> Vec<Log> {
    let field = Field::default();
    let end = Instant::now() + time;
    std::thread::scope(|scope| {
        let over = Ends(&field);
        let field = &field;
        let clients: Vec<_> = (first..first + clients)
            .map(|number| scope.spawn(move || fire::client(server, DATABASE, number, field)))
            .collect();
        let vacuums = scope.spawn(|| fire::vacuum(server, DATABASE, field, EVERY));
        while Instant::now() < end {
            if damaged {
                field.damage(server, DATABASE, "fire_hnsw", |file| {
                    let which = file.ordinary(50);
                    file.cut(&which, |_| true);
                });
                // What happens to a file while no server runs is otherwise seen within a day, and a
                // repair follows another only after a while.
                server.execute(
                    DATABASE,
                    "SELECT ruvector_dag_health_check('fire');
                     UPDATE ruvector_dag_healing.issue SET last_repair = last_repair - interval '1 day'",
                );
            }
            std::thread::sleep(EVERY.min(end.saturating_duration_since(Instant::now())));
        }
        drop(over);
        vacuums.join().expect("vacuums without an error");
        let logs: Result<Vec<_>, _> = clients.into_iter().map(|client| client.join()).collect();
        logs.expect("clients without an error")
    })
}

struct Times {
    count: usize,
    p50: f64,
    p99: f64,
}

fn times(logs: &[Log]) -> Times {
    let mut all: Vec<Duration> = logs
        .iter()
        .flat_map(|log| log.took.iter().copied())
        .collect();
    all.sort_unstable();
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    Times {
        count: all.len(),
        p50: at(0.5),
        p99: at(0.99),
    }
}

/// How repairs ended so far, and of what.
fn repairs(server: &Server) -> String {
    server.value(
        DATABASE,
        "SELECT coalesce(string_agg(format('%s %s %s', n, issue_type, status), ', '), 'none') FROM (
             SELECT count(*) AS n, issue_type, status FROM ruvector_dag_repair_history()
             GROUP BY issue_type, status ORDER BY 1 DESC) one",
    )
}
