//! Lists made even in place: entries move while nobody else uses the index.

use serde_json::Value;

use super::ask;
use super::held::{CRASHES, hold_before};
use super::lists::{clusters_in, has_every_row, near_in};
use super::plant::stage;
use crate::check::breaches;
use crate::harness::{Busy, Mode, vacuum};
use crate::healing::stage::Stage;
use crate::lists::agreed;

const LISTS: u32 = 20;
/// So many that a list has several pages.
const DIMENSIONS: u32 = 96;

fn near(cluster: &str) -> String {
    near_in(DIMENSIONS, cluster)
}

/// Most of the rows are about something new, and in one list: more than are moved in one batch.
fn crowded() -> Stage {
    let stage = stage();
    clusters_in(DIMENSIONS, &stage, LISTS);
    stage.execute(&format!(
        "INSERT INTO docs SELECT i, {} FROM generate_series(3001, 6600) i",
        near("(i % 20)")
    ));
    stage.execute(&format!(
        "UPDATE docs SET embedding = {}
             + (SELECT array_agg(100::real)::vector FROM generate_series(1, {DIMENSIONS}))
         WHERE id % 3 > 0",
        near("(docs.id % 15 + 700)")
    ));
    vacuum(&mut stage.client(), "docs");
    assert!(imbalance(&stage) > 4.0, "{}", imbalance(&stage));
    stage
}

fn imbalance(stage: &Stage) -> f32 {
    stage.value("SELECT imbalance_factor FROM ruvector_dag_ivfflat_health('docs_embedding')")
}

fn quality(stage: &Stage) -> f32 {
    stage.value("SELECT centroid_quality FROM ruvector_dag_ivfflat_health('docs_embedding')")
}

fn details(stage: &Stage) -> Value {
    stage.value("SELECT details FROM ruvector_dag_repair_history('docs') LIMIT 1")
}

fn nothing_is_on_its_way(stage: &Stage) {
    let moving: bool =
        stage.value("SELECT coalesce(bool_or(moving), false) FROM ruvector_dag_healing.repair");
    assert!(!moving);
}

/// Every row is in the list whose centre is nearest, as a search of one list for a row finds it there.
#[track_caller]
fn every_row_finds_itself(stage: &Stage) {
    let mut client = stage.client();
    client
        .batch_execute("SET enable_seqscan = off; SET ivfflat.probes = 1")
        .expect("settings");
    let lost: i64 = client
        .query_one(
            "SELECT count(*) FROM docs d WHERE NOT EXISTS (
                 SELECT FROM (SELECT e.embedding FROM docs e ORDER BY e.embedding <-> d.embedding
                              LIMIT 1) found
                 WHERE found.embedding = d.embedding)",
            &[],
        )
        .expect("searches")
        .get(0);
    assert_eq!(lost, 0);
}

#[test]
fn a_crowded_list_is_split_where_that_is_asked_for() {
    let stage = crowded();
    let pages = "SELECT pg_relation_size('docs_embedding')";
    let size: i64 = stage.value(pages);
    let plan = ask(&mut stage.client(), "docs", "unbalanced_clusters", true);
    let locks = &plan["estimate"]["locks"];
    assert_eq!(locks[1], "AccessExclusiveLock on the index", "{plan:#}");
    ask(&mut stage.client(), "docs", "unbalanced_clusters", false);
    let repair = stage.ended_repair("docs");
    let done = details(&stage);
    assert_eq!(repair.status, "succeeded", "{repair:?} {done:#}");
    assert_eq!(done["regroup"]["lost"], 0, "{done:#}");
    assert!(done["regroup"]["in_runs"].as_u64() > Some(2000), "{done:#}");
    nothing_is_on_its_way(&stage);
    // What was moved is in the log.
    stage.server.stop(Mode::Immediate);
    stage.server.start_again();
    assert!(imbalance(&stage) < 2.0, "{}", imbalance(&stage));
    let class = "vector_l2_ops";
    agreed(&stage.server, &mut stage.client(), "docs_embedding", class);
    has_every_row(&stage, LISTS);
    every_row_finds_itself(&stage);
    let grown = stage.value::<i64>(pages) as f64 / size as f64;
    assert!(
        grown < 1.2,
        "pages that are left go to lists that need some: {grown}"
    );
    // What becomes of it by other hands.
    stage.execute("DELETE FROM docs WHERE id % 5 = 1");
    stage.execute("VACUUM docs");
    stage.execute("UPDATE docs SET embedding = embedding WHERE id % 7 = 0");
    stage.execute(&format!(
        "INSERT INTO docs SELECT i, {} FROM generate_series(7001, 7500) i",
        near("(i % 20)")
    ));
    has_every_row(&stage, LISTS);
    every_row_finds_itself(&stage);
    vacuum(&mut stage.client(), "docs");
    has_every_row(&stage, LISTS);
}

