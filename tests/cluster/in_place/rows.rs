//! Rows taken out of an index and put back: whatever happens in between, none is lost and none is
//! there twice.

use super::held::{CRASHES, Interrupt, hold_before};
use super::plant::{damage, stage};
use super::{ask, identity, last};
use crate::check::pages::File;
use crate::check::{breaches, faults};
use crate::harness::Busy;
use crate::healing::stage::Stage;

/// A table of which every twentieth element holds another value than its row.
fn with_other_values(stage: &Stage) -> usize {
    stage.items("docs", 2_000);
    damage(stage, &[("docs_embedding", &other_values)]);
    let wrong = breaches(&mut stage.client(), "docs_embedding", true);
    assert!(wrong.iter().all(|breach| breach.check == "value_differs"));
    wrong.len()
}

fn other_values(file: &mut File) {
    for element in file.ordinary(20) {
        file.item(element)[80..84].copy_from_slice(&0.123_f32.to_le_bytes());
    }
}

fn missing(stage: &Stage) -> usize {
    let wrong = breaches(&mut stage.client(), "docs_embedding", true);
    wrong.iter().filter(|b| b.check == "row_missing").count()
}

fn owed(stage: &Stage) -> i64 {
    stage.value("SELECT count(*) FROM ruvector_dag_healing.detached")
}

/// Nothing is owed any more, and the index is sound.
#[track_caller]
fn is_whole_again(stage: &Stage) {
    stage.wait_for("SELECT count(*) = 0 FROM ruvector_dag_healing.detached");
    let mut client = stage.client();
    assert_eq!(faults(&mut client, "docs_embedding", true), []);
    crate::harness::vacuum(&mut client, "docs");
    assert_eq!(faults(&mut client, "docs_embedding", true), []);
}

/// How a repair ends before it is through.
const INTERRUPTS: [Interrupt; 3] = [CRASHES[0], CRASHES[1], |stage, worker| {
    let cancel = "SELECT ruvector_dag_cancel_repair(max(repair_id))
                      FROM ruvector_dag_healing.repair";
    stage.execute(cancel);
    stage.wait_for(&format!(
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {worker}"
    ));
}];

#[test]
fn rows_that_were_taken_out_when_it_ended_are_put_back() {
    for interrupt in INTERRUPTS {
        let stage = stage();
        let wrong = with_other_values(&stage);
        let before = identity(&stage, "docs_embedding");
        stage.put_up_gates();
        let gate = stage.hold("reinsert");
        ask(&mut stage.client(), "docs", "corrupt_page", false);
        let worker = stage.waiting_worker("advisory");
        assert_eq!((missing(&stage), owed(&stage)), (wrong, wrong as i64));
        interrupt(&stage, worker);
        std::mem::forget(gate);
        assert_eq!(stage.ended_repair("docs").status, "failed");
        is_whole_again(&stage);
        assert_eq!(identity(&stage, "docs_embedding"), before);
    }
}

#[test]
fn rows_that_were_put_back_when_it_ended_are_not_there_twice() {
    for interrupt in INTERRUPTS {
        let stage = stage();
        let wrong = with_other_values(&stage);
        // When rows were put back, and that is about to be written down.
        let settled = "DELETE ON ruvector_dag_healing.detached";
        let gate = hold_before(&stage, settled, "true");
        ask(&mut stage.client(), "docs", "corrupt_page", false);
        let worker = stage.waiting_worker("advisory");
        let left = missing(&stage);
        assert!((1..wrong).contains(&left), "{left} of {wrong}");
        assert_eq!(owed(&stage), wrong as i64);
        interrupt(&stage, worker);
        drop(gate);
        assert_eq!(stage.ended_repair("docs").status, "failed");
        is_whole_again(&stage);
    }
}

#[test]
fn a_vacuum_that_waits_goes_first_and_the_rows_come_back_after_it() {
    let stage = stage();
    with_other_values(&stage);
    stage.put_up_gates();
    let gate = stage.hold("reinsert");
    ask(&mut stage.client(), "docs", "corrupt_page", false);
    stage.waiting_worker("advisory");
    // What is gone by then is not put back, and its place may be another's.
    stage.execute(
        "DELETE FROM docs WHERE ctid IN (
             SELECT format('(%s,%s)', block, \"offset\")::tid FROM ruvector_dag_healing.detached
             WHERE \"offset\" % 2 = 0)",
    );
    let mut client = stage.client();
    client
        .batch_execute("SET lock_timeout = '20s'")
        .and_then(|()| client.batch_execute("VACUUM (INDEX_CLEANUP ON) docs"))
        .expect("a vacuum");
    stage.execute(
        "INSERT INTO docs SELECT 10000 + i, 'new', (
             SELECT array_agg(random()) FROM generate_series(1, 16) WHERE i > 0)::vector
         FROM generate_series(1, 200) i",
    );
    drop(gate);
    let repair = stage.ended_repair("docs");
    assert!(repair.error.starts_with("gave way"), "{repair:?}");
    is_whole_again(&stage);
}

