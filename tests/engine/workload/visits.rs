use std::collections::BTreeMap;

use ruvector_dag_healing_engine::cycle::SelfHealingEngine;
use ruvector_dag_healing_engine::model::{IndexHealthCheck, IndexInfo};
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::settings::{HealingConfig, Track};
use ruvector_dag_healing_engine::vector_index::shape::Metric;
use ruvector_dag_healing_engine::workload::CapturedQuery;
use ruvector_dag_healing_engine::workload::sample::CAPACITY;

use super::{shape, vector};
use crate::healing::world::World;
use crate::healing::{healthy, index};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// A world with an index whose queries can be kept.
struct Observed {
    world: World,
    engine: SelfHealingEngine,
    index: IndexInfo,
}

impl Observed {
    fn new() -> Self {
        let mut world = World {
            // No look is taken here that is not prepared.
            unreadable: Some(PortError::Busy("i".into())),
            ..World::default()
        };
        let index = IndexInfo {
            shape: Some(shape(Metric::L2)),
            ..index("i")
        };
        world.add(IndexHealthCheck {
            hnsw: Some(healthy(500)),
            ..IndexHealthCheck::new(index.clone(), 0)
        });
        Self {
            world,
            engine: SelfHealingEngine::new(HealingConfig::default()),
            index,
        }
    }

    fn ask(&mut self, index_oid: u32, value: Vec<u8>) {
        let query = CapturedQuery { index_oid, value };
        self.world.captured.push(query);
    }

    /// Asks so many queries of the index, each marked with a number, and lets so much time pass.
    fn ask_many(&mut self, count: usize, mark: f32, later: i64) {
        for _ in 0..count {
            self.ask(self.index.index_oid, vector(&[mark, 0.0, 0.0]));
        }
        self.world.now += later;
        self.cycle();
    }

    fn cycle(&mut self) {
        self.engine
            .run_check_cycle(&mut self.world)
            .expect("nothing fails in this world");
    }

    /// How many queries are kept, by their marks.
    fn kept(&self) -> BTreeMap<u32, usize> {
        let mut marks = BTreeMap::new();
        for value in self.world.queries.values() {
            let mark = f32::from_le_bytes(value[4..8].try_into().expect("a component"));
            *marks.entry(mark as u32).or_default() += 1;
        }
        marks
    }
}

#[test]
fn what_was_asked_is_kept_by_index_and_what_fits_none_is_not() {
    let mut of = Observed::new();
    let oid = of.index.index_oid;
    of.ask(oid, vector(&[1.0, 0.0, 0.0]));
    of.ask(oid, vector(&[2.0, 0.0, 0.0]));
    // Equal queries count as often as they are asked.
    of.ask(oid, vector(&[2.0, 0.0, 0.0]));
    of.ask(oid, vector(&[3.0, 0.0]));
    of.ask(oid, vec![1, 2, 3]);
    of.ask(oid + 1, vector(&[4.0, 0.0, 0.0]));
    of.cycle();
    assert_eq!(of.kept(), BTreeMap::from([(1, 1), (2, 2)]));
    assert_eq!(of.world.queries.keys().map(|key| key.1).max(), Some(2));
    // What was made room for is filled first.
    of.world.queries.remove(&(of.index.identity(), 1));
    of.ask_many(2, 5.0, HOUR);
    assert_eq!(of.kept(), BTreeMap::from([(1, 1), (2, 1), (5, 2)]));
    assert_eq!(of.world.queries.keys().map(|key| key.1).max(), Some(3));
}

#[test]
fn a_full_sample_is_renewed_within_a_day_or_so_however_many_queries_come() {
    for each_hour in [20, 64] {
        let mut of = Observed::new();
        for _ in 0..7 {
            of.ask_many(60, 0.0, SECOND);
        }
        assert_eq!(of.kept(), BTreeMap::from([(0, CAPACITY as usize)]));
        for _ in 0..24 {
            of.ask_many(each_hour, 1.0, HOUR);
        }
        // One in e is left, 147 of 400, with a standard deviation of 10.
        let old = of.kept()[&0];
        assert!(
            (110..190).contains(&old),
            "{old} are left of {each_hour} an hour"
        );
        assert_eq!(of.world.queries.len(), CAPACITY as usize);
    }
}

#[test]
fn all_are_taken_where_few_come() {
    let mut of = Observed::new();
    of.ask_many(CAPACITY as usize, 0.0, SECOND);
    // Fewer than the sample could take in that time.
    of.ask_many(10, 1.0, DAY);
    let new = of.kept()[&1];
    assert!((8..=10).contains(&new), "{new}");
    // None in no time; nor when the clock goes backwards.
    of.ask_many(64, 2.0, 0);
    of.ask_many(64, 2.0, -HOUR);
    assert_eq!(of.kept().get(&2), None);
}

#[test]
fn queries_of_an_index_that_is_gone_are_forgotten() {
    let mut of = Observed::new();
    of.ask_many(5, 1.0, SECOND);
    of.world.indexes.clear();
    of.ask_many(5, 2.0, SECOND);
    assert_eq!(of.kept(), BTreeMap::new());
}

#[test]
fn they_outlive_a_rebuild() {
    let mut of = Observed::new();
    of.ask_many(5, 1.0, SECOND);
    of.world.indexes[0].index_oid += 1;
    of.world.indexes[0].relfilenode += 1;
    of.ask_many(5, 2.0, SECOND);
    of.index.index_oid += 1;
    of.ask_many(5, 3.0, SECOND);
    assert_eq!(of.kept(), BTreeMap::from([(1, 5), (3, 5)]));
}

#[test]
fn where_nothing_is_to_be_tracked_all_is_forgotten() {
    let mut of = Observed::new();
    of.ask_many(5, 1.0, SECOND);
    of.engine.configure(HealingConfig {
        track: Track::None,
        ..HealingConfig::default()
    });
    of.ask_many(5, 2.0, SECOND);
    assert_eq!(of.kept(), BTreeMap::new());
    // What sessions captured meanwhile as well.
    of.engine.configure(HealingConfig {
        track: Track::All,
        ..HealingConfig::default()
    });
    of.ask_many(5, 3.0, SECOND);
    assert_eq!(of.kept(), BTreeMap::from([(3, 5)]));
}

#[test]
fn an_index_whose_values_are_not_known_keeps_none() {
    let mut of = Observed::new();
    of.world.indexes[0].shape = None;
    of.ask_many(5, 1.0, SECOND);
    assert_eq!(of.kept(), BTreeMap::new());
}
