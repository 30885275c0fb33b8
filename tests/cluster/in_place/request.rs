use serde_json::Value;

use super::plant::{damage, stage};
use super::{ask, identity, last, look, orphans};
use crate::check::breaches;
use crate::check::pages::File;
use crate::healing::stage::Stage;

fn with_orphans(stage: &Stage) {
    stage.items("docs", 3_000);
    damage(
        stage,
        &[("docs_embedding", &|file: &mut File| {
            let which = file.ordinary(20);
            file.cut(&which, |_| true);
        })],
    );
}

fn history(stage: &Stage, table: &str) -> Value {
    stage.value(&format!(
        "SELECT to_jsonb(h) FROM ruvector_dag_repair_history('{table}') h LIMIT 1"
    ))
}

#[test]
fn the_plan_says_what_each_step_locks_costs_and_how_it_is_undone() {
    let stage = stage();
    with_orphans(&stage);
    let plan = ask(&mut stage.client(), "docs", "orphan_nodes", true);
    let steps = plan["steps"].as_array().expect("steps");
    let names: Vec<&str> = steps
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    assert_eq!(
        names,
        ["entry", "prune", "baseline", "link", "verify"],
        "{plan:#}"
    );
    for step in steps {
        let said = ["lock", "undo"].iter().all(|key| step[*key].is_string());
        assert!(said && step["duration_ms"].is_number(), "{step:#}");
    }
    assert_eq!(
        (&plan["status"], &plan["repair_type"]),
        (&"planned".into(), &"in_place".into())
    );
    assert_eq!(plan["estimate"]["bytes"], 0);
    assert!(orphans(&stage, "docs_embedding") > 0, "nothing is done");
}

#[test]
fn what_was_linked_is_unlinked_again_on_request() {
    let stage = stage();
    with_orphans(&stage);
    let (before, lost) = (
        identity(&stage, "docs_embedding"),
        orphans(&stage, "docs_embedding"),
    );
    let mut client = stage.client();
    let id = ask(&mut client, "docs", "orphan_nodes", false)["repair_id"].as_i64();
    let id = id.expect("a number");
    assert_eq!(stage.ended_repair("docs").status, "succeeded");
    assert_eq!(orphans(&stage, "docs_embedding"), 0);
    let made = history(&stage, "docs")["details"]["link"]["made"].as_i64();
    assert!(made >= Some(lost / 2), "{made:?}");
    client
        .batch_execute(&format!("SELECT ruvector_dag_rollback({id})"))
        .expect("it can be undone");
    stage.wait_for("SELECT status = 'rolled_back' FROM ruvector_dag_healing.repair");
    assert_eq!(identity(&stage, "docs_embedding"), before);
    assert_eq!(orphans(&stage, "docs_embedding"), lost);
    assert_eq!(
        history(&stage, "docs")["details"]["taken_back"]["no_longer_as_made"],
        0
    );
    // Once only, and not after its time.
    let again = client.batch_execute(&format!("SELECT ruvector_dag_rollback({id})"));
    assert!(again.is_err());
}

#[test]
fn an_undo_is_not_kept_for_ever() {
    let stage = stage();
    with_orphans(&stage);
    look(&stage, "docs");
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_until_healed("docs");
    assert!(stage.value::<i64>("SELECT count(*) FROM ruvector_dag_healing.edits") > 0);
    stage.let_an_hour_pass();
    stage.wait_for("SELECT count(*) = 0 FROM ruvector_dag_healing.edits");
    let undo = stage.client().batch_execute(
        "SELECT ruvector_dag_rollback(max(repair_id)) FROM ruvector_dag_healing.repair",
    );
    let error = undo.expect_err("it is too late");
    assert!(
        error
            .as_db_error()
            .is_some_and(|e| e.message().contains("cannot be undone")),
        "{error:?}"
    );
}

