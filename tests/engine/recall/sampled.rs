use std::collections::BTreeMap;
use std::ops::Range;

use ruvector_dag_healing_engine::recall::blocks::{Blocks, Budget};
use ruvector_dag_healing_engine::recall::heartbeat::{Circumstances, Heartbeat};
use ruvector_dag_healing_engine::recall::interval::RecallEstimate;
use ruvector_dag_healing_engine::recall::measure::{Answer, Asked, Searching, Truth};
use ruvector_dag_healing_engine::vector_index::heap::Root;
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::table::{RowSink, RowSource};
use ruvector_dag_healing_engine::vector_index::value::ValueType;
use ruvector_dag_healing_engine::vector_index::{HeapTid, ReadError};

use super::random::Random;

const BLOCKS: u32 = 1_000;
const PER_BLOCK: u32 = 5;
const K: u32 = 10;

/// Rows on a line, each block with rows of everywhere.
struct Line {
    values: BTreeMap<HeapTid, f32>,
    value: Vec<u8>,
    blocks_read: u32,
}

fn encoded(value: f32) -> Vec<u8> {
    [1_u32.to_le_bytes(), value.to_le_bytes()].concat()
}

fn line(random: &mut Random) -> Line {
    let rows = (0..BLOCKS).flat_map(|block| (1..=PER_BLOCK).map(move |offset| (block, offset)));
    Line {
        values: rows
            .map(|(block, offset)| {
                let offset = offset as u16;
                (HeapTid { block, offset }, random.uniform() as f32)
            })
            .collect(),
        value: Vec::new(),
        blocks_read: 0,
    }
}

impl Line {
    /// Its rows by value.
    fn sorted(&self) -> Vec<(f32, HeapTid)> {
        let rows = self.values.iter();
        let mut sorted: Vec<_> = rows.map(|(row, value)| (*value, *row)).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        sorted
    }
}

impl RowSource for Line {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        Ok(BLOCKS)
    }
    fn row_count(&self) -> u64 {
        u64::from(BLOCKS * PER_BLOCK)
    }
    fn rows(&mut self, blocks: Range<u32>, sink: &mut RowSink<'_>) -> Result<(), ReadError> {
        self.blocks_read += blocks.end - blocks.start;
        let at = |block| HeapTid { block, offset: 0 };
        for (row, value) in self.values.range(at(blocks.start)..at(blocks.end)) {
            sink(*row, &|| encoded(*value));
        }
        Ok(())
    }
    fn value(&mut self, row: HeapTid) -> Result<Option<&[u8]>, ReadError> {
        self.value = encoded(self.values[&row]);
        Ok(Some(&self.value))
    }
    fn is_dead(&mut self, _row: HeapTid) -> Result<bool, ReadError> {
        Ok(false)
    }
    fn root(&mut self, _row: HeapTid) -> Result<Root, ReadError> {
        Ok(Root::Sound)
    }
}

/// An index that overlooks rows, more of them for some queries than for others.
struct Forgetful {
    sorted: Vec<(f32, HeapTid)>,
    recall: f64,
    random: Random,
}

impl Searching for Forgetful {
    fn effort(&self) -> u32 {
        1
    }
    fn has_beam(&self) -> bool {
        false
    }
    fn set_effort(&mut self, _effort: u32) {}
    fn search(&mut self, query: &[u8], k: usize) -> Result<Answer, ReadError> {
        let query = f32::from_le_bytes(query[4..8].try_into().expect("four bytes"));
        let own = self.random.beta(self.recall, 0.2);
        let after = self.sorted.partition_point(|(value, _)| *value < query);
        let near = &self.sorted[after.saturating_sub(40)..self.sorted.len().min(after + 40)];
        let mut near = near.to_vec();
        near.sort_by(|a, b| (a.0 - query).abs().total_cmp(&(b.0 - query).abs()));
        near.retain(|_| self.random.chance(own));
        Ok(Answer {
            rows: near.iter().take(k).map(|(_, row)| *row).collect(),
            ms: 0.0,
            buffers: 0,
        })
    }
}

/// Of an index on a line.
fn shape() -> IndexShape {
    IndexShape {
        value_type: ValueType::Vector,
        metric: Metric::L2,
        normalized: false,
        dimensions: Some(1),
        option: None,
    }
}

/// Measures with so many queries, one block of `every` read; the hits, by query.
fn measured(
    table: &mut Line,
    index: &mut Forgetful,
    queries: usize,
    every: u64,
) -> Vec<ruvector_dag_healing_engine::recall::interval::QueryHits> {
    let asked = (0..queries).map(|_| Asked {
        value: encoded(index.random.uniform() as f32),
        own_row: None,
    });
    let asked = asked.collect();
    let budget = Budget {
        bytes: (u64::from(BLOCKS * PER_BLOCK) * 8).div_ceil(every),
        seed: index.random.next(),
    };
    let truth = Truth::seek(table, &shape(), asked, K, budget, &mut |_| Ok(())).expect("an answer");
    assert_eq!(u64::from(truth.every()), every.min(u64::from(K / 2)));
    truth.ask(index, table, 1).expect("answers").hits
}

