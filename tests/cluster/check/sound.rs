//! Sound indexes, at rest and under load: no row.

use postgres::Client;

use crate::harness::{Busy, Options, Server, vacuum};
use crate::values::has_class;

use super::{breaches, faults};

pub fn server() -> Server {
    let server = Server::start(
        Options::new()
            .setting("ruvector.dag_healing_enabled", "off")
            .setting("ruvector.dag_healing_interval_ms", 86_400_000)
            .setting("autovacuum", "off"),
    );
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    server
}

fn assert_sound(client: &mut Client, index: &str) {
    assert_eq!(breaches(client, index, true), [], "{index}");
}

/// Value types with an expression for row `i` and their operator classes, as far as this pgvector has them.
const KINDS: &[(&str, &str, &[&str])] = &[
    (
        "vector(12)",
        "(SELECT array_agg(random() - 0.5)::vector FROM generate_series(1, 12) WHERE i > 0)",
        &[
            "vector_l2_ops",
            "vector_ip_ops",
            "vector_cosine_ops",
            "vector_l1_ops",
        ],
    ),
    (
        "halfvec(12)",
        "(SELECT array_agg(random() - 0.5)::halfvec FROM generate_series(1, 12) WHERE i > 0)",
        &[
            "halfvec_l2_ops",
            "halfvec_ip_ops",
            "halfvec_cosine_ops",
            "halfvec_l1_ops",
        ],
    ),
    (
        "bit(37)",
        "(SELECT string_agg((random() < 0.5)::int::text, '') FROM generate_series(1, 37) WHERE i > 0)::bit(37)",
        &["bit_hamming_ops", "bit_jaccard_ops"],
    ),
    (
        "sparsevec(40)",
        "(SELECT array_agg(CASE WHEN random() < 0.2 THEN random() ELSE 0 END)::vector::sparsevec
          FROM generate_series(1, 40) WHERE i > 0)",
        &[
            "sparsevec_l2_ops",
            "sparsevec_ip_ops",
            "sparsevec_cosine_ops",
            "sparsevec_l1_ops",
        ],
    ),
];

#[test]
fn an_index_of_every_kind_is_sound_from_its_build_to_its_vacuum() {
    let server = server();
    let mut client = server.client("app");
    for (value_type, value, classes) in KINDS {
        let methods = [("hnsw", "m = 5"), ("ivfflat", "lists = 7")];
        for (class, (method, options)) in classes.iter().flat_map(|c| methods.map(|m| (c, m))) {
            if !has_class(&mut client, class, method) {
                continue;
            }
            client
                .batch_execute(&format!(
                    "DROP TABLE IF EXISTS docs;
                     CREATE TABLE docs (id int, v {value_type});
                     INSERT INTO docs SELECT i, {value} FROM generate_series(1, 1200) i;
                     -- No value, no direction, and one value many times.
                     INSERT INTO docs VALUES (0, NULL);
                     INSERT INTO docs SELECT 0, v FROM docs, generate_series(1, 30) WHERE id = 7;
                     CREATE INDEX docs_idx ON docs USING {method} (v {class}) WITH ({options})"
                ))
                .unwrap_or_else(|error| panic!("{class}: {error:?}"));
            assert_sound(&mut client, "docs_idx");
            client
                .batch_execute(&format!(
                    "UPDATE docs SET v = (SELECT v FROM docs WHERE id = 3) WHERE id % 50 = 0;
                     UPDATE docs SET id = id WHERE id % 7 = 0;
                     INSERT INTO docs SELECT i, {value} FROM generate_series(1, 300) i;
                     DELETE FROM docs WHERE id % 3 = 0"
                ))
                .expect("churn");
            assert_sound(&mut client, "docs_idx");
            vacuum(&mut client, "docs");
            assert_sound(&mut client, "docs_idx");
            client
                .batch_execute(&format!(
                    "INSERT INTO docs SELECT i, {value} FROM generate_series(1, 300) i;
                     SET maintenance_work_mem = '1MB'"
                ))
                .expect("rows");
            assert_sound(&mut client, "docs_idx");
            client
                .batch_execute("RESET maintenance_work_mem; DELETE FROM docs")
                .expect("delete");
            vacuum(&mut client, "docs");
            assert_sound(&mut client, "docs_idx");
        }
    }
}

