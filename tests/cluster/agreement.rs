//! The health of an index agrees, figure by figure, with what an independent reader finds in its files.

use std::path::Path;

use postgres::Client;
use serde_json::Value;

use crate::harness::{Dice, Embeddings, Options, Server, skip, vacuum};
use crate::oracle::{self, hnsw::Figures};
use crate::values::{copy, literal};

/// A server on which nothing but the test touches the indexes.
pub fn still_server() -> Option<(Server, Client)> {
    let options = Options::new()
        .setting("autovacuum", "off")
        .setting("ruvector.dag_healing_enabled", "off")
        .setting("maintenance_work_mem", "256MB");
    let server = Server::start(options);
    server.pgvector_version()?;
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let client = server.client("app");
    Some((server, client))
}

/// What the product says, in the second reader's terms, and the fragmentation. What it does not say of an index that
/// it cannot hold in memory is taken as found; links to nothing and to the deleted are one figure to it.
fn told(client: &mut Client, index: &str, found: &Figures) -> (Figures, f64) {
    let row = client
        .query_one(
            "SELECT h.*, ruvector_dag_health_check($1::text::regclass) -> 'indexes' -> 0 AS look
             FROM ruvector_dag_hnsw_health($1::text::regclass) h",
            &[&index],
        )
        .unwrap_or_else(|error| panic!("{index}: {error:?}"));
    assert!(!row.get::<_, bool>("sampled"), "{index}: an exact answer");
    let look: Value = row.get("look");
    let number = |key: &str| {
        look[key]
            .as_i64()
            .unwrap_or_else(|| panic!("{key} in {look}"))
    };
    let of_links = |key: &str, found: i64| look["anatomy"][key].as_i64().unwrap_or(found);
    let ground_links = of_links("edges", found.ground_links);
    let repeated = look["anatomy"]["duplicate_edge_ratio"].as_f64();
    let repeated = repeated.map(|ratio| (ratio * ground_links as f64).round() as i64);
    let (live, orphans): (i64, i64) = (row.get("live_elements"), row.get("orphan_count"));
    let dangling: i64 = row.get("dangling_edges");
    let share = |column: &str| f64::from(row.get::<_, f32>(column));
    let figures = Figures {
        pages: row.get("pages"),
        elements: row.get("elements"),
        live,
        deleted: row.get("deleted_elements"),
        heap_tids: row.get("heap_tids"),
        layers: row.get("layer_distribution"),
        reachable: live - orphans,
        orphans,
        zero_in_degree: row.get("zero_in_degree"),
        low_degree: row.get("low_degree"),
        dangling: dangling - found.to_deleted,
        to_deleted: found.to_deleted,
        degree_fill: alike(share("mean_degree_fill"), found.degree_fill),
        m: number("m"),
        ef_construction: number("ef_construction"),
        dimensions: number("dimensions"),
        entry_level: look["entry_level"].as_i64(),
        entry_quality: alike(share("entry_point_quality"), found.entry_quality),
        ghosts: number("ghosts"),
        orphans_with_rows: number("orphans_with_rows"),
        ground_links,
        repeated_on_ground: repeated.unwrap_or(found.repeated_on_ground),
        repeated: found.repeated,
        to_self: of_links("self_edges", found.to_self),
        to_lower: of_links("lower_level_edges", found.to_lower),
    };
    let reached = if live == 0 {
        1.0
    } else {
        figures.reachable as f64 / live as f64
    };
    assert_eq!(alike(share("connectivity_score"), reached), reached);
    (figures, share("fragmentation"))
}

/// What was found, where what was said differs from it by no more than its precision.
fn alike(said: f64, found: f64) -> f64 {
    if (said - found).abs() < 1e-5 {
        found
    } else {
        said
    }
}

/// Compares; returns the figures both agree on, and the fragmentation.
#[track_caller]
pub fn agreed(server: &Server, client: &mut Client, index: &str) -> (Figures, f64) {
    let file = server.index_file("app", index);
    let found = oracle::hnsw::figures(&file);
    // The second time in as little memory as there can be.
    let mut answers = Vec::new();
    for memory in ["256MB", "1MB"] {
        client
            .batch_execute(&format!("SET maintenance_work_mem = '{memory}'"))
            .expect("a setting");
        let (said, fragmentation) = told(client, index, &found);
        assert_eq!(said, found, "{index} with {memory}");
        answers.push((said, fragmentation));
    }
    client
        .batch_execute("RESET maintenance_work_mem")
        .expect("a setting");
    ask_the_script(&file, &found);
    println!("{index}: {found:?}");
    answers.swap_remove(0)
}

