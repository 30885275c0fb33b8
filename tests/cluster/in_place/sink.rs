//! A value that many rows share, among real embeddings: what it costs, and what gets searches past it.

use std::collections::HashSet;

use postgres::Client;
use serde_json::Value;

use super::held::hold_second_batch;
use super::plant::stage;
use super::{ask, identity, issue, last, orphans};
use crate::check::{breaches, faults};
use crate::harness::{Busy, Embeddings, literal, vacuum};
use crate::healing::stage::{LONG, Stage};

const ROWS: usize = 5_000;
/// One row in so many has the value.
const EVERY: usize = 10;
const ZERO: &str = "array_fill(0::real, ARRAY[384])::vector";

/// Embeddings, one in ten of them replaced by the zero vector, with an index.
fn with_zeroes(stage: &Stage) {
    stage.execute("CREATE TABLE original (id int, body text, embedding vector(384))");
    let descriptions = Embeddings::descriptions();
    descriptions.copy_into(&mut stage.client(), "original", 0..ROWS);
    stage.execute(&format!(
        "CREATE TABLE docs (LIKE original);
         INSERT INTO docs
             SELECT id, body, CASE WHEN id % {EVERY} = 0 THEN {ZERO} ELSE embedding END
             FROM original;
         SET max_parallel_maintenance_workers = 0;
         CREATE INDEX docs_embedding ON docs USING hnsw (embedding vector_l2_ops)"
    ));
}

/// Has one in so many of the rows with the value stay, wherever it is.
fn thin_out(stage: &Stage, one_in: usize) {
    stage.execute(&format!(
        "DELETE FROM docs WHERE id % {EVERY} = 0 AND id / {EVERY} % {one_in} > 0"
    ));
    vacuum(&mut stage.client(), "docs");
}

/// The ids of the ten nearest rows, through an index or not.
fn nearest(client: &mut Client, query: &str, condition: &str, by_index: bool) -> Vec<i32> {
    let (seqscan, index) = match by_index {
        true => ("off", "on"),
        false => ("on", "off"),
    };
    client
        .batch_execute(&format!(
            "SET enable_seqscan = {seqscan}; SET enable_indexscan = {index}"
        ))
        .expect("settings");
    let search =
        format!("SELECT id FROM docs {condition} ORDER BY embedding <-> '{query}', id LIMIT 10");
    let search = match by_index {
        true => search.replace(", id LIMIT", " LIMIT"),
        false => search,
    };
    let rows = client.query(&search, &[]).expect("neighbours");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Of the ordinary rows among the ten nearest of queries that were held back, the share found.
fn share_found(stage: &Stage, condition: &str) -> f64 {
    let mut client = stage.client();
    let (mut found, mut wanted) = (0, 0);
    for query in Embeddings::queries().rows.iter().take(60) {
        let query = literal(query);
        let exact = nearest(&mut client, &query, "", false);
        let ordinary = exact.into_iter().filter(|id| id % EVERY as i32 != 0);
        let answer: HashSet<i32> = nearest(&mut client, &query, condition, true)
            .into_iter()
            .collect();
        for id in ordinary {
            wanted += 1;
            found += i32::from(answer.contains(&id));
        }
    }
    f64::from(found) / f64::from(wanted)
}

/// Rows with the value that a search for it finds, so wide.
fn rows_of_the_value(stage: &Stage, width: u32) -> i64 {
    let mut client = stage.client();
    client
        .batch_execute(&format!(
            "SET enable_seqscan = off; SET enable_sort = off; SET hnsw.ef_search = {width}"
        ))
        .expect("settings");
    let search = format!(
        "SELECT count(DISTINCT id) FILTER (WHERE far = 0) FROM (
             SELECT id, embedding <-> {ZERO} AS far FROM docs ORDER BY embedding <-> {ZERO} LIMIT 1000
         ) found"
    );
    client.query_one(&search, &[]).expect("a search").get(0)
}

/// What the history says of the last repair.
fn history(stage: &Stage) -> Value {
    stage.value("SELECT to_jsonb(h) FROM ruvector_dag_repair_history('docs') h LIMIT 1")
}

fn open_issues(stage: &Stage) -> i64 {
    stage.value("SELECT count(*) FROM ruvector_dag_detected_issues('docs')")
}