#[test]
fn expressions_predicates_and_directionless_rows_are_understood() {
    let server = server();
    let mut client = server.client("app");
    client
        .batch_execute(
            "CREATE TABLE docs (id int, kind text, v vector(4));
             INSERT INTO docs SELECT i, CASE i % 3 WHEN 0 THEN 'a' ELSE 'b' END,
                 ARRAY[i % 7, i % 11, i % 13, 0]::real[]::vector FROM generate_series(0, 2000) i;
             INSERT INTO docs SELECT i, 'a', '[0,0,0,0]' FROM generate_series(1, 200) i;
             CREATE INDEX partial ON docs USING hnsw (v vector_cosine_ops) WHERE kind = 'a';
             CREATE INDEX expression ON docs USING hnsw (((v + '[1,1,1,1]'::vector)::vector(4)) vector_l2_ops);
             UPDATE docs SET kind = 'b' WHERE id % 6 = 0;
             UPDATE docs SET kind = 'a' WHERE id % 5 = 0;
             CREATE TEMP TABLE mine (v vector(2));
             INSERT INTO mine VALUES ('[1,2]'), ('[3,4]');
             CREATE INDEX mine_hnsw ON mine USING hnsw (v vector_l2_ops);
             CREATE TABLE \"odd \"\"one\" (v vector(2));
             CREATE INDEX \"odd.\"\"index\" ON \"odd \"\"one\" USING hnsw (v vector_l2_ops)",
        )
        .expect("indexes");
    for index in ["partial", "expression", "mine_hnsw", "\"odd.\"\"index\""] {
        assert_sound(&mut client, index);
    }
}

#[test]
fn nothing_is_reported_while_clients_write_and_vacuum() {
    let server = server();
    if server.pgvector_version() < Some((0, 8, 5)) {
        return crate::harness::skip(
            "nothing_is_reported_while_clients_write_and_vacuum",
            "older pgvectors make faults themselves",
        );
    }
    let mut client = server.client("app");
    client
        .batch_execute(
            "CREATE TABLE docs (id int, v vector(8));
             CREATE INDEX docs_hnsw ON docs USING hnsw (v vector_l2_ops) WITH (m = 6);
             INSERT INTO docs SELECT i, (SELECT array_agg(random())::vector FROM generate_series(1, 8) WHERE i > 0)
             FROM generate_series(1, 2000) i;
             CREATE INDEX docs_ivf ON docs USING ivfflat (v vector_l2_ops) WITH (lists = 5)",
        )
        .expect("rows");
    let insert = "INSERT INTO docs SELECT (random() * 4000)::int,
                      (SELECT array_agg(random())::vector FROM generate_series(1, 8) WHERE i > 0)
                  FROM generate_series(1, 40) i";
    let writers = [
        Busy::start(
            server.client("app"),
            vec![insert.into(), "DELETE FROM docs WHERE id = ANY(ARRAY(SELECT (random() * 4000)::int FROM generate_series(1, 60)))".into()],
        ),
        Busy::start(
            server.client("app"),
            vec!["UPDATE docs SET v = v, id = id WHERE id = (random() * 4000)::int".into()],
        ),
        Busy::start(server.client("app"), vec!["VACUUM (INDEX_CLEANUP ON) docs".into()]),
    ];
    let mut checks = 0;
    while checks < 150 || writers.iter().any(|writer| writer.rounds() < 20) {
        let heap = checks % 2 == 0;
        let index = if checks % 4 < 2 {
            "docs_hnsw"
        } else {
            "docs_ivf"
        };
        assert_eq!(faults(&mut client, index, heap), [], "check {checks}");
        checks += 1;
    }
    writers.into_iter().for_each(Busy::stop);
    for index in ["docs_hnsw", "docs_ivf"] {
        assert_eq!(faults(&mut client, index, true), [], "{index}");
    }
}
