use serde_json::Value;

use super::held::{CRASHES, hold_before};
use super::plant::{damage, stage};
use super::{ask, identity, last, look};
use crate::check::pages::File;
use crate::check::{breaches, faults};
use crate::harness::{Busy, vacuum};
use crate::healing::stage::{DATABASE, Stage};

/// A point of so many dimensions near the middle of a cluster, which a number stands for.
pub fn near_in(dimensions: u32, cluster: &str) -> String {
    format!(
        "(SELECT array_agg(((hashint4({cluster} * 100 + j) & 65535) / 3000.0
                            + 0.2 * (random() + random() - 1))::real)::vector
          FROM generate_series(1, {dimensions}) j)"
    )
}

fn near(cluster: &str) -> String {
    near_in(16, cluster)
}

/// 3,000 rows in 20 clusters with an index on so many lists, which were trained long ago.
pub fn clusters_in(dimensions: u32, stage: &Stage, lists: u32) {
    stage.execute(&format!(
        "SELECT setseed(0.3);
         CREATE TABLE docs (id int, embedding vector({dimensions}));
         INSERT INTO docs SELECT i, {} FROM generate_series(1, 3000) i;
         CREATE INDEX docs_embedding ON docs USING ivfflat (embedding vector_l2_ops)
             WITH (lists = {lists})",
        near_in(dimensions, "(i % 20)")
    ));
    look(stage, "docs");
    stage.execute(
        "UPDATE ruvector_dag_healing.index_state SET look = jsonb_set(look, '{first_seen}',
             to_jsonb((look->>'first_seen')::bigint - 8 * 86400000000))",
    );
}

fn clusters(stage: &Stage, lists: u32) {
    clusters_in(16, stage, lists);
}

/// Every row moves as far as every other, and stays in its list.
fn move_all(stage: &Stage) {
    stage.execute(
        "UPDATE docs SET embedding = embedding
             + (SELECT array_agg(1.5::real)::vector FROM generate_series(1, 16))",
    );
    vacuum(&mut stage.client(), "docs");
    assert!(quality(stage) < 0.5);
}

fn quality(stage: &Stage) -> f32 {
    stage.value("SELECT centroid_quality FROM ruvector_dag_ivfflat_health('docs_embedding')")
}

/// The index is sound, and a search through all lists finds every row once.
#[track_caller]
pub fn has_every_row(stage: &Stage, lists: u32) {
    let mut client = stage.client();
    assert_eq!(faults(&mut client, "docs_embedding", true), []);
    client
        .batch_execute(&format!(
            "SET enable_seqscan = off; SET enable_sort = off; SET ivfflat.probes = {lists}"
        ))
        .expect("settings");
    let row = client
        .query_one(
            "SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM docs)
             FROM (SELECT id FROM docs ORDER BY embedding <-> (SELECT embedding FROM docs LIMIT 1)
                   LIMIT 100000) found",
            &[],
        )
        .expect("a search");
    let [found, different, all] = [0, 1, 2].map(|nth| row.get::<_, i64>(nth));
    assert_eq!((found, different), (all, all));
}

/// The pages of the index as they are in the file, without what says when they were written.
fn pages(stage: &Stage) -> Vec<Vec<u8>> {
    stage.execute("CHECKPOINT");
    let file = stage.server.index_file(DATABASE, "docs_embedding");
    let bytes = std::fs::read(file).expect("a file");
    let page = |page: &[u8]| page[12..].to_vec();
    bytes.chunks_exact(8192).map(page).collect()
}

fn details(stage: &Stage) -> Value {
    stage.value("SELECT details FROM ruvector_dag_repair_history('docs') LIMIT 1")
}

