//! Recall as it is measured, against SQL.

// Every operator class, expressions and predicates.
mod agreement;
// Who learns what, and whose operators run.
mod privacy;
// The choice of search parameters.
mod tuning;
// Search settings made for a database, and taken back.
mod tuned;
// Recall measured in the background.
mod watch;

use postgres::Client;

use crate::harness::{Options, Server};

/// A server on which nothing but the test touches the indexes.
fn still_server() -> Option<(Server, Client)> {
    let options = Options::new()
        .setting("autovacuum", "off")
        .setting("ruvector.dag_healing_enabled", "off");
    let server = Server::start(options);
    server.pgvector_version()?;
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let client = server.client("app");
    Some((server, client))
}

/// Recall with its interval, and the queries that were asked.
fn measured(client: &mut Client, index: &str, k: i32, queries: i32) -> (f64, f64, f64, i32) {
    let row = client
        .query_one(
            "SELECT recall, ci_low, ci_high, queries FROM ruvector_dag_recall($1::text::regclass, $2, $3)",
            &[&index, &k, &queries],
        )
        .unwrap_or_else(|error| panic!("{index}: {error:?}"));
    (row.get(0), row.get(1), row.get(2), row.get(3))
}
