//! pgvector's types of values, as far as tests have to know them.

use std::fmt::Write as _;
use std::io::Write as _;

use postgres::Client;

/// A type, with its operator classes.
#[derive(Debug)]
pub struct ValueType {
    pub name: &'static str,
    pub hnsw: &'static [&'static str],
    pub ivfflat: &'static [&'static str],
}

pub const VALUE_TYPES: [ValueType; 4] = [
    ValueType {
        name: "vector",
        hnsw: &[
            "vector_l2_ops",
            "vector_ip_ops",
            "vector_cosine_ops",
            "vector_l1_ops",
        ],
        ivfflat: &["vector_l2_ops", "vector_ip_ops", "vector_cosine_ops"],
    },
    ValueType {
        name: "halfvec",
        hnsw: &[
            "halfvec_l2_ops",
            "halfvec_ip_ops",
            "halfvec_cosine_ops",
            "halfvec_l1_ops",
        ],
        ivfflat: &["halfvec_l2_ops", "halfvec_ip_ops", "halfvec_cosine_ops"],
    },
    ValueType {
        name: "bit",
        hnsw: &["bit_hamming_ops", "bit_jaccard_ops"],
        ivfflat: &["bit_hamming_ops"],
    },
    ValueType {
        name: "sparsevec",
        hnsw: &[
            "sparsevec_l2_ops",
            "sparsevec_ip_ops",
            "sparsevec_cosine_ops",
            "sparsevec_l1_ops",
        ],
        ivfflat: &[],
    },
];

impl ValueType {
    /// Those of its operator classes that this pgvector has for an access method.
    pub fn classes(&self, client: &mut Client, method: &str) -> Vec<&'static str> {
        let all = match method {
            "hnsw" => self.hnsw,
            _ => self.ivfflat,
        };
        let mut known = |class: &&str| has_class(client, class, method);
        all.iter().copied().filter(|class| known(class)).collect()
    }

    /// A point as this type writes it: bits are signs, and what is small is left out of a sparse vector.
    pub fn literal(&self, point: &[f64]) -> String {
        match self.name {
            "bit" => point
                .iter()
                .map(|x| if *x > 0.0 { '1' } else { '0' })
                .collect(),
            "sparsevec" => {
                let kept = (1..).zip(point).filter(|(_, x)| x.abs() > 0.7);
                let pairs: Vec<String> = kept.map(|(at, x)| format!("{at}:{x:.5}")).collect();
                format!("{{{}}}/{}", pairs.join(","), point.len())
            }
            _ => literal(point),
        }
    }
}

/// A point as `vector` and `halfvec` write it.
pub fn literal(point: &[f64]) -> String {
    let mut text = String::from("[");
    for (place, number) in point.iter().enumerate() {
        let _ = write!(text, "{}{number:.5}", if place == 0 { "" } else { "," });
    }
    text + "]"
}

/// The operator of a class, by its name.
pub fn operator(class: &str) -> &'static str {
    let names = [
        ("_l2_", "<->"),
        ("_ip_", "<#>"),
        ("_cosine_", "<=>"),
        ("_l1_", "<+>"),
        ("_hamming_", "<~>"),
        ("_jaccard_", "<%>"),
    ];
    let found = names.iter().find(|(part, _)| class.contains(part));
    found.expect("a known class").1
}

/// Whether this pgvector has an operator class for an access method.
pub fn has_class(client: &mut Client, class: &str, method: &str) -> bool {
    client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_opclass c JOIN pg_am a ON a.oid = c.opcmethod
                            WHERE c.opcname = $1::text::name AND a.amname = $2::text::name)",
            &[&class, &method],
        )
        .expect("the catalog")
        .get(0)
}

/// Copies rows into a table or some of its columns.
pub fn copy(client: &mut Client, table: &str, rows: impl IntoIterator<Item = String>) {
    let mut writer = client
        .copy_in(&format!("COPY {table} FROM STDIN"))
        .expect("COPY starts");
    for row in rows {
        writeln!(writer, "{row}").expect("COPY takes a row");
    }
    writer.finish().expect("COPY ends");
}