#[track_caller]
fn ask_the_script(file: &Path, found: &Figures) {
    let Some(said) = oracle::script("hnsw", file) else {
        return;
    };
    let number = |key: &str| {
        said[key]
            .as_i64()
            .unwrap_or_else(|| panic!("{key} in {said}"))
    };
    let layers = said["layer_distribution"].as_array().expect("layers");
    let entry_is_live = said["entry_live"].as_bool().expect("entry_live");
    let said = Figures {
        pages: number("blocks"),
        elements: number("elements"),
        live: number("live"),
        deleted: number("deleted"),
        heap_tids: number("heaptids"),
        layers: layers.iter().filter_map(Value::as_i64).collect(),
        reachable: number("reachable"),
        orphans: number("orphans"),
        zero_in_degree: number("zero_indegree"),
        dangling: number("dangling"),
        to_deleted: number("edges_to_deleted"),
        m: number("m"),
        ef_construction: number("ef_construction"),
        dimensions: number("dimensions"),
        entry_level: entry_is_live.then(|| number("entry_level")),
        ghosts: number("live") - number("with_heaptids"),
        repeated: number("duplicate_edges"),
        to_self: number("self_loops"),
        to_lower: number("wrong_level_edges"),
        ..found.clone()
    };
    assert_eq!(&said, found, "the script and the second reader");
    println!("the script agrees");
}

/// Deletes rows and has the index told.
fn delete(client: &mut Client, table: &str, condition: &str) {
    client
        .batch_execute(&format!("DELETE FROM {table} WHERE {condition}"))
        .expect("a deletion");
    vacuum(client, table);
}

/// Rebuilds the index, which must take the pages that its fragmentation promises.
#[track_caller]
pub fn assert_predicted(client: &mut Client, index: &str, pages: i64, fragmentation: f64) {
    let predicted = ((1.0 - fragmentation) * pages as f64).round();
    client
        .batch_execute(&format!("REINDEX INDEX {index}"))
        .expect("a rebuild");
    let rebuilt = "SELECT pg_relation_size($1::text::regclass) / 8192";
    let rebuilt = client.query_one(rebuilt, &[&index]).expect("a size");
    let rebuilt = rebuilt.get::<_, i64>(0) as f64;
    assert!(
        // Layers are drawn at random: with few links that is a page or two of a small index.
        (predicted - rebuilt).abs() <= (rebuilt * 0.02).max(2.0),
        "{index}: {predicted} pages predicted, {rebuilt} after a rebuild"
    );
}

#[test]
fn fresh_churned_and_rebuilt() {
    let Some((server, mut client)) = still_server() else {
        return skip("fresh_churned_and_rebuilt", "no pgvector");
    };
    let descriptions = Embeddings::descriptions();
    client
        .batch_execute("CREATE TABLE docs (id int, body text, v vector(384))")
        .unwrap();
    descriptions.copy_into(&mut client, "docs", 0..2_000);
    client
        .batch_execute("CREATE INDEX docs_hnsw ON docs USING hnsw (v vector_cosine_ops)")
        .unwrap();
    let (fresh, fragmentation) = agreed(&server, &mut client, "docs_hnsw");
    assert_eq!((fresh.live, fresh.deleted), (2_000, 0));
    assert!(
        fragmentation <= 0.02,
        "a fresh index is {fragmentation} fragmented"
    );

    // Deleted and not yet vacuumed: nothing has changed for the index.
    client
        .batch_execute("DELETE FROM docs WHERE id % 5 <> 0")
        .unwrap();
    assert_eq!(agreed(&server, &mut client, "docs_hnsw").0, fresh);
    vacuum(&mut client, "docs");
    let (emptied, fragmentation) = agreed(&server, &mut client, "docs_hnsw");
    assert_eq!((emptied.live, emptied.deleted), (400, 1_600));
    assert!(fragmentation > 0.5, "{fragmentation}");

    descriptions.copy_into(&mut client, "docs", 2_000..2_500);
    let (refilled, fragmentation) = agreed(&server, &mut client, "docs_hnsw");
    assert_eq!(refilled.live, 900);
    assert_predicted(&mut client, "docs_hnsw", refilled.pages, fragmentation);
    agreed(&server, &mut client, "docs_hnsw");
}