#[test]
fn lists_of_every_kind_of_value_are_split() {
    let stage = stage();
    clusters_in(DIMENSIONS, &stage, LISTS);
    // Smaller clusters around the middle of one.
    let fresh = format!(
        "{} + array_fill(0.2, ARRAY[{DIMENSIONS}])::vector * ({} - array_fill(11, ARRAY[{DIMENSIONS}])::vector)",
        near("(d.id * 0 + 3)"),
        near("(d.id % 15 + 700)")
    );
    // So that components are of either sign, which centres drawn at random are not; and so few of them
    // that lists have few pages.
    let off_middle = |v: &str| {
        format!("(({v} - array_fill(5, ARRAY[{DIMENSIONS}])::vector)::real[])[1:24]::vector")
    };
    let (before, after) = (off_middle("embedding"), off_middle(&format!("({fresh})")));
    let has_halves = stage.server.pgvector_version() >= Some((0, 7, 0));
    for (value_type, class, operator) in [
        ("halfvec(24)", "halfvec_l2_ops", "<->"),
        ("vector(24)", "vector_cosine_ops", "<=>"),
        ("vector(24)", "vector_ip_ops", "<#>"),
    ] {
        if value_type.starts_with("halfvec") && !has_halves {
            continue;
        }
        stage.execute(&format!(
            "DROP TABLE IF EXISTS other;
             CREATE TABLE other (id int, v {value_type});
             INSERT INTO other SELECT id, ({before})::{value_type} FROM docs;
             CREATE INDEX other_v ON other USING ivfflat (v {class}) WITH (lists = {LISTS});
             UPDATE other SET v = ({after})::{value_type} FROM docs d WHERE other.id = d.id AND d.id % 3 > 0"
        ));
        vacuum(&mut stage.client(), "other");
        let imbalance = "SELECT imbalance_factor FROM ruvector_dag_ivfflat_health('other_v')";
        let before: f32 = stage.value(imbalance);
        ask(&mut stage.client(), "other", "unbalanced_clusters", false);
        let repair = stage.ended_repair("other");
        let done: Value =
            stage.value("SELECT details FROM ruvector_dag_repair_history('other') LIMIT 1");
        assert_eq!(repair.status, "succeeded", "{class} {done:#}");
        assert!(stage.value::<f32>(imbalance) < before);
        assert_eq!(
            breaches(&mut stage.client(), "other_v", true),
            [],
            "{class}"
        );
        let found: (i64, i64) = {
            let mut client = stage.client();
            let settings = format!("SET enable_seqscan = off; SET ivfflat.probes = {LISTS}");
            client.batch_execute(&settings).expect("settings");
            let query = format!(
                "SELECT count(*), count(DISTINCT id) FROM (
                     SELECT id FROM other ORDER BY v {operator} (SELECT v FROM other LIMIT 1) LIMIT 100000) f"
            );
            let row = client.query_one(&query, &[]).expect("a search");
            (row.get(0), row.get(1))
        };
        assert_eq!(found, (3000, 3000), "{class}");
    }
}

#[test]
fn entries_and_centers_go_back_on_request() {
    let stage = crowded();
    let before = (imbalance(&stage), quality(&stage));
    let id = ask(&mut stage.client(), "docs", "unbalanced_clusters", false)["repair_id"].as_i64();
    assert_eq!(stage.ended_repair("docs").status, "succeeded");
    assert!(imbalance(&stage) < 2.0);
    let undo = format!("SELECT ruvector_dag_rollback({})", id.expect("a number"));
    stage.execute(&undo);
    stage.wait_for("SELECT status = 'rolled_back' FROM ruvector_dag_healing.repair");
    assert_eq!(details(&stage)["taken_back"]["no_longer_as_made"], 0);
    assert_eq!((imbalance(&stage), quality(&stage)), before);
    nothing_is_on_its_way(&stage);
    has_every_row(&stage, LISTS);
    every_row_finds_itself(&stage);
}

#[test]
fn inserts_begin_elsewhere_than_on_a_page_that_goes() {
    let stage = crowded();
    let id = ask(&mut stage.client(), "docs", "unbalanced_clusters", false)["repair_id"].as_i64();
    assert_eq!(stage.ended_repair("docs").status, "succeeded");
    // From now on inserts begin where these few rows of every list find room: where others were moved to.
    let insert = |nth| {
        format!(
            "INSERT INTO docs SELECT id + {nth} * 10000, embedding FROM docs WHERE id % 97 = {nth}"
        )
    };
    stage.execute(&insert(1));
    let undo = format!("SELECT ruvector_dag_rollback({})", id.expect("a number"));
    stage.execute(&undo);
    stage.wait_for("SELECT status = 'rolled_back' FROM ruvector_dag_healing.repair");
    stage.execute(&insert(2));
    has_every_row(&stage, LISTS);
}

