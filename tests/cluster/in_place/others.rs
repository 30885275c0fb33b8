use std::time::{Duration, Instant};

use super::held::{CRASHES, hold_second_batch};
use super::plant::{damage, quiet, stage};
use super::{ask, identity, last, look, orphans};
use crate::check::pages::File;
use crate::check::{breaches, faults};
use crate::harness::Busy;
use crate::healing::stage::{Stage, options};

/// A table with more orphans than a batch of edits links.
fn with_orphans(stage: &Stage) {
    stage.items("docs", 4_000);
    damage(
        stage,
        &[("docs_embedding", &|file: &mut File| {
            let which = file.ordinary(5);
            file.cut(&which, |_| true);
        })],
    );
}

#[test]
fn a_killed_worker_leaves_a_sound_index_and_the_healer_goes_on() {
    for interrupt in CRASHES {
        let stage = stage();
        with_orphans(&stage);
        let (before, lost) = (
            identity(&stage, "docs_embedding"),
            orphans(&stage, "docs_embedding"),
        );
        std::mem::forget(hold_second_batch(&stage));
        look(&stage, "docs");
        stage.server.reset("ruvector.dag_healing_enabled");
        let worker = stage.waiting_worker("advisory");
        stage.server.set("ruvector.dag_healing_enabled", "off");
        interrupt(&stage, worker);
        let repair = stage.ended_repair("docs");
        assert_eq!(repair.status, "failed", "{repair:?}");
        assert!(repair.error.starts_with("interrupted"), "{repair:?}");
        let left = orphans(&stage, "docs_embedding");
        assert!((1..lost - 100).contains(&left), "{left} of {lost}");
        assert_eq!(breaches(&mut stage.client(), "docs_embedding", true), []);

        stage.let_an_hour_pass();
        stage.server.reset("ruvector.dag_healing_enabled");
        stage.wait_until_healed("docs");
        assert_eq!(last(&stage, "docs"), "in_place succeeded");
        assert_eq!(identity(&stage, "docs_embedding"), before);
        assert_eq!(orphans(&stage, "docs_embedding"), 0);
        assert_eq!(breaches(&mut stage.client(), "docs_embedding", true), []);
    }
}

#[test]
fn a_repair_that_is_cancelled_between_batches_keeps_what_it_has_done() {
    let stage = stage();
    with_orphans(&stage);
    let lost = orphans(&stage, "docs_embedding");
    let gate = hold_second_batch(&stage);
    let mut client = stage.client();
    let repair = ask(&mut client, "docs", "orphan_nodes", false)["repair_id"].as_i64();
    stage.waiting_worker("advisory");
    let (done, total): (i64, i64) = {
        let row = client
            .query_one("SELECT done, total FROM ruvector_dag_repair_progress", &[])
            .expect("progress");
        (row.get(0), row.get(1))
    };
    assert!(done > 0 && done < total, "{done} of {total}");
    let cancelled: bool = client
        .query_one("SELECT ruvector_dag_cancel_repair($1)", &[&repair])
        .expect("it can be cancelled")
        .get(0);
    assert!(cancelled);
    let ended = stage.ended_repair("docs");
    assert_eq!(
        (ended.status.as_str(), ended.error.as_str()),
        ("failed", "cancelled on request")
    );
    drop(gate);
    let left = orphans(&stage, "docs_embedding");
    assert!((1..lost - 100).contains(&left), "{left} of {lost}");
    assert_eq!(breaches(&mut client, "docs_embedding", true), []);
}

