//! The health of an index agrees, figure by figure, with what an independent reader finds in its files.
//! `PGVECTOR_ORACLE` may name a script that is asked as well (`python3 SCRIPT hnsw FILE`).

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use postgres::Client;
use serde_json::Value;

use crate::harness::{Embeddings, Options, Server, skip};
use crate::oracle::{self, Figures};

/// Numbers that are the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Close enough to normal: the sum of twelve uniforms (Irwin and Hall).
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// A server on which nothing but the test touches the indexes.
fn still_server() -> Option<(Server, Client)> {
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

fn copy(client: &mut Client, table: &str, rows: impl Iterator<Item = String>) {
    let mut writer = client
        .copy_in(&format!("COPY {table} (v) FROM STDIN"))
        .expect("COPY starts");
    for row in rows {
        writeln!(writer, "{row}").expect("COPY takes a row");
    }
    writer.finish().expect("COPY ends");
}

fn text(vector: impl Iterator<Item = f64>) -> String {
    let mut text = String::from("[");
    for (place, number) in vector.enumerate() {
        let _ = write!(text, "{}{number:.5}", if place == 0 { "" } else { "," });
    }
    text + "]"
}

/// What the product says, in the second reader's terms; links to nothing and to the deleted are one figure.
fn told(client: &mut Client, index: &str) -> (Figures, f64) {
    let row = client
        .query_one(
            "SELECT * FROM ruvector_dag_hnsw_health($1::text::regclass)",
            &[&index],
        )
        .expect("health");
    assert!(!row.get::<_, bool>("sampled"), "{index}: an exact answer");
    let live: i64 = row.get("live_elements");
    let figures = Figures {
        pages: row.get("pages"),
        elements: row.get("elements"),
        live,
        deleted: row.get("deleted_elements"),
        heap_tids: row.get("heap_tids"),
        layers: row.get("layer_distribution"),
        reachable: live - row.get::<_, i64>("orphan_count"),
        orphans: row.get("orphan_count"),
        zero_in_degree: row.get("zero_in_degree"),
        low_degree: row.get("low_degree"),
        dangling: row.get("dangling_edges"),
        to_deleted: 0,
        degree_fill: f64::from(row.get::<_, f32>("mean_degree_fill")),
    };
    let score = f64::from(row.get::<_, f32>("connectivity_score"));
    let reached = if live == 0 {
        1.0
    } else {
        figures.reachable as f64 / live as f64
    };
    assert!(
        (score - reached).abs() < 1e-6,
        "{index}: {score}, not {reached}"
    );
    (figures, f64::from(row.get::<_, f32>("fragmentation")))
}

/// Compares; returns the figures both agree on, and the fragmentation.
#[track_caller]
fn agreed(server: &Server, client: &mut Client, index: &str) -> (Figures, f64) {
    let file = server.index_file("app", index);
    let found = oracle::hnsw(&file);
    // The second time in as little memory as there can be.
    let mut answers = Vec::new();
    for memory in ["256MB", "1MB"] {
        client
            .batch_execute(&format!("SET maintenance_work_mem = '{memory}'"))
            .expect("a setting");
        let (mut said, fragmentation) = told(client, index);
        assert!(
            (said.degree_fill - found.degree_fill).abs() < 1e-5,
            "{said:?}\n{found:?}"
        );
        said.degree_fill = found.degree_fill;
        (said.dangling, said.to_deleted) = (said.dangling - found.to_deleted, found.to_deleted);
        assert_eq!(said, found, "{index} with {memory}");
        answers.push((said, fragmentation));
    }
    ask_the_script(&file, &found);
    println!("{index}: {found:?}");
    answers.swap_remove(0)
}

#[track_caller]
fn ask_the_script(file: &Path, found: &Figures) {
    let Some(script) = std::env::var_os("PGVECTOR_ORACLE") else {
        return;
    };
    let output = Command::new("python3")
        .arg(script)
        .arg("hnsw")
        .arg(file)
        .output()
        .expect("python3 runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let number = |key: &str| {
        said[key]
            .as_i64()
            .unwrap_or_else(|| panic!("{key} in {said}"))
    };
    let layers = said["layer_distribution"].as_array().expect("layers");
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
        low_degree: found.low_degree,
        degree_fill: found.degree_fill,
    };
    assert_eq!(&said, found, "the script and the second reader");
    println!("the script agrees");
}

