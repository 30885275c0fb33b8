use ruvector_dag_healing_engine::cycle::SelfHealingEngine;
use ruvector_dag_healing_engine::model::IndexHealthCheck;
use ruvector_dag_healing_engine::settings::HealingConfig;

use super::world::World;
use super::{healthy, index};

const MINUTE: i64 = 60_000_000;

/// One index of so many rows.
pub fn world(rows: u64) -> World {
    let mut figures = healthy(rows);
    figures.heap_tids = rows;
    let mut world = World {
        room: 1,
        ..World::default()
    };
    world.add(IndexHealthCheck {
        hnsw: Some(figures),
        ..IndexHealthCheck::new(index("public.i"), 0)
    });
    world
}

/// Runs so many cycles, five minutes apart; the issues of the last.
pub fn cycles(engine: &mut SelfHealingEngine, world: &mut World, count: usize) -> usize {
    let mut issues = 0;
    for _ in 0..count {
        world.now += 5 * MINUTE;
        issues = engine
            .run_check_cycle(world)
            .expect("a cycle")
            .detected_issues;
    }
    issues
}

#[test]
fn recall_that_stays_too_low_is_an_issue_until_it_is_not() {
    let (mut world, mut engine) = (
        world(5_000),
        SelfHealingEngine::new(HealingConfig::default()),
    );
    assert_eq!(cycles(&mut engine, &mut world, 20), 0);
    assert_eq!(world.measurements, 20);
    // Nine of ten where 95 % are wanted.
    world.missed = 1;
    assert_eq!(cycles(&mut engine, &mut world, 10), 1);
    assert!(world.issues.keys().any(|id| id.starts_with("low_recall")));
    // An alarm does not end with one good answer.
    world.missed = 0;
    assert_eq!(cycles(&mut engine, &mut world, 1), 1);
    assert_eq!(cycles(&mut engine, &mut world, 20), 0);
}

#[test]
fn what_was_said_of_another_file_says_nothing_of_a_rebuilt_index() {
    let (mut world, mut engine) = (
        world(5_000),
        SelfHealingEngine::new(HealingConfig::default()),
    );
    world.missed = 5;
    assert_eq!(cycles(&mut engine, &mut world, 3), 1);
    world.indexes[0].relfilenode += 1;
    let rebuilt = IndexHealthCheck {
        index: world.indexes[0].clone(),
        checked_at: world.now,
        ..world.looks.values().next().expect("a look").clone()
    };
    world.looks.insert(rebuilt.index.identity(), rebuilt);
    world.missed = 0;
    assert_eq!(cycles(&mut engine, &mut world, 1), 0);
}

#[test]
fn measurements_take_a_hundredth_of_the_time_at_most() {
    let (mut world, mut engine) = (
        world(5_000),
        SelfHealingEngine::new(HealingConfig::default()),
    );
    // A minute each: one in a hundred minutes.
    world.measurement_ms = 60_000.0;
    cycles(&mut engine, &mut world, 60);
    assert_eq!(world.measurements, 3);
}

#[test]
fn small_indexes_and_such_as_searches_would_stumble_over_are_not_measured() {
    let mut engine = SelfHealingEngine::new(HealingConfig::default());
    let mut small = world(999);
    cycles(&mut engine, &mut small, 3);
    let mut damaged = world(5_000);
    for look in damaged.looks.values_mut() {
        look.hnsw.as_mut().expect("figures").dangling_edges = 1;
    }
    cycles(&mut engine, &mut damaged, 3);
    assert_eq!((small.measurements, damaged.measurements), (0, 0));
}
