//! What an index is born with is named, and is not taken for decay.

use postgres::{Client, SimpleQueryMessage};
use serde_json::Value;

use crate::harness::{Options, Server};

fn server() -> Server {
    let server = Server::start(
        Options::new()
            .undemanding()
            .setting("ruvector.dag_healing_enabled", "off")
            .setting("autovacuum", "off")
            .setting("max_parallel_maintenance_workers", 0),
    );
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    server
}

/// A vector of 32 components, each by the expression, in which `i` is the row and `j` the
/// component.
fn vector(component: &str) -> String {
    format!(
        "(SELECT array_agg(({component})::real)::vector FROM generate_series(1, 32) j WHERE i > 0)"
    )
}

fn fill(client: &mut Client, table: &str, rows: u32, value: &str) {
    let sql = format!(
        "SELECT setseed(0.4);
         INSERT INTO {table} (e) SELECT {value} FROM generate_series(1, {rows}) i"
    );
    client.batch_execute(&sql).expect("rows");
}

fn make(client: &mut Client, table: &str, rows: u32, value: &str, index: &str) {
    let create = format!("CREATE TABLE {table} (e vector(32))");
    client.batch_execute(&create).expect("a table");
    fill(client, table, rows, value);
    let index = format!("CREATE INDEX {table}_i ON {table} USING {index}");
    client.batch_execute(&index).expect("an index");
}

/// The figures of a table's index, and the codes of its issues.
fn health(client: &mut Client, table: &str) -> (Value, Vec<String>) {
    let sql = format!("SELECT ruvector_dag_health_check('{table}')");
    let mut health: Value = client.query_one(&sql, &[]).expect("health").get(0);
    let index = health["indexes"][0].take();
    let issues = index["issues"].as_array().expect("issues").iter();
    let code = |id: &Value| {
        let id = id.as_str().expect("an id");
        id.rsplit_once('-').expect("an identity").0.to_owned()
    };
    let codes = issues.map(code).collect();
    (index, codes)
}

/// What is known of the issue: its cause and its impact.
fn issue(client: &mut Client, code: &str) -> (String, Value) {
    let sql = "SELECT root_cause, impact FROM ruvector_dag_detected_issues() WHERE issue_type = $1";
    let row = client.query_one(sql, &[&code]).expect("the issue");
    (row.get(0), row.get(1))
}

#[test]
fn a_value_that_many_rows_share_is_a_sink_with_its_cure() {
    let server = server();
    let mut client = server.client("app");
    let zero = "array_fill(0::real, ARRAY[32])::vector";
    let value = format!(
        "CASE WHEN i % 20 = 0 THEN {zero} ELSE {} END",
        vector("random() - 0.5 + 0 * j")
    );
    make(&mut client, "t", 8_000, &value, "hnsw (e vector_l2_ops)");
    let (index, issues) = health(&mut client, "t");
    assert_eq!(issues, ["duplicate_sink"], "{index:#}");
    let sink = &index["duplicate_sink"];
    assert_eq!(
        (&sink["rows"], &sink["is_zero"]),
        (&400.into(), &true.into())
    );
    let (block, offset) = (&sink["example_row"][0], &sink["example_row"][1]);
    let example: bool = client
        .query_one(
            &format!("SELECT e = {zero} FROM t WHERE ctid = '({block},{offset})'"),
            &[],
        )
        .expect("the example")
        .get(0);
    assert!(example);

    let (cause, impact) = issue(&mut client, "duplicate_sink");
    assert!(cause.contains("400 rows share the zero vector"), "{cause}");
    let advice = impact["advice"].as_str().expect("advice");
    client.batch_execute(advice).expect("the advice is SQL");
    client.batch_execute("DROP INDEX t_i").expect("dropped");
    let (cured, issues) = health(&mut client, "t");
    assert_eq!(issues, [] as [String; 0], "{cured:#}");
    assert_eq!(cured["heap_tids"], 7_600);
}