#[test]
fn the_healer_moves_centers_to_where_their_members_are() {
    let stage = stage();
    clusters(&stage, 20);
    move_all(&stage);
    let before = identity(&stage, "docs_embedding");
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_until_healed("docs");
    // Statistics may still speak of dead rows, which are vacuumed then.
    let done: Value = stage.value(
        "SELECT to_jsonb(h) FROM ruvector_dag_repair_history('docs') h
         WHERE issue_type = 'stale_training'",
    );
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(done["repair_type"], "in_place", "{done:#}");
    assert_eq!(identity(&stage, "docs_embedding"), before);
    assert!(quality(&stage) > 0.99);
    has_every_row(&stage, 20);
    let expected = &done["details"]["forecast"]["expected"];
    assert_eq!(done["details"]["recenter"]["lost"], 0, "{done:#}");
    // What was expected is what came.
    let recall = |of: &Value| of["recall"].as_f64().expect("a recall");
    assert!((recall(&expected["as_is"]) - recall(&done["before"]["probe"])).abs() < 0.005);
    assert!((recall(&expected["recentered"]) - recall(&done["after"]["probe"])).abs() < 0.005);
    // What becomes of it by other hands; not the healer's.
    stage.server.set("ruvector.dag_healing_enabled", "off");
    stage.execute("DELETE FROM docs WHERE id % 3 = 1");
    stage.execute("VACUUM docs");
    stage.execute("UPDATE docs SET embedding = embedding WHERE id % 7 = 0");
    has_every_row(&stage, 20);
}

#[test]
fn the_plan_says_what_is_told_before_anything_is_moved() {
    let stage = stage();
    clusters(&stage, 20);
    move_all(&stage);
    let plan = ask(&mut stage.client(), "docs", "stale_training", true);
    let steps = plan["steps"].as_array().expect("steps");
    let names: Vec<&str> = steps
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    let expected = ["insert_pages", "baseline", "forecast", "recenter", "verify"];
    assert_eq!(names, expected, "{plan:#}");
    for step in steps {
        let said = ["lock", "undo"].iter().all(|key| step[*key].is_string());
        assert!(said && step["duration_ms"].is_number(), "{step:#}");
    }
    assert_eq!(plan["repair_type"], "in_place");
    assert!(quality(&stage) < 0.5, "nothing is done");
}

#[test]
fn the_old_centers_come_back_byte_by_byte() {
    let stage = stage();
    clusters(&stage, 20);
    move_all(&stage);
    let before = pages(&stage);
    let mut client = stage.client();
    let id = ask(&mut client, "docs", "stale_training", false)["repair_id"].as_i64();
    assert_eq!(stage.ended_repair("docs").status, "succeeded");
    assert!(pages(&stage) != before);
    let undo = format!("SELECT ruvector_dag_rollback({})", id.expect("a number"));
    client.batch_execute(&undo).expect("it can be undone");
    stage.wait_for("SELECT status = 'rolled_back' FROM ruvector_dag_healing.repair");
    assert_eq!(details(&stage)["taken_back"]["no_longer_as_made"], 0);
    assert!(pages(&stage) == before);
    has_every_row(&stage, 20);
}

#[test]
fn where_moved_centers_find_less_none_is_moved_and_the_index_is_rebuilt() {
    let stage = stage();
    clusters(&stage, 20);
    // Most rows are in other clusters, of which a list has several.
    stage.execute(&format!(
        "UPDATE docs SET embedding = {} WHERE id % 20 > 2",
        near("(docs.id % 37 + 500)")
    ));
    vacuum(&mut stage.client(), "docs");
    let before = identity(&stage, "docs_embedding");
    ask(&mut stage.client(), "docs", "stale_training", false);
    let repair = stage.ended_repair("docs");
    let done = details(&stage);
    assert_eq!(repair.status, "succeeded", "{repair:?} {done:#}");
    assert_eq!(last(&stage, "docs"), "index_rebuild succeeded", "{done:#}");
    assert_eq!(done["recenter"]["made"], 0, "{done:#}");
    let why = done["in_place"].as_str().unwrap_or_default();
    let fall = "with moved centres recall@10 would fall";
    assert!(why.starts_with(fall), "{done:#}");
    assert_ne!(identity(&stage, "docs_embedding"), before);
    assert!(quality(&stage) > 0.95);
    has_every_row(&stage, 20);
}

#[test]
fn lists_that_would_find_less_when_they_are_even_are_left_alone() {
    let stage = stage();
    clusters(&stage, 20);
    // Most rows are spread around the middle of one cluster: one list has them.
    stage.execute(
        "UPDATE docs SET embedding = (
             SELECT array_agg(((hashint4(300 + j) & 65535) / 3000.0 + 2 * (random() - 0.5))::real)::vector
             FROM generate_series(1, 16) j WHERE docs.id > 0)
         WHERE id % 20 > 1",
    );
    vacuum(&mut stage.client(), "docs");
    let before = identity(&stage, "docs_embedding");
    ask(&mut stage.client(), "docs", "unbalanced_clusters", false);
    let repair = stage.ended_repair("docs");
    assert_eq!(repair.status, "rolled_back", "{repair:?}");
    let said = [
        "a rebuild would take recall@10 from",
        "it would find as much and compare",
    ];
    assert!(
        said.iter().all(|part| repair.error.contains(part)),
        "{repair:?}"
    );
    assert_eq!(identity(&stage, "docs_embedding"), before);
}

