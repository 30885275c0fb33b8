use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postgres::fallible_iterator::FallibleIterator;
use serde_json::Value;

use super::{DATABASE, SOON, await_one_index};
use crate::harness::{Embeddings, Options, Server, literal, vacuum};

const INTERVAL_MS: u32 = 1_000;

#[test]
fn damage_is_found_and_mended_while_clients_go_on() {
    let server = Server::start(
        Options::new()
            .undemanding()
            .setting("ruvector.dag_healing_interval_ms", INTERVAL_MS),
    );
    server.create_database(DATABASE, &["vector", "ruvector_dag_healing"]);
    let mut client = server.client(DATABASE);
    let data = Embeddings::descriptions();
    client
        .batch_execute(&format!(
            "CREATE TABLE t (id bigint PRIMARY KEY, body text, v vector({}))",
            data.dimensions
        ))
        .expect("a table");
    data.copy_into(&mut client, "t", 0..data.rows.len());
    client
        .batch_execute("CREATE INDEX t_idx ON t USING hnsw (v vector_cosine_ops)")
        .expect("an index");
    let mut events = server.client(DATABASE);
    events
        .batch_execute("LISTEN ruvector_dag_healing")
        .expect("a listener");

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = Over(&over);
        let clients: Vec<_> = (0..3)
            .map(|number| {
                let (server, data, over) = (&server, &data, &over);
                scope.spawn(move || use_the_table(server, data, number, over))
            })
            .collect();
        // Dead rows alone would have it vacuum first, and then wait before it rebuilds.
        server.set("ruvector.dag_healing_enabled", "off");
        client
            .batch_execute("DELETE FROM t WHERE id % 5 <> 0 AND id < 5000")
            .expect("a delete");
        vacuum(&mut client, "t");
        server.reset("ruvector.dag_healing_enabled");
        let damaged = std::time::Instant::now();
        server.wait_until("the issue is filed", SOON, || {
            server.value::<i64>(
                DATABASE,
                "SELECT count(*) FROM ruvector_dag_healing.issue WHERE issue_type = 'fragmentation'",
            ) == 1
        });
        let found_after = damaged.elapsed();
        assert!(
            found_after < Duration::from_millis(u64::from(INTERVAL_MS)) + Duration::from_secs(5),
            "found after {found_after:?}"
        );
        server.wait_until("it is mended", 2 * SOON, || {
            server.value::<i64>(
                DATABASE,
                "SELECT count(*) FROM ruvector_dag_repair_history()
                 WHERE issue_type = 'fragmentation' AND status = 'succeeded'",
            ) == 1
        });
        await_one_index(&server, "t");
        drop(end);
        for client in clients {
            let searches = client.join().expect("a client without an error");
            assert!(searches > 0);
        }
    });

    let (before, after): (Value, Value) = {
        let row = client
            .query_one(
                "SELECT before, after FROM ruvector_dag_repair_history() WHERE issue_type = 'fragmentation'",
                &[],
            )
            .expect("the history");
        (row.get(0), row.get(1))
    };
    assert!(
        before["hnsw"]["fragmentation"].as_f64() > Some(0.5),
        "{before}"
    );
    assert!(
        after["hnsw"]["fragmentation"].as_f64() < Some(0.3),
        "{after}"
    );
    for side in [&before, &after] {
        assert!(side["probe"]["recall"].as_f64() > Some(0.8), "{side}");
    }
    server.wait_until("the issue is resolved", SOON, || {
        server.value::<i64>(
            DATABASE,
            "SELECT count(*) FROM ruvector_dag_detected_issues('t') WHERE issue_type = 'fragmentation'",
        ) == 0
    });

    // Every row is in the index, once.
    vacuum(&mut client, "t");
    let (rows, entries): (i64, i64) = {
        let row = client
            .query_one(
                "SELECT (SELECT count(*) FROM t), heap_tids FROM ruvector_dag_hnsw_health('t_idx')",
                &[],
            )
            .expect("health");
        (row.get(0), row.get(1))
    };
    assert_eq!(rows, entries);

    let mut told = BTreeSet::new();
    let mut waiting = events.notifications();
    let mut waiting = waiting.timeout_iter(Duration::from_secs(1));
    while let Some(event) = waiting.next().expect("notifications") {
        let event: Value = serde_json::from_str(event.payload()).expect("JSON");
        told.insert(event["event"].as_str().expect("an event").to_owned());
    }
    assert!(
        told.contains("issue_opened") && told.contains("repair_succeeded"),
        "{told:?}"
    );
}

/// Inserts, updates, deletes and searches until told to stop; how many searches it made. Every
/// search must return no row twice, and find what this client wrote itself.
fn use_the_table(server: &Server, data: &Embeddings, number: i64, over: &AtomicBool) -> u32 {
    let mut client = server.client(DATABASE);
    client
        .batch_execute("SET enable_seqscan = off; SET hnsw.ef_search = 100")
        .expect("settings");
    let (mut searches, mut lost) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        let id = 1_000_000 * (number + 1) + i64::from(searches);
        // No value twice: many rows of one value are an illness of their own, which no rebuild cures.
        let own = f64::from(searches) * 3.0 + number as f64;
        let vector = shifted(data, searches as usize * 7 + number as usize * 1_000, own);
        client
            .execute(
                "INSERT INTO t VALUES ($1, 'new', $2::text::vector)",
                &[&id, &vector],
            )
            .expect("an insert");
        let found: Vec<i64> = client
            .query(
                "SELECT id FROM t ORDER BY v <=> $1::text::vector LIMIT 20",
                &[&vector],
            )
            .expect("a search")
            .iter()
            .map(|row| row.get(0))
            .collect();
        let distinct: BTreeSet<i64> = found.iter().copied().collect();
        assert_eq!(
            distinct.len(),
            found.len(),
            "a row was returned twice: {found:?}"
        );
        lost += u32::from(!found.contains(&id));
        if searches % 4 == 0 {
            client
                .execute(
                    "UPDATE t SET body = 'newer', v = $2::text::vector WHERE id = $1",
                    &[&id, &shifted(data, searches as usize * 11, -own)],
                )
                .expect("an update");
        }
        if searches % 6 == 0 {
            client
                .execute("DELETE FROM t WHERE id = $1", &[&id])
                .expect("a delete");
        }
        searches += 1;
        // As fast as they can, three clients outrun any vacuum and any build.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        lost * 50 <= searches,
        "{lost} of {searches} rows were not found right after they were written"
    );
    searches
}

/// A row of the data with one component changed by a little that no other has.
fn shifted(data: &Embeddings, row: usize, own: f64) -> String {
    let mut vector = data.rows[row % data.rows.len()].clone();
    let at = (own.abs() as usize) % vector.len();
    vector[at] += (own * 1e-5 + own.signum() * 1e-4) as f32;
    literal(&vector)
}

/// Stops the clients also where the test fails: it would wait for them for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
