use ruvector_dag_healing_engine::cycle::SelfHealingEngine;
use ruvector_dag_healing_engine::ports::{AskedTwice, PortError, Searched, Workbench};
use ruvector_dag_healing_engine::repair::guards::{
    Conditions, OldestTransaction, approve_on_request,
};
use ruvector_dag_healing_engine::repair::parameter_tuning::ParameterTuningStrategy;
use ruvector_dag_healing_engine::repair::plan::{Measured, PlanFacts, StepKind};
use ruvector_dag_healing_engine::repair::runner::{Ending, Outcome, carry_out};
use ruvector_dag_healing_engine::repair::strategy::RepairStrategy;
use ruvector_dag_healing_engine::settings::{HealingConfig, ParameterTuning};
use ruvector_dag_healing_engine::verification::probe::{Found, Hit, Probe};
use ruvector_dag_healing_engine::verification::rollback::StandingSetting;
use serde_json::Value;

use super::index;
use super::recall_watch::{cycles, world};
use super::world::World;

fn engine(parameter_tuning: ParameterTuning) -> SelfHealingEngine {
    SelfHealingEngine::new(HealingConfig {
        parameter_tuning,
        ..HealingConfig::default()
    })
}

/// A world in which every second neighbour is missed.
fn lossy() -> World {
    let mut world = world(5_000);
    (world.missed, world.ef_search, world.buffers) = (5, 40, 100.0);
    world
}

fn refusal(world: &World) -> Option<&str> {
    let mut refusals = world.refusals.iter();
    let found = refusals.find(|(id, _)| id.starts_with("low_recall"));
    found.map(|(_, code)| code.as_str())
}

#[test]
fn low_recall_is_tuned_where_that_is_allowed() {
    for (mode, code) in [
        (ParameterTuning::Off, "tuning_off"),
        (ParameterTuning::Advise, "advice_only"),
    ] {
        let mut world = lossy();
        cycles(&mut engine(mode), &mut world, 3);
        assert_eq!((refusal(&world), world.launched.len()), (Some(code), 0));
    }
    let mut world = lossy();
    // Neither a lock on the table nor an old transaction keeps it from being searched.
    world.conditions = Conditions {
        locked_by: Some("process 1".into()),
        oldest_transaction: Some(OldestTransaction {
            seconds: 100_000.0,
            who: "process 2".into(),
        }),
        freeze_age: 0.99,
        ..Conditions::default()
    };
    cycles(&mut engine(ParameterTuning::Apply), &mut world, 3);
    assert_eq!(world.launched.len(), 1);
    let plan = &world.launched[0];
    assert_eq!(
        plan.steps,
        [StepKind::Tune, StepKind::Check, StepKind::SetParameter]
    );
    assert!(plan.reversible && !plan.locks_table());
}

#[test]
fn a_setting_that_did_not_help_is_taken_back() {
    let mut world = lossy();
    let mut engine = engine(ParameterTuning::Advise);
    (world.ef_search, world.missed) = (80, 0);
    world.settings = vec![StandingSetting {
        repair_id: 7,
        set_at: 0,
        identity: index("public.i").identity(),
        search: "hnsw.ef_search = 80".into(),
        recall_before: 0.8,
        buffers: 100.0,
    }];
    cycles(&mut engine, &mut world, 10);
    assert_eq!(world.taken_back, []);
    // Searches get dearer than they were measured to be.
    world.buffers = 160.0;
    cycles(&mut engine, &mut world, 1);
    assert_eq!(world.taken_back.len(), 1);
    assert!(world.taken_back[0].1.contains("160 buffers"));
    world.buffers = 100.0;
    // Fewer neighbours are found than before it was set.
    world.missed = 6;
    cycles(&mut engine, &mut world, 5);
    let (repair, reason) = world.taken_back.last().expect("it was taken back");
    assert!(
        *repair == 7 && reason.contains("recall fell from 0.800"),
        "{reason}"
    );
    // After a day it has become the way things are.
    world.settings[0].set_at = world.now - 86_400_000_000;
    let so_far = world.taken_back.len();
    cycles(&mut engine, &mut world, 10);
    assert_eq!(world.taken_back.len(), so_far);
}

/// A bench on which the setting proposed finds more.
#[derive(Default)]
struct Bench {
    log: Vec<&'static str>,
    nothing_found: bool,
    cost: u64,
}

impl Workbench for Bench {
    fn begin(&mut self, _step: StepKind) -> Result<(), PortError> {
        Ok(())
    }

    fn execute(&mut self, step: StepKind) -> Result<(), PortError> {
        if self.nothing_found {
            return Err(PortError::Failed("no setting helps".into()));
        }
        self.log.push(step.code());
        Ok(())
    }

    fn measure(&mut self) -> Result<Measured, PortError> {
        unreachable!("it was measured before")
    }

    fn measure_replacement(&mut self) -> Result<Measured, PortError> {
        self.log.push("check");
        Ok(Measured::default())
    }

    fn search_both(&mut self, count: u32, k: u32) -> Result<Searched, PortError> {
        let found = |from: u32, buffers| Found {
            hits: (from..k)
                .map(|n| Hit {
                    row: u64::from(n),
                    distance: f64::from(n),
                })
                .collect(),
            buffers,
        };
        let probe = |_| Probe {
            row: 0,
            own_distance: 0.0,
            before: found(1, 100),
            after: found(0, self.cost),
        };
        Ok(Searched {
            probes: (0..count).map(probe).collect(),
            in_place_answers: true,
            exhausted: false,
        })
    }

    fn ask_again(&mut self) -> Result<Option<AskedTwice>, PortError> {
        unreachable!("nothing is mended in place")
    }

    fn note(&mut self, _key: &str, _value: &Value) -> Result<(), PortError> {
        Ok(())
    }

    fn elapsed(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

fn tuned(bench: &mut Bench) -> Outcome {
    let mut world = lossy();
    cycles(&mut engine(ParameterTuning::Apply), &mut world, 3);
    let issue = world.launched.remove(0).issue;
    let facts = PlanFacts {
        figures: None,
        build_memory: 1 << 30,
        build_ms_per_element: None,
        ..PlanFacts::default()
    };
    let plan = ParameterTuningStrategy.plan(&issue, &index("i"), &facts);
    let approved = approve_on_request(plan, &Conditions::default()).expect("nothing against it");
    let before = Measured {
        valid: true,
        ..Measured::default()
    };
    carry_out(&approved, &ParameterTuningStrategy, bench, before, true)
}

#[test]
fn a_setting_is_made_only_where_it_was_seen_to_help() {
    let mut bench = Bench {
        cost: 200,
        ..Bench::default()
    };
    let outcome = tuned(&mut bench);
    assert_eq!(outcome.ending, Ending::Succeeded);
    assert_eq!(bench.log, ["tune", "check", "set_parameter"]);
    // No second index is kept.
    assert!(!outcome.kept_old);

    let mut dear = Bench {
        cost: 900,
        ..Bench::default()
    };
    assert!(matches!(tuned(&mut dear).ending, Ending::RolledBack(_)));
    assert_eq!(dear.log, ["tune", "check"]);

    let mut hopeless = Bench {
        nothing_found: true,
        ..Bench::default()
    };
    assert!(matches!(tuned(&mut hopeless).ending, Ending::Failed(_)));
    assert_eq!(hopeless.log, [""; 0]);
}