#[test]
fn the_statement_for_any_other_value_is_given_by_a_statement() {
    let server = server();
    let mut client = server.client("app");
    let middle = "array_fill(0.5::real, ARRAY[32])::vector";
    let value = format!(
        "CASE WHEN i % 20 = 0 THEN {middle} ELSE {} END",
        vector("random() + 0 * j")
    );
    make(&mut client, "t", 8_000, &value, "hnsw (e vector_l2_ops)");
    assert_eq!(health(&mut client, "t").1, ["duplicate_sink"]);
    let (cause, impact) = issue(&mut client, "duplicate_sink");
    assert!(
        cause.contains("400 rows share the value of the row at ctid"),
        "{cause}"
    );
    let advice = impact["advice"].as_str().expect("advice");
    let rows = client.simple_query(advice).expect("the advice is SQL");
    let statement = rows.iter().find_map(|row| match row {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    client
        .batch_execute(statement.expect("a statement"))
        .expect("what it gives is SQL");
    client.batch_execute("DROP INDEX t_i").expect("dropped");
    let (cured, issues) = health(&mut client, "t");
    assert_eq!(issues, [] as [String; 0], "{cured:#}");
    assert_eq!(cured["heap_tids"], 7_600);
}

#[test]
fn short_vectors_by_inner_product_are_unreachable_by_nature() {
    let server = server();
    let mut client = server.client("app");
    let value = vector("(random() - 0.5 + 0 * j) * exp(4.1 * (i % 997) / 997.0)");
    make(&mut client, "t", 8_000, &value, "hnsw (e vector_ip_ops)");
    let (index, issues) = health(&mut client, "t");
    assert_eq!(issues, ["born_unreachable"], "{index:#}");
    let (cause, _) = issue(&mut client, "born_unreachable");
    assert!(cause.contains("inner product"), "{cause}");
    // Nobody misses them, and whoever asks is told so: linked they would take the links of others.
    let asked = client.query_one(
        "SELECT ruvector_dag_repair('t', issue_id) FROM ruvector_dag_detected_issues('t')",
        &[],
    );
    let error = asked.expect_err("nothing is done about it");
    let error = error.as_db_error().expect("an answer of the server");
    assert_eq!(error.code().code(), "0A000", "{error:?}");
    assert!(
        error.hint().is_some_and(|hint| hint.contains("impact")),
        "{error:?}"
    );
    assert_eq!(
        health(&mut client, "t").0["orphan_count"],
        index["orphan_count"]
    );
}

#[test]
fn tight_clusters_leave_elements_out() {
    let server = server();
    let mut client = server.client("app");
    // The centre of row i's cluster, by a hash of cluster and component.
    let value = vector(
        "(hashint4((i % 150) * 100 + j) & 65535) / 65536.0 \
         + 0.02 * (random() + random() + random() - 1.5)",
    );
    make(
        &mut client,
        "t",
        8_000,
        &value,
        "hnsw (e vector_l2_ops) WITH (m = 4, ef_construction = 16)",
    );
    let (index, issues) = health(&mut client, "t");
    assert_eq!(issues, ["born_unreachable"], "{index:#}");
    let (cause, _) = issue(&mut client, "born_unreachable");
    assert!(cause.contains("tight clusters"), "{cause}");
}

#[test]
fn lists_made_for_no_rows_are_named() {
    let server = server();
    let mut client = server.client("app");
    let value = vector("random() - 0.5 + 0 * j");
    make(
        &mut client,
        "t",
        10,
        &value,
        "ivfflat (e vector_l2_ops) WITH (lists = 64)",
    );
    fill(&mut client, "t", 8_000, &value);
    let (index, issues) = health(&mut client, "t");
    assert_eq!(issues, ["built_empty"], "{index:#}");
    assert_eq!(index["untrained_lists"], 54);
    let (_, impact) = issue(&mut client, "built_empty");
    let advice = impact["advice"].as_str().expect("advice");
    client.batch_execute(advice).expect("the advice is SQL");
    let (index, issues) = health(&mut client, "t");
    assert_eq!(issues, [] as [String; 0], "{index:#}");
    assert_eq!(index["untrained_lists"], 0);
}

#[test]
fn sound_indexes_of_even_values_are_born_with_nothing() {
    let server = server();
    let mut client = server.client("app");
    let value = vector("random() + 0 * j");
    make(&mut client, "t", 4_000, &value, "hnsw (e vector_l2_ops)");
    let lists = "CREATE INDEX t_l ON t USING ivfflat (e vector_l2_ops) WITH (lists = 50)";
    client.batch_execute(lists).expect("an index");
    let (index, issues) = health(&mut client, "t_i");
    assert_eq!(issues, [] as [String; 0], "{index:#}");
    let anatomy = &index["anatomy"];
    let giant = anatomy["giant_component_share"].as_f64();
    assert!(giant.is_some_and(|share| share > 0.99), "{anatomy:#}");
    let law = anatomy["layer_law_p"].as_f64();
    assert!(law.is_some_and(|p| p > 1e-6), "{anatomy:#}");
    let figure = |key: &str| anatomy[key].as_f64().expect("a figure");
    let mean = figure("edges") / 4_000.0;
    assert!(
        (figure("in_degree_mean") - mean).abs() < 1e-4,
        "{anatomy:#}"
    );
    let (index, issues) = health(&mut client, "t_l");
    assert_eq!(issues, [] as [String; 0], "{index:#}");
}

#[test]
fn a_graph_too_large_for_memory_is_judged_by_searching_for_its_rows() {
    let server = server();
    let mut client = server.client("app");
    let value = vector("random() + 0 * j");
    make(&mut client, "t", 8_000, &value, "hnsw (e vector_l2_ops)");
    let (exact, _) = health(&mut client, "t");
    assert_eq!(
        (&exact["sampled"], &exact["self_query"]["queries"]),
        (&false.into(), &200.into())
    );
    let set = "SET maintenance_work_mem = '64kB'";
    client.batch_execute(set).expect("a setting");
    let (index, issues) = health(&mut client, "t");
    assert_eq!(issues, [] as [String; 0], "{index:#}");
    let searched = &index["self_query"];
    assert_eq!(
        (&index["sampled"], &searched["queries"]),
        (&true.into(), &1_000.into())
    );
    let share = |figure: &Value| figure.as_f64().expect("a share");
    let found = share(&searched["found"]) / 1_000.0;
    assert!(
        (share(&index["connectivity_score"]) - found).abs() < 1e-6,
        "{index:#}"
    );
    let (low, high) = (
        share(&searched["found_low"]),
        share(&searched["found_high"]),
    );
    assert!(
        low < found && found <= high && high - low < 0.05,
        "{searched:#}"
    );
    assert!(found > 0.9, "{searched:#}");
}
