//! Elements that are sound in themselves and cut off from the rest: no row of the check, but figures.

use serde_json::Value;

use crate::harness::{Mode, Options, Server};

use super::pages::{File, Place};
use super::{breaches, command};

const NOWHERE: Place = (u32::MAX, 0);

/// Takes every link to `cut` away that does not come from one of them. Returns how many.
fn cut_off(file: &mut File, cut: &[Place]) -> usize {
    let mut taken = 0;
    for element in file.live() {
        if cut.contains(&element) {
            continue;
        }
        let tuple = file.tuple(element);
        for layer in 0..=file.level(element) {
            let from = file.slot(element, layer);
            let most = if layer == 0 { 2 * file.m() } else { file.m() };
            let at = |nth: usize| from + 6 * nth;
            let links: Vec<Place> = (0..most).map(|nth| file.place_at(tuple, at(nth))).collect();
            let kept = links.iter().filter(|link| !cut.contains(link)).copied();
            let kept: Vec<Place> = kept.chain(std::iter::repeat(NOWHERE)).take(most).collect();
            taken += links.iter().filter(|link| cut.contains(link)).count();
            for (nth, link) in kept.into_iter().enumerate() {
                file.put_place(tuple, at(nth), link);
            }
        }
    }
    taken
}

/// Makes elements link only to each other.
fn join(file: &mut File, island: &[Place]) {
    for &element in island {
        let (tuple, from) = (file.tuple(element), file.slot(element, 0));
        let others = island.iter().filter(|other| **other != element).copied();
        let links = others.chain(std::iter::repeat(NOWHERE)).take(2 * file.m());
        for (nth, link) in links.collect::<Vec<_>>().into_iter().enumerate() {
            file.put_place(tuple, from + 6 * nth, link);
        }
    }
}

#[test]
fn an_orphan_and_an_island_are_figures() {
    let server = Server::start(
        Options::new()
            .setting("ruvector.dag_healing_enabled", "off")
            .setting("ruvector.dag_healing_interval_ms", 86_400_000)
            .setting("autovacuum", "off"),
    );
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("app");
    client
        .batch_execute(
            "CREATE TABLE t (v vector(3));
             INSERT INTO t SELECT ARRAY[i % 17, i % 23, i]::real[]::vector FROM generate_series(1, 1500) i;
             CREATE INDEX t_idx ON t USING hnsw (v vector_l2_ops) WITH (m = 8)",
        )
        .expect("an index to damage");
    let figures = |server: &Server| {
        let look = "SELECT to_jsonb(h) FROM ruvector_dag_hnsw_health('t_idx') h";
        server.value::<Value>("app", look)
    };
    let before = figures(&server);
    assert_eq!(
        (&before["orphan_count"], &before["zero_in_degree"]),
        (&0.into(), &0.into())
    );
    let path = server.index_file("app", "t_idx");
    let checksums: String = server.value("app", "SHOW data_checksums");
    drop(client);
    server.stop(Mode::Fast);
    if checksums == "on" {
        command(&server, "pg_checksums", &["--disable"]);
    }
    {
        let mut file = File::open(&path);
        let entry = file.entry();
        let grounded: Vec<Place> = file
            .live()
            .into_iter()
            .filter(|place| file.level(*place) == 0 && *place != entry)
            .collect();
        let (orphan, island) = (grounded[10], &grounded[100..103]);
        assert!(cut_off(&mut file, &[orphan]) > 0);
        assert!(cut_off(&mut file, island) > 0);
        join(&mut file, island);
    }
    server.start_again();

    let after = figures(&server);
    assert_eq!(after["orphan_count"], 4, "{after:#}");
    assert_eq!(after["zero_in_degree"], 1, "{after:#}");
    let score = after["connectivity_score"].as_f64().expect("a score");
    assert!((score - 1496.0 / 1500.0).abs() < 1e-6, "{after:#}");
    let mut client = server.client("app");
    assert_eq!(breaches(&mut client, "t_idx", true), []);
    let issues: Vec<String> = client
        .query_one(
            "SELECT array(SELECT jsonb_array_elements_text(
                 ruvector_dag_health_check('t_idx') -> 'indexes' -> 0 -> 'issues'))",
            &[],
        )
        .expect("health")
        .get(0);
    assert!(
        matches!(issues.as_slice(), [one] if one.starts_with("orphan_nodes-")),
        "damage is not taken for what an index is born with: {issues:?}"
    );
}
