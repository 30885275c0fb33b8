//! A repair that gave way or was too slow rests, and is taken up again.

use std::time::{Duration, Instant};

use super::stage::{Stage, options};

#[test]
fn a_repair_that_gave_way_is_taken_up_again() {
    let stage = Stage::start(options().setting("ruvector.dag_healing_lock_timeout", "200ms"));
    stage.put_up_gates();
    for (table, command) in [
        ("altered", "ALTER TABLE altered SET (fillfactor = 90)"),
        ("vacuumed", "VACUUM vacuumed"),
    ] {
        stage.items(table, 1_500);
        let (_, obstacle) = stage.stuck_build(table);
        let began = Instant::now();
        stage.execute(command);
        // Without giving way it would take until the obstacle is gone.
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{command} took {took:?}");
        let repair = stage.ended_repair(table);
        assert_eq!(repair.status, "failed", "{repair:?}");
        assert!(repair.error.starts_with("gave way"), "{repair:?}");
        comes_back(&stage, table, obstacle);
    }
}

#[test]
fn a_repair_that_took_too_long_is_taken_up_again() {
    let stage = Stage::start(options().setting("ruvector.dag_healing_repair_timeout", "2s"));
    stage.put_up_gates();
    stage.items("slow", 1_500);
    let (_, obstacle) = stage.stuck_build("slow");
    let repair = stage.ended_repair("slow");
    assert_eq!(repair.status, "failed", "{repair:?}");
    let reason = "took longer than ruvector.dag_healing_repair_timeout";
    assert_eq!(repair.error, reason, "{repair:?}");
    comes_back(&stage, "slow", obstacle);
}

/// The healer rests for a while, then tries again and succeeds; nothing of the first try is left.
fn comes_back(stage: &Stage, table: &str, obstacle: postgres::Client) {
    let index = format!("{table}_embedding");
    assert!(stage.uses(table, &index), "{index} serves all the while");
    stage.wait_for(&format!(
        "SELECT coalesce(bool_and(evidence->'refusal'->>'code' = 'backoff'), false)
         FROM ruvector_dag_detected_issues('{table}')"
    ));
    drop(obstacle);
    stage.one_index(table, &index);
    stage.let_an_hour_pass();
    stage.wait_until_healed(table);
    stage.let_an_hour_pass();
    stage.one_index(table, &index);
}