#[test]
fn searches_pass_by_the_value_when_that_is_asked_for_and_not_before() {
    let stage = stage();
    with_zeroes(&stage);
    let (before, born) = (
        identity(&stage, "docs_embedding"),
        orphans(&stage, "docs_embedding"),
    );
    let lost = share_found(&stage, "");
    // Every build is another: 0.01 to 0.5.
    assert!(lost < 0.75, "{lost} of the neighbours are found as it is");
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_for(
        "SELECT coalesce(bool_or(evidence->'refusal'->>'code' = 'on_request'), false)
         FROM ruvector_dag_detected_issues('docs')",
    );
    assert!(stage.last_repair("docs").is_none());
    let mut client = stage.client();
    let plan = ask(&mut client, "docs", "duplicate_sink", true);
    assert!(
        plan["estimate"]["bytes"].as_u64() > Some(1_000_000),
        "{plan:#}"
    );
    let id = ask(&mut client, "docs", "duplicate_sink", false)["repair_id"].as_i64();
    assert_eq!(stage.ended_repair("docs").status, "succeeded");
    let history_now = history(&stage);
    assert_eq!(
        last(&stage, "docs"),
        "in_place succeeded",
        "{history_now:#}"
    );
    assert_eq!(identity(&stage, "docs_embedding"), before);
    let found = share_found(&stage, "");
    assert!(found > 0.9, "{found}, {history_now:#}");
    assert_eq!(orphans(&stage, "docs_embedding"), 0);
    assert_eq!(breaches(&mut client, "docs_embedding", true), []);
    assert_eq!(rows_of_the_value(&stage, 1000), (ROWS / EVERY) as i64);
    stage.wait_for_cycles(2);
    assert_eq!(open_issues(&stage), 0);

    // And back again.
    stage.server.set("ruvector.dag_healing_enabled", "off");
    let id = id.expect("a number");
    stage.execute(&format!("SELECT ruvector_dag_rollback({id})"));
    stage.wait_for("SELECT status = 'rolled_back' FROM ruvector_dag_healing.repair");
    assert_eq!(
        history(&stage)["details"]["taken_back"]["no_longer_as_made"],
        0
    );
    assert_eq!(orphans(&stage, "docs_embedding"), born);
    assert_eq!(share_found(&stage, ""), lost);
}

#[test]
fn rows_that_were_left_in_many_elements_come_together() {
    let stage = stage();
    with_zeroes(&stage);
    thin_out(&stage, 2);
    let mut client = stage.client();
    let all = (ROWS / EVERY / 2) as i64;
    let found = rows_of_the_value(&stage, 40);
    assert!(found < all * 9 / 10, "{found} of {all}");
    ask(&mut client, "docs", "duplicate_sink", false);
    assert_eq!(stage.ended_repair("docs").status, "succeeded");
    let details = history(&stage)["details"].take();
    let merge = &details["merge"];
    assert!(
        merge["made"].as_i64() > Some(20) && merge["lost"] == 0,
        "{merge:#}"
    );
    assert_eq!(rows_of_the_value(&stage, 40), all);
    assert_eq!(breaches(&mut client, "docs_embedding", true), []);
    let id: i64 = stage.value("SELECT repair_id FROM ruvector_dag_healing.repair");
    stage.execute(&format!("SELECT ruvector_dag_rollback({id})"));
    stage.wait_for("SELECT status = 'rolled_back' FROM ruvector_dag_healing.repair");
    let details = history(&stage)["details"].take();
    assert_eq!(details["taken_back"]["no_longer_as_made"], 0, "{details:#}");
    assert_eq!(rows_of_the_value(&stage, 40), found);
    assert_eq!(breaches(&mut client, "docs_embedding", true), []);
}

#[test]
fn rows_stay_where_they_are_while_a_search_is_under_way() {
    let stage = stage();
    with_zeroes(&stage);
    thin_out(&stage, 2);
    stage.put_up_gates();
    let (before, after) = (stage.hold("merge"), stage.hold("detour"));
    ask(&mut stage.client(), "docs", "duplicate_sink", false);
    stage.waiting_worker("advisory");
    let search = format!(
        "SET enable_seqscan = off; SET hnsw.ef_search = 1000;
         SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding <-> {ZERO} LIMIT 1000) found"
    );
    let searches = Busy::start(stage.client(), vec![search]);
    // pgvector's lock of searches.
    let searching = "SELECT pid FROM pg_locks WHERE relation = 'docs_embedding'::regclass
                     AND locktype = 'page' AND page = 1 AND mode = 'ShareLock' AND granted";
    let mut caught = None;
    stage.server.wait_until("a search stands still", LONG, || {
        let searching = || -> Option<i32> {
            let found = stage.client().query_opt(searching, &[]).expect("locks");
            found.map(|row| row.get(0))
        };
        let Some(pid) = searching() else { return false };
        stage.server.stand_still(pid, true);
        caught = searching();
        stage.server.stand_still(pid, caught.is_some());
        caught.is_some()
    });
    drop(before);
    stage.wait_for("SELECT details ? 'merge' FROM ruvector_dag_repair_history('docs')");
    let merge = history(&stage)["details"]["merge"].take();
    stage
        .server
        .stand_still(caught.expect("a search stands still"), false);
    assert_eq!(merge["left"], "searches hold the index", "{merge:#}");
    searches.stop();
    drop(after);
    // It needs none of that.
    assert_eq!(stage.ended_repair("docs").status, "succeeded");
    assert_eq!(breaches(&mut stage.client(), "docs_embedding", true), []);
}

