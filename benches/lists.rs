//! What it takes to mend the lists of an IVFFlat index in place after its rows have drifted, against
//! rebuilding it, in the same run on the same server: time, log, and recall for queries that are no rows.
//!
//! `make bench`. ROWS, DIMENSIONS, LISTS and PROBES may be set in the environment, and ONLY the drifts whose
//! names contain a word.

#[path = "../tests/cluster/harness/mod.rs"]
mod harness;
#[path = "side_by_side.rs"]
mod side_by_side;

use std::io::Write;
use std::time::{Duration, Instant};

use harness::{Dice, Server, literal, vacuum};
use postgres::Client;
use serde_json::Value;
use side_by_side::{log, number, value};

const DATABASE: &str = "bench";
/// Dimensions that the rows really vary in: embeddings have far more than they use.
const LATENT: usize = 24;
/// Queries by which recall is told, and neighbours of each.
const QUERIES: usize = 300;
const K: usize = 10;

fn main() {
    let size = Size {
        rows: number("ROWS", 100_000),
        dimensions: number("DIMENSIONS", 128),
        lists: number("LISTS", 100),
        probes: number("PROBES", 1),
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    let server = side_by_side::server();
    server.create_database(DATABASE, &["vector", "ruvector_dag_healing"]);
    server.execute(
        DATABASE,
        &format!(
            "ALTER DATABASE {DATABASE} SET ivfflat.probes = {}",
            size.probes
        ),
    );
    println!(
        "\n{} x {}, {} lists, {} probes, in shared buffers",
        size.rows, size.dimensions, size.lists, size.probes
    );
    let drifts: [(&str, Drift); 8] = [
        (
            "questions lie wide, clusters wander",
            Drift {
                wide: 2.0,
                ..Drift::wander(1.0)
            },
        ),
        ("clusters wander", Drift::wander(1.0)),
        ("clusters wander far", Drift::wander(1.5)),
        (
            "all scaled by 1.5",
            Drift {
                scale: 1.5,
                ..Drift::default()
            },
        ),
        (
            "all turned",
            Drift {
                turned: true,
                ..Drift::default()
            },
        ),
        (
            "half of the clusters new",
            Drift {
                renewed: 0.5,
                ..Drift::default()
            },
        ),
        (
            "a third is about something new",
            Drift {
                aside: 0.33,
                ..Drift::default()
            },
        ),
        (
            "few clusters have most",
            Drift {
                crowded: 0.8,
                ..Drift::default()
            },
        ),
    ];
    for (name, drift) in &drifts {
        if name.contains(&only) {
            trial(&server, &size, name, drift);
        }
    }
}

struct Size {
    rows: usize,
    dimensions: usize,
    lists: usize,
    probes: usize,
}

/// How rows differ from those that the lists were trained on.
#[derive(Default, Clone, Copy)]
struct Drift {
    /// How far the middle of each cluster has moved, in units of how far its rows are from it.
    wander: f64,
    /// Everything is multiplied by 1 + this, where it is not 0.
    scale: f64,
    turned: bool,
    /// Share of the clusters that are elsewhere.
    renewed: f64,
    /// Share of the clusters that are elsewhere, and all of them far from the others.
    aside: f64,
    /// Share of the rows that are in a fiftieth of the clusters.
    crowded: f64,
    /// How far questions are from the middle of a cluster, in units of how far its rows are, where it is not 0.
    wide: f64,
}

impl Drift {
    fn wander(wander: f64) -> Self {
        Self {
            wander,
            ..Self::default()
        }
    }
}

/// Where rows come from.
struct Clusters {
    centers: Vec<Vec<f64>>,
    /// Latent dimensions in real ones.
    spread: Vec<Vec<f64>>,
    crowded: f64,
    /// See `Drift`.
    wide: f64,
}

impl Clusters {
    fn new(size: &Size) -> Self {
        let mut dice = Dice::new(1);
        let mut center = |_| dice.point(LATENT).iter().map(|x| 2.0 * x).collect();
        let centers = (0..size.lists).map(&mut center).collect();
        Self {
            centers,
            spread: (0..size.dimensions).map(|_| dice.point(LATENT)).collect(),
            crowded: 0.0,
            wide: 1.0,
        }
    }

    fn drifted(&self, drift: &Drift) -> Self {
        let mut dice = Dice::new(2);
        let turn = |center: &[f64]| -> Vec<f64> {
            let pairs = center.chunks_exact(2);
            let (sin, cos) = 0.7_f64.sin_cos();
            let turned =
                |pair: &[f64]| [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
            pairs.flat_map(turned).collect()
        };
        let centers = self.centers.iter().map(|center| {
            let mut center = center.clone();
            if dice.happens(drift.renewed) {
                center = dice.point(LATENT).iter().map(|x| 2.0 * x).collect();
            }
            if dice.happens(drift.aside) {
                center = dice.point(LATENT).iter().map(|x| 2.0 * x + 12.0).collect();
            }
            let off = dice.point(LATENT);
            let scale = if drift.scale > 0.0 { drift.scale } else { 1.0 };
            let moved = center
                .iter()
                .zip(off)
                .map(|(x, off)| (x + drift.wander * off) * scale);
            let moved: Vec<f64> = moved.collect();
            if drift.turned { turn(&moved) } else { moved }
        });
        Self {
            centers: centers.collect(),
            spread: self.spread.clone(),
            crowded: drift.crowded,
            wide: if drift.wide > 0.0 { drift.wide } else { 1.0 },
        }
    }

    fn vector(&self, dice: &mut Dice, wide: f64) -> Vec<f32> {
        let few = self.centers.len().div_ceil(50);
        let which = match dice.happens(self.crowded) {
            true => dice.below(few),
            false => dice.below(self.centers.len()),
        };
        let center = &self.centers[which];
        let point: Vec<f64> = center.iter().map(|x| x + wide * dice.normal()).collect();
        let along = |axis: &Vec<f64>| axis.iter().zip(&point).map(|(a, x)| a * x).sum::<f64>();
        let all = self
            .spread
            .iter()
            .map(|axis| (along(axis) + 0.3 * dice.normal()) as f32);
        all.collect()
    }

    fn fill(&self, client: &mut Client, size: &Size, seed: u64) {
        let mut dice = Dice::new(seed);
        let mut writer = client.copy_in("COPY docs FROM STDIN").expect("COPY starts");
        for row in 0..size.rows {
            writeln!(writer, "{row}\t{}", literal(&self.vector(&mut dice, 1.0))).expect("a row");
        }
        writer.finish().expect("COPY ends");
    }
}

fn trial(server: &Server, size: &Size, name: &str, drift: &Drift) {
    let mut client = server.client(DATABASE);
    let before = Clusters::new(size);
    client
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS docs; CREATE TABLE docs (id int, v vector({}))",
            size.dimensions
        ))
        .expect("a table");
    before.fill(&mut client, size, 3);
    client
        .batch_execute(&format!(
            "CREATE INDEX docs_ivf ON docs USING ivfflat (v vector_l2_ops) WITH (lists = {});
             DELETE FROM docs",
            size.lists
        ))
        .expect("an index");
    vacuum(&mut client, "docs");
    let after = before.drifted(drift);
    after.fill(&mut client, size, 4);
    vacuum(&mut client, "docs");
    // Trained more than a week ago, as far as is known.
    client
        .batch_execute(
            "ANALYZE docs; SELECT ruvector_dag_health_check('docs');
             UPDATE ruvector_dag_healing.index_state SET look = jsonb_set(look, '{first_seen}',
                 to_jsonb((look->>'first_seen')::bigint - 8 * 86400000000::bigint)); CHECKPOINT",
        )
        .expect("a look");
    people_ask(server, &after);
    // Recall is told by other questions of the same kind.
    let queries = Queries::ask(&mut client, &after, 6);
    let stale = queries.recall(&mut client);
    let figures = health(&mut client);
    let issues: Value = value(&mut client, "SELECT ruvector_dag_health_check('docs')");
    let issues = issues["indexes"][0]["issues"].as_array().cloned();
    let issues = issues.unwrap_or_default();
    let is_unbalanced = |issue: &&Value| {
        let id = issue.as_str().unwrap_or_default();
        id.starts_with("unbalanced_clusters")
    };
    let issue = issues.iter().find(is_unbalanced).or(issues.first());
    let issue = issue.cloned().unwrap_or_default();
    println!(
        "\n{name}: {issue}, quality {}, imbalance {}",
        figures.0, figures.1
    );
    // What reading the lists and moving the centres took, and what it led to.
    let (mut moved, mut relocated) = (None, None);
    if let Some(issue) = issue.as_str() {
        let size = "SELECT pg_relation_size('docs_ivf')";
        let (log_before, size_before) = (log(&mut client), value::<i64>(&mut client, size));
        let started = Instant::now();
        let id: i64 = value(
            &mut client,
            &format!("SELECT (ruvector_dag_repair('docs', '{issue}')->>'repair_id')::bigint"),
        );
        client
            .batch_execute(&format!("CALL ruvector_dag_wait({id})"))
            .expect("a repair");
        let took = started.elapsed().as_secs_f64();
        let written = log(&mut client) - log_before;
        let history: Value = value(
            &mut client,
            "SELECT to_jsonb(h) FROM ruvector_dag_repair_history('docs') h LIMIT 1",
        );
        let mended = queries.recall(&mut client);
        let figures = health(&mut client);
        println!(
            "  {} {} in {took:.2} s, log {:.1} MB, index from {:.1} to {:.1} MB: recall {stale:.4} -> {mended:.4}, quality {}, imbalance {}\n  {}\n  {}",
            history["repair_type"],
            history["status"],
            written as f64 / 1e6,
            size_before as f64 / 1e6,
            value::<i64>(&mut client, size) as f64 / 1e6,
            figures.0,
            figures.1,
            history["details"]["forecast"],
            history["error"],
        );
        let regroup = &history["details"]["regroup"];
        println!("  {regroup}");
        let ms = |what: &str| regroup[what].as_f64();
        let took = [ms("plan_ms"), ms("look_ms"), ms("move_ms")];
        relocated = took
            .into_iter()
            .sum::<Option<f64>>()
            .filter(|_| regroup["planned"].as_u64() > Some(0));
        if history["details"]["recenter"]["made"].as_u64() > Some(0) {
            let ms = |step: &str, what: &str| history["details"][step][what].as_f64();
            let took = [ms("forecast", "survey_ms"), ms("recenter", "write_ms")];
            moved = Some((took.map(|ms| ms.expect("a time")), mended));
        }
    }
    client.batch_execute("CHECKPOINT").expect("a checkpoint");
    let log_before = log(&mut client);
    let started = Instant::now();
    client
        .batch_execute("REINDEX INDEX CONCURRENTLY docs_ivf")
        .expect("a rebuild");
    let took = started.elapsed().as_secs_f64();
    let rebuilt = queries.recall(&mut client);
    println!(
        "  rebuild in {took:.2} s, log {:.1} MB: recall {:.4}, imbalance {}",
        (log(&mut client) - log_before) as f64 / 1e6,
        rebuilt,
        health(&mut client).1,
    );
    if let Some(ms) = relocated {
        println!(
            "  planning, looking and moving entries took {:.0} % of its time",
            ms / 10.0 / took
        );
    }
    if let Some(([read, wrote], mended)) = moved {
        println!(
            "  moving the centres regained {:.0} % of its gain; {read:.0} ms to read and {wrote:.0} ms to write are {:.0} % of its time",
            100.0 * (mended - stale) / (rebuilt - stale),
            (read + wrote) / 10.0 / took,
        );
    }
}