#[test]
fn inserts_that_went_to_no_page_of_their_list_are_led_back() {
    let stage = stage();
    clusters(&stage, 20);
    move_all(&stage);
    damage(
        &stage,
        &[("docs_embedding", &|file: &mut File| {
            let page = file.page(1);
            let pointer = u32::from_le_bytes(page[24..28].try_into().expect("four bytes"));
            let insert = (pointer & 0x7FFF) as usize + 4;
            page[insert..insert + 4].copy_from_slice(&60_000_u32.to_le_bytes());
        })],
    );
    let found = breaches(&mut stage.client(), "docs_embedding", false);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].check, "insert_page");
    ask(&mut stage.client(), "docs", "stale_training", false);
    assert_eq!(stage.ended_repair("docs").status, "succeeded");
    assert_eq!(details(&stage)["insert_pages"]["made"], 1);
    stage.execute(&format!(
        "INSERT INTO docs SELECT i, {} FROM generate_series(5001, 5500) i",
        near("(i % 20)")
    ));
    has_every_row(&stage, 20);
}

#[test]
fn a_kill_while_centers_are_moved_loses_no_row() {
    for interrupt in CRASHES {
        let stage = stage();
        clusters(&stage, 20);
        move_all(&stage);
        let before = identity(&stage, "docs_embedding");
        // When pages are changed, and that is about to be written down.
        let changed = "UPDATE ON ruvector_dag_healing.edits";
        std::mem::forget(hold_before(&stage, changed, "true"));
        ask(&mut stage.client(), "docs", "stale_training", false);
        let worker = stage.waiting_worker("advisory");
        interrupt(&stage, worker);
        let repair = stage.ended_repair("docs");
        assert!(repair.error.starts_with("interrupted"), "{repair:?}");
        has_every_row(&stage, 20);
        assert_eq!(identity(&stage, "docs_embedding"), before);
        // What was not moved then is now.
        stage.let_an_hour_pass();
        stage.server.reset("ruvector.dag_healing_enabled");
        stage.wait_for(
            "SELECT NOT EXISTS (SELECT FROM ruvector_dag_healing.issue WHERE status <> 'resolved')",
        );
        assert!(quality(&stage) > 0.85);
        stage.server.set("ruvector.dag_healing_enabled", "off");
        has_every_row(&stage, 20);
    }
}

#[test]
fn nothing_is_lost_while_others_write_search_and_vacuum() {
    let stage = stage();
    clusters(&stage, 20);
    move_all(&stage);
    stage.put_up_gates();
    stage.execute("CREATE SEQUENCE next START 100000");
    let gate = stage.hold("recenter");
    ask(&mut stage.client(), "docs", "stale_training", false);
    stage.waiting_worker("advisory");
    let writers = Busy::all(|| stage.client(), [
        vec![
            format!(
                "INSERT INTO docs SELECT nextval('next'), {} FROM generate_series(1, 5) i",
                near("(i % 20)")
            ),
            Busy::nap(0.02),
        ],
        vec![
            "UPDATE docs SET embedding = embedding WHERE id % 400 = (random() * 399)::int".into(),
            "DELETE FROM docs WHERE id > 100000 AND random() < 0.05".into(),
            Busy::nap(0.05),
        ],
        vec!["VACUUM docs".into(), Busy::nap(0.3)],
        vec![
            "SET enable_seqscan = off; SET ivfflat.probes = 20;
             SELECT 1 / (count(*) = count(DISTINCT id))::int FROM (
                 SELECT id FROM docs ORDER BY embedding <-> (SELECT embedding FROM docs WHERE id = 1)
                 LIMIT 3000) found"
                .into(),
        ],
    ]);
    drop(gate);
    let repair = stage.ended_repair("docs");
    assert!(writers.iter().all(|writer| writer.rounds() > 0));
    writers.into_iter().for_each(Busy::stop);
    assert_eq!(repair.status, "succeeded", "{repair:?}");
    assert_eq!(last(&stage, "docs"), "in_place succeeded");
    has_every_row(&stage, 20);
    vacuum(&mut stage.client(), "docs");
    has_every_row(&stage, 20);
}
