use postgres::{Client, Row};

use crate::harness::{Dice, Server, skip, wait_until};
use crate::values::{copy, literal};
use crate::workers::LIMIT;

use super::{first_component, kept, watched_server};

const DIMENSIONS: usize = 12;
const QUERIES: usize = 220;
const K: usize = 10;

/// A table `items` of random points with an index that finds half of what it should. Returns the points.
fn items(client: &mut Client) -> Vec<Vec<f64>> {
    let mut dice = Dice::new(3);
    let points: Vec<Vec<f64>> = (0..3_000).map(|_| dice.point(DIMENSIONS)).collect();
    client
        .batch_execute(&format!(
            "CREATE TABLE items (id int, v vector({DIMENSIONS}))"
        ))
        .expect("a table");
    let rows = points.iter().enumerate();
    let rows = rows.map(|(id, point)| format!("{id}\t{}", literal(point)));
    copy(client, "items", rows);
    client
        .batch_execute(
            "CREATE INDEX items_idx ON items USING hnsw (v vector_l2_ops) WITH (m = 4, ef_construction = 8);
             ANALYZE items; SET hnsw.ef_search = 10",
        )
        .expect("an index");
    points
}

/// Asks `items` for what is near points that are far from all rows, and returns the share of the true answers
/// among those given. In batches, so that none is dropped.
fn ask(server: &Server, client: &mut Client, points: &[Vec<f64>]) -> f64 {
    let mut dice = Dice::new(4);
    let (mut found, mut asked) = (0, Vec::new());
    for nth in 1..=QUERIES {
        let mut query = dice.point(DIMENSIONS);
        query.iter_mut().for_each(|x| *x = *x * 0.5 + 1.5);
        let apart = |point: &Vec<f64>| -> f64 {
            let squares = point.iter().zip(&query).map(|(a, b)| (a - b) * (a - b));
            squares.sum()
        };
        let mut distances: Vec<f64> = points.iter().map(apart).collect();
        distances.sort_by(f64::total_cmp);
        let farthest = distances[K - 1] + 1e-6;
        let query = literal(&query);
        let answer = nearest(client, &query);
        found += answer
            .iter()
            .filter(|row| apart(&points[row.get::<_, i32>(0) as usize]) <= farthest)
            .count();
        asked.push(query);
        if nth % 50 == 0 || nth == QUERIES {
            ask_again(server, client, &asked);
        }
    }
    found as f64 / (QUERIES * K) as f64
}

/// What `items` has near a point.
fn nearest(client: &mut Client, query: &str) -> Vec<Row> {
    let sql = format!("SELECT id FROM items ORDER BY v <-> '{query}' LIMIT {K}");
    client.query(&sql, &[]).expect("an answer")
}

/// Asks those again that are not kept: who asks does not wait for the healer, which may be taking up others
/// at that moment.
fn ask_again(server: &Server, client: &mut Client, asked: &[String]) {
    wait_until("all queries are kept", LIMIT, || {
        let kept = kept(server);
        let is_kept = |query: &String| {
            let first = query[1..].split(',').next().map(str::parse);
            let first: f32 = first.and_then(Result::ok).expect("a component");
            kept.iter().any(|value| first_component(value) == first)
        };
        for query in asked.iter().filter(|query| !is_kept(query)) {
            nearest(client, query);
        }
        kept.len() == asked.len()
    });
}

/// Recall as it is measured with so many queries, and where they came from.
fn recall(client: &mut Client, queries: i32) -> (f64, i32, String) {
    let row = client
        .query_one(
            "SELECT recall, queries, source FROM ruvector_dag_recall('items_idx', 10, $1)",
            &[&queries],
        )
        .expect("recall");
    (row.get(0), row.get(1), row.get(2))
}

#[test]
fn recall_is_measured_with_what_was_asked() {
    let Some(server) = watched_server() else {
        return skip("recall_is_measured_with_what_was_asked", "no pgvector");
    };
    let mut client = server.client("app");
    let points = items(&mut client);
    let (_, asked, source) = recall(&mut client, 220);
    assert_eq!((asked, source.as_str()), (220, "sampled rows"));
    let by_sql = ask(&server, &mut client, &points);
    let (told, asked, source) = recall(&mut client, 220);
    assert_eq!((asked, source.as_str()), (220, "captured queries"));
    assert!((told - by_sql).abs() < 0.002, "{told}, by SQL {by_sql}");
    // Half of what is wanted is enough, and no more than 200 are needed.
    for (wanted, used, source) in [
        (440, 220, "captured queries"),
        (10_000, 220, "captured queries"),
        (30, 30, "captured queries"),
    ] {
        let (_, asked, from) = recall(&mut client, wanted);
        assert_eq!((asked, from.as_str()), (used, source), "{wanted}");
    }
    let (source, queries): (String, String) = {
        let row = client
            .query_one(
                "SELECT curve->>'source', curve->>'queries' FROM ruvector_dag_tune('items_idx', 0.7)",
                &[],
            )
            .expect("a choice");
        (row.get(0), row.get(1))
    };
    assert_eq!(
        (source.as_str(), queries.as_str()),
        ("captured queries", "220")
    );
    // The background measures with them as well.
    wait_until("the watch takes what was asked", LIMIT, || {
        let watched: Option<String> = server.value(
            "app",
            "SELECT jsonb_path_query_first(look, '$.recall.**.source')::text
             FROM ruvector_dag_healing.index_state WHERE look->'index'->>'index_name' = 'public.items_idx'",
        );
        watched.as_deref() == Some("\"captured queries\"")
    });

    // They are of the index as it is defined, whatever file it is in.
    client
        .batch_execute("REINDEX INDEX CONCURRENTLY items_idx")
        .expect("a rebuild");
    assert_eq!(kept(&server).len(), QUERIES);
    assert_eq!(recall(&mut client, 220).2, "captured queries");
    // Too few for what is wanted.
    client
        .batch_execute("DELETE FROM ruvector_dag_healing.query_sample WHERE place >= 99")
        .expect("fewer");
    assert_eq!(recall(&mut client, 198).2, "captured queries");
    assert_eq!(recall(&mut client, 200).2, "sampled rows");
    client.batch_execute("DROP INDEX items_idx").expect("gone");
    assert_eq!(kept(&server).len(), 0);
}

#[test]
fn what_no_longer_fits_the_index_is_left_out() {
    let Some(server) = watched_server() else {
        return skip("what_no_longer_fits_the_index_is_left_out", "no pgvector");
    };
    let mut client = server.client("app");
    let points = items(&mut client);
    ask(&server, &mut client, &points);
    // Cut short, other dimensions, not a number.
    client
        .batch_execute(
            "UPDATE ruvector_dag_healing.query_sample SET value = CASE place % 4
                 WHEN 0 THEN substr(value, 1, 20) WHEN 1 THEN '\\x03' || substr(value, 2)
                 WHEN 2 THEN substr(value, 1, 48) || '\\x0000c07f' ELSE value END",
        )
        .expect("damage");
    let (_, asked, source) = recall(&mut client, 50);
    // Twelve or so of the fifty that are drawn.
    assert_eq!((asked, source.as_str()), (50, "sampled rows"));
    client
        .batch_execute("DELETE FROM ruvector_dag_healing.query_sample WHERE place % 4 <> 3")
        .expect("what is sound");
    let (_, asked, source) = recall(&mut client, 50);
    assert_eq!((asked, source.as_str()), (50, "captured queries"));
}
