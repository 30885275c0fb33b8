//! `ruvector_dag_index_check` finds what is wrong with real indexes and nothing else.

mod cut_off;
pub mod faults;
pub mod pages;
mod random;
mod sound;

use std::process::Command;

use postgres::Client;

use crate::harness::Server;

/// A row of the check.
#[derive(Debug, PartialEq)]
pub struct Breach {
    pub severity: String,
    pub check: String,
    pub block: Option<i64>,
    pub item: Option<i32>,
    pub message: String,
}

pub fn breaches(client: &mut Client, index: &str, heap: bool) -> Vec<Breach> {
    let rows = client
        .query(
            "SELECT * FROM ruvector_dag_index_check($1::text::regclass, $2)",
            &[&index, &heap],
        )
        .unwrap_or_else(|error| panic!("{index}: {error:?}"));
    let breach = |row: &postgres::Row| Breach {
        severity: row.get(0),
        check: row.get(1),
        block: row.get(2),
        item: row.get(3),
        message: row.get(4),
    };
    rows.iter().map(breach).collect()
}

/// What is wrong but for what pgvector up to 0.8.6 does itself when it writes concurrently, and for empty
/// pages, which the file of an index had grown by when a crash came.
pub fn faults(client: &mut Client, index: &str, heap: bool) -> Vec<Breach> {
    let mut found = breaches(client, index, heap);
    found.retain(|breach| !["edge_repeated", "page_zeroed"].contains(&&*breach.check));
    found
}

/// Runs a program of PostgreSQL on the data directory of a server that is stopped.
pub fn command(server: &Server, program: &str, arguments: &[&str]) {
    let status = Command::new(server.installation().bin(program))
        .args(arguments)
        .arg("--pgdata")
        .arg(server.data_dir())
        .output()
        .expect("it runs");
    assert!(
        status.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&status.stderr)
    );
}
