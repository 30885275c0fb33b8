//! Dead rows that nobody vacuums.

use super::stage::{Stage, options};

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

#[test]
fn where_the_table_has_other_indexes_it_is_vacuumed() {
    let stage = Stage::start(options());
    stage.server.set("ruvector.dag_healing_enabled", "off");
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