#[test]
fn tight_clusters_have_orphans_from_birth() {
    const ROWS: usize = 20_000;
    const CLUSTERS: usize = 100;
    let Some((server, mut client)) = still_server() else {
        return skip("tight_clusters_have_orphans_from_birth", "no pgvector");
    };
    client
        .batch_execute("CREATE TABLE tight (v vector(64))")
        .unwrap();
    let mut dice = Dice::new(7);
    let centres: Vec<Vec<f64>> = (0..CLUSTERS)
        .map(|_| (0..64).map(|_| dice.uniform()).collect())
        .collect();
    let rows = (0..ROWS).map(|row| {
        let centre = centres[row % CLUSTERS].iter();
        let point: Vec<f64> = centre.map(|place| place + 0.02 * dice.normal()).collect();
        literal(&point)
    });
    copy(&mut client, "tight (v)", rows);
    client
        .batch_execute("CREATE INDEX tight_hnsw ON tight USING hnsw (v vector_l2_ops) WITH (m = 6, ef_construction = 24)")
        .unwrap();
    let (figures, _) = agreed(&server, &mut client, "tight_hnsw");
    assert!(
        figures.orphans > 0 && figures.zero_in_degree > 0,
        "the case needs orphans: {figures:?}"
    );
}

#[test]
fn duplicates_share_elements() {
    let Some((server, mut client)) = still_server() else {
        return skip("duplicates_share_elements", "no pgvector");
    };
    client
        .batch_execute("CREATE TABLE dups (v vector(8))")
        .unwrap();
    let mut dice = Dice::new(11);
    let values: Vec<_> = (0..50).map(|_| literal(&dice.point(8))).collect();
    copy(
        &mut client,
        "dups (v)",
        (0..3_000).map(|row| values[row % values.len()].clone()),
    );
    let index = "CREATE INDEX dups_hnsw ON dups USING hnsw (v vector_l2_ops) WITH (m = 4, ef_construction = 16)";
    client.batch_execute(index).unwrap();
    let (figures, _) = agreed(&server, &mut client, "dups_hnsw");
    assert_eq!(figures.heap_tids, 3_000);
    assert!(figures.elements < 3_000, "rows share elements: {figures:?}");

    // Rows of one element go one by one, then all of them.
    delete(&mut client, "dups", "ctid::text ~ '[13]\\)$'");
    let (fewer, _) = agreed(&server, &mut client, "dups_hnsw");
    assert!(fewer.heap_tids < 3_000);
}

#[test]
fn empty_one_row_and_emptied() {
    let Some((server, mut client)) = still_server() else {
        return skip("empty_one_row_and_emptied", "no pgvector");
    };
    client
        .batch_execute(
            "CREATE TABLE few (id int, v vector(3)); CREATE INDEX few_hnsw ON few USING hnsw (v vector_l2_ops)",
        )
        .unwrap();
    let (empty, fragmentation) = agreed(&server, &mut client, "few_hnsw");
    assert_eq!((empty.elements, fragmentation), (0, 0.0));
    client
        .batch_execute("INSERT INTO few VALUES (1, '[1,2,3]')")
        .unwrap();
    assert_eq!(agreed(&server, &mut client, "few_hnsw").0.live, 1);
    client
        .batch_execute("INSERT INTO few VALUES (2, '[3,2,1]')")
        .unwrap();
    assert_eq!(agreed(&server, &mut client, "few_hnsw").0.live, 2);
    delete(&mut client, "few", "id = 1");
    assert_eq!(agreed(&server, &mut client, "few_hnsw").0.deleted, 1);
    delete(&mut client, "few", "true");
    assert_eq!(agreed(&server, &mut client, "few_hnsw").0.live, 0);
    client
        .batch_execute("INSERT INTO few VALUES (3, '[1,1,1]')")
        .unwrap();
    let (reused, _) = agreed(&server, &mut client, "few_hnsw");
    assert_eq!((reused.live, reused.orphans), (1, 0));
}