#[test]
fn nobody_waits_long_behind_a_repair_in_place() {
    let stage = quiet(options().setting("ruvector.dag_healing_lock_timeout", "100ms"));
    with_orphans(&stage);
    let began = Instant::now();
    ask(&mut stage.client(), "docs", "orphan_nodes", false);
    let mut client = stage.client();
    let mut longest = Duration::ZERO;
    let mut commands = 0;
    while stage
        .last_repair("docs")
        .is_none_or(|repair| repair.status == "running")
    {
        for command in ["ALTER TABLE docs SET (fillfactor = 90)", "VACUUM docs"] {
            let asked = Instant::now();
            client.batch_execute(command).expect(command);
            longest = longest.max(asked.elapsed());
            commands += 1;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it never ends");
    }
    assert!(
        commands > 2 && longest < Duration::from_secs(2),
        "{commands} commands, one took {longest:?}"
    );
    assert_eq!(last(&stage, "docs"), "in_place succeeded");
    assert_eq!(orphans(&stage, "docs_embedding"), 0);
}

#[test]
fn a_table_that_is_locked_is_not_queued_for() {
    let stage = stage();
    with_orphans(&stage);
    stage.put_up_gates();
    let gate = stage.hold("link");
    ask(&mut stage.client(), "docs", "orphan_nodes", false);
    stage.waiting_worker("advisory");
    let holder = stage.open_transaction("LOCK TABLE docs IN SHARE UPDATE EXCLUSIVE MODE");
    drop(gate);
    let repair = stage.ended_repair("docs");
    assert_eq!(repair.status, "failed", "{repair:?}");
    assert!(repair.error.ends_with("is in use"), "{repair:?}");
    drop(holder);
    assert!(orphans(&stage, "docs_embedding") > 0);
    // A table in use is no failure, after which it would rest.
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_until_healed("docs");
    assert_eq!(last(&stage, "docs"), "in_place succeeded");
}

#[test]
fn who_has_a_table_locked_for_a_moment_is_no_obstacle() {
    let stage = quiet(
        options()
            .setting("ruvector.dag_healing_lock_timeout", "1min")
            .setting("max_prepared_transactions", 1),
    );
    with_orphans(&stage);
    let holder = stage.open_transaction("LOCK TABLE docs IN SHARE UPDATE EXCLUSIVE MODE");
    let mut client = stage.client();
    let mut refusal = || ask(&mut client, "docs", "orphan_nodes", true)["refusal"].clone();
    assert_eq!(refusal(), serde_json::Value::Null);
    stage.server.set("ruvector.dag_healing_lock_timeout", "1ms");
    stage.wait_for("SELECT current_setting('ruvector.dag_healing_lock_timeout') = '1ms'");
    let is_locked_by = |refusal: serde_json::Value, who: &str| {
        assert_eq!(refusal["code"], "table_locked", "{refusal}");
        let reason = refusal["reason"].as_str().expect("a reason");
        let by = format!("the table is locked by {who}");
        assert!(reason.starts_with(&by), "{reason}");
    };
    is_locked_by(refusal(), "process");
    drop(holder);
    stage.wait_for("SELECT count(*) = 0 FROM pg_locks WHERE relation = 'docs'::regclass");
    assert_eq!(refusal(), serde_json::Value::Null);
    // Nobody knows for how long one has it that is no process any more.
    stage
        .server
        .set("ruvector.dag_healing_lock_timeout", "1min");
    let prepare =
        "BEGIN; LOCK TABLE docs IN SHARE UPDATE EXCLUSIVE MODE; PREPARE TRANSACTION 'one'";
    stage
        .client()
        .batch_execute(prepare)
        .expect("a prepared transaction");
    is_locked_by(
        refusal(),
        "a prepared transaction (ShareUpdateExclusiveLock)",
    );
    stage.execute("ROLLBACK PREPARED 'one'");
}

#[test]
fn nothing_is_lost_while_others_write_and_vacuum() {
    let stage = stage();
    with_orphans(&stage);
    stage.put_up_gates();
    stage.execute("CREATE SEQUENCE next START 100000");
    let gate = stage.hold("link");
    ask(&mut stage.client(), "docs", "orphan_nodes", false);
    stage.waiting_worker("advisory");
    let vector = |row: &str| {
        format!("(SELECT array_agg(random())::vector FROM generate_series(1, 16) WHERE {row} > 0)")
    };
    let writers = Busy::all(
        || stage.client(),
        [
            vec![
                format!(
                    "INSERT INTO docs SELECT nextval('next'), 'new', {} FROM generate_series(1, 5) g",
                    vector("g")
                ),
                Busy::nap(0.02),
            ],
            vec![
                format!(
                    "UPDATE docs SET embedding = {} WHERE id > 0 AND id % 400 = (random() * 399)::int",
                    vector("id")
                ),
                "DELETE FROM docs WHERE id > 100000 AND random() < 0.05".into(),
                Busy::nap(0.05),
            ],
            vec!["VACUUM docs".into(), Busy::nap(0.3)],
            vec![
                "SET enable_seqscan = off;
             SELECT id FROM docs ORDER BY embedding <-> (SELECT embedding FROM docs WHERE id = 0)
             LIMIT 10"
                    .into(),
            ],
        ],
    );
    drop(gate);
    let repair = stage.ended_repair("docs");
    assert!(writers.iter().all(|writer| writer.rounds() > 0));
    writers.into_iter().for_each(Busy::stop);
    assert_eq!(repair.status, "succeeded", "{repair:?}");
    assert_eq!(last(&stage, "docs"), "in_place succeeded");
    let mut client = stage.client();
    assert_eq!(faults(&mut client, "docs_embedding", true), []);
    crate::harness::vacuum(&mut client, "docs");
    assert_eq!(faults(&mut client, "docs_embedding", true), []);
}
