use crate::harness::skip;

use super::still_server;

#[test]
fn who_has_no_rights_learns_nothing_and_who_may_look_learns_numbers() {
    let Some((server, mut client)) = still_server() else {
        return skip(
            "who_has_no_rights_learns_nothing_and_who_may_look_learns_numbers",
            "no pgvector",
        );
    };
    client
        .batch_execute(
            "CREATE TABLE docs (id int, owner name, v vector(3));
             INSERT INTO docs SELECT i, 'postgres', ARRAY[i, i % 7, i % 11]::real[]::vector FROM generate_series(1, 500) i;
             CREATE INDEX docs_idx ON docs USING hnsw (v vector_l2_ops);
             ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
             ALTER TABLE docs FORCE ROW LEVEL SECURITY;
             CREATE POLICY own ON docs USING (owner = current_user);
             CREATE ROLE reader LOGIN; GRANT SELECT ON docs TO reader;
             CREATE ROLE stranger LOGIN;
             CREATE ROLE monitor LOGIN IN ROLE pg_monitor",
        )
        .expect("a table that hides its rows");
    for role in ["stranger", "reader"] {
        let error = server
            .client_as(role, "app")
            .query("SELECT * FROM ruvector_dag_recall('docs_idx')", &[])
            .expect_err(role);
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(error.code().code(), "42501", "{role}: {error:?}");
    }
    let row = server
        .client_as("monitor", "app")
        .query_one("SELECT * FROM ruvector_dag_recall('docs_idx')", &[])
        .expect("numbers");
    let columns: Vec<&str> = row.columns().iter().map(postgres::Column::name).collect();
    assert_eq!(
        columns,
        [
            "recall", "ci_low", "ci_high", "queries", "k", "source", "p50_ms", "p99_ms"
        ]
    );
    assert_eq!(
        (row.get::<_, i32>("queries"), row.get::<_, f64>("recall")),
        (200, 1.0)
    );
}

#[test]
fn operators_of_the_callers_search_path_are_never_called() {
    let Some((_server, mut client)) = still_server() else {
        return skip(
            "operators_of_the_callers_search_path_are_never_called",
            "no pgvector",
        );
    };
    client
        .batch_execute(
            "CREATE TABLE docs (v vector(3));
             INSERT INTO docs SELECT ARRAY[i, i % 7, i % 11]::real[]::vector FROM generate_series(1, 500) i;
             CREATE INDEX docs_idx ON docs USING hnsw (v vector_l2_ops);
             CREATE SCHEMA trap;
             CREATE FUNCTION trap.spring(vector, vector) RETURNS float8 LANGUAGE plpgsql
                 AS $$ BEGIN RAISE EXCEPTION 'the trap has sprung'; END $$;
             CREATE OPERATOR trap.<-> (LEFTARG = vector, RIGHTARG = vector, FUNCTION = trap.spring);
             CREATE FUNCTION trap.l2_distance(vector, vector) RETURNS float8 LANGUAGE plpgsql
                 AS $$ BEGIN RAISE EXCEPTION 'the trap has sprung'; END $$;
             SET search_path = trap, pg_catalog, public",
        )
        .expect("a trap");
    client
        .query("SELECT v <-> v FROM docs", &[])
        .expect_err("the trap works");
    let recall: f64 = client
        .query_one(
            "SELECT recall FROM public.ruvector_dag_recall('docs_idx')",
            &[],
        )
        .expect("the trap is not in the way")
        .get(0);
    assert_eq!(recall, 1.0);
}
