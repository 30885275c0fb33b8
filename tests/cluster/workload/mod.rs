//! Queries captured from statements: which, by whom they can be seen, and what they are used for.

// Statements whose queries are captured, and those whose are not.
mod forms;
// Every type of values and access method.
mod kinds;
// Many sessions at once, crashes, and more indexes than there is room for.
mod load;
// What they are used for.
mod measured;
// Who sees them, and how they go.
mod privacy;

use crate::harness::{Options, Server};
use crate::workers::{more_checks, settled_healer};

/// A server with a busy healer that repairs nothing, and a database with a table `docs` of 500 points.
fn watched_server() -> Option<Server> {
    let server = Server::start(watchful());
    server.pgvector_version()?;
    make_docs(&server);
    Some(server)
}

/// A database with a table `docs` of 500 points, which its healer has seen.
fn make_docs(server: &Server) {
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    server.execute(
        "app",
        "CREATE TABLE docs (id int PRIMARY KEY, v vector(3));
         INSERT INTO docs SELECT i, ARRAY[i % 97, i % 89, i % 83]::real[]::vector FROM generate_series(1, 500) i;
         CREATE INDEX docs_idx ON docs USING hnsw (v vector_l2_ops)",
    );
    settled_healer(server, "app");
}

fn watchful() -> Options {
    Options::new()
        .undemanding()
        .setting("autovacuum", "off")
        .setting("ruvector.dag_healing_enabled", "off")
        .setting("ruvector.dag_healing_interval_ms", 200)
        // So that the index is used wherever it can be, of however few rows.
        .setting("enable_seqscan", "off")
}

/// What is kept of all indexes, once the healer has taken it up.
fn kept(server: &Server) -> Vec<Vec<u8>> {
    more_checks(server, "app", 2);
    let rows = server
        .client("app")
        .query("SELECT value FROM ruvector_dag_healing.query_sample", &[])
        .expect("the sample of queries");
    rows.iter().map(|row| row.get(0)).collect()
}

/// The first component of a vector that is kept.
fn first_component(value: &[u8]) -> f32 {
    let bytes = value[4..8].try_into().expect("a component");
    f32::from_le_bytes(bytes)
}

/// The first components of the vectors that are kept, in order, as whole numbers.
fn kept_points(server: &Server) -> Vec<i32> {
    let first = |value: &Vec<u8>| first_component(value) as i32;
    let mut points: Vec<i32> = kept(server).iter().map(first).collect();
    points.sort_unstable();
    points
}