#[test]
fn what_was_begun_when_it_was_killed_is_ended() {
    // When entries were moved, and that is about to be written down; and when some are yet to be.
    let moved = (
        "UPDATE ON ruvector_dag_healing.edits",
        "jsonb_typeof(NEW.edits->0) = 'string'",
    );
    let half_done = ("INSERT ON ruvector_dag_healing.edits", "NEW.batch = 3");
    for (interrupt, (event, condition)) in CRASHES.into_iter().zip([moved, half_done]) {
        let stage = crowded();
        std::mem::forget(hold_before(&stage, event, condition));
        ask(&mut stage.client(), "docs", "unbalanced_clusters", false);
        let worker = stage.waiting_worker("advisory");
        interrupt(&stage, worker);
        let repair = stage.ended_repair("docs");
        assert!(repair.error.starts_with("interrupted"), "{repair:?}");
        has_every_row(&stage, LISTS);
        stage.wait_for("SELECT NOT bool_or(moving) FROM ruvector_dag_healing.repair");
        has_every_row(&stage, LISTS);
        every_row_finds_itself(&stage);
    }
}

#[test]
fn nothing_is_begun_while_somebody_uses_the_index_all_the_time() {
    let stage = crowded();
    let before = (imbalance(&stage), quality(&stage));
    let mut reader = stage.client();
    reader
        .batch_execute(
            "BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL ivfflat.probes = 20;
             DECLARE found CURSOR FOR SELECT id FROM docs
                 ORDER BY embedding <-> (SELECT embedding FROM docs LIMIT 1) LIMIT 100;
             FETCH 1 FROM found",
        )
        .expect("a cursor");
    ask(&mut stage.client(), "docs", "unbalanced_clusters", false);
    let repair = stage.ended_repair("docs");
    assert_eq!(repair.status, "failed", "{repair:?}");
    assert!(repair.error.contains("in use"), "{repair:?}");
    let rest = reader.query("FETCH ALL FROM found", &[]).expect("rows");
    assert_eq!(rest.len(), 99);
    reader.batch_execute("COMMIT").expect("an end");
    assert_eq!((imbalance(&stage), quality(&stage)), before);
    nothing_is_on_its_way(&stage);
}

#[test]
fn nothing_is_lost_or_found_twice_while_others_write_search_and_vacuum() {
    let stage = crowded();
    stage.put_up_gates();
    stage.execute("CREATE SEQUENCE next START 100000");
    let gate = stage.hold("regroup");
    ask(&mut stage.client(), "docs", "unbalanced_clusters", false);
    stage.waiting_worker("advisory");
    let search = "SET enable_seqscan = off; SET enable_sort = off; SET ivfflat.probes = 20;
         SELECT 1 / (count(*) = count(DISTINCT id) AND count(*) FILTER (WHERE id % 20 = 1 AND id <= 3000) = 150)::int
         FROM (SELECT id FROM docs ORDER BY embedding <-> (SELECT embedding FROM docs WHERE id = 1)
               LIMIT 100000) found";
    let writers = Busy::all(
        || stage.client(),
        [
            vec![
                format!(
                    "INSERT INTO docs SELECT nextval('next'), {} FROM generate_series(1, 5) i",
                    near("(i % 20)")
                ),
                Busy::nap(0.05),
            ],
            vec![
                "UPDATE docs SET embedding = embedding WHERE id % 400 = (random() * 399)::int"
                    .into(),
                "DELETE FROM docs WHERE id > 100000 AND random() < 0.05".into(),
                Busy::nap(0.1),
            ],
            vec!["VACUUM docs".into(), Busy::nap(0.5)],
            vec![search.into(), Busy::nap(0.02)],
        ],
    );
    drop(gate);
    let repair = stage.ended_repair("docs");
    assert!(writers.iter().all(|writer| writer.rounds() > 0));
    writers.into_iter().for_each(Busy::stop);
    assert_eq!(
        repair.status,
        "succeeded",
        "{repair:?} {:#}",
        details(&stage)
    );
    let done = details(&stage);
    assert!(done["regroup"]["planned"].as_u64() > Some(500), "{done:#}");
    has_every_row(&stage, LISTS);
    vacuum(&mut stage.client(), "docs");
    has_every_row(&stage, LISTS);
}
