//! Repairs that change pages of the index in place, on servers whose files were damaged while they
//! were stopped.

// Every fault that the check knows of.
mod faults;
// Where inserts begin to look for room.
mod inserts;
// Lists whose centres are moved, or not.
mod lists;
// Lists made even.
mod regroup;
// Every fault that can be mended in place is, and the index stays the one it is.
mod mended;
// Where repairs are held, and what ends them there.
mod held;
// Others who write, wait, hold locks or end the repair.
mod others;
mod plant;
// Damage again and again while others write and vacuum.
mod fire;
mod under_fire;
// What is asked for: the plan, progress, cancelling, undoing, and what never starts by itself.
mod request;
// A value that many rows share.
mod sink;

// Rows taken out of an index and put back.
mod rows;

use crate::check::pages;
use crate::harness;
use postgres::Client;
use serde_json::Value;

use crate::healing::stage::Stage;

/// The index and its file.
fn identity(stage: &Stage, index: &str) -> (u32, u32) {
    let query =
        format!("SELECT ARRAY[oid, relfilenode] FROM pg_class WHERE oid = '{index}'::regclass");
    let both: Vec<u32> = stage.value(&query);
    (both[0], both[1])
}

/// Has a table looked at: what happens to a file while no server runs is otherwise seen within a day.
fn look(stage: &Stage, table: &str) {
    stage.execute(&format!("SELECT ruvector_dag_health_check('{table}')"));
}

/// How the last repair of a table was done, and how it ended.
fn last(stage: &Stage, table: &str) -> String {
    stage.value(&format!(
        "SELECT concat_ws(' ', repair_type, status, error)
         FROM ruvector_dag_repair_history('{table}') LIMIT 1"
    ))
}

fn orphans(stage: &Stage, index: &str) -> i64 {
    stage.value(&format!(
        "SELECT orphan_count FROM ruvector_dag_hnsw_health('{index}')"
    ))
}

/// The id of an issue of a table, found by looking now.
fn issue(client: &mut Client, table: &str, kind: &str) -> String {
    let sql = "SELECT ruvector_dag_health_check($1::text::regclass)";
    let check: Value = client.query_one(sql, &[&table]).expect("a check").get(0);
    let issues = check["indexes"][0]["issues"].as_array().expect("issues");
    let mut found = issues.iter().filter_map(Value::as_str);
    let found = found.find(|id| id.starts_with(kind));
    found
        .unwrap_or_else(|| panic!("no {kind} in {check:#}"))
        .to_owned()
}

/// Asks for a repair, or for its plan.
fn ask(client: &mut Client, table: &str, kind: &str, dry_run: bool) -> Value {
    let issue = issue(client, table, kind);
    let sql = "SELECT ruvector_dag_repair($1::text::regclass, $2, $3)";
    let answer = client.query_one(sql, &[&table, &issue, &dry_run]);
    answer.expect("an answer").get(0)
}
