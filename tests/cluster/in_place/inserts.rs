//! Inserts that look for room in vain, where a vacuum has them begin.

use postgres::Client;
use serde_json::Value;

use super::{identity, issue, last};
use crate::harness::{skip, vacuum};
use crate::healing::stage::{Stage, options};
use crate::in_place::plant::quiet;

/// The statement that inserts rows with so many components that are not zero, of which 16 matter.
fn rows_of(components: u32, first: u32, last: u32) -> String {
    format!(
        "INSERT INTO docs SELECT row, (
             SELECT '{{' || string_agg(nth || ':' || CASE WHEN nth > 16 THEN 0.001 ELSE random() END, ',')
                 || '}}/1000'
             FROM generate_series(1, {components}) nth WHERE row > 0)::sparsevec
         FROM generate_series({first}, {last}) row"
    )
}

/// Buffers that inserting a row takes, on average.
fn buffers(client: &mut Client, first: u32) -> i64 {
    let insert = rows_of(500, first, first + 19);
    let sql = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {insert}");
    let plan: Value = client.query_one(&sql, &[]).expect("a plan").get(0);
    let of = |key: &str| plan[0]["Plan"][key].as_i64().expect("buffers");
    (of("Shared Hit Blocks") + of("Shared Read Blocks")) / 20
}

#[test]
fn inserts_that_pass_by_every_deleted_element_begin_at_the_end() {
    let stage: Stage = quiet(options());
    if stage.server.pgvector_version() < Some((0, 7, 0)) {
        return skip(
            "inserts_that_pass_by_every_deleted_element_begin_at_the_end",
            "this pgvector does not have the type",
        );
    }
    stage.execute(&format!(
        "CREATE TABLE docs (id int, embedding sparsevec(1000));
         {};
         CREATE INDEX docs_embedding ON docs USING hnsw (embedding sparsevec_l2_ops);
         DELETE FROM docs WHERE id % 100 = 50",
        rows_of(50, 1, 5_000)
    ));
    let mut client = stage.client();
    vacuum(&mut client, "docs");
    stage.execute(&rows_of(500, 5_001, 5_100));
    let (far, before) = (
        buffers(&mut client, 6_001),
        identity(&stage, "docs_embedding"),
    );
    issue(&mut client, "docs", "distant_insert_page");
    let cause = "SELECT root_cause FROM ruvector_dag_detected_issues('docs')";
    stage.wait_for("SELECT count(*) > 0 FROM ruvector_dag_detected_issues('docs')");
    let cause: String = stage.value(cause);
    assert!(cause.contains("50 deleted elements"), "{cause}");
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_until_healed("docs");
    assert_eq!(last(&stage, "docs"), "in_place succeeded");
    assert_eq!(identity(&stage, "docs_embedding"), before);
    let near = buffers(&mut client, 6_101);
    assert!(near + 300 < far, "{near} buffers, {far} before");
}
