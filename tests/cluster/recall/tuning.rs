use crate::harness::{Embeddings, skip};

use super::{measured, still_server};

/// Recall@10 of an index scan for queries that are no rows, by SQL.
fn recall_of_others(client: &mut postgres::Client, queries: &Embeddings, ef_search: i32) -> f64 {
    let mut found = 0;
    for row in 0..queries.rows.len() {
        let mut ask = |settings: &str| -> Vec<i32> {
            let order = format!("v <=> '{}'", queries.literal(row));
            client.batch_execute(settings).expect("settings");
            let answer = client.query(
                &format!("SELECT id FROM docs ORDER BY {order} LIMIT 10"),
                &[],
            );
            answer.expect("rows").iter().map(|row| row.get(0)).collect()
        };
        let truth = ask("SET enable_indexscan = off; SET enable_seqscan = on");
        let index = ask(&format!(
            "SET enable_indexscan = on; SET enable_seqscan = off; SET hnsw.ef_search = {ef_search}"
        ));
        found += index.iter().filter(|id| truth.contains(id)).count();
    }
    client.batch_execute("RESET ALL").expect("settings");
    found as f64 / (10 * queries.rows.len()) as f64
}

#[test]
fn the_setting_recommended_is_enough_for_queries_that_are_no_rows() {
    let Some((_server, mut client)) = still_server() else {
        return skip(
            "the_setting_recommended_is_enough_for_queries_that_are_no_rows",
            "no pgvector",
        );
    };
    client
        .batch_execute("CREATE TABLE docs (id int, body text, v vector(384))")
        .expect("a table");
    Embeddings::descriptions().copy_into(&mut client, "docs", 0..5_000);
    client
        .batch_execute(
            "CREATE INDEX docs_idx ON docs USING hnsw (v vector_cosine_ops) WITH (m = 6, ef_construction = 24);
             ANALYZE docs",
        )
        .expect("an index");
    let queries = Embeddings::queries();
    let row = client
        .query_one("SELECT parameter, current, recommended, ci_low FROM ruvector_dag_tune('docs_idx', 0.9)", &[])
        .expect("a recommendation");
    assert_eq!(
        (row.get::<_, &str>(0), row.get::<_, i32>(1)),
        ("hnsw.ef_search", 40)
    );
    let recommended: i32 = row
        .get::<_, Option<i32>>(2)
        .expect("the target can be reached");
    assert!(row.get::<_, f64>(3) >= 0.9);
    let reached = recall_of_others(&mut client, &queries, recommended);
    let with_less = recall_of_others(&mut client, &queries, (recommended / 3).max(1));
    println!("ef_search {recommended}: {reached}, a third of it: {with_less}");
    // A hundred queries tell recall to three points or so.
    assert!(
        reached > 0.87 && with_less < 0.9,
        "{recommended}: {reached}, {with_less}"
    );
}

#[test]
fn the_curve_over_probes_is_what_searches_find() {
    let Some((server, mut client)) = still_server() else {
        return skip("the_curve_over_probes_is_what_searches_find", "no pgvector");
    };
    if server.pgvector_version() < Some((0, 7, 0)) {
        return skip(
            "the_curve_over_probes_is_what_searches_find",
            "no bit vectors before 0.7",
        );
    }
    // Fewer rows than queries: every row is one, whoever draws them. Bits are not mirrored.
    client
        .batch_execute(
            "CREATE TABLE docs (v bit(48));
             INSERT INTO docs SELECT (SELECT string_agg((random() < 0.5)::int::text, '')
                                      FROM generate_series(1, 48) WHERE i > 0)::bit(48) FROM generate_series(1, 350) i;
             CREATE INDEX docs_idx ON docs USING ivfflat (v bit_hamming_ops) WITH (lists = 8)",
        )
        .expect("an index");
    let points = client
        .query(
            "SELECT (p->>'setting')::int, (p->>'recall')::float8, (p->>'cost')::float8
             FROM ruvector_dag_tune('docs_idx', 0.99), jsonb_array_elements(curve->'points') p ORDER BY 1",
            &[],
        )
        .expect("a curve");
    assert_eq!(points.len(), 8);
    for point in &points {
        let (probes, recall, cost): (i32, f64, f64) = (point.get(0), point.get(1), point.get(2));
        client
            .batch_execute(&format!("SET ivfflat.probes = {probes}"))
            .expect("a setting");
        let (searched, ..) = measured(&mut client, "docs_idx", 10, 10_000);
        // Lists whose centres are equally far may be searched in any order.
        assert!(
            (recall - searched).abs() < 0.03,
            "{probes} probes: {recall}, searched {searched}"
        );
        assert!(cost <= 350.0 && (probes < 8 || cost == 350.0), "{cost}");
    }
    let last = points.last().expect("points");
    assert_eq!(last.get::<_, f64>(1), 1.0);
}

#[test]
fn where_no_setting_is_enough_that_is_said() {
    let Some((_server, mut client)) = still_server() else {
        return skip("where_no_setting_is_enough_that_is_said", "no pgvector");
    };
    client
        .batch_execute(
            "CREATE TABLE docs (v vector(3)); CREATE INDEX docs_idx ON docs USING hnsw (v vector_l2_ops);
             INSERT INTO docs SELECT ARRAY[i, i % 7, i % 11]::real[]::vector FROM generate_series(1, 300) i",
        )
        .expect("an index");
    // Some hundred queries cannot show a recall of 1.
    let row = client
        .query_one(
            "SELECT recommended, recall FROM ruvector_dag_tune('docs_idx', 1)",
            &[],
        )
        .expect("an answer");
    assert_eq!(row.get::<_, Option<i32>>(0), None);
    for bad in ["0.4", "1.5", "'NaN'"] {
        let error = client
            .query(
                &format!("SELECT * FROM ruvector_dag_tune('docs_idx', {bad})"),
                &[],
            )
            .expect_err(bad);
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(error.code().code(), "22023", "{bad}: {error:?}");
    }
    let none = client
        .query("SELECT * FROM ruvector_dag_tune(NULL)", &[])
        .expect("nothing");
    assert!(none.is_empty());
}
