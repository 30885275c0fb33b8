use std::time::Duration;

use ruvector_dag_healing_engine::ports::{AskedTwice, PortError, Searched, Workbench};
use ruvector_dag_healing_engine::recall::paired::Standing;
use ruvector_dag_healing_engine::repair::plan::{Measured, StepKind};
use ruvector_dag_healing_engine::verification::comparison::{MAX_QUERIES, compare};
use ruvector_dag_healing_engine::verification::probe::{Found, Hit, Probe};
use serde_json::Value;

/// Two indexes with so many rows to search for; of one query in `every` the replacement loses
/// half the answer.
struct Bench {
    rows: u32,
    every: u32,
    answers: bool,
    /// Of each batch so many rows are gone.
    gone: usize,
    asked: Vec<u32>,
}

impl Bench {
    fn new(rows: u32, every: u32) -> Self {
        Self {
            rows,
            every,
            answers: true,
            gone: 0,
            asked: Vec::new(),
        }
    }
}

fn answer(hits: u64, buffers: u64) -> Found {
    let hit = |row| Hit {
        row,
        distance: row as f64,
    };
    Found {
        hits: (0..hits).map(hit).collect(),
        buffers,
    }
}

impl Workbench for Bench {
    fn begin(&mut self, _step: StepKind) -> Result<(), PortError> {
        Ok(())
    }

    fn execute(&mut self, _step: StepKind) -> Result<(), PortError> {
        Ok(())
    }

    fn measure(&mut self) -> Result<Measured, PortError> {
        Ok(Measured::default())
    }

    fn measure_replacement(&mut self) -> Result<Measured, PortError> {
        Ok(Measured::default())
    }

    fn search_both(&mut self, count: u32, k: u32) -> Result<Searched, PortError> {
        let before = self.asked.iter().sum::<u32>();
        self.asked.push(count);
        let probes = (before..before + count).take_while(|&nth| nth < self.rows);
        let probes = probes.map(|nth| {
            let lost = self.every > 0 && nth % self.every == 0;
            Probe {
                row: 0,
                own_distance: 0.0,
                before: match self.answers {
                    true => answer(u64::from(k), 40),
                    false => Found::default(),
                },
                after: answer(u64::from(if lost { k / 2 } else { k }), 50),
            }
        });
        Ok(Searched {
            probes: probes.skip(self.gone).collect(),
            in_place_answers: self.answers,
            exhausted: before + count >= self.rows,
        })
    }

    fn ask_again(&mut self) -> Result<Option<AskedTwice>, PortError> {
        unreachable!("two indexes are compared")
    }

    fn note(&mut self, _key: &str, _value: &Value) -> Result<(), PortError> {
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn queries_are_drawn_until_it_is_decided() {
    let mut equal = Bench::new(100_000, 0);
    let (before, after) = compare(&mut equal).expect("figures");
    assert_eq!(after.standing, Some(Standing::NotWorse));
    assert!(after.queries < MAX_QUERIES && equal.asked.len() > 1);
    let before = before.expect("the index in place answers");
    assert_eq!((before.recall, after.recall), (1.0, 1.0));
    assert_eq!((before.buffers, after.buffers), (40.0, 50.0));
    assert!(before.recall_low < 1.0 && before.recall_low > 0.98);

    // Half the answer of every tenth query: 5 points.
    let mut worse = Bench::new(100_000, 10);
    let (_, after) = compare(&mut worse).expect("figures");
    assert_eq!(after.standing, Some(Standing::Worse));
    assert!((after.difference + 0.05).abs() < 0.01, "{after:?}");
}

#[test]
fn rows_that_are_gone_do_not_end_it() {
    let mut bench = Bench {
        gone: 3,
        ..Bench::new(100_000, 0)
    };
    let (_, after) = compare(&mut bench).expect("figures");
    assert_eq!(after.standing, Some(Standing::NotWorse));
}

#[test]
fn what_few_rows_do_not_decide_stays_undecided() {
    let mut few = Bench::new(100, 0);
    let (_, after) = compare(&mut few).expect("figures");
    assert_eq!(
        (after.standing, after.queries),
        (Some(Standing::Undecided), 100)
    );
    assert!(after.is_undecided());
}

#[test]
fn an_index_that_does_not_answer_is_not_compared_with() {
    let mut bench = Bench {
        answers: false,
        ..Bench::new(100_000, 0)
    };
    let (before, after) = compare(&mut bench).expect("figures");
    assert_eq!((before, after.standing), (None, None));
    assert_eq!((bench.asked.len(), after.self_found), (1, 1.0));
}

#[test]
fn without_rows_nothing_is_claimed_and_nothing_is_nan() {
    let (before, after) = compare(&mut Bench::new(0, 0)).expect("figures");
    let before = before.expect("it would answer");
    assert_eq!(
        (before.queries, after.difference, after.difference_se),
        (0, 0.0, 0.0)
    );
}
