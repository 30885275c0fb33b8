//! The least that must work before any other test means something.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::harness::{Embeddings, Mode, Options, Server, skip};

#[test]
fn a_server_starts_and_leaves_nothing() {
    let server = Server::start(Options::new().preload(false));
    let (major, minor) = server.version();
    let running: String = server.value("postgres", "SHOW server_version");
    assert!(
        running.starts_with(&format!("{major}.{minor}")),
        "{running} is not {major}.{minor}"
    );
    let addresses: String = server.value("postgres", "SHOW listen_addresses");
    assert_eq!(addresses, "", "a private socket only");

    let pid = server.pid().expect("it runs");
    let folder = server.socket_folder().to_owned();
    let mode = folder.metadata().expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "nobody else may connect");
    let took = server.stop(Mode::Fast);
    assert!(took < Duration::from_secs(5), "a stop took {took:?}");
    drop(server);
    assert!(!folder.exists(), "{} is left", folder.display());
    assert!(
        !std::path::Path::new(&format!("/proc/{pid}")).exists(),
        "process {pid} is left"
    );
}

#[test]
fn pgvector_answers_on_real_embeddings() {
    let server = Server::start(Options::new().preload(false));
    let Some(_) = server.pgvector_version() else {
        return skip("pgvector_answers_on_real_embeddings", "no pgvector");
    };
    server.create_database("smoke", &["vector"]);
    let mut client = server.client("smoke");
    client
        .batch_execute("CREATE TABLE documents (id int, body text, embedding vector(384))")
        .unwrap();
    let descriptions = Embeddings::descriptions();
    descriptions.copy_into(&mut client, "documents", 0..500);
    client
        .batch_execute("CREATE INDEX ON documents USING hnsw (embedding vector_cosine_ops)")
        .unwrap();
    let nearest = "SELECT body FROM documents ORDER BY embedding <=> $1::text::vector LIMIT 1";
    let found: String = client
        .query_one(nearest, &[&descriptions.literal(123)])
        .unwrap()
        .get(0);
    assert_eq!(found, descriptions.texts[123]);
}

#[test]
fn the_extension_installs_preloaded_and_stops_at_once() {
    let server = Server::start(Options::new());
    server.create_database("smoke", &["ruvector_dag_healing"]);
    let version: String = server.value(
        "smoke",
        "SELECT extversion::text FROM pg_extension WHERE extname = 'ruvector_dag_healing'",
    );
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let took = server.stop(Mode::Fast);
    assert!(took < Duration::from_secs(5), "a stop took {took:?}");
    let log = server.log();
    assert!(
        !log.contains("PANIC") && !log.contains("was terminated by signal"),
        "{log}"
    );
}

#[test]
fn the_extension_installs_without_preloading() {
    let server = Server::start(Options::new().preload(false));
    server.create_database("smoke", &["ruvector_dag_healing"]);
    server.execute("smoke", "DROP EXTENSION ruvector_dag_healing");
}
