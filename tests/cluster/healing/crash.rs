//! Whatever ends the server or the worker at any step, the healer finds its way back and mends the index.

use super::stage::{Repair, Stage, options};
use crate::harness::Mode;

/// A moment in a repair's life.
struct Moment {
    /// The step, or `ended`, whose mark is about to be committed …
    step: &'static str,
    /// … or which is under way and waits for a transaction that ran this on the table.
    obstacle: Option<&'static str>,
    /// Whether the replacement is in place by then.
    swapped: bool,
}

const fn before(step: &'static str, swapped: bool) -> Moment {
    let obstacle = None;
    Moment {
        step,
        obstacle,
        swapped,
    }
}

const fn inside(step: &'static str, obstacle: &'static str, swapped: bool) -> Moment {
    let obstacle = Some(obstacle);
    Moment {
        step,
        obstacle,
        swapped,
    }
}

const WRITER: &str = "LOCK TABLE {} IN ROW EXCLUSIVE MODE";
const READER: &str = "LOCK TABLE {} IN ACCESS SHARE MODE";
const SNAPSHOT: &str =
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";

const MOMENTS: [Moment; 11] = [
    before("create_copy", false),
    before("build", false),
    inside("build", WRITER, false),
    before("validate", false),
    inside("validate", WRITER, false),
    inside("validate", SNAPSHOT, false),
    before("check", false),
    before("swap", false),
    before("ended", true),
    before("drop", true),
    inside("drop", READER, true),
];

#[test]
fn a_killed_worker_leaves_one_index_and_the_healer_goes_on() {
    at_every_moment(|stage, worker| stage.server.crash_by_killing(worker));
}

#[test]
fn an_immediate_stop_leaves_one_index_and_the_healer_goes_on() {
    at_every_moment(|stage, _| {
        stage.server.stop(Mode::Immediate);
        stage.server.start_again();
    });
}

fn at_every_moment(interrupt: fn(&Stage, i32)) {
    let stage = Stage::start(options());
    stage.put_up_gates();
    for (number, moment) in MOMENTS.iter().enumerate() {
        let table = format!("items_{number}");
        stage.items(&table, 1_500);
        let worker = bring_to(&stage, moment, &table);
        interrupt(&stage, worker);
        recovers(&stage, moment, &table);
        stage.execute(&format!("DROP TABLE {table}"));
    }
}

/// Damages a table and follows the repair to a moment: the worker, which stays there as long as the server runs.
fn bring_to(stage: &Stage, moment: &Moment, table: &str) -> i32 {
    let gate = stage.hold(moment.step);
    stage.damage(table);
    if moment.step == "drop" {
        let repair = stage.ended_repair(table);
        assert_eq!(repair.status, "succeeded", "{repair:?}");
        stage.let_an_hour_pass();
    }
    let worker = stage.waiting_worker("advisory");
    let Some(obstacle) = moment.obstacle else {
        std::mem::forget(gate);
        return worker;
    };
    let transaction = stage.open_transaction(&obstacle.replace("{}", table));
    drop(gate);
    let worker = stage.waiting_worker("virtualxid");
    std::mem::forget(transaction);
    worker
}

fn recovers(stage: &Stage, moment: &Moment, table: &str) {
    let at = format!("{} {:?}", moment.step, moment.obstacle);
    let first: Repair = stage.ended_repair(table);
    if moment.swapped {
        assert_eq!(first.status, "succeeded", "{at}: {first:?}");
    } else {
        assert_eq!(first.status, "failed", "{at}: {first:?}");
        assert!(first.error.starts_with("interrupted"), "{at}: {first:?}");
    }
    let index = format!("{table}_embedding");
    assert!(
        stage.uses(table, &index),
        "{at}: the index serves right after the crash"
    );

    // Past its rest the healer mends it; then the replaced index goes, too.
    stage.let_an_hour_pass();
    stage.wait_until_healed(table);
    stage.let_an_hour_pass();
    stage.one_index(table, &index);
    let repairs: Vec<(i64, String)> = stage
        .client()
        .query(
            "SELECT repair_id, status FROM ruvector_dag_repair_history($1::text::regclass)",
            &[&table],
        )
        .expect("the history")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let expected: &[&str] = if moment.swapped {
        &["succeeded"]
    } else {
        &["succeeded", "failed"]
    };
    let statuses: Vec<&str> = repairs.iter().map(|(_, status)| status.as_str()).collect();
    assert_eq!(statuses, expected, "{at}");
}
