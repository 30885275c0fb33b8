use ruvector_dag_healing_engine::cycle::SelfHealingEngine;
use ruvector_dag_healing_engine::model::{IndexHealthCheck, IndexInfo};
use ruvector_dag_healing_engine::ports::{ActiveRepair, IssueStatus, PortError};
use ruvector_dag_healing_engine::settings::HealingConfig;

use super::world::World;
use super::{healthy, index};

/// A look at an index of a table of its own.
fn look(number: u32, fragmentation: f32) -> IndexHealthCheck {
    let index = IndexInfo {
        index_oid: 100 + number,
        table_oid: 10 + number,
        ..index(&format!("public.i{number}"))
    };
    let mut figures = healthy(5_000);
    figures.fragmentation = fragmentation;
    IndexHealthCheck {
        hnsw: Some(figures),
        ..IndexHealthCheck::new(index, 0)
    }
}

fn world(looks: impl IntoIterator<Item = IndexHealthCheck>) -> World {
    let mut world = World {
        room: 100,
        ..World::default()
    };
    looks.into_iter().for_each(|look| world.add(look));
    world
}

fn engine(config: HealingConfig) -> SelfHealingEngine {
    SelfHealingEngine::new(config)
}

fn repair(number: u32, finished: bool) -> ActiveRepair {
    ActiveRepair {
        id: i64::from(number),
        issue_id: String::new(),
        index_oid: 100 + number,
        table_oid: 10 + number,
        strategy_name: "index_rebalance".into(),
        started_at: 0,
        finished,
    }
}

#[test]
fn the_worst_is_repaired_first_and_no_more_than_allowed() {
    let mut world = world([look(1, 0.6), look(2, 0.9), look(3, 0.1), look(4, 0.7)]);
    let mut engine = engine(HealingConfig {
        max_concurrent_repairs: 2,
        ..HealingConfig::default()
    });
    let result = engine.run_check_cycle(&mut world).unwrap();
    assert_eq!(
        (
            result.detected_issues,
            result.repairs_initiated,
            result.active_repairs
        ),
        (3, 2, 2)
    );
    let names: Vec<&str> = world
        .launched
        .iter()
        .map(|plan| plan.index.index_name.as_str())
        .collect();
    assert_eq!(names, ["public.i2", "public.i4"]);
    assert_eq!(engine.metrics().checks_performed, 1);
}

#[test]
fn switched_off_it_finds_and_reports_and_repairs_nothing() {
    let mut world = world([look(1, 0.9)]);
    let config = HealingConfig {
        auto_heal_enabled: false,
        ..HealingConfig::default()
    };
    let result = engine(config).run_check_cycle(&mut world).unwrap();
    assert_eq!((result.detected_issues, result.repairs_initiated), (1, 0));
    assert!(world.launched.is_empty());
    assert_eq!(world.refusals.values().collect::<Vec<_>>(), ["disabled"]);
}

#[test]
fn a_table_in_repair_gets_no_second_one() {
    let mut world = world([look(1, 0.9)]);
    world.repairs.push(repair(1, false));
    let result = engine(HealingConfig::default())
        .run_check_cycle(&mut world)
        .unwrap();
    assert_eq!((result.repairs_initiated, result.active_repairs), (0, 1));
}

#[test]
fn a_repair_that_has_ended_makes_room_in_the_same_cycle() {
    let mut world = world([look(1, 0.9)]);
    world.repairs.push(repair(7, true));
    let mut engine = engine(HealingConfig {
        max_concurrent_repairs: 1,
        ..HealingConfig::default()
    });
    let result = engine.run_check_cycle(&mut world).unwrap();
    assert_eq!((result.repairs_completed, result.repairs_initiated), (1, 1));
    assert_eq!(engine.repair_history().len(), 1);
}

#[test]
fn a_suppressed_issue_is_left_alone() {
    let mut world = world([look(1, 0.9)]);
    let mut engine = engine(HealingConfig {
        max_concurrent_repairs: 0,
        ..HealingConfig::default()
    });
    engine.run_check_cycle(&mut world).unwrap();
    world
        .issues
        .values_mut()
        .for_each(|state| state.status = IssueStatus::Suppressed);
    engine.configure(HealingConfig::default());
    assert_eq!(
        engine
            .run_check_cycle(&mut world)
            .unwrap()
            .repairs_initiated,
        0
    );
}

