use std::time::Duration;

use ruvector_dag_healing_engine::model::{IndexInfo, IndexIssue, Issue, UnreachableCause};
use ruvector_dag_healing_engine::ports::{
    AskedTwice, IssueState, IssueStatus, PortError, Searched, Workbench,
};
use ruvector_dag_healing_engine::recall::interval::QueryHits;
use ruvector_dag_healing_engine::repair::guards::{Conditions, approve, approve_on_request};
use ruvector_dag_healing_engine::repair::plan::{Measured, PlanFacts, RepairPlan, StepKind};
use ruvector_dag_healing_engine::repair::runner::{Ending, Outcome, carry_out};
use ruvector_dag_healing_engine::repair::strategy::{registry, strategy_for};
use ruvector_dag_healing_engine::settings::HealingConfig;
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::ValueType;
use serde_json::Value;

use super::{fragmentation, healthy, index};

pub fn graph() -> IndexInfo {
    let shape = IndexShape {
        value_type: ValueType::Vector,
        metric: Metric::L2,
        normalized: false,
        dimensions: Some(384),
        option: Some(16),
    };
    IndexInfo {
        shape: Some(shape),
        ..index("i")
    }
}

fn orphans(count: u64) -> Issue {
    let index = "i".into();
    Issue::Index(IndexIssue::OrphanNodes { index, count })
}

fn born(cause: UnreachableCause) -> Issue {
    Issue::Index(IndexIssue::BornUnreachable {
        index: "i".into(),
        count: 500,
        cause,
    })
}

/// What is known of an index of 100,000 elements with so many orphans.
fn facts(orphans: u64) -> PlanFacts {
    let mut figures = healthy(100_000);
    figures.orphans_with_rows = orphans;
    PlanFacts {
        figures: Some(figures),
        build_memory: 1 << 30,
        ..PlanFacts::default()
    }
}

fn plan(issue: &Issue, index: &IndexInfo, facts: &PlanFacts) -> RepairPlan {
    let strategies = registry();
    let strategy = strategy_for(&strategies, issue).expect("a strategy");
    strategy.plan(issue, index, facts)
}

#[test]
fn a_graph_is_mended_in_place_where_that_is_possible_and_pays() {
    let how = |facts: &PlanFacts| plan(&orphans(500), &graph(), facts).repair_type;
    assert_eq!(how(&facts(500)), "in_place");
    let changed: [&dyn Fn(&mut PlanFacts); 4] = [
        &|facts| facts.build_memory = 8 << 20,
        &|facts| facts.in_place_failed = true,
        &|facts| facts.figures = None,
        &|facts| facts.figures.as_mut().expect("figures").sampled = true,
    ];
    for (nth, change) in changed.iter().enumerate() {
        let mut facts = facts(500);
        change(&mut facts);
        assert_eq!(how(&facts), "index_rebuild", "change {nth}");
    }
    // Dearer than a rebuild that is known to be quick.
    let quick = PlanFacts {
        build_ms_per_element: Some(0.001),
        ..facts(90_000)
    };
    assert_eq!(how(&quick), "index_rebuild");
    let invalid = IndexInfo {
        valid: false,
        ..graph()
    };
    assert_eq!(
        plan(&orphans(500), &invalid, &facts(500)).repair_type,
        "index_rebuild"
    );
    assert_eq!(
        plan(&fragmentation(0.8), &graph(), &facts(0)).repair_type,
        "index_rebuild"
    );
}

#[test]
fn only_what_cannot_be_reached_is_linked() {
    let index = "i".to_owned();
    let steps = |issue: IndexIssue| plan(&Issue::Index(issue), &graph(), &facts(0)).steps;
    use StepKind::{Baseline, Entry, Link, Prune, Verify};
    let pruned = [Entry, Prune, Verify];
    let wrong_level = IndexIssue::WrongLevel {
        index: index.clone(),
        entry: 1,
        highest: 2,
    };
    assert_eq!(steps(wrong_level), pruned);
    let distant = IndexIssue::DistantInsertPage {
        index: index.clone(),
        pages: 300.0,
    };
    assert_eq!(steps(distant), [Entry, Verify]);
    let linked = [Entry, Prune, Baseline, Link, Verify];
    let nowhere = IndexIssue::DeadEntryPoint {
        index: index.clone(),
    };
    assert_eq!(steps(nowhere), pruned);
    let dangling = IndexIssue::DanglingEdges {
        index: index.clone(),
        count: 1,
    };
    assert_eq!(steps(dangling.clone()), linked);
    // What cannot be reached by inner product may be nobody's nearest.
    let mut products = graph();
    products.shape.as_mut().expect("a shape").metric = Metric::InnerProduct;
    let plan = plan(&Issue::Index(dangling), &products, &facts(0));
    assert_eq!(plan.steps, pruned);
    assert_eq!(
        steps(IndexIssue::PoorConnectivity { index, score: 0.5 }),
        linked
    );
}