#[test]
fn an_index_without_the_value_is_made_by_the_statement_as_it_is_printed() {
    let stage = stage();
    with_zeroes(&stage);
    let mut client = stage.client();
    issue(&mut client, "docs", "duplicate_sink");
    stage.wait_for("SELECT count(*) = 1 FROM ruvector_dag_detected_issues('docs')");
    let advice: String =
        stage.value("SELECT impact->>'advice' FROM ruvector_dag_detected_issues('docs')");
    client.batch_execute(&advice).expect("the advice is SQL");
    let condition = format!("WHERE embedding <> {ZERO}");
    let found = share_found(&stage, &condition);
    assert!(found > 0.95, "{found} with {advice}");
    // The rest of it stands in comments.
    let said = |what: &str| {
        let line = advice.lines().find(|line| line.contains(what));
        let line = line.unwrap_or_else(|| panic!("no {what} in {advice}"));
        line[line.find(what).expect("it is there")..].to_owned()
    };
    let plan: Value = stage.value(&said("SELECT ruvector_dag_repair").replace("');", "', true)"));
    assert_eq!(plan["repair_type"], "in_place", "{plan:#}");
    client
        .batch_execute(&said("DROP INDEX CONCURRENTLY"))
        .expect("the old index goes");
    stage.wait_for("SELECT count(*) = 0 FROM ruvector_dag_detected_issues('docs')");
    assert!(share_found(&stage, &condition) > 0.95);
}

#[test]
fn a_value_that_is_everybodys_nearest_stays_where_it_is() {
    let stage = stage();
    stage.execute(
        "CREATE TABLE docs (id int, embedding vector(64));
         SELECT setseed(0.4);
         INSERT INTO docs SELECT i, CASE WHEN i % 10 = 0 THEN array_fill(0::real, ARRAY[64])::vector
             ELSE (SELECT array_agg(random() - 0.5)::vector FROM generate_series(1, 64) WHERE i > 0) END
         FROM generate_series(1, 5000) i;
         SET max_parallel_maintenance_workers = 0;
         CREATE INDEX docs_embedding ON docs USING hnsw (embedding vector_l2_ops)",
    );
    let before = orphans(&stage, "docs_embedding");
    let mut client = stage.client();
    ask(&mut client, "docs", "duplicate_sink", false);
    let repair = stage.ended_repair("docs");
    let history = history(&stage);
    assert_eq!(repair.status, "rolled_back", "{repair:?}: {history:#}");
    assert!(repair.error.contains("recall@10"), "{repair:?}");
    assert!(
        history["details"]["detour"]["made"].as_i64() > Some(1_000),
        "{history:#}"
    );
    assert_eq!(orphans(&stage, "docs_embedding"), before);
    assert_eq!(breaches(&mut client, "docs_embedding", true), []);
}

#[test]
fn a_detour_that_was_cut_short_leaves_a_sound_graph_and_goes_on_when_asked_for_again() {
    let stage = stage();
    with_zeroes(&stage);
    let lost = share_found(&stage, "");
    let gate = hold_second_batch(&stage);
    let mut client = stage.client();
    let id = ask(&mut client, "docs", "duplicate_sink", false)["repair_id"].as_i64();
    stage.waiting_worker("advisory");
    let id = id.expect("a number");
    stage.execute(&format!("SELECT ruvector_dag_cancel_repair({id})"));
    let repair = stage.ended_repair("docs");
    assert_eq!(
        (repair.status.as_str(), repair.error.as_str()),
        ("failed", "cancelled on request")
    );
    drop(gate);
    assert_eq!(breaches(&mut client, "docs_embedding", true), []);
    let now = share_found(&stage, "");
    assert!(now >= lost, "{now} instead of {lost}");
    ask(&mut client, "docs", "duplicate_sink", false);
    stage.wait_for(
        "SELECT status = 'succeeded' FROM ruvector_dag_healing.repair ORDER BY repair_id DESC LIMIT 1",
    );
    let found = share_found(&stage, "");
    assert!(found > 0.9, "{found}, {:#}", history(&stage));
    assert_eq!(orphans(&stage, "docs_embedding"), 0);
    assert_eq!(breaches(&mut client, "docs_embedding", true), []);
}