#[test]
fn a_sample_of_the_blocks_tells_recall_and_how_sure_it_is() {
    let mut random = Random(3);
    let mut table = line(&mut random);
    let sorted = table.sorted();
    println!("recall, one block of: mean, coverage, width");
    for recall in [0.80, 0.90, 0.95, 0.99] {
        for every in [1, 5] {
            let mut index = Forgetful {
                sorted: sorted.clone(),
                recall,
                random: Random(every),
            };
            let (runs, mut mean, mut covered, mut width) = (50, 0.0, 0, 0.0);
            for _ in 0..runs {
                let hits = measured(&mut table, &mut index, 100, every);
                let estimate = RecallEstimate::of(&hits, K);
                mean += estimate.recall / f64::from(runs);
                covered += u32::from((estimate.ci_low..=estimate.ci_high).contains(&recall));
                width += (estimate.ci_high - estimate.ci_low) / f64::from(runs);
            }
            let covered = f64::from(covered) / f64::from(runs);
            println!("{recall:.2} {every:2}: {mean:.4} {covered:.3} {width:.4}");
            // Where much is missed, what is beyond the neighbours counts for some of it.
            let off = if recall < 0.9 { 0.02 } else { 0.012 };
            assert!((mean - recall).abs() < off, "{recall} {every}: {mean}");
            assert!(covered > 0.9, "{recall} {every}: {covered}");
        }
    }
}

#[test]
fn a_neighbour_whose_place_another_row_has_taken_is_gone() {
    let mut random = Random(5);
    let mut table = line(&mut random);
    let asked = [0.2_f32, 0.8].map(|value| Asked {
        value: encoded(value),
        own_row: None,
    });
    let budget = Budget {
        bytes: u64::MAX,
        seed: 1,
    };
    let asked = asked.to_vec();
    let truth = Truth::seek(&mut table, &shape(), asked, K, budget, &mut |_| Ok(()));
    let truth = truth.expect("an answer");
    assert_eq!(truth.stands(&mut table).expect("rows"), [true, true]);
    let sorted = table.sorted();
    let nearest = sorted[sorted.partition_point(|(value, _)| *value < 0.8)].1;
    table.values.insert(nearest, 0.5);
    assert_eq!(truth.stands(&mut table).expect("rows"), [true, false]);
}

#[test]
fn blocks_are_drawn_with_the_same_probability_and_no_more_than_the_budget_allows() {
    let mut drawn = vec![0_u32; 1_000];
    for seed in 0..2_000 {
        let blocks = Blocks::one_in(7, 1_000, seed);
        for block in blocks.runs().flatten() {
            drawn[block as usize] += 1;
        }
    }
    // 2,000 / 7 = 286, give or take 16.
    assert!(drawn.iter().all(|&times| (215..=360).contains(&times)));
    let all: Vec<u32> = Blocks::one_in(1, 1_000, 5).runs().flatten().collect();
    assert!(all.into_iter().eq(0..1_000));
    assert_eq!(Blocks::one_in(3, 0, 5).runs().count(), 0);
    assert!(Blocks::one_in(u32::MAX, u32::MAX, 5).runs().count() <= 1);

    let mut table = line(&mut Random(1));
    let mut index = Forgetful {
        sorted: vec![(
            0.5,
            HeapTid {
                block: 0,
                offset: 1,
            },
        )],
        recall: 0.9,
        random: Random(1),
    };
    measured(&mut table, &mut index, 1, 5);
    assert!(
        (150..=250).contains(&table.blocks_read),
        "{}",
        table.blocks_read
    );
    // One of k/2 at least.
    let before = table.blocks_read;
    measured(&mut table, &mut index, 1, 1_000);
    assert!((150..=250).contains(&(table.blocks_read - before)));
}

#[test]
fn a_watch_on_a_sample_raises_no_alarm_without_a_cause() {
    let mut random = Random(9);
    let mut table = line(&mut random);
    let sorted = table.sorted();
    let mut alarms = 0;
    for run in 0..40 {
        let mut index = Forgetful {
            sorted: sorted.clone(),
            recall: 0.95,
            random: Random(run),
        };
        let mut watch = Heartbeat::new(Circumstances {
            storage: 1,
            search: String::new(),
            k: K,
            source: String::new(),
            target: 0.95,
        });
        for _ in 0..20 {
            watch.observe(&measured(&mut table, &mut index, 50, 5));
        }
        alarms += u32::from(watch.is_alarmed());
    }
    assert!(alarms <= 1, "{alarms} alarms in 40 watches");
}
