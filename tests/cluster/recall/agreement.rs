use postgres::Client;

use crate::harness::skip;
use crate::values::{VALUE_TYPES, ValueType, operator};

use super::{measured, still_server};

const K: i32 = 10;
const ROWS: i32 = 700;
const DIMENSIONS: usize = 12;

/// The recall of the rows of `docs` as queries by SQL: of the K nearest others, how many an index scan returns.
/// `own`: places of the beam that the row itself takes up.
fn by_sql(client: &mut Client, operator: &str, value: &str, condition: &str, method: &str) -> f64 {
    let effort = match method {
        "hnsw" => "SET hnsw.ef_search = 13",
        _ => "SET ivfflat.probes = 2",
    };
    let (of, whose) = (operator.replace('%', "%%"), condition.replace('%', "%%"));
    let question = |how: &str| {
        // The value as a literal: a parameter's plan could ignore the settings.
        format!(
            "{how};
             CREATE FUNCTION pg_temp.ask(query text) RETURNS SETOF answer LANGUAGE plpgsql AS $$
             BEGIN
                 RETURN QUERY EXECUTE format(
                     'SELECT id, ({value}) {of} %L FROM docs WHERE {whose} ORDER BY ({value}) {of} %L LIMIT {}',
                     query, query);
             END $$;",
            K + 1
        )
    };
    let exact = question("SET enable_indexscan = off; SET enable_seqscan = on");
    let index = question(&format!(
        "SET enable_indexscan = on; SET enable_seqscan = off; {effort}"
    ));
    let ask = |name: &str| {
        format!(
            "CREATE TEMP TABLE {name} AS
             SELECT q.id AS query, a.* FROM (SELECT * FROM docs WHERE {condition}) q, pg_temp.ask(({value})::text) a
             WHERE ({value}) IS NOT NULL AND a.id <> q.id;
             DROP FUNCTION pg_temp.ask(text);"
        )
    };
    client
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS truth, found; DROP TYPE IF EXISTS answer CASCADE;
             CREATE TYPE answer AS (id int, distance float8);
             {exact} {} {index} {} RESET ALL",
            ask("truth"),
            ask("found")
        ))
        .unwrap_or_else(|error| panic!("{operator}: {error:?}"));
    client
        .query_one(
            "WITH truths AS (SELECT query, array_agg(distance ORDER BY distance) AS ds FROM truth GROUP BY 1),
                  limits AS (SELECT query, least(cardinality(ds), $1) AS expected, ds[least(cardinality(ds), $1)] AS kth FROM truths),
                  ranked AS (SELECT *, row_number() OVER (PARTITION BY query ORDER BY distance) AS nth FROM found),
                  hits AS (SELECT l.query, l.expected,
                                  count(*) FILTER (WHERE r.nth <= $1 AND r.distance <= l.kth + 1e-6 * greatest(abs(l.kth), 1)) AS hits
                           FROM limits l LEFT JOIN ranked r USING (query) GROUP BY 1, 2)
             SELECT avg(least(hits, expected)::float8 / expected) FROM hits",
            &[&K],
        )
        .expect("the recall by SQL")
        .get(0)
}

#[track_caller]
fn agrees(client: &mut Client, what: &str, told: f64, sql: f64) {
    // Ties that rounding breaks the other way are a hit or two of some thousands.
    assert!((told - sql).abs() < 0.002, "{what}: {told}, by SQL {sql}");
    println!("{what}: {told} ({sql})");
    client.batch_execute("RESET ALL").expect("settings");
}

/// A table of random values; few rows have none, and some share theirs.
fn fill(client: &mut Client, kind: &ValueType) {
    let mut state = 7_u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as f64 / f64::from(1_u32 << 31) * 4.0 - 2.0
    };
    let mut rows = Vec::new();
    for id in 0..ROWS {
        let point: Vec<f64> = (0..DIMENSIONS).map(|_| uniform()).collect();
        rows.push(match id % 100 {
            99 => format!("{id}\t\\N"),
            _ => format!("{id}\t{}", kind.literal(&point)),
        });
    }
    client
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS docs; CREATE TABLE docs (id int, v {}({DIMENSIONS}))",
            kind.name
        ))
        .expect("a table");
    crate::values::copy(client, "docs", rows);
}

#[test]
fn every_operator_class_agrees_with_sql() {
    let Some((_server, mut client)) = still_server() else {
        return skip("every_operator_class_agrees_with_sql", "no pgvector");
    };
    for kind in VALUE_TYPES {
        if kind.classes(&mut client, "hnsw").is_empty() {
            continue;
        }
        fill(&mut client, &kind);
        for (method, options) in [
            ("hnsw", "m = 2, ef_construction = 8"),
            ("ivfflat", "lists = 12"),
        ] {
            for class in kind.classes(&mut client, method) {
                client
                    .batch_execute(&format!(
                        "DROP INDEX IF EXISTS docs_idx;
                         CREATE INDEX docs_idx ON docs USING {method} (v {class}) WITH ({options});
                         ANALYZE docs"
                    ))
                    .unwrap_or_else(|error| panic!("{class}: {error:?}"));
                let sql = by_sql(&mut client, operator(class), "v", "v IS NOT NULL", method);
                client
                    .batch_execute("SET hnsw.ef_search = 12; SET ivfflat.probes = 2")
                    .expect("settings");
                let (recall, low, high, queries) = measured(&mut client, "docs_idx", K, 10_000);
                assert!(
                    low <= recall && recall <= high && high - low < 0.2,
                    "{class}: {low} {recall} {high}"
                );
                assert!(queries > ROWS / 2, "{class}: {queries} queries");
                agrees(&mut client, &format!("{method} {class}"), recall, sql);
            }
        }
    }
}