/// Has the healer keep questions that were asked.
fn people_ask(server: &Server, clusters: &Clusters) {
    let mut dice = Dice::new(5);
    let mut client = server.client(DATABASE);
    client
        .batch_execute("SET enable_seqscan = off")
        .expect("a setting");
    client
        .batch_execute("DELETE FROM ruvector_dag_healing.query_sample")
        .expect("nothing is kept of another distribution");
    server.set("ruvector.dag_healing_interval_ms", "500");
    server.wait_until("questions are kept", Duration::from_secs(120), || {
        // As many as find room between two check cycles.
        for _ in 0..16 {
            nearest(
                &mut client,
                &literal(&clusters.vector(&mut dice, clusters.wide)),
            );
        }
        server.value::<bool>(
            DATABASE,
            "SELECT count(*) >= 200 FROM ruvector_dag_healing.query_sample",
        )
    });
    server.reset("ruvector.dag_healing_interval_ms");
}

/// Queries that are no rows, and the rows nearest to each.
struct Queries(Vec<(String, Vec<i32>)>);

impl Queries {
    fn ask(client: &mut Client, clusters: &Clusters, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        client
            .batch_execute("SET enable_indexscan = off")
            .expect("a setting");
        let mut one = |_| {
            let query = literal(&clusters.vector(&mut dice, clusters.wide));
            let nearest = nearest(client, &query);
            (query, nearest)
        };
        Self((0..QUERIES).map(&mut one).collect())
    }

    fn recall(&self, client: &mut Client) -> f64 {
        client
            .batch_execute("SET enable_indexscan = on; SET enable_seqscan = off")
            .expect("a setting");
        let mut found = 0;
        for (query, expected) in &self.0 {
            let answer = nearest(client, query);
            found += answer.iter().filter(|id| expected.contains(id)).count();
        }
        client
            .batch_execute("RESET enable_seqscan")
            .expect("a setting");
        found as f64 / (K * self.0.len()) as f64
    }
}

fn nearest(client: &mut Client, query: &str) -> Vec<i32> {
    let sql = format!("SELECT id FROM docs ORDER BY v <-> '{query}' LIMIT {K}");
    let rows = client.query(&sql, &[]).expect("an answer");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Centroid quality and imbalance factor.
fn health(client: &mut Client) -> (f32, f32) {
    let row = client
        .query_one(
            "SELECT centroid_quality, imbalance_factor FROM ruvector_dag_ivfflat_health('docs_ivf')",
            &[],
        )
        .expect("health");
    (row.get(0), row.get(1))
}
