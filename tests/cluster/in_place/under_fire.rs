use std::time::Duration;

use super::fire::{self, Ends, Field, ROWS};
use super::plant::quiet;
use crate::harness::vacuum;
use crate::healing::stage::{DATABASE, Stage, options};

/// Repairs that are waited for, and times that damage is planted at most: a vacuum that comes first
/// may link what was cut off itself.
const REPAIRS: i64 = 2;
const ROUNDS: usize = 6;

/// Orphans that are no issue.
const FEW: usize = 10;

/// Waits until whatever could not be reached was mended: vacuums come first, and are slow.
fn is_healthy(stage: &Stage) {
    let limit = Duration::from_secs(300);
    stage.server.wait_until("damage is gone", limit, || {
        stage.value(&format!(
            "SELECT orphan_count <= {FEW} AND NOT EXISTS (
                 SELECT FROM ruvector_dag_repair_history('fire') WHERE status = 'running')
             FROM ruvector_dag_hnsw_health('fire_hnsw')"
        ))
    });
}

#[test]
fn nothing_is_lost_or_found_twice_while_others_write_and_vacuum() {
    let stage = quiet(
        options()
            .setting("ruvector.dag_healing_interval_ms", 500)
            .setting("autovacuum_naptime", "1s")
            .setting("max_connections", 40),
    );
    fire::fill(&mut stage.client(), ROWS);
    stage.server.reset("ruvector.dag_healing_enabled");
    let (server, field) = (&stage.server, Field::default());
    let logs = std::thread::scope(|scope| {
        let end = Ends(&field);
        let field = &field;
        let clients: Vec<_> = (0..2)
            .map(|number| scope.spawn(move || fire::client(server, DATABASE, number, field)))
            .collect();
        let vacuums = scope.spawn(|| fire::vacuum(server, DATABASE, field, Duration::from_secs(5)));
        let mut mended = 0;
        for round in 0..ROUNDS {
            if mended >= REPAIRS {
                break;
            }
            std::thread::sleep(Duration::from_secs(2));
            field.damage(server, DATABASE, "fire_hnsw", |file| {
                let which = file.ordinary(15 + round);
                file.cut(&which, |_| true);
            });
            stage.execute("SELECT ruvector_dag_health_check('fire')");
            // Vacuums come first, and are slow.
            is_healthy(&stage);
            mended = stage.value(
                "SELECT count(*) FROM ruvector_dag_repair_history('fire')
                 WHERE issue_type IN ('orphan_nodes', 'poor_connectivity') AND status = 'succeeded'",
            );
            stage.let_an_hour_pass();
        }
        assert!(mended > 0, "every time a vacuum came first");
        drop(end);
        vacuums.join().expect("vacuums without an error");
        let clients = clients.into_iter().map(|client| client.join());
        let logs: Result<Vec<_>, _> = clients.collect();
        logs.expect("clients without an error")
    });
    // What the last vacuums left behind.
    stage.execute("SELECT ruvector_dag_health_check('fire')");
    is_healthy(&stage);
    stage.server.set("ruvector.dag_healing_enabled", "off");
    let unmended: Vec<String> = stage
        .client()
        .query(
            "SELECT concat_ws(' ', issue_type, repair_type, status, error) FROM ruvector_dag_repair_history('fire')
             WHERE status <> 'succeeded'",
            &[],
        )
        .expect("the history")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let (all, missed) = fire::account(&mut stage.client(), &logs);
    assert!(all > 50, "{all} rows were written");
    assert!(
        missed <= FEW,
        "{missed} of {all} rows are not found: {unmended:?}"
    );
    vacuum(&mut stage.client(), "fire");
    let faults: Vec<String> = stage
        .client()
        .query(
            "SELECT message FROM ruvector_dag_index_check('fire_hnsw', true)",
            &[],
        )
        .expect("a check")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(faults, [""; 0], "{unmended:?}");
}