#[test]
fn rows_in_tight_clusters_are_linked_when_asked_for_and_not_before() {
    let stage = stage();
    stage.execute(
        "CREATE TABLE docs (id int, embedding vector(32));
         SELECT setseed(0.4);
         INSERT INTO docs SELECT i, (
             SELECT array_agg(((hashint4((i % 150) * 100 + j) & 65535) / 65536.0
                               + 0.02 * (random() + random() + random() - 1.5))::real)::vector
             FROM generate_series(1, 32) j WHERE i > 0)
         FROM generate_series(1, 8000) i;
         SET max_parallel_maintenance_workers = 0;
         CREATE INDEX docs_embedding ON docs USING hnsw (embedding vector_l2_ops)
             WITH (m = 4, ef_construction = 16)",
    );
    let born = orphans(&stage, "docs_embedding");
    assert!(born > 10, "{born} orphans");
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_for(
        "SELECT coalesce(bool_or(evidence->'refusal'->>'code' = 'on_request'), false)
         FROM ruvector_dag_detected_issues('docs')",
    );
    assert!(stage.last_repair("docs").is_none());
    ask(&mut stage.client(), "docs", "born_unreachable", false);
    let repair = stage.ended_repair("docs");
    assert_eq!(
        repair.status,
        "succeeded",
        "{repair:?}: {:#}",
        history(&stage, "docs")
    );
    assert_eq!(last(&stage, "docs"), "in_place succeeded");
    assert_eq!(orphans(&stage, "docs_embedding"), 0);
    assert_eq!(breaches(&mut stage.client(), "docs_embedding", true), []);
}

#[test]
fn links_after_which_less_is_found_are_taken_out_and_a_rebuild_follows_under_the_same_number() {
    let stage = stage();
    stage.put_up_gates();
    with_orphans(&stage);
    let before = identity(&stage, "docs_embedding");
    let gate = stage.hold("verify");
    ask(&mut stage.client(), "docs", "orphan_nodes", false);
    stage.waiting_worker("advisory");
    // Meanwhile so many rows share a value in the middle of the others that searches end among them.
    stage.execute(
        "INSERT INTO docs SELECT 100000 + i, 'the same', array_fill(0.5, ARRAY[16])::vector
         FROM generate_series(1, 5000) i",
    );
    drop(gate);
    let repair = stage.ended_repair("docs");
    let history = history(&stage, "docs");
    let details = &history["details"];
    let reason = details["in_place"].as_str().unwrap_or_default();
    // Or an insert that ended among them has left them unlinked, as pgvector does where it is full.
    let is_worse = reason.starts_with("recall") || reason.ends_with("orphans remain");
    assert!(is_worse, "{repair:?} {history:#}");
    assert!(
        details["taken_back"]["edits"].as_i64() > Some(100),
        "{history:#}"
    );
    assert_eq!(history["repair_type"], "index_rebuild", "{history:#}");
    assert_eq!(
        stage.value::<i64>("SELECT count(*) FROM ruvector_dag_repair_history()"),
        1
    );
    // The rebuild finds its way no better: what there was is what there is.
    assert_eq!(repair.status, "rolled_back", "{history:#}");
    assert_eq!(identity(&stage, "docs_embedding"), before);
    assert_eq!(breaches(&mut stage.client(), "docs_embedding", true), []);
}

#[test]
fn what_a_release_of_pgvector_deletes_unsafely_is_not_vacuumed_out_of_a_graph() {
    let stage = stage();
    stage.items("docs", 3_000);
    stage.execute("DELETE FROM docs WHERE id % 5 < 2");
    stage.wait_for("SELECT n_dead_tup > 1000 FROM pg_stat_user_tables WHERE relname = 'docs'");
    let (major, minor, patch) = stage.server.pgvector_version().expect("a version");
    let pgvector: Value = stage.value("SELECT ruvector_dag_healing_status()->'pgvector'");
    assert_eq!(pgvector["version"], format!("{major}.{minor}.{patch}"));
    let plan = ask(&mut stage.client(), "docs", "dead_tuples", true);
    let steps: Vec<&str> = plan["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    if (major, minor, patch) >= (0, 8, 4) {
        assert_eq!(
            (&pgvector["vacuum_fault"], &plan["vacuum_fault"]),
            (&Value::Null, &Value::Null)
        );
        return;
    }
    // Nothing is left to delete from what was built without them.
    let expected = [
        "create_copy",
        "build",
        "validate",
        "check",
        "swap",
        "drop",
        "vacuum",
    ];
    assert_eq!(steps, expected);
    for said in [&pgvector["vacuum_fault"], &plan["vacuum_fault"]] {
        let said = said.as_str().unwrap_or_default();
        assert!(said.contains("upgrade pgvector to 0.8.4"), "{said}");
    }
}
