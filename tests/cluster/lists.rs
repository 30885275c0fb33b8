//! The health of an IVFFlat index agrees with what an independent reader finds in its files.

use std::path::Path;
use std::time::Duration;

use postgres::Client;
use serde_json::Value;

use crate::harness::{Embeddings, Options, Server, vacuum};
use crate::oracle::{self, ivfflat::Lists};
use crate::values::has_class;

/// What the product and the second reader agree on.
pub struct Agreed {
    pub balance: f64,
    pub quality: f64,
    pub empty: i64,
    /// 1 − predicted pages / pages, as the product has it.
    pub fragmentation: f64,
}

/// Compares the figures of an index of an operator class.
#[track_caller]
pub fn agreed(server: &Server, client: &mut Client, index: &str, class: &str) -> Agreed {
    let database = client.query_one("SELECT current_database()::text", &[]);
    let database: String = database.expect("a database").get(0);
    let file = server.index_file(&database, index);
    let found = Lists::read(&file, class);
    let row = client
        .query_one(
            "SELECT h.*, ruvector_dag_health_check($1::text::regclass) -> 'indexes' -> 0 AS look
             FROM ruvector_dag_ivfflat_health($1::text::regclass) h",
            &[&index],
        )
        .unwrap_or_else(|error| panic!("{index}: {error:?}"));
    let look: Value = row.get("look");
    let sizes = Sizes::of(&found);
    let number = |column: &str| row.get::<_, i64>(column) as f64;
    let share = |column: &str| f64::from(row.get::<_, f32>(column));
    assert_eq!(found.announced as f64, sizes.lists, "{index}");
    for (what, said, found) in [
        ("pages", number("pages"), found.pages as f64),
        ("lists", number("lists"), sizes.lists),
        ("vectors", number("vectors"), sizes.rows),
        ("empty_clusters", number("empty_clusters"), sizes.empty),
        ("largest_cluster", number("largest_cluster"), sizes.largest),
    ] {
        assert_eq!(said, found, "{what} of {index}");
    }
    assert_eq!(look["dimensions"].as_i64(), Some(found.dimensions));
    assert_eq!(look["notices"], serde_json::json!([]), "{index}");
    let quality = found.centroid_quality();
    for (what, said, found) in [
        ("cluster_balance", share("cluster_balance"), sizes.balance),
        (
            "imbalance_factor",
            share("imbalance_factor"),
            sizes.imbalance,
        ),
        ("centroid_quality", share("centroid_quality"), quality),
    ] {
        assert!(close(said, found), "{what} of {index}: {said}, not {found}");
    }
    ask_the_script(&file, &found, &sizes);
    println!("{index}: {sizes:?}, quality {quality}");
    Agreed {
        balance: sizes.balance,
        quality,
        empty: sizes.empty as i64,
        fragmentation: look["fragmentation"].as_f64().expect("a figure"),
    }
}

fn close(said: f64, found: f64) -> bool {
    (said - found).abs() < 1e-4 * found.max(1.0)
}

/// The entries of lists, and what follows from their numbers.
#[derive(Debug)]
struct Sizes {
    lists: f64,
    rows: f64,
    empty: f64,
    largest: f64,
    /// Standard deviation / mean.
    balance: f64,
    imbalance: f64,
}

impl Sizes {
    fn of(lists: &Lists) -> Self {
        let sizes = lists.sizes();
        let (lists, rows): (f64, f64) = (sizes.len() as f64, sizes.iter().sum());
        let mean = rows / lists;
        let variance = sizes.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / lists;
        let squares: f64 = sizes.iter().map(|n| n * n).sum();
        let of_some = |figure: f64, of_none: f64| if rows > 0.0 { figure } else { of_none };
        Self {
            lists,
            rows,
            empty: sizes.iter().filter(|n| **n == 0.0).count() as f64,
            largest: sizes.iter().copied().fold(0.0, f64::max),
            balance: of_some(variance.sqrt() / mean, 0.0),
            imbalance: of_some(lists * squares / (rows * rows), 1.0),
        }
    }
}

#[track_caller]
fn ask_the_script(file: &Path, found: &Lists, sizes: &Sizes) {
    let Some(said) = oracle::script("ivfflat", file) else {
        return;
    };
    // To the script an index without entries has no imbalance at all.
    let imbalance = if sizes.rows > 0.0 {
        sizes.imbalance
    } else {
        0.0
    };
    for (key, found) in [
        ("blocks", found.pages as f64),
        ("dimensions", found.dimensions as f64),
        ("lists", found.announced as f64),
        ("list_heads", sizes.lists),
        ("tuples", sizes.rows),
        ("empty", sizes.empty),
        ("max", sizes.largest),
        ("cv", sizes.balance),
        ("imbalance", imbalance),
    ] {
        let said = said[key].as_f64().expect("a number");
        assert!(
            close(said, found),
            "{key}: the script says {said}, not {found}"
        );
    }
    println!("the script agrees");
}