#[test]
fn what_rows_are_by_nature_is_mended_on_request_or_never() {
    let strategies = registry();
    assert!(strategy_for(&strategies, &born(UnreachableCause::VariedNorms)).is_none());
    let plan = plan(
        &born(UnreachableCause::TightClusters),
        &graph(),
        &facts(500),
    );
    assert_eq!(plan.repair_type, "in_place");
    let state = IssueState {
        status: IssueStatus::Open,
        is_new: true,
        failures: 0,
        last_repair: None,
        last_repair_ms: 0.0,
    };
    let refused = approve(
        plan.clone(),
        &state,
        &Conditions::default(),
        &HealingConfig::default(),
        0,
    );
    assert_eq!(
        refused.expect_err("it waits to be asked for").code,
        "on_request"
    );
    assert!(approve_on_request(plan, &Conditions::default()).is_ok());
}

#[test]
fn searches_are_led_past_a_value_only_on_request() {
    let sink = Issue::Index(IndexIssue::DuplicateSink {
        index: "i".into(),
        rows: 1_000,
        unreachable: 0.5,
    });
    let facts = facts(0);
    let sunk = plan(&sink, &graph(), &facts);
    use StepKind::{Baseline, Detour, Entry, Link, Merge, Prune, Verify};
    assert_eq!(
        sunk.steps,
        [Entry, Prune, Baseline, Merge, Detour, Link, Verify]
    );
    assert!(sunk.on_request && sunk.reversible && !sunk.heavy);
    // Every page goes to the log, and every list to the edits; values are kept in memory.
    let linked = plan(&orphans(500), &graph(), &facts).estimate;
    let pages = facts.figures.map_or(0, |figures| figures.pages);
    assert!(
        sunk.estimate.disk_bytes > pages * 8192,
        "{:?}",
        sunk.estimate
    );
    assert!(sunk.estimate.memory_bytes > linked.memory_bytes + 100_000 * 384 * 4);
    assert!(sunk.estimate.duration_ms > linked.duration_ms);
    // A rebuild gives the same graph, whatever it costs.
    let tried = PlanFacts {
        in_place_failed: true,
        ..self::facts(0)
    };
    assert_eq!(plan(&sink, &graph(), &tried).repair_type, "in_place");
}

/// A bench that writes down what is asked of it.
struct Bench {
    log: Vec<String>,
    orphans_after: u64,
    /// Neighbours of ten that each query finds before and after.
    found: Option<(u32, u32)>,
    fails_at: Option<StepKind>,
}

impl Bench {
    fn new(orphans_after: u64, found: Option<(u32, u32)>) -> Self {
        Self {
            log: Vec::new(),
            orphans_after,
            found,
            fails_at: None,
        }
    }
}

impl Workbench for Bench {
    fn begin(&mut self, step: StepKind) -> Result<(), PortError> {
        self.log.push(format!("intent {}", step.code()));
        Ok(())
    }

    fn execute(&mut self, step: StepKind) -> Result<(), PortError> {
        if self.fails_at == Some(step) {
            return Err(PortError::Busy("the table".into()));
        }
        self.log.push(step.code().into());
        Ok(())
    }

    fn measure(&mut self) -> Result<Measured, PortError> {
        Ok(measured(self.orphans_after))
    }

    fn measure_replacement(&mut self) -> Result<Measured, PortError> {
        unreachable!("there is none")
    }

    fn search_both(&mut self, _count: u32, _k: u32) -> Result<Searched, PortError> {
        unreachable!("there is one index")
    }

    fn ask_again(&mut self) -> Result<Option<AskedTwice>, PortError> {
        let hits = |hits| QueryHits { hits, of: 10 };
        Ok(self.found.map(|(before, after)| AskedTwice {
            hits: vec![(hits(before), hits(after)); 800],
            k: 10,
            buffers: (80_000, 82_000),
        }))
    }