#[test]
fn too_little_memory_is_said_with_what_would_do() {
    let stage = stage();
    with_zeroes(&stage);
    stage.server.set("maintenance_work_mem", "6MB");
    let mut client = stage.client();
    ask(&mut client, "docs", "duplicate_sink", false);
    let repair = stage.ended_repair("docs");
    let (_, needed) = repair.error.split_once("raise it to ").expect("advice");
    let needed = needed.trim_end_matches(" MB").to_owned();
    stage
        .server
        .set("maintenance_work_mem", &format!("{needed}MB"));
    stage.execute("DELETE FROM ruvector_dag_healing.repair");
    ask(&mut client, "docs", "duplicate_sink", false);
    assert_eq!(
        stage.ended_repair("docs").status,
        "succeeded",
        "with {needed} MB"
    );
}

#[test]
fn nothing_is_lost_while_others_write_and_vacuum() {
    let stage = stage();
    with_zeroes(&stage);
    thin_out(&stage, 2);
    stage.put_up_gates();
    stage.execute("CREATE SEQUENCE next START 100001 INCREMENT 10");
    let gate = stage.hold("merge");
    ask(&mut stage.client(), "docs", "duplicate_sink", false);
    stage.waiting_worker("advisory");
    let writers = Busy::all(
        || stage.client(),
        [
            vec![
                "INSERT INTO docs SELECT nextval('next'), 'new', embedding FROM docs
             WHERE id % 400 = (random() * 399)::int LIMIT 1"
                    .into(),
                Busy::nap(0.05),
            ],
            vec![
                "UPDATE docs SET body = body || '.' WHERE id % 400 = (random() * 399)::int".into(),
                "DELETE FROM docs WHERE id > 100000 AND random() < 0.05".into(),
                Busy::nap(0.05),
            ],
            // No row of the value is there twice.
            vec![
                format!(
                    "SET enable_seqscan = off; SET enable_sort = off;
                     SELECT 1 / (count(*) = count(DISTINCT id))::int
                     FROM (SELECT id FROM docs ORDER BY embedding <-> {ZERO} LIMIT 1000) found"
                ),
                Busy::nap(0.01),
            ],
            // Each links anew, as pgvector does, what the repair has changed meanwhile.
            vec!["VACUUM docs".into(), Busy::nap(5.0)],
        ],
    );
    drop(gate);
    // A vacuum in between undoes much of a round, and the next begins anew.
    let is_over = || {
        stage
            .last_repair("docs")
            .is_some_and(|repair| repair.status != "running")
    };
    let limit = std::time::Duration::from_secs(300);
    stage.server.wait_until("the detour ends", limit, is_over);
    let repair = stage.ended_repair("docs");
    // A vacuum may take longer than all of it.
    assert!(writers[..3].iter().all(|writer| writer.rounds() > 0));
    writers.into_iter().for_each(Busy::stop);
    let merged = history(&stage)["details"]["merge"].take();
    assert!(merged["made"].as_i64() > Some(10), "{merged:#}");
    // Where a vacuum links more anew than the repair comes to, it does not help, and is undone; where
    // one takes too long, it gives way.
    let helped = repair.status == "succeeded";
    let undone = repair.status == "rolled_back" && repair.error.contains("not shown to rise");
    let gave_way = repair.status == "failed" && repair.error.ends_with("is in use");
    assert!(
        helped || undone || gave_way,
        "{repair:?}: {:#}",
        history(&stage)
    );
    let mut client = stage.client();
    assert_eq!(faults(&mut client, "docs_embedding", true), []);
    vacuum(&mut client, "docs");
    assert_eq!(faults(&mut client, "docs_embedding", true), []);
    // When it ended: a vacuum after that links anew.
    let found = history(&stage)["after"]["probe"]["recall"].as_f64();
    assert!(!helped || found > Some(0.5), "{:#}", history(&stage));
}
