//! `make demo`: a server of its own with real embeddings, damaged the way production does it, and
//! mended by the healer while nobody touches it.

#[path = "harness/mod.rs"]
mod harness;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::{Embeddings, Options, Server, vacuum, wait_until};
use postgres::{Client, Row};
use serde_json::Value;

/// Longest the story may take.
const LIMIT: Duration = Duration::from_secs(100);
/// Time between the healer's check cycles, in milliseconds.
const INTERVAL_MS: u32 = 3_000;

fn main() {
    let started = Instant::now();
    title("A server of its own, with the healer preloaded");
    let options = Options::new().setting("ruvector.dag_healing_interval_ms", INTERVAL_MS);
    let server = Server::start(options);
    server.create_database("demo", &["vector", "ruvector_dag_healing"]);
    let (major, minor) = server.version();
    let mut client = server.client("demo");
    println!(
        "PostgreSQL {major}.{minor} on a private socket; the healer looks every {INTERVAL_MS} ms."
    );

    title("Real embeddings, a fresh HNSW index");
    load(&mut client);
    show_health(&mut client);

    title("Damage, as production does it");
    println!("80 % of the rows are deleted and vacuumed:");
    client
        .batch_execute("DELETE FROM documents WHERE id % 5 <> 0")
        .expect("delete");
    vacuum(&mut client, "documents");
    show_health(&mut client);
    cancel_a_build(&server);
    println!("A concurrent build on another table is cancelled and leaves an invalid index:");
    show_indexes(&mut client);

    title("From here on nobody touches it");
    watch(&mut client, started);

    title("Afterwards");
    show_health(&mut client);
    show_indexes(&mut client);
    show_history(&mut client);
    println!("\nDone in {:.0} s.", started.elapsed().as_secs_f64());
}

fn title(text: &str) {
    println!("\n── {text}");
}

fn load(client: &mut Client) {
    let descriptions = Embeddings::descriptions();
    let table = |name: &str| {
        let dimensions = descriptions.dimensions;
        format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, body text, embedding vector({dimensions}))"
        )
    };
    for name in ["documents", "archive"] {
        client.batch_execute(&table(name)).expect("a table");
        descriptions.copy_into(client, name, 0..descriptions.rows.len());
    }
    let built = Instant::now();
    client
        .batch_execute(
            "CREATE INDEX documents_embedding ON documents USING hnsw (embedding vector_cosine_ops)",
        )
        .expect("an index");
    println!(
        "{} × {} dimensions, index built in {:.1} s:",
        descriptions.rows.len(),
        descriptions.dimensions,
        built.elapsed().as_secs_f64()
    );
}

/// Has a concurrent build wait for an open transaction, and cancels it there.
fn cancel_a_build(server: &Server) {
    let mut blocker = server.client("demo");
    blocker
        .batch_execute("BEGIN; UPDATE archive SET body = body WHERE id = 1")
        .expect("an open transaction");
    let mut builder = server.client("demo");
    let cancel = builder.cancel_token();
    let build = std::thread::spawn(move || {
        builder.batch_execute(
            "CREATE INDEX CONCURRENTLY archive_embedding ON archive \
             USING hnsw (embedding vector_l2_ops)",
        )
    });
    wait_until("the build waits", Duration::from_secs(30), || {
        server.value(
            "demo",
            "SELECT count(*) > 0 FROM pg_stat_progress_create_index",
        )
    });
    cancel
        .cancel_query(postgres::NoTls)
        .expect("a cancellation");
    let ended = build.join().expect("the builder's thread");
    assert!(ended.is_err(), "the build was to be cancelled");
}

fn show_health(client: &mut Client) {
    let row = client
        .query_one(
            "SELECT * FROM ruvector_dag_hnsw_health('documents_embedding')",
            &[],
        )
        .expect("health");
    println!(
        "   {}: {} live of {} elements on {} pages, fragmentation {:.2}, connectivity {:.3}, {} orphans",
        row.get::<_, &str>("index_name"),
        row.get::<_, i64>("live_elements"),
        row.get::<_, i64>("elements"),
        row.get::<_, i64>("pages"),
        row.get::<_, f32>("fragmentation"),
        row.get::<_, f32>("connectivity_score"),
        row.get::<_, i64>("orphan_count"),
    );
}

fn show_indexes(client: &mut Client) {
    let rows = client
        .query(
            "SELECT indexrelid::regclass::text, pg_size_pretty(pg_relation_size(indexrelid)),
                    CASE WHEN indisvalid THEN 'valid' ELSE 'INVALID' END
             FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = c.relam
             WHERE amname = 'hnsw' ORDER BY 1",
            &[],
        )
        .expect("indexes");
    for row in rows {
        let (name, size, valid): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        println!("   {name:<28} {size:>8}  {valid}");
    }
}

