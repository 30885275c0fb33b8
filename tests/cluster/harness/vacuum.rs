//! A vacuum that leaves nothing.

use std::time::Duration;

use postgres::Client;

use super::wait_until;

/// Vacuums a table and its indexes, once nobody has a snapshot in which rows deleted so far are still seen: a
/// healer may have one at any time, and a vacuum leaves what it sees.
#[track_caller]
pub fn vacuum(client: &mut Client, table: &str) {
    let now = "SELECT pg_current_xact_id()::text";
    let now: String = client.query_one(now, &[]).expect("a transaction").get(0);
    let unseen = format!(
        "SELECT count(*) = 0 FROM pg_stat_activity
         WHERE greatest(age(backend_xmin), age(backend_xid)) > age('{now}'::xid8::xid)"
    );
    wait_until(
        "nobody sees the deleted rows",
        Duration::from_secs(120),
        || client.query_one(&unseen, &[]).expect("snapshots").get(0),
    );
    client
        .batch_execute(&format!("VACUUM (INDEX_CLEANUP ON) {table}"))
        .unwrap_or_else(|error| panic!("{table}: {error:?}"));
}
