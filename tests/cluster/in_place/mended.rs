use crate::check::breaches;
use crate::check::pages::File;
use crate::healing::stage::Stage;

use super::plant::{cut_off, damage, ordinary, orphan, stage};

/// The index and its file.
fn identity(stage: &Stage, index: &str) -> (u32, u32) {
    let query =
        format!("SELECT ARRAY[oid, relfilenode] FROM pg_class WHERE oid = '{index}'::regclass");
    let both: Vec<u32> = stage.value(&query);
    (both[0], both[1])
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

#[test]
fn orphans_are_linked_and_the_index_stays_the_same() {
    let stage = stage();
    stage.items("docs", 3_000);
    let before = identity(&stage, "docs_embedding");
    damage(
        &stage,
        &[("docs_embedding", &|file: &mut File| {
            let which = ordinary(file, 20);
            orphan(file, &which);
        })],
    );
    assert!(orphans(&stage, "docs_embedding") >= 140);
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_until_healed("docs");
    assert_eq!(last(&stage, "docs"), "in_place succeeded");
    assert_eq!(identity(&stage, "docs_embedding"), before);
    assert_eq!(orphans(&stage, "docs_embedding"), 0);
    assert_eq!(breaches(&mut stage.client(), "docs_embedding", true), []);
    let found: f64 = stage.value(
        "SELECT (after->'former_orphans'->>'found')::float8
                / (after->'former_orphans'->>'queries')::float8
         FROM ruvector_dag_repair_history('docs') LIMIT 1",
    );
    assert!(found >= 0.99, "{found}");
    stage.execute("DELETE FROM docs WHERE id % 3 = 1; VACUUM docs");
    assert_eq!(breaches(&mut stage.client(), "docs_embedding", true), []);
}

#[test]
fn an_island_is_linked_to_the_rest() {
    let stage = stage();
    stage.items("docs", 3_000);
    let before = identity(&stage, "docs_embedding");
    damage(
        &stage,
        &[("docs_embedding", &|file: &mut File| {
            let which = ordinary(file, 3);
            cut_off(file, &which);
        })],
    );
    assert!(orphans(&stage, "docs_embedding") > 600);
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_until_healed("docs");
    assert_eq!(last(&stage, "docs"), "in_place succeeded");
    assert_eq!(identity(&stage, "docs_embedding"), before);
    assert_eq!(orphans(&stage, "docs_embedding"), 0);
    assert_eq!(breaches(&mut stage.client(), "docs_embedding", true), []);
}