/// Tells what the healer does, as its tables and events show it, until all is mended and the
/// replaced indexes are gone.
fn watch(client: &mut Client, started: Instant) {
    let began = Instant::now();
    let mut told = BTreeSet::new();
    let mut tell = |key: String, text: String| {
        if told.insert(key) {
            println!("{:>6.1} s  {text}", started.elapsed().as_secs_f64());
        }
    };
    loop {
        assert!(
            began.elapsed() < LIMIT,
            "the healer has not mended it in time"
        );
        for row in query(client, "SELECT * FROM ruvector_dag_detected_issues()") {
            tell_issue(&row, &mut tell);
        }
        for row in query(
            client,
            "SELECT * FROM ruvector_dag_repair_history() ORDER BY 1",
        ) {
            tell_repair(&row, &mut tell);
        }
        let done = query(
            client,
            "SELECT count(*) FILTER (WHERE status = 'succeeded') >= 2
                    AND bool_and(details->>'replaced_index' IS NULL)
                    AND NOT EXISTS (SELECT FROM ruvector_dag_detected_issues())
             FROM ruvector_dag_repair_history()",
        );
        if done[0].get::<_, Option<bool>>(0) == Some(true) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn query(client: &mut Client, statement: &str) -> Vec<Row> {
    client.query(statement, &[]).expect("the healer's tables")
}

fn tell_issue(row: &Row, tell: &mut impl FnMut(String, String)) {
    let id: &str = row.get("issue_id");
    let (kind, severity): (&str, &str) = (row.get("issue_type"), row.get("severity"));
    let (cause, evidence): (&str, Value) = (row.get("root_cause"), row.get("evidence"));
    let index = evidence_line(&evidence);
    tell(
        format!("issue {id}"),
        format!(
            "issue     {kind} ({severity}), priority {}: {cause}",
            row.get::<_, i32>("priority")
        ),
    );
    tell(format!("evidence {id}"), format!("evidence  {index}"));
    if let Some(refusal) = evidence.get("refusal") {
        let code = refusal["code"].as_str().unwrap_or_default();
        let reason = refusal["reason"].as_str().unwrap_or_default();
        tell(
            format!("refusal {id} {code}"),
            format!("not now   {reason}"),
        );
    }
}

/// The figures that matter, out of all that were taken.
fn evidence_line(evidence: &Value) -> String {
    let keys = [
        "pages",
        "predicted_pages",
        "elements",
        "deleted_elements",
        "fragmentation",
        "connectivity_score",
        "orphan_count",
        "dead_rows",
        "valid",
    ];
    let shown = keys.iter().filter_map(|key| {
        let value = evidence.get(key).filter(|value| !value.is_null())?;
        Some(match value.as_f64().filter(|_| value.is_f64()) {
            Some(number) => format!("{key} {number:.3}"),
            None => format!("{key} {value}"),
        })
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn tell_repair(row: &Row, tell: &mut impl FnMut(String, String)) {
    let id: i64 = row.get("repair_id");
    let (status, details): (&str, Value) = (row.get("status"), row.get("details"));
    let plan = &details["plan"];
    let steps: Vec<&str> = plan["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|step| step["step"].as_str())
        .collect();
    if !steps.is_empty() {
        let plan = format!(
            "plan      repair {id}, {}: {} (about {} ms, reversible: {})",
            row.get::<_, &str>("strategy"),
            steps.join(" → "),
            plan["estimate"]["duration_ms"],
            plan["estimate"]["reversible"],
        );
        tell(format!("plan {id}"), plan);
    }
    if let Some(step) = details["step"].as_str() {
        tell(
            format!("step {id} {step}"),
            format!("progress  repair {id}: {step}"),
        );
    }
    if status == "running" {
        return;
    }
    for side in ["before", "after"] {
        if let Some(figures) = row.get::<_, Option<Value>>(side) {
            let mut line = evidence_line(&figures["hnsw"]);
            if let Some(recall) = figures["probe"]["recall"].as_f64() {
                line += &format!(
                    ", recall@10 of {} probes {recall:.3}",
                    figures["probe"]["queries"]
                );
            }
            if line.is_empty() {
                line = "no figures: the index was never finished".into();
            }
            tell(format!("{side} {id}"), format!("{side:<9} {line}"));
        }
    }
    let error = row.get::<_, Option<&str>>("error").unwrap_or_default();
    let duration = row.get::<_, Option<f64>>("duration_ms").unwrap_or_default();
    tell(
        format!("end {id} {status}"),
        format!("result    repair {id} {status} in {duration:.0} ms {error}"),
    );
    if let Some(kept) = details["replaced_index"].as_str() {
        let until = details["keep_until"].as_str().unwrap_or_default();
        tell(
            format!("kept {id}"),
            format!(
                "undo      ruvector_dag_rollback({id}) until {until}; {kept} is kept up meanwhile"
            ),
        );
    } else {
        tell(
            format!("clean {id}"),
            format!("clean     repair {id}: no second index is left"),
        );
    }
}

fn show_history(client: &mut Client) {
    println!("   history:");
    let rows = query(
        client,
        "SELECT repair_id, issue_type, strategy, index::text, initiated_by, status, duration_ms
         FROM ruvector_dag_repair_history() ORDER BY 1",
    );
    for row in rows {
        println!(
            "   {} {:<14} {:<16} {:<22} {:<5} {:<10} {:>6.0} ms",
            row.get::<_, i64>(0),
            row.get::<_, &str>(1),
            row.get::<_, &str>(2),
            row.get::<_, &str>(3),
            row.get::<_, &str>(4),
            row.get::<_, &str>(5),
            row.get::<_, Option<f64>>(6).unwrap_or_default(),
        );
    }
}
