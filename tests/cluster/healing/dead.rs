//! Dead rows that nobody vacuums.

use super::stage::{Stage, options};
use crate::harness::Embeddings;

#[test]
fn many_dead_rows_go_with_a_rebuild_and_a_vacuum_that_finds_little_to_do() {
    let stage = Stage::start(options());
    stage.items("stale", 3_000);
    let before: u32 = stage.value("SELECT 'stale_embedding'::regclass::oid");
    stage.execute("DELETE FROM stale WHERE id % 5 <> 0");
    stage.wait_until_healed("stale");
    let (issue, kind, strategy) = {
        let row = stage
            .client()
            .query_one(
                "SELECT issue_type, repair_type, strategy FROM ruvector_dag_repair_history('stale')",
                &[],
            )
            .expect("one repair");
        (
            row.get::<_, String>(0),
            row.get::<_, String>(1),
            row.get::<_, String>(2),
        )
    };
    assert_eq!(
        (issue.as_str(), kind.as_str(), strategy.as_str()),
        ("dead_tuples", "index_rebuild_and_vacuum", "vacuum")
    );
    assert_ne!(stage.one_index("stale", "stale_embedding"), before);
    let faults: i64 =
        stage.value("SELECT count(*) FROM ruvector_dag_index_check('stale_embedding', true)");
    assert_eq!(faults, 0);
    // The table was vacuumed as well, and of the new index nothing was left to delete.
    stage.wait_for("SELECT n_dead_tup < 100 FROM pg_stat_user_tables WHERE relname = 'stale'");
    let deleted: i64 =
        stage.value("SELECT deleted_elements FROM ruvector_dag_hnsw_health('stale_embedding')");
    assert_eq!(deleted, 0);
}

/// A table of 5,000 real embeddings whose index costs more to build than to mend.
fn embeddings(stage: &Stage) {
    stage.server.set("ruvector.dag_healing_enabled", "off");
    let rows = Embeddings::descriptions();
    stage.execute(&format!(
        "CREATE TABLE churned (id int, body text, embedding vector({}))",
        rows.dimensions
    ));
    rows.copy_into(&mut stage.client(), "churned", 0..5_000);
    stage.execute(
        "CREATE INDEX churned_embedding ON churned USING hnsw (embedding vector_cosine_ops)",
    );
}

fn file(stage: &Stage) -> u32 {
    stage.value("SELECT relfilenode FROM pg_class WHERE relname = 'churned_embedding'")
}

#[test]
fn links_are_led_past_dead_rows_and_the_vacuum_finds_nothing_to_search_for() {
    let stage = Stage::start(options());
    embeddings(&stage);
    let before = file(&stage);
    stage.execute("DELETE FROM churned WHERE id % 5 < 2");
    // What is deleted and comes again with the same value is not dead.
    stage.execute(
        "INSERT INTO churned SELECT id + 100000, body, embedding FROM churned WHERE id % 50 = 3",
    );
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_until_healed("churned");
    let history: serde_json::Value =
        stage.value("SELECT to_jsonb(h) FROM ruvector_dag_repair_history('churned') h");
    assert_eq!(history["repair_type"], "in_place", "{history:#}");
    assert_eq!(history["issue_type"], "dead_tuples");
    assert_eq!(file(&stage), before);
    let doomed = history["details"]["relink"]["doomed"].as_i64();
    let doomed = doomed.expect("a number");
    assert!(doomed > 1_900, "{history:#}");
    let faults: i64 =
        stage.value("SELECT count(*) FROM ruvector_dag_index_check('churned_embedding', true)");
    assert_eq!(faults, 0);
    let row = stage.client().query_one(
        "SELECT deleted_elements, orphan_count FROM ruvector_dag_hnsw_health('churned_embedding')",
        &[],
    );
    let row = row.expect("the index's health");
    assert_eq!((row.get(0), row.get(1)), (doomed, 0_i64));
}

#[test]
fn dead_rows_that_somebody_may_still_see_are_left_alone() {
    let stage = Stage::start(options());
    embeddings(&stage);
    let before = file(&stage);
    let old = stage.open_transaction("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    stage.execute("DELETE FROM churned WHERE id % 5 < 2");
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_for(
        "SELECT coalesce(bool_or(error LIKE '%may still see%'), false)
         FROM ruvector_dag_repair_history('churned')",
    );
    let edits: i64 =
        stage.value("SELECT count(*) FROM ruvector_dag_repair_history() WHERE details ? 'relink'");
    assert_eq!(edits, 0);
    drop(old);
    stage.wait_until_healed("churned");
    assert_eq!(file(&stage), before);
}

#[test]
fn links_are_led_past_dead_rows_in_every_graph_of_the_table() {
    let stage = Stage::start(options());
    embeddings(&stage);
    stage.execute("CREATE INDEX churned_other ON churned USING hnsw (embedding vector_l2_ops)");
    stage.execute("DELETE FROM churned WHERE id % 5 < 2");
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_until_healed("churned");
    let history: serde_json::Value =
        stage.value("SELECT to_jsonb(h) FROM ruvector_dag_repair_history('churned') h");
    assert_eq!(history["repair_type"], "in_place", "{history:#}");
    let details = &history["details"];
    let doomed = details["relink"]["doomed"].as_i64().expect("a number");
    let of_others = details["relink_of_others"].as_object().expect("others");
    assert_eq!(of_others.len(), 1, "{of_others:?}");
    let of_other = of_others.values().next().map(|done| &done["doomed"]);
    let of_other = of_other
        .and_then(serde_json::Value::as_i64)
        .expect("a number");
    for index in ["churned_embedding", "churned_other"] {
        let faults: i64 = stage.value(&format!(
            "SELECT count(*) FROM ruvector_dag_index_check('{index}', true)"
        ));
        assert_eq!(faults, 0, "{index}");
        let doomed = match history["index"] == index {
            true => doomed,
            false => of_other,
        };
        assert!(doomed > 1_900, "{index}: {history:#}");
        let row = stage.client().query_one(
            &format!(
                "SELECT deleted_elements, orphan_count FROM ruvector_dag_hnsw_health('{index}')"
            ),
            &[],
        );
        let row = row.expect("the index's health");
        assert_eq!((row.get(0), row.get(1)), (doomed, 0_i64), "{index}");
    }
}

#[test]
fn where_the_table_has_other_indexes_and_memory_is_short_it_is_vacuumed() {
    let stage = Stage::start(options());
    stage.server.set("ruvector.dag_healing_enabled", "off");
    stage.server.set("maintenance_work_mem", "1MB");
    stage.items("twice", 3_000);
    stage.execute("CREATE INDEX twice_other ON twice USING hnsw (embedding vector_cosine_ops)");
    stage.execute("DELETE FROM twice WHERE id % 5 < 2");
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_for(
        "SELECT count(*) FILTER (WHERE repair_type = 'vacuum' AND status = 'succeeded') > 0
         FROM ruvector_dag_repair_history('twice')",
    );
    stage.wait_for("SELECT n_dead_tup < 100 FROM pg_stat_user_tables WHERE relname = 'twice'");
}