#[test]
fn rows_of_which_another_column_was_changed_are_found() {
    let name = "rows_of_which_another_column_was_changed_are_found";
    let Some((_server, mut client)) = still_server() else {
        return skip(name, "no pgvector");
    };
    fill(&mut client, &VALUE_TYPES[0]);
    client
        .batch_execute(
            "ALTER TABLE docs ADD note int;
             CREATE TABLE roomy (LIKE docs) WITH (fillfactor = 50);
             INSERT INTO roomy SELECT * FROM docs; DROP TABLE docs; ALTER TABLE roomy RENAME TO docs;
             CREATE INDEX lists ON docs USING ivfflat (v vector_l2_ops) WITH (lists = 4);
             CREATE INDEX graph ON docs USING hnsw (v vector_l2_ops);
             ANALYZE docs; SET ivfflat.probes = 4; SET hnsw.ef_search = 1000",
        )
        .expect("indexes");
    for round in 0..2 {
        for index in ["lists", "graph"] {
            let (recall, ..) = measured(&mut client, index, K, 10_000);
            assert_eq!(recall, 1.0, "{index} after {round} changes");
        }
        // In the same pages, so that the indexes lead to where the rows were.
        client
            .batch_execute("UPDATE docs SET note = id")
            .expect("a change");
    }
}

#[test]
fn expressions_and_predicates_agree_with_sql() {
    let Some((_server, mut client)) = still_server() else {
        return skip("expressions_and_predicates_agree_with_sql", "no pgvector");
    };
    fill(&mut client, &VALUE_TYPES[0]);
    client
        .batch_execute(
            "CREATE INDEX few ON docs USING hnsw (v vector_l2_ops) WITH (m = 2, ef_construction = 8) WHERE id % 3 = 0;
             ANALYZE docs",
        )
        .expect("an index");
    let sql = by_sql(&mut client, "<->", "v", "id % 3 = 0", "hnsw");
    client
        .batch_execute("SET hnsw.ef_search = 12")
        .expect("a setting");
    let (recall, ..) = measured(&mut client, "few", K, 10_000);
    agrees(&mut client, "a predicate", recall, sql);

    client
        .batch_execute(
            "DROP INDEX few;
             CREATE INDEX sums ON docs USING hnsw (((v + v)::vector(12)) vector_l2_ops) WITH (m = 2, ef_construction = 8);
             ANALYZE docs",
        )
        .expect("an index");
    let sql = by_sql(
        &mut client,
        "<->",
        "(v + v)::vector(12)",
        "v IS NOT NULL",
        "hnsw",
    );
    client
        .batch_execute("SET hnsw.ef_search = 12")
        .expect("a setting");
    let (recall, ..) = measured(&mut client, "sums", K, 10_000);
    agrees(&mut client, "an expression", recall, sql);
}

#[test]
fn tables_of_no_few_and_equal_rows_are_answered_for() {
    let Some((_server, mut client)) = still_server() else {
        return skip(
            "tables_of_no_few_and_equal_rows_are_answered_for",
            "no pgvector",
        );
    };
    client
        .batch_execute(
            "CREATE TABLE docs (v vector(3));
             CREATE INDEX docs_idx ON docs USING hnsw (v vector_l2_ops)",
        )
        .expect("an index");
    assert_eq!(
        measured(&mut client, "docs_idx", 10, 200),
        (1.0, 0.0, 1.0, 0)
    );
    // One row has no others.
    client
        .batch_execute("INSERT INTO docs VALUES ('[1,2,3]')")
        .expect("a row");
    assert_eq!(
        measured(&mut client, "docs_idx", 10, 200),
        (1.0, 0.0, 1.0, 0)
    );
    // Three find two each; dead rows are nobody's neighbours.
    client
        .batch_execute(
            "INSERT INTO docs VALUES ('[1,2,4]'), ('[3,2,1]'), ('[0,0,0]');
             DELETE FROM docs WHERE v = '[0,0,0]'",
        )
        .expect("rows");
    let (recall, _, _, queries) = measured(&mut client, "docs_idx", 10, 200);
    assert_eq!((recall, queries), (1.0, 3));
    // Any ten of a thousand equal rows are as good as any other ten.
    client
        .batch_execute("INSERT INTO docs SELECT '[5,5,5]' FROM generate_series(1, 1000)")
        .expect("rows");
    let (recall, ..) = measured(&mut client, "docs_idx", 10, 200);
    assert_eq!(recall, 1.0);
}
