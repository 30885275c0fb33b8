use crate::harness::skip;
use crate::values::{VALUE_TYPES, operator};

use super::{kept, watched_server};

#[test]
fn queries_of_every_type_are_kept_as_they_were_asked() {
    let Some(server) = watched_server() else {
        return skip(
            "queries_of_every_type_are_kept_as_they_were_asked",
            "no pgvector",
        );
    };
    let mut client = server.client("app");
    let query: Vec<f64> = (0..20).map(|n| f64::from(n % 5) - 1.5).collect();
    for kind in VALUE_TYPES {
        for method in ["hnsw", "ivfflat"] {
            for class in kind.classes(&mut client, method) {
                client
                    .batch_execute(&format!(
                        "DROP TABLE IF EXISTS items; CREATE TABLE items (v {name}(20));
                         INSERT INTO items SELECT '{value}' FROM generate_series(1, 100);
                         CREATE INDEX ON items USING {method} (v {class});
                         DELETE FROM ruvector_dag_healing.query_sample;
                         SELECT * FROM items ORDER BY v {operator} '{value}'::{name}(20) LIMIT 3",
                        operator = operator(class),
                        name = kind.name,
                        value = kind.literal(&query),
                    ))
                    .unwrap_or_else(|error| panic!("{method} {class}: {error:?}"));
                let values = kept(&server);
                let expected = match kind.name {
                    "vector" => 4 + 4 * 20,
                    "halfvec" => 4 + 2 * 20,
                    "bit" => 4 + 3,
                    // Two components of five are left out as small.
                    _ => 12 + 8 * 12,
                };
                let sizes: Vec<usize> = values.iter().map(Vec::len).collect();
                assert_eq!(sizes, [expected], "{method} {class}");
            }
        }
    }
}

#[test]
fn what_has_no_answer_is_not_kept() {
    let Some(server) = watched_server() else {
        return skip("what_has_no_answer_is_not_kept", "no pgvector");
    };
    server.execute(
        "app",
        "CREATE INDEX directions ON docs USING hnsw (v vector_cosine_ops);
         SELECT id FROM docs ORDER BY v <=> '[0,0,0]' LIMIT 3;
         SELECT id FROM docs ORDER BY v <=> (SELECT NULL::vector) LIMIT 3;
         SELECT id FROM docs ORDER BY v <=> '[4,0,0]' LIMIT 3",
    );
    assert_eq!(super::kept_points(&server), [4]);
}