    fn note(&mut self, _key: &str, _value: &Value) -> Result<(), PortError> {
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn measured(orphans: u64) -> Measured {
    Measured {
        hnsw: facts(orphans).figures,
        valid: true,
        ..Measured::default()
    }
}

fn run(bench: &mut Bench) -> Outcome {
    run_for(&orphans(500), &graph(), &facts(500), bench)
}

fn run_for(issue: &Issue, index: &IndexInfo, facts: &PlanFacts, bench: &mut Bench) -> Outcome {
    let strategies = registry();
    let strategy = strategy_for(&strategies, issue).expect("a strategy");
    let plan = strategy.plan(issue, index, facts);
    let approved = approve_on_request(plan, &Conditions::default()).expect("it may start");
    carry_out(&approved, strategy, bench, measured(500), true)
}

fn undone(bench: &mut Bench) -> String {
    match run(bench).ending {
        Ending::RolledBack(reason) => reason,
        ending => panic!("{ending:?}"),
    }
}

#[test]
fn rungs_are_climbed_in_order_and_looked_back_on() {
    let mut bench = Bench::new(0, Some((9, 9)));
    let outcome = run(&mut bench);
    assert_eq!(
        (outcome.ending, outcome.kept_old),
        (Ending::Succeeded, false)
    );
    let steps = ["entry", "prune", "baseline", "link"];
    let expected: Vec<String> = steps
        .iter()
        .flat_map(|step| [format!("intent {step}"), (*step).into()])
        .chain(["intent verify".into()])
        .collect();
    assert_eq!(bench.log, expected);
    let (before, after) = (
        outcome.before.probe,
        outcome.after.and_then(|after| after.probe),
    );
    assert_eq!(before.map(|probe| probe.recall), Some(0.9));
    assert_eq!(
        after.map(|probe| (probe.recall, probe.queries)),
        Some((0.9, 800))
    );
}

#[test]
fn what_does_not_help_is_taken_back() {
    let mut bench = Bench::new(500, Some((9, 9)));
    assert!(undone(&mut bench).contains("500 of 500 orphans remain"));
    assert_eq!(bench.log.last().map(String::as_str), Some("take_back"));
    assert!(undone(&mut Bench::new(60, Some((9, 9)))).contains("60 of 500"));
    // A few may remain, as after a rebuild.
    assert_eq!(
        run(&mut Bench::new(9, Some((9, 9)))).ending,
        Ending::Succeeded
    );
}

#[test]
fn what_cannot_be_taken_back_is_no_rollback_and_a_rebuild_follows() {
    let issue = Issue::Index(IndexIssue::DeadTuples {
        index: "i".into(),
        share: 0.2,
    });
    let mut bench = Bench::new(0, Some((9, 8)));
    let (mut index, mut facts) = (graph(), facts(0));
    index.live_rows = 80_000;
    facts.figures.as_mut().expect("figures").heap_tids = 100_000;
    let outcome = run_for(&issue, &index, &facts, &mut bench);
    assert!(bench.log.contains(&"relink".into()), "{:?}", bench.log);
    let Ending::Failed(error) = &outcome.ending else {
        panic!("{:?}", outcome.ending);
    };
    let error = error.to_string();
    assert!(
        error.contains("recall@10") && error.ends_with("cannot be taken back"),
        "{error}"
    );
    assert!(outcome.calls_for_rebuild().is_some());
}

#[test]
fn what_makes_searches_worse_is_taken_back() {
    let mut bench = Bench::new(0, Some((9, 8)));
    assert!(undone(&mut bench).contains("recall@10"));
    assert_eq!(bench.log.last().map(String::as_str), Some("take_back"));
    assert_eq!(
        run(&mut Bench::new(0, Some((8, 9)))).ending,
        Ending::Succeeded
    );
    assert_eq!(run(&mut Bench::new(0, None)).ending, Ending::Succeeded);
}

#[test]
fn a_table_in_use_ends_it_and_takes_nothing_back() {
    let mut bench = Bench::new(0, None);
    bench.fails_at = Some(StepKind::Link);
    let ending = run(&mut bench).ending;
    assert!(!ending.counts_as_failure(), "{ending:?}");
    assert_eq!(bench.log.last().map(String::as_str), Some("intent link"));
}
