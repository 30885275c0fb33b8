use std::time::Duration;

use ruvector_dag_healing_engine::ports::{AskedTwice, PortError, Searched, Workbench};
use ruvector_dag_healing_engine::repair::guards::{Conditions, approve_on_request};
use ruvector_dag_healing_engine::repair::index_rebalance::IndexRebalanceStrategy;
use ruvector_dag_healing_engine::repair::plan::{Approved, Measured, PlanFacts, StepKind};
use ruvector_dag_healing_engine::repair::runner::{Ending, Outcome, carry_out};
use ruvector_dag_healing_engine::repair::strategy::RepairStrategy;
use serde_json::Value;

use super::{fragmentation, healthy, index};

/// A bench that writes down what is asked of it, and fails where it is told to.
#[derive(Default)]
struct Bench {
    log: Vec<String>,
    fails_at: Option<StepKind>,
    fragmentation_after: f32,
}

impl Workbench for Bench {
    fn begin(&mut self, step: StepKind) -> Result<(), PortError> {
        self.log.push(format!("intent {}", step.code()));
        Ok(())
    }

    fn execute(&mut self, step: StepKind) -> Result<(), PortError> {
        if self.fails_at == Some(step) {
            return Err(PortError::Failed("disk on fire".into()));
        }
        self.log.push(step.code().into());
        Ok(())
    }

    fn measure(&mut self) -> Result<Measured, PortError> {
        unreachable!("a rebuild is compared")
    }

    fn measure_replacement(&mut self) -> Result<Measured, PortError> {
        if self.fails_at == Some(StepKind::Check) {
            return Err(PortError::Stopped("asked to".into()));
        }
        self.log.push("check".into());
        let mut hnsw = healthy(5_000);
        hnsw.fragmentation = self.fragmentation_after;
        Ok(Measured {
            hnsw: Some(hnsw),
            ..Measured::default()
        })
    }

    fn search_both(&mut self, _count: u32, _k: u32) -> Result<Searched, PortError> {
        Ok(Searched {
            exhausted: true,
            ..Searched::default()
        })
    }

    fn ask_again(&mut self) -> Result<Option<AskedTwice>, PortError> {
        unreachable!("a rebuild is compared")
    }

    fn note(&mut self, _key: &str, _value: &Value) -> Result<(), PortError> {
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn approved(valid: bool) -> Approved {
    let mut index = index("i");
    index.valid = valid;
    let facts = PlanFacts {
        figures: None,
        build_memory: 1 << 30,
        build_ms_per_element: None,
        ..PlanFacts::default()
    };
    let plan = IndexRebalanceStrategy.plan(&fragmentation(0.8), &index, &facts);
    approve_on_request(plan, &Conditions::default()).unwrap()
}

fn run(bench: &mut Bench, valid: bool, keep_old: bool) -> Outcome {
    let before = Measured {
        hnsw: Some(healthy(5_000)),
        valid,
        ..Measured::default()
    };
    carry_out(
        &approved(valid),
        &IndexRebalanceStrategy,
        bench,
        before,
        keep_old,
    )
}

fn steps(bench: &Bench) -> Vec<&str> {
    bench
        .log
        .iter()
        .map(String::as_str)
        .filter(|line| !line.starts_with("intent"))
        .collect()
}

#[test]
fn the_intent_of_a_step_is_committed_before_it_is_taken() {
    let mut bench = Bench::default();
    run(&mut bench, true, false);
    let expected: Vec<String> = ["create_copy", "build", "validate", "check", "swap", "drop"]
        .iter()
        .flat_map(|step| [format!("intent {step}"), (*step).into()])
        .collect();
    assert_eq!(bench.log, expected);
}

#[test]
fn the_replaced_index_is_kept_when_undo_is_wanted_and_possible() {
    let mut bench = Bench::default();
    let outcome = run(&mut bench, true, true);
    assert_eq!(
        (outcome.ending, outcome.kept_old),
        (Ending::Succeeded, true)
    );
    assert_eq!(steps(&bench).last(), Some(&"swap"));
    // An index that was not valid is nothing to go back to.
    let mut bench = Bench::default();
    let outcome = run(&mut bench, false, true);
    assert_eq!(
        (outcome.ending, outcome.kept_old),
        (Ending::Succeeded, false)
    );
    assert_eq!(steps(&bench).last(), Some(&"drop"));
}

#[test]
fn a_replacement_that_is_no_better_never_gets_in_place() {
    let mut bench = Bench {
        fragmentation_after: 0.9,
        ..Bench::default()
    };
    let outcome = run(&mut bench, true, true);
    assert!(
        matches!(&outcome.ending, Ending::RolledBack(reason) if reason.contains("fragmentation"))
    );
    assert_eq!(
        steps(&bench),
        ["create_copy", "build", "validate", "check", "drop"]
    );
    assert!(outcome.ending.counts_as_failure());
}

#[test]
fn a_failure_before_the_swap_leaves_the_old_index_in_place() {
    for step in [
        StepKind::CreateCopy,
        StepKind::Build,
        StepKind::Validate,
        StepKind::Check,
        StepKind::Swap,
    ] {
        let mut bench = Bench {
            fails_at: Some(step),
            ..Bench::default()
        };
        let outcome = run(&mut bench, true, true);
        assert!(matches!(outcome.ending, Ending::Failed(_)), "{step:?}");
        assert!(!outcome.kept_old);
        assert!(!steps(&bench).contains(&"swap"), "{step:?}");
    }
}

#[test]
fn a_failure_after_the_swap_does_not_take_the_outcome_back() {
    let mut bench = Bench {
        fails_at: Some(StepKind::Drop),
        ..Bench::default()
    };
    let outcome = run(&mut bench, true, false);
    assert_eq!(
        (outcome.ending, outcome.kept_old),
        (Ending::Succeeded, false)
    );
}

#[test]
fn a_verdict_stands_even_if_the_replacement_cannot_be_removed_at_once() {
    let mut bench = Bench {
        fragmentation_after: 0.9,
        fails_at: Some(StepKind::Drop),
        ..Bench::default()
    };
    assert!(matches!(
        run(&mut bench, true, true).ending,
        Ending::RolledBack(_)
    ));
}

#[test]
fn a_table_in_use_is_no_failure() {
    assert!(!Ending::Failed(PortError::Busy("x".into())).counts_as_failure());
    assert!(Ending::Failed(PortError::Stopped("x".into())).counts_as_failure());
    assert!(Ending::Failed(PortError::Failed("x".into())).counts_as_failure());
}