#[test]
fn figures_agree_from_the_build_to_drift() {
    let server = Server::start(
        Options::new()
            .undemanding()
            .setting("autovacuum", "off")
            .setting("ruvector.dag_healing_enabled", "off"),
    );
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("app");
    let data = Embeddings::descriptions();
    client
        .batch_execute(&format!(
            "CREATE TABLE docs (id int, body text, v vector({}))",
            data.dimensions
        ))
        .expect("a table");
    data.copy_into(&mut client, "docs", 0..data.rows.len());
    for class in ["vector_l2_ops", "vector_ip_ops", "vector_cosine_ops"] {
        client
            .batch_execute(&format!(
                "DROP INDEX IF EXISTS docs_ivf;
                 CREATE INDEX docs_ivf ON docs USING ivfflat (v {class}) WITH (lists = 40)"
            ))
            .expect("an index");
        let fresh = agreed(&server, &mut client, "docs_ivf", class).quality;
        assert!(fresh > 0.95, "{class}: {fresh}");
        let little: i64 = client
            .query_one(
                "SELECT vectors FROM (SELECT set_config('maintenance_work_mem', '1MB', true)) s,
                        ruvector_dag_ivfflat_health('docs_ivf')",
                &[],
            )
            .expect("health in little memory")
            .get(0);
        assert_eq!(little, data.rows.len() as i64);
    }

    // Everything moves away from where the centres are, and most of it into few lists.
    client
        .batch_execute(
            "DELETE FROM docs WHERE id % 4 <> 0;
             INSERT INTO docs SELECT -id, '', (SELECT v FROM docs WHERE id = 0) FROM docs;
             UPDATE docs SET v = v + (SELECT v FROM docs WHERE id = 4) WHERE id > 0",
        )
        .unwrap_or_else(|error| panic!("{error:?}"));
    vacuum(&mut client, "docs");
    let class = "vector_cosine_ops";
    let drifted = agreed(&server, &mut client, "docs_ivf", class);
    assert!(drifted.balance > 1.0, "{}", drifted.balance);
    assert!(drifted.quality < 0.9, "{}", drifted.quality);

    client.batch_execute("DELETE FROM docs").expect("delete");
    vacuum(&mut client, "docs");
    let emptied = agreed(&server, &mut client, "docs_ivf", class);
    assert_eq!((emptied.quality, emptied.empty), (1.0, 40));
}

#[test]
fn every_kind_of_value_is_read() {
    let server = Server::start(
        Options::new()
            .undemanding()
            .setting("ruvector.dag_healing_enabled", "off"),
    );
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("app");
    for (kind, value, class) in [
        (
            "vector(3)",
            "ARRAY[i % 7, i % 5, i]::real[]::vector",
            "vector_l2_ops",
        ),
        (
            "halfvec(3)",
            "ARRAY[1 + i % 7, i % 5, i % 11]::real[]::halfvec",
            "halfvec_cosine_ops",
        ),
        (
            "bit(8000)",
            "repeat(CASE i % 3 WHEN 0 THEN '0110' ELSE '1000' END, 2000)::bit(8000)",
            "bit_hamming_ops",
        ),
    ] {
        if !has_class(&mut client, class, "ivfflat") {
            continue;
        }
        client
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS docs;
                 CREATE TABLE docs (v {kind});
                 INSERT INTO docs SELECT {value} FROM generate_series(1, 900) i;
                 CREATE INDEX docs_ivf ON docs USING ivfflat (v {class}) WITH (lists = 8)"
            ))
            .unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        let look: Value = client
            .query_one(
                "SELECT ruvector_dag_health_check('docs') -> 'indexes' -> 0",
                &[],
            )
            .expect("a check")
            .get(0);
        assert_eq!(look["vectors"], 900, "{look}");
        assert_eq!(
            look["notices"],
            serde_json::json!([]),
            "every value can be read: {look}"
        );
        let predicted = look["predicted_pages"].as_f64().expect("a figure");
        let pages = look["pages"].as_f64().expect("a figure");
        assert!(
            (predicted - pages).abs() <= 0.02 * pages,
            "{predicted} predicted, {pages} built"
        );
        assert!(look["centroid_quality"].as_f64() > Some(0.8), "{look}");
    }
}

#[test]
fn an_invalid_index_on_lists_is_rebuilt() {
    let server = Server::start(
        Options::new()
            .undemanding()
            .setting("ruvector.dag_healing_interval_ms", 500),
    );
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("app");
    client
        .batch_execute(
            "CREATE TABLE docs (v vector(3));
             INSERT INTO docs SELECT ARRAY[i % 7, i % 5, i]::real[]::vector FROM generate_series(1, 900) i;
             CREATE INDEX docs_ivf ON docs USING ivfflat (v vector_l2_ops) WITH (lists = 8);
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_ivf'::regclass",
        )
        .expect("an index left invalid");
    server.wait_until("it is valid again", Duration::from_secs(60), || {
        server.value::<bool>(
            "app",
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'docs_ivf'::regclass",
        )
    });
    server.wait_until("the repair has succeeded", Duration::from_secs(60), || {
        server.value::<i64>(
            "app",
            "SELECT count(*) FROM ruvector_dag_repair_history()
             WHERE issue_type = 'invalid_index' AND status = 'succeeded'",
        ) == 1
    });
    let after: Value = server.value("app", "SELECT after FROM ruvector_dag_repair_history()");
    assert_eq!(after["ivfflat"]["vectors"], 900, "{after}");
}