#[test]
fn rows_of_every_kind_of_index_and_of_chains_of_updates_are_put_back() {
    let stage = stage();
    let kinds = [
        ("plain", "embedding vector_l2_ops", ""),
        ("cosine", "embedding vector_cosine_ops", ""),
        ("half", "(embedding::halfvec(16)) halfvec_l2_ops", ""),
        ("partial", "embedding vector_l2_ops", "WHERE id % 3 <> 0"),
    ];
    let has_halves = stage.server.pgvector_version() >= Some((0, 7, 0));
    let kinds: Vec<_> = kinds
        .into_iter()
        .filter(|(table, ..)| has_halves || *table != "half")
        .collect();
    for &(table, column, condition) in &kinds {
        stage.execute(&format!(
            "CREATE TABLE {table} (id int, body text, embedding vector(16)) WITH (fillfactor = 50);
             SELECT setseed(0.5);
             INSERT INTO {table} SELECT i, 'item', (
                 SELECT array_agg(random() + 0.1) FROM generate_series(1, 16) WHERE i >= 0)::vector
             FROM generate_series(0, 1999) i;
             CREATE INDEX {table}_embedding ON {table} USING hnsw ({column}) {condition};
             UPDATE {table} SET body = 'updated' WHERE id % 2 = 0;
             UPDATE {table} SET body = 'again' WHERE id % 4 = 0"
        ));
    }
    let names: Vec<String> = kinds.iter().map(|k| format!("{}_embedding", k.0)).collect();
    let spoil = |file: &mut File| {
        for (nth, element) in file.ordinary(25).into_iter().enumerate() {
            match nth % 3 {
                // Left out; a row that is none; no number.
                0 => file.put_place(element, 4, (u32::MAX, 0)),
                1 => file.put_place(element, 4, (60_000, 1)),
                _ => file.item(element)[80..84].fill(0xFF),
            }
        }
    };
    let plants: Vec<super::plant::Plant> = names
        .iter()
        .map(|name| (name.as_str(), &spoil as &dyn Fn(&mut File)))
        .collect();
    damage(&stage, &plants);
    for ((table, ..), index) in kinds.iter().zip(&names) {
        let before = identity(&stage, index);
        ask(&mut stage.client(), table, "corrupt_page", false);
        stage.ended_repair(table);
        assert_eq!(last(&stage, table), "in_place succeeded", "{table}");
        assert_eq!(identity(&stage, index), before);
        let mut client = stage.client();
        assert_eq!(breaches(&mut client, index, true), [], "{table}");
        let inserted: i64 = stage.value(&format!(
            "SELECT (details->'reinsert'->>'inserted')::bigint
             FROM ruvector_dag_repair_history('{table}') LIMIT 1"
        ));
        assert!(inserted > 30, "{table}: {inserted}");
    }
}

#[test]
fn where_rows_cannot_be_put_back_the_index_is_rebuilt_with_them() {
    let stage = stage();
    with_other_values(&stage);
    stage.execute(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('public.tries') = 1 THEN
                 RAISE 'no room for a row';
             END IF;
             RETURN OLD;
         END $$;
         CREATE TRIGGER fail BEFORE DELETE ON ruvector_dag_healing.detached
             FOR EACH ROW EXECUTE FUNCTION fail_once()",
    );
    ask(&mut stage.client(), "docs", "corrupt_page", false);
    stage.ended_repair("docs");
    assert_eq!(last(&stage, "docs"), "index_rebuild succeeded");
    let reason: String =
        stage.value("SELECT details->>'in_place' FROM ruvector_dag_repair_history() LIMIT 1");
    assert!(reason.contains("no room for a row"), "{reason}");
    is_whole_again(&stage);
}

#[test]
fn rows_are_put_back_while_others_write() {
    let stage = stage();
    with_other_values(&stage);
    stage.put_up_gates();
    let gate = stage.hold("detach");
    ask(&mut stage.client(), "docs", "corrupt_page", false);
    stage.waiting_worker("advisory");
    let vector = "(SELECT array_agg(random())::vector FROM generate_series(1, 16) WHERE id >= 0)";
    let writers = Busy::all(
        || stage.client(),
        [
            vec![
                format!(
                    "UPDATE docs SET embedding = {vector} WHERE id % 50 = (random() * 49)::int"
                ),
                Busy::nap(0.02),
            ],
            vec![
                "UPDATE docs SET body = body || '.' WHERE id % 60 = (random() * 59)::int".into(),
                "INSERT INTO docs SELECT id + 10000, body, embedding FROM docs
             WHERE id < 2000 AND id % 100 = (random() * 99)::int"
                    .into(),
                "DELETE FROM docs WHERE id > 10000 AND random() < 0.2".into(),
                Busy::nap(0.02),
            ],
        ],
    );
    drop(gate);
    stage.ended_repair("docs");
    writers.into_iter().for_each(Busy::stop);
    assert_eq!(last(&stage, "docs"), "in_place succeeded");
    is_whole_again(&stage);
}
