//! An undo that is interrupted was made or was not: the index in place and the history agree.

use super::stage::{Stage, options};

/// Killed as the mark of this is about to be committed; whether the old index is back by then.
const MOMENTS: [(&str, bool); 3] = [("swap_back", false), ("ended", false), ("drop", true)];

#[test]
fn an_interrupted_undo_was_made_or_was_not() {
    // The exchange waits at its gate, which counts as waiting for a lock.
    let stage = Stage::start(
        options()
            .setting("ruvector.dag_healing_interval_ms", 60_000)
            .setting("ruvector.dag_healing_lock_timeout", "1min"),
    );
    stage.put_up_gates();
    for (number, (step, undone)) in MOMENTS.into_iter().enumerate() {
        let table = format!("items_{number}");
        let index = format!("{table}_embedding");
        let in_place = || stage.value::<u32>(&format!("SELECT '{index}'::regclass::oid"));
        stage.items(&table, 1_500);
        let old = in_place();
        stage.damage(&table);
        stage.execute("SELECT ruvector_dag_healing_cycle()");
        stage.wait_until_healed(&table);
        let new = in_place();
        assert_ne!(new, old);
        let repair: i64 = stage.value("SELECT max(repair_id) FROM ruvector_dag_healing.repair");

        let undo = format!("SELECT ruvector_dag_rollback({repair})");
        let gate = stage.hold(step);
        stage.execute(&undo);
        let worker = stage.waiting_worker("advisory");
        stage.server.crash_by_killing(worker);
        drop(gate);

        let ended = stage.last_repair(&table).expect("a repair");
        if undone {
            assert_eq!(
                (ended.status.as_str(), in_place()),
                ("rolled_back", old),
                "{step}"
            );
        } else {
            assert_eq!(
                (ended.status.as_str(), in_place()),
                ("succeeded", new),
                "{step}"
            );
            assert!(stage.uses(&table, &index), "{step}: the replacement serves");
            // It can be asked for again.
            stage.execute(&undo);
            stage.wait_for(&format!("SELECT '{index}'::regclass::oid = {old}"));
            assert_eq!(
                stage.last_repair(&table).expect("it").status,
                "rolled_back",
                "{step}"
            );
        }
        let index = stage.one_index(&table, &index);
        assert_eq!(index, old, "{step}: the old index is back");
        let issue: String = stage.value(&format!(
            "SELECT status FROM ruvector_dag_healing.issue WHERE table_oid = '{table}'::regclass"
        ));
        assert_eq!(issue, "unresolved", "{step}");
        stage.execute(&format!("DROP TABLE {table}"));
    }
}
