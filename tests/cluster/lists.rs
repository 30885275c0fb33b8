//! The health of an IVFFlat index agrees with a second reader of its files, which knows the format from pgvector's
//! sources and shares no code with the product. `PGVECTOR_ORACLE` may name a script that is asked as well
//! (`python3 SCRIPT ivfflat FILE`).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use postgres::Client;

use crate::harness::{Embeddings, Options, Server};

const PAGE: usize = 8192;

/// What the files hold.
#[derive(Debug, Default)]
struct Lists {
    pages: i64,
    centers: Vec<Vec<f64>>,
    members: Vec<Vec<Vec<f64>>>,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn items(page: &[u8]) -> Vec<&[u8]> {
    (24..usize::from(u16_at(page, 12)))
        .step_by(4)
        .map(|at| u32_at(page, at))
        .filter(|pointer| pointer >> 15 & 3 == 1)
        .map(|pointer| &page[(pointer & 0x7FFF) as usize..][..(pointer >> 17) as usize])
        .collect()
}

/// A `vector`, behind a length word of one byte or four.
fn vector(bytes: &[u8]) -> Vec<f64> {
    let data = if bytes[0] & 1 == 1 {
        &bytes[1..]
    } else {
        &bytes[4..]
    };
    let floats = data[4..].chunks_exact(4).take(usize::from(u16_at(data, 0)));
    floats
        .map(|c| f64::from(f32::from_bits(u32_at(c, 0))))
        .collect()
}

fn read(file: &Path) -> Lists {
    let bytes = std::fs::read(file).expect("the file of an index");
    let page = |block: u32| &bytes[block as usize * PAGE..][..PAGE];
    let mut lists = Lists {
        pages: (bytes.len() / PAGE) as i64,
        ..Lists::default()
    };
    let mut block = 1;
    while block != u32::MAX {
        for list in items(page(block)) {
            lists.centers.push(vector(&list[8..]));
            let (mut members, mut next) = (Vec::new(), u32_at(list, 0));
            while next != u32::MAX {
                members.extend(items(page(next)).iter().map(|entry| vector(&entry[8..])));
                next = u32_at(page(next), PAGE - 8);
            }
            lists.members.push(members);
        }
        block = u32_at(page(block), PAGE - 8);
    }
    lists
}

impl Lists {
    /// By definition, distance by distance.
    fn centroid_quality(&self, spherical: bool) -> f64 {
        let unit = |v: &[f64]| -> Vec<f64> {
            let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
            let scale = if spherical && norm > 0.0 { norm } else { 1.0 };
            v.iter().map(|x| x / scale).collect()
        };
        let apart =
            |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
        let (mut whole, mut removable) = (0.0, 0.0);
        for (center, members) in self.centers.iter().zip(&self.members) {
            let mut mean = vec![0.0; center.len()];
            for member in members {
                let member = unit(member);
                whole += apart(&member, center);
                mean.iter_mut()
                    .zip(&member)
                    .for_each(|(mean, x)| *mean += x / members.len() as f64);
            }
            if !members.is_empty() {
                removable += members.len() as f64 * apart(&unit(&mean), center);
            }
        }
        if whole > 0.0 {
            1.0 - removable / whole
        } else {
            1.0
        }
    }
}

/// Compares, and returns balance, quality and staleness.
#[track_caller]
fn agreed(server: &Server, client: &mut Client, spherical: bool) -> (f32, f32, f32) {
    let file = server.index_file("app", "docs_ivf");
    let found = read(&file);
    let row = client
        .query_one("SELECT * FROM ruvector_dag_ivfflat_health('docs_ivf')", &[])
        .expect("health");
    let sizes: Vec<f64> = found.members.iter().map(|m| m.len() as f64).collect();
    let (lists, rows): (f64, f64) = (sizes.len() as f64, sizes.iter().sum());
    let mean = rows / lists;
    let deviation = (sizes.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / lists).sqrt();
    let squares: f64 = sizes.iter().map(|n| n * n).sum();
    assert_eq!(row.get::<_, i64>("pages"), found.pages);
    assert_eq!(row.get::<_, i64>("lists"), lists as i64);
    assert_eq!(row.get::<_, i64>("vectors"), rows as i64);
    assert_eq!(
        row.get::<_, i64>("empty_clusters"),
        sizes.iter().filter(|n| **n == 0.0).count() as i64
    );
    assert_eq!(
        row.get::<_, i64>("largest_cluster"),
        sizes.iter().fold(0.0, |a: f64, b| a.max(*b)) as i64
    );
    let close = |said: f32, wanted: f64, what: &str| {
        assert!(
            (f64::from(said) - wanted).abs() < 1e-4 * wanted.max(1.0),
            "{what}: {said}, not {wanted}"
        );
    };
    let balance: f32 = row.get("cluster_balance");
    let quality: f32 = row.get("centroid_quality");
    close(
        balance,
        if rows > 0.0 { deviation / mean } else { 0.0 },
        "cluster_balance",
    );
    close(
        row.get("imbalance_factor"),
        if rows > 0.0 {
            lists * squares / (rows * rows)
        } else {
            1.0
        },
        "imbalance_factor",
    );
    close(
        quality,
        found.centroid_quality(spherical),
        "centroid_quality",
    );
    ask_the_script(&file, &sizes);
    (balance, quality, row.get("training_staleness_hours"))
}

#[track_caller]
fn ask_the_script(file: &Path, sizes: &[f64]) {
    let Some(script) = std::env::var_os("PGVECTOR_ORACLE") else {
        return;
    };
    let output = Command::new("python3")
        .arg(script)
        .arg("ivfflat")
        .arg(file)
        .output();
    let output = output.expect("python3 runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["list_heads"].as_i64(), Some(sizes.len() as i64));
    assert_eq!(said["tuples"].as_f64(), Some(sizes.iter().sum()));
    assert_eq!(
        said["empty"].as_i64(),
        Some(sizes.iter().filter(|n| **n == 0.0).count() as i64)
    );
}

#[test]
fn figures_agree_from_the_build_to_drift() {
    let server = Server::start(
        Options::new()
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
    for (class, spherical) in [
        ("vector_l2_ops", false),
        ("vector_ip_ops", true),
        ("vector_cosine_ops", true),
    ] {
        client
            .batch_execute(&format!(
                "DROP INDEX IF EXISTS docs_ivf;
                 CREATE INDEX docs_ivf ON docs USING ivfflat (v {class}) WITH (lists = 40)"
            ))
            .expect("an index");
        let (_, fresh, _) = agreed(&server, &mut client, spherical);
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
    client.batch_execute("VACUUM docs").expect("vacuum");
    let (balance, drifted, _) = agreed(&server, &mut client, true);
    assert!(balance > 1.0 && drifted < 0.9, "{balance} {drifted}");

    client.batch_execute("DELETE FROM docs").expect("delete");
    client.batch_execute("VACUUM docs").expect("vacuum");
    assert_eq!(agreed(&server, &mut client, true).1, 1.0);
}

#[test]
fn every_kind_of_value_is_read() {
    let server = Server::start(Options::new().setting("ruvector.dag_healing_enabled", "off"));
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
        let known: bool = client
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_opclass c JOIN pg_am a ON a.oid = c.opcmethod
                                WHERE c.opcname = $1::text::name AND a.amname = 'ivfflat')",
                &[&class],
            )
            .expect("the catalog")
            .get(0);
        if !known {
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
        let look: serde_json::Value = client
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
    let server = Server::start(Options::new().setting("ruvector.dag_healing_interval_ms", 500));
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
    let after: serde_json::Value =
        server.value("app", "SELECT after FROM ruvector_dag_repair_history()");
    assert_eq!(after["ivfflat"]["vectors"], 900, "{after}");
}
