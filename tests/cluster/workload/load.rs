use std::time::Duration;

use crate::harness::{Busy, skip};
use crate::workers::{assert_no_crash, more_checks};

use super::{kept, watched_server};

/// Indexes, more of them than can be held at once.
const INDEXES: usize = 48;

#[test]
fn many_sessions_and_indexes_fill_what_there_is_and_no_statement_fails() {
    let Some(server) = watched_server() else {
        return skip(
            "many_sessions_and_indexes_fill_what_there_is_and_no_statement_fails",
            "no pgvector",
        );
    };
    let mut client = server.client("app");
    for nth in 0..INDEXES {
        client
            .batch_execute(&format!(
                "CREATE TABLE many_{nth} (id int, v vector(3)); INSERT INTO many_{nth} SELECT id, v FROM docs LIMIT 60;
                 CREATE INDEX ON many_{nth} USING hnsw (v vector_l2_ops)"
            ))
            .expect("a table");
    }
    // Only a sample of what is asked can be held until the healer comes, and it comes late.
    server.set("ruvector.dag_healing_interval_ms", "86400000");
    let busy: Vec<Busy> = (0..8)
        .map(|session: usize| {
            let statements = (0..INDEXES).map(|nth| {
                let nth = (nth + 7 * session) % INDEXES;
                format!(
                    "SELECT id FROM many_{nth} ORDER BY v <-> '[{session},0,0]' LIMIT 3;
                     SELECT id FROM docs ORDER BY v <-> '[{session},1,0]' LIMIT 3"
                )
            });
            Busy::start(server.client("app"), statements.collect())
        })
        .collect();
    server.wait_until(
        "all have asked everything",
        Duration::from_secs(120),
        || busy.iter().all(|session| session.rounds() >= 20),
    );
    // The healer takes while others bring.
    server.set("ruvector.dag_healing_interval_ms", "200");
    more_checks(&server, "app", 5);
    busy.into_iter().for_each(Busy::stop);
    let kept = kept(&server).len();
    let dropped: serde_json::Value = server.value(
        "app",
        "SELECT ruvector_dag_healing_status()->'captured_queries'->'dropped'",
    );
    println!("{kept} kept, dropped {dropped}");
    assert!(dropped["no_room"].as_u64() > Some(0), "{dropped}");
    let most: i64 = server.value(
        "app",
        "SELECT max(count) FROM (SELECT count(*) FROM ruvector_dag_healing.query_sample GROUP BY identity) c",
    );
    assert!(kept > 500 && most <= 400, "{kept}, of one index {most}");
    assert_no_crash(&server);
}

#[test]
fn after_a_crash_it_begins_anew() {
    let Some(server) = watched_server() else {
        return skip("after_a_crash_it_begins_anew", "no pgvector");
    };
    let search = "SELECT id FROM docs ORDER BY v <-> '[7,0,0]' LIMIT 3";
    server.execute("app", search);
    assert_eq!(kept(&server).len(), 1);
    server.crash_and_wait();
    crate::workers::settled_healer(&server, "app");
    assert_eq!(kept(&server).len(), 0);
    server.execute("app", search);
    assert_eq!(super::kept_points(&server), [7]);
    // A stop that is none is survived.
    server.restart();
    crate::workers::settled_healer(&server, "app");
    assert_eq!(super::kept_points(&server), [7]);
}