/// Deletes rows and has the index told.
fn delete(client: &mut Client, table: &str, condition: &str) {
    for statement in [
        format!("DELETE FROM {table} WHERE {condition}"),
        format!("VACUUM {table}"),
    ] {
        client
            .batch_execute(&statement)
            .expect("a deletion and a vacuum");
    }
}

/// Pages after a real rebuild.
fn rebuilt(client: &mut Client, index: &str) -> f64 {
    client
        .batch_execute(&format!("REINDEX INDEX {index}"))
        .expect("a rebuild");
    let pages = "SELECT pg_relation_size($1::text::regclass) / 8192";
    client
        .query_one(pages, &[&index])
        .expect("a size")
        .get::<_, i64>(0) as f64
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
    client.batch_execute("VACUUM docs").unwrap();
    let (emptied, fragmentation) = agreed(&server, &mut client, "docs_hnsw");
    assert_eq!((emptied.live, emptied.deleted), (400, 1_600));
    assert!(fragmentation > 0.5, "{fragmentation}");

    descriptions.copy_into(&mut client, "docs", 2_000..2_500);
    let (refilled, fragmentation) = agreed(&server, &mut client, "docs_hnsw");
    assert_eq!(refilled.live, 900);
    let predicted = (1.0 - fragmentation) * refilled.pages as f64;
    let pages = rebuilt(&mut client, "docs_hnsw");
    assert!(
        (predicted - pages).abs() <= (pages * 0.02).max(1.0),
        "{predicted} pages predicted, {pages} after a rebuild"
    );
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
    let mut dice = Dice(7);
    let centres: Vec<Vec<f64>> = (0..CLUSTERS)
        .map(|_| (0..64).map(|_| dice.uniform()).collect())
        .collect();
    let rows = (0..ROWS).map(|row| {
        let centre = centres[row % CLUSTERS].iter();
        text(centre.map(|place| place + 0.02 * dice.normal()))
    });
    copy(&mut client, "tight", rows);
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
    let mut dice = Dice(11);
    let values: Vec<_> = (0..50)
        .map(|_| text((0..8).map(|_| dice.uniform())))
        .collect();
    copy(
        &mut client,
        "dups",
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

#[test]
fn other_types_of_vectors() {
    let Some((server, mut client)) = still_server() else {
        return skip("other_types_of_vectors", "no pgvector");
    };
    if server.pgvector_version() < Some((0, 7, 0)) {
        return skip("other_types_of_vectors", "pgvector before 0.7 has one type");
    }
    let mut dice = Dice(13);
    let dense: Vec<_> = (0..800)
        .map(|_| text((0..32).map(|_| dice.uniform())))
        .collect();
    let bits = (0..800).map(|_| {
        (0..64)
            .map(|_| if dice.uniform() < 0.5 { '1' } else { '0' })
            .collect()
    });
    let bits: Vec<String> = bits.collect();
    let sparse = (0..800).map(|row| format!("{{{}:1,100:{}}}/100", row % 99 + 1, row + 1));
    let sparse: Vec<String> = sparse.collect();
    for (table, kind, class, rows) in [
        ("half", "halfvec(32)", "halfvec_l2_ops", &dense),
        ("bits", "bit(64)", "bit_hamming_ops", &bits),
        ("sparse", "sparsevec(100)", "sparsevec_l2_ops", &sparse),
    ] {
        client
            .batch_execute(&format!("CREATE TABLE {table} (v {kind})"))
            .unwrap();
        copy(&mut client, table, rows.iter().cloned());
        let index = format!("{table}_hnsw");
        client
            .batch_execute(&format!(
                "CREATE INDEX {index} ON {table} USING hnsw (v {class})"
            ))
            .unwrap();
        let (fresh, fragmentation) = agreed(&server, &mut client, &index);
        assert!(
            fresh.live > 0 && fragmentation <= 0.02,
            "{table}: {fragmentation}, {fresh:?}"
        );
        delete(&mut client, table, "ctid::text ~ '[2468]\\)$'");
        agreed(&server, &mut client, &index);
    }
}
