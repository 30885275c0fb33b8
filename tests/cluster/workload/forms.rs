use postgres::Client;

use crate::harness::{Server, skip, wait_until};
use crate::workers::LIMIT;

use super::{kept_points, watched_server};

/// Searches `docs` for a point.
fn search(point: i32) -> String {
    format!("SELECT id FROM docs ORDER BY v <-> '[{point},0,0]' LIMIT 3")
}

fn run(client: &mut Client, statements: &[String]) {
    for statement in statements {
        client
            .batch_execute(statement)
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// The points that are kept, which are then forgotten.
#[track_caller]
fn taken(server: &Server) -> Vec<i32> {
    let points = kept_points(server);
    server.execute("app", "DELETE FROM ruvector_dag_healing.query_sample");
    points
}

#[test]
fn what_clients_ask_is_captured_in_whatever_form() {
    let Some(server) = watched_server() else {
        return skip(
            "what_clients_ask_is_captured_in_whatever_form",
            "no pgvector",
        );
    };
    let mut client = server.client("app");
    let sent = |point: i32| {
        format!("SELECT id FROM docs ORDER BY v <-> $1::text::vector + '[{point},0,0]' LIMIT 3")
    };
    client
        .query(&sent(1), &[&"[0,0,0]"])
        .expect("a prepared statement");
    run(
        &mut client,
        &[
            search(2),
            format!("{}; {}", search(3), search(4)),
            "SET plan_cache_mode = force_custom_plan".into(),
            "PREPARE custom(vector) AS SELECT id FROM docs ORDER BY v <-> $1 LIMIT 3".into(),
            "EXECUTE custom('[5,0,0]')".into(),
            "SET plan_cache_mode = force_generic_plan".into(),
            "PREPARE generic(vector) AS SELECT id FROM docs ORDER BY v <-> $1 LIMIT 3".into(),
            "EXECUTE generic('[6,0,0]'); EXECUTE generic('[7,0,0]')".into(),
            format!("WITH near AS MATERIALIZED ({}) SELECT count(*) FROM near", search(8)),
            format!("SELECT ({} OFFSET 1)", search(9).replace("LIMIT 3", "LIMIT 1")),
            format!("SELECT * FROM docs WHERE id IN ({})", search(10)),
            "SELECT id FROM docs ORDER BY v <-> (SELECT '[11,0,0]'::vector FROM docs LIMIT 1) LIMIT 3".into(),
            "SELECT near.id FROM (VALUES ('[12,0,0]'::vector)) asked(q),
                 LATERAL (SELECT id FROM docs ORDER BY v <-> q LIMIT 3) near"
                .into(),
            format!("CREATE TABLE found AS {}", search(13)),
            format!("INSERT INTO found {}", search(14)),
            format!("UPDATE docs SET id = id WHERE id IN ({})", search(15)),
            format!("BEGIN; DECLARE c CURSOR FOR {}; FETCH 2 FROM c; CLOSE c; COMMIT", search(16)),
            format!("BEGIN; DECLARE c CURSOR FOR {}; FETCH 2 FROM c; COMMIT", search(17)),
            format!("EXPLAIN ANALYZE {}", search(18)),
            format!("BEGIN; {}; ROLLBACK", search(19)),
            format!("COPY ({}) TO STDOUT", search(20)).replace("TO STDOUT", "TO '/dev/null'"),
        ],
    );
    assert_eq!(taken(&server), (1..=20).collect::<Vec<_>>());
}

#[test]
fn of_a_partitioned_table_the_query_of_every_partition_is_kept() {
    let Some(server) = watched_server() else {
        return skip(
            "of_a_partitioned_table_the_query_of_every_partition_is_kept",
            "no pgvector",
        );
    };
    server.execute(
        "app",
        "CREATE TABLE parts (id int, v vector(3)) PARTITION BY HASH (id);
         CREATE TABLE part_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE part_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO parts SELECT id, v FROM docs;
         CREATE INDEX ON parts USING hnsw (v vector_l2_ops)",
    );
    // What is asked while the healer takes up others is dropped.
    wait_until("the query is kept", LIMIT, || {
        server.execute("app", &search(7).replace("docs", "parts"));
        taken(&server) == [7, 7]
    });
}

#[test]
fn of_many_partitions_each_has_its_turn() {
    let Some(server) = watched_server() else {
        return skip("of_many_partitions_each_has_its_turn", "no pgvector");
    };
    let mut client = server.client("app");
    client
        .batch_execute(
            "CREATE TABLE parts (id int, v vector(3)) PARTITION BY LIST (id);
             DO $$ BEGIN FOR n IN 1..100 LOOP
                 EXECUTE format('CREATE TABLE part_%s PARTITION OF parts FOR VALUES IN (%s)', n, n);
             END LOOP; END $$;
             INSERT INTO parts SELECT i % 100 + 1, v FROM docs, generate_series(1, 5) i;
             CREATE INDEX ON parts USING hnsw (v vector_l2_ops)",
        )
        .expect("a hundred partitions");
    // One statement shows no more than 32 of its scans.
    for _ in 0..8 {
        client
            .batch_execute("SELECT id FROM parts ORDER BY v <-> '[7,0,0]' LIMIT 3")
            .expect("an answer");
        kept_points(&server);
    }
    let seen: i64 = server.value(
        "app",
        "SELECT count(DISTINCT identity) FROM ruvector_dag_healing.query_sample",
    );
    assert!(seen > 45, "{seen} of 100 partitions");
}

#[test]
fn what_is_not_asked_of_an_index_by_a_client_is_not_captured() {
    let Some(server) = watched_server() else {
        return skip(
            "what_is_not_asked_of_an_index_by_a_client_is_not_captured",
            "no pgvector",
        );
    };
    let mut client = server.client("app");
    let inside =
        |point: i32| format!("PERFORM id FROM docs ORDER BY v <-> '[{point},0,0]' LIMIT 3");
    run(
        &mut client,
        &[
            format!("EXPLAIN {}", search(1)),
            format!("SET enable_seqscan = on; SET enable_indexscan = off; {}; RESET ALL", search(2)),
            format!("CREATE FUNCTION in_plpgsql() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {}; END $$", inside(3)),
            format!("CREATE FUNCTION in_sql() RETURNS SETOF int VOLATILE LANGUAGE sql AS $$ {}; {} $$", search(4), search(5)),
            format!("CREATE PROCEDURE committing() LANGUAGE plpgsql AS
                     $$ BEGIN {}; COMMIT; {}; ROLLBACK; {}; END $$", inside(6), inside(7), inside(8)),
            format!("CREATE FUNCTION in_trigger() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN {}; RETURN NULL; END $$", inside(9)),
            "CREATE TRIGGER after AFTER UPDATE ON docs FOR EACH STATEMENT EXECUTE FUNCTION in_trigger()".into(),
            "CREATE FUNCTION forgiving() RETURNS void LANGUAGE plpgsql AS $$
                 BEGIN PERFORM 1 / (v <-> v)::int FROM docs; EXCEPTION WHEN division_by_zero THEN
                     PERFORM id FROM docs ORDER BY v <-> '[10,0,0]' LIMIT 3; END $$"
                .into(),
            "SELECT in_plpgsql(); SELECT in_sql()".into(),
            "CALL committing()".into(),
            "UPDATE docs SET id = id WHERE id = 1".into(),
            "SELECT forgiving()".into(),
            format!("DO $$ BEGIN {}; END $$", inside(11)),
            // A scan that is not begun, or asked for nothing.
            format!("{}; {}",
                search(12).replace("ORDER", "WHERE (SELECT count(*) < 0 FROM pg_class) ORDER"),
                search(13).replace("'[13,0,0]'", "(SELECT NULL::vector)")),
            // Other things that can be near.
            "CREATE TABLE places (at point); INSERT INTO places SELECT point(i, i) FROM generate_series(1, 100) i".into(),
            "CREATE INDEX ON places USING gist (at)".into(),
            "SELECT * FROM places ORDER BY at <-> '(3,3)' LIMIT 3".into(),
            // What we ask ourselves.
            "SELECT * FROM ruvector_dag_recall('docs_idx'); SELECT * FROM ruvector_dag_tune('docs_idx', 0.5)".into(),
        ],
    );
    assert!(taken(&server).is_empty());
    // All of them where that is wanted.
    run(
        &mut client,
        &[
            "SET ruvector.dag_healing_track = 'all'".into(),
            "SELECT in_plpgsql(); SELECT in_sql(); SELECT forgiving()".into(),
            "CALL committing()".into(),
            "UPDATE docs SET id = id WHERE id = 1".into(),
            format!("DO $$ BEGIN {}; END $$", inside(11)),
            "SELECT * FROM ruvector_dag_recall('docs_idx')".into(),
        ],
    );
    assert_eq!(taken(&server), [3, 4, 5, 6, 7, 8, 9, 10, 11]);
    run(
        &mut client,
        &[
            "SET ruvector.dag_healing_track = 'none'".into(),
            search(12),
            "SELECT in_plpgsql()".into(),
        ],
    );
    assert!(taken(&server).is_empty());
}

#[test]
fn statements_that_fail_leave_nothing_and_harm_nothing() {
    let Some(server) = watched_server() else {
        return skip(
            "statements_that_fail_leave_nothing_and_harm_nothing",
            "no pgvector",
        );
    };
    let mut client = server.client("app");
    run(
        &mut client,
        &["CREATE FUNCTION failing() RETURNS int LANGUAGE plpgsql AS
               $$ BEGIN PERFORM id FROM docs ORDER BY v <-> '[3,0,0]' LIMIT 3; RETURN 1 / 0; END $$"
            .into()],
    );
    let failures = [
        (
            format!("SELECT 1 / (id - id) FROM ({}) near", search(1)),
            "22012",
        ),
        (
            "SELECT id FROM docs ORDER BY v <-> '[2,0]' LIMIT 3".into(),
            "22000",
        ),
        ("SELECT failing()".into(), "22012"),
        (
            format!(
                "SET statement_timeout = '50ms'; SELECT pg_sleep(10) FROM ({}) near",
                search(4)
            ),
            "57014",
        ),
        (
            "RESET statement_timeout; INSERT INTO docs VALUES (1, '[1,1,1]')".into(),
            "23505",
        ),
    ];
    for (nth, (statement, code)) in (11..).zip(&failures) {
        let error = client.batch_execute(statement).expect_err(statement);
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(error.code().code(), *code, "{error:?}");
        if *code == "23505" {
            // As it was raised, to the last field.
            assert_eq!(
                (error.table(), error.constraint()),
                (Some("docs"), Some("docs_pkey"))
            );
        }
        run(
            &mut client,
            &["RESET statement_timeout".into(), search(nth)],
        );
    }
    let mut expected: Vec<i32> = (11..).take(failures.len()).collect();
    // An error does not make what follows in the same session another's.
    run(&mut client, &["ROLLBACK".into(), search(30)]);
    expected.push(30);
    assert_eq!(taken(&server), expected);
}