#[test]
fn what_is_gone_is_settled() {
    let mut world = world([look(1, 0.9), look(2, 0.9)]);
    let mut engine = engine(HealingConfig {
        auto_heal_enabled: false,
        ..HealingConfig::default()
    });
    engine.run_check_cycle(&mut world).unwrap();
    // One index is mended, the other dropped.
    world
        .looks
        .values_mut()
        .for_each(|look| look.hnsw = Some(healthy(5_000)));
    world.indexes.remove(1);
    assert_eq!(
        engine.run_check_cycle(&mut world).unwrap().detected_issues,
        0
    );
    assert!(
        world
            .issues
            .values()
            .all(|state| state.status == IssueStatus::Resolved)
    );
}

#[test]
fn a_look_from_a_session_touches_only_its_own_index() {
    let mut world = world([look(1, 0.9), look(2, 0.9)]);
    let mut engine = engine(HealingConfig {
        auto_heal_enabled: false,
        ..HealingConfig::default()
    });
    engine.run_check_cycle(&mut world).unwrap();
    engine.file_look(look(1, 0.0), &mut world).unwrap();
    let open = world
        .issues
        .values()
        .filter(|state| state.status == IssueStatus::Open)
        .count();
    assert_eq!(open, 1);
}

#[test]
fn no_room_for_a_worker_is_no_repair() {
    let mut world = world([look(1, 0.9)]);
    world.room = 0;
    let result = engine(HealingConfig::default())
        .run_check_cycle(&mut world)
        .unwrap();
    assert_eq!((result.repairs_initiated, result.active_repairs), (0, 0));
}

#[test]
fn an_index_that_vanishes_while_it_is_read_is_passed_over() {
    let mut world = world([look(1, 0.9)]);
    world.indexes.insert(0, index("public.new"));
    world.unreadable = Some(PortError::Gone("the index".into()));
    let result = engine(HealingConfig::default())
        .run_check_cycle(&mut world)
        .unwrap();
    assert_eq!(result.detected_issues, 1);
}

#[test]
fn one_unreadable_index_does_not_keep_the_others_from_being_healed() {
    let mut world = world([look(1, 0.9)]);
    world.indexes.insert(0, index("public.new"));
    world.unreadable = Some(PortError::Failed("invalid page in block 7".into()));
    let result = engine(HealingConfig::default())
        .run_check_cycle(&mut world)
        .unwrap();
    assert_eq!((result.detected_issues, result.repairs_initiated), (1, 1));
    let look = &world.looks[&index("public.new").identity()];
    assert_eq!(look.notices, ["invalid page in block 7"]);
}

#[test]
fn an_index_is_not_looked_at_while_it_is_repaired() {
    let mut world = world([look(1, 0.9)]);
    world.repairs.push(repair(1, false));
    world.now = 1_000_000;
    let mut engine = engine(HealingConfig {
        auto_heal_enabled: false,
        ..HealingConfig::default()
    });
    engine.run_check_cycle(&mut world).unwrap();
    // Due again: what would be seen now is half done.
    world.indexes[0].vacuums += 1;
    world.unreadable = Some(PortError::Failed("half done".into()));
    let notices = |world: &World| world.looks.values().next().unwrap().notices.clone();
    engine.run_check_cycle(&mut world).unwrap();
    assert_eq!(notices(&world), [""; 0]);
    world.repairs[0].finished = true;
    engine.run_check_cycle(&mut world).unwrap();
    engine.run_check_cycle(&mut world).unwrap();
    assert_eq!(notices(&world), ["half done"], "now it is");
}

#[test]
fn told_to_stop_it_stops() {
    let mut world = world([]);
    world.indexes.push(index("public.new"));
    world.unreadable = Some(PortError::Stopped("asked to leave".into()));
    let stopped = engine(HealingConfig::default()).run_check_cycle(&mut world);
    assert!(matches!(stopped, Err(PortError::Stopped(_))));
}

#[test]
fn an_index_that_cannot_be_looked_at_keeps_its_issues() {
    let mut world = world([look(1, 0.9)]);
    let config = HealingConfig {
        auto_heal_enabled: false,
        ..HealingConfig::default()
    };
    engine(config.clone()).run_check_cycle(&mut world).unwrap();
    // Due again, locked by somebody, and the healer has just been started.
    world.indexes[0].vacuums += 1;
    world.unreadable = Some(PortError::Gone("the index".into()));
    engine(config).run_check_cycle(&mut world).unwrap();
    assert!(
        world
            .issues
            .values()
            .all(|state| state.status == IssueStatus::Open)
    );
}
