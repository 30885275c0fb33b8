use std::time::Duration;

use ruvector_dag_healing_engine::model::{IndexInfo, IndexIssue, Issue};
use ruvector_dag_healing_engine::ports::{AskedTwice, PortError, Searched, Workbench};
use ruvector_dag_healing_engine::recall::interval::QueryHits;
use ruvector_dag_healing_engine::repair::guards::{Conditions, approve_on_request};
use ruvector_dag_healing_engine::repair::plan::{Measured, PlanFacts, RepairPlan, StepKind};
use ruvector_dag_healing_engine::repair::runner::{Ending, Outcome, carry_out};
use ruvector_dag_healing_engine::repair::strategy::{registry, strategy_for};
use ruvector_dag_healing_engine::vector_index::ivfflat::IvfflatFigures;
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::ValueType;
use ruvector_dag_healing_engine::verification::forecast::{Expected, Forecast, Regrouped};
use serde_json::Value;

use super::index;

fn stale() -> Issue {
    Issue::Index(IndexIssue::StaleTraining {
        index: "i".into(),
        hours: 200.0,
    })
}

fn built_empty() -> Issue {
    Issue::Index(IndexIssue::BuiltEmpty {
        index: "i".into(),
        lists: 100,
    })
}

fn unbalanced() -> Issue {
    Issue::Index(IndexIssue::UnbalancedClusters {
        index: "i".into(),
        score: 3.0,
    })
}

fn on_lists() -> IndexInfo {
    IndexInfo {
        access_method: "ivfflat".into(),
        shape: Some(IndexShape {
            value_type: ValueType::Vector,
            metric: Metric::L2,
            normalized: false,
            dimensions: Some(128),
            option: Some(100),
        }),
        ..index("i")
    }
}

fn figures(quality: f32, imbalance: f32) -> IvfflatFigures {
    IvfflatFigures {
        cluster_balance: 0.5,
        empty_clusters: 0,
        centroid_quality: quality,
        lists: 100,
        vectors: 100_000,
        largest_cluster: 1_500,
        imbalance_factor: imbalance,
        pages: 7_000,
        predicted_pages: 7_000,
        fragmentation: 0.0,
        list_sizes: [800, 1_000, 1_300],
        effective_lists: 90.0,
        gini: 0.1,
        mean_displacement: 0.1,
        max_displacement: 0.2,
        recommended_lists: 100,
        untrained_lists: 0,
        sampled: false,
        dimensions: 128,
    }
}

fn facts() -> PlanFacts {
    PlanFacts {
        lists: Some(figures(0.5, 1.1)),
        build_memory: 1 << 26,
        ..PlanFacts::default()
    }
}

fn plan(issue: &Issue, index: &IndexInfo, facts: &PlanFacts) -> RepairPlan {
    let strategies = registry();
    let strategy = strategy_for(&strategies, issue).expect("a strategy");
    strategy.plan(issue, index, facts)
}

/// Recall as it is, with moved centres, and after a rebuild.
fn forecast(as_is: f64, recentered: f64, rebuilt: f64) -> Forecast {
    let at = |recall| Expected {
        probes: 1,
        recall,
        compared: 1_000.0,
    };
    Forecast {
        queries: 800,
        k: 10,
        as_is: at(as_is),
        recentered: at(recentered),
        rebuilt: Some(at(rebuilt)),
        rebuilt_as_good: Some(Expected {
            probes: 4,
            ..at(as_is)
        }),
        worse: false,
        regrouped: None,
    }
}

#[test]
fn centers_are_moved_in_place_where_their_sums_fit_into_memory() {
    use StepKind::{Baseline, Forecast, InsertPages, Recenter, Regroup, Verify};
    for issue in [stale(), built_empty()] {
        let plan = plan(&issue, &on_lists(), &facts());
        assert_eq!(plan.repair_type, "in_place");
        assert_eq!(plan.strategy, "index_rebalance");
        let steps = [InsertPages, Baseline, Forecast, Recenter, Verify];
        assert_eq!(plan.steps, steps);
        assert!(!plan.heavy && plan.estimate.disk_bytes == 0);
        assert!(
            plan.costs_ms.iter().all(|ms| *ms > 0.0),
            "{:?}",
            plan.costs_ms
        );
    }
    // No row moves by itself: it is only told what a rebuild would do.
    let told = plan(&unbalanced(), &on_lists(), &facts());
    assert_eq!(told.steps, [Baseline, Forecast, Verify]);
    let asked_for = PlanFacts {
        may_move: true,
        ..facts()
    };
    let told = plan(&unbalanced(), &on_lists(), &asked_for);
    let steps = [InsertPages, Baseline, Forecast, Regroup, Verify];
    assert_eq!(told.steps, steps);
    let locks = &told.to_json()["estimate"]["locks"];
    assert_eq!(locks[1], "AccessExclusiveLock on the index");
    assert!(told.reversible && told.costs_ms[3] > 0.0);
    assert!(told.estimate.disk_bytes > 1 << 20);

    let changed: [&dyn Fn(&mut PlanFacts); 3] = [
        &|facts| facts.build_memory = 1 << 20,
        &|facts| facts.in_place_failed = true,
        &|facts| facts.lists = None,
    ];
    for (nth, change) in changed.iter().enumerate() {
        let mut facts = facts();
        change(&mut facts);
        let how = plan(&stale(), &on_lists(), &facts).repair_type;
        assert_eq!(how, "index_rebuild", "change {nth}");
    }
    let invalid = IndexInfo {
        valid: false,
        ..on_lists()
    };
    assert_eq!(
        plan(&stale(), &invalid, &facts()).repair_type,
        "index_rebuild"
    );
}

#[test]
fn what_a_rebuild_of_lists_costs_follows_from_rows_and_lists() {
    let estimate = |change: &dyn Fn(&mut PlanFacts)| {
        let mut facts = PlanFacts {
            in_place_failed: true,
            ..facts()
        };
        change(&mut facts);
        plan(&stale(), &on_lists(), &facts).estimate
    };
    let usual = estimate(&|_| {});
    assert_eq!(usual.disk_bytes, 7_000 * 8_192);
    let more = |facts: &mut PlanFacts| facts.lists.as_mut().expect("figures").lists = 1_000;
    assert!(estimate(&more).duration_ms > 5.0 * usual.duration_ms);
    let known = |facts: &mut PlanFacts| facts.build_ms_per_element = Some(0.1);
    assert_eq!(estimate(&known).duration_ms, 10_500.0);
}

#[test]
fn centers_are_moved_where_that_is_expected_to_be_enough() {
    let against =
        |as_is, recentered, rebuilt| forecast(as_is, recentered, rebuilt).against_moving();
    assert_eq!(against(0.8, 0.9, 0.9), None);
    assert_eq!(against(0.8, 0.89, 0.9), None, "within the margin of 95 %");
    assert_eq!(against(0.9, 0.9, 0.9), None, "the figures are mended");
    assert_eq!(against(0.9, 0.897, 0.9), None);
    let reason = against(0.8, 0.85, 0.9).expect("a rebuild would do more");
    assert!(
        reason.contains("0.850") && reason.contains("0.900"),
        "{reason}"
    );
    let reason = against(0.9, 0.89, 0.89).expect("recall would fall");
    assert!(reason.contains("fall from 0.900 to 0.890"), "{reason}");
    let shown = Forecast {
        worse: true,
        ..forecast(0.9, 0.897, 0.9)
    };
    assert!(shown.against_moving().is_some());
    let untold = Forecast {
        rebuilt: None,
        ..forecast(0.8, 0.81, 0.0)
    };
    assert_eq!(untold.against_moving(), None);
}

#[test]
fn lists_are_made_even_where_as_much_is_found_for_less() {
    let regrouped = |as_good: Option<(u32, f64)>| Forecast {
        regrouped: Some(Regrouped {
            expected: Expected {
                probes: 1,
                recall: 0.7,
                compared: 100.0,
            },
            as_good: as_good.map(|(probes, compared)| Expected {
                probes,
                recall: 0.9,
                compared,
            }),
        }),
        ..forecast(0.9, 0.9, 0.9)
    };
    assert_eq!(regrouped(Some((3, 700.0))).against_regrouping(), None);
    let reason = regrouped(Some((3, 900.0))).against_regrouping();
    let reason = reason.expect("hardly less");
    assert!(
        reason.contains("3 probes instead of") && reason.contains("900 rows"),
        "{reason}"
    );
    assert!(regrouped(None).against_regrouping().is_some());
    assert!(forecast(0.9, 0.9, 0.9).against_regrouping().is_some());
}

#[test]
fn an_index_is_not_rebuilt_where_recall_is_expected_to_fall() {
    assert_eq!(forecast(0.9, 0.9, 0.85).against_rebuild(), None);
    assert!(forecast(1.0, 1.0, 0.98).against_rebuild().is_some());
    let reason = forecast(0.9, 0.9, 0.8).against_rebuild().expect("a reason");
    assert!(
        reason.contains("0.900 to about 0.800") && reason.contains("with 4 probes"),
        "{reason}"
    );
}

/// A bench whose lists are as they were expected to be.
struct Bench {
    log: Vec<&'static str>,
    after: Measured,
    /// Neighbours of ten that each query finds before and after.
    found: (u32, u32),
}

impl Workbench for Bench {
    fn begin(&mut self, _step: StepKind) -> Result<(), PortError> {
        Ok(())
    }
    fn execute(&mut self, step: StepKind) -> Result<(), PortError> {
        self.log.push(step.code());
        Ok(())
    }
    fn measure(&mut self) -> Result<Measured, PortError> {
        Ok(self.after.clone())
    }
    fn measure_replacement(&mut self) -> Result<Measured, PortError> {
        unreachable!("there is none")
    }
    fn search_both(&mut self, _count: u32, _k: u32) -> Result<Searched, PortError> {
        unreachable!("there is one index")
    }
    fn ask_again(&mut self) -> Result<Option<AskedTwice>, PortError> {
        let hits = |hits| QueryHits { hits, of: 10 };
        Ok(Some(AskedTwice {
            hits: vec![(hits(self.found.0), hits(self.found.1)); 800],
            k: 10,
            buffers: (80_000, 80_000),
        }))
    }
    fn note(&mut self, _key: &str, _value: &Value) -> Result<(), PortError> {
        Ok(())
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn measured(figures: IvfflatFigures, forecast: Option<Forecast>) -> Measured {
    Measured {
        ivfflat: Some(figures),
        valid: true,
        forecast,
        ..Measured::default()
    }
}

fn run(issue: &Issue, after: Measured, found: (u32, u32)) -> (Outcome, bool) {
    let plan = plan(issue, &on_lists(), &facts());
    let approved = approve_on_request(plan, &Conditions::default()).expect("it may start");
    let strategies = registry();
    let strategy = strategy_for(&strategies, issue).expect("a strategy");
    let mut bench = Bench {
        log: Vec::new(),
        after,
        found,
    };
    let before = measured(figures(0.5, 6.0), None);
    let outcome = carry_out(&approved, strategy, &mut bench, before, true);
    let taken_back = bench.log.last() == Some(&"take_back");
    (outcome, taken_back)
}

#[test]
fn moved_centers_are_kept_where_they_help_and_else_taken_back() {
    let good = || Some(forecast(0.8, 0.9, 0.9));
    let (outcome, taken_back) = run(&stale(), measured(figures(1.0, 6.0), good()), (8, 9));
    assert_eq!((outcome.ending, taken_back), (Ending::Succeeded, false));

    for (after, found, reason) in [
        (
            measured(figures(0.7, 6.0), good()),
            (8, 9),
            "still remove 30 %",
        ),
        (measured(figures(1.0, 6.0), good()), (9, 8), "recall@10"),
        (measured(figures(1.0, 6.0), None), (8, 9), "cannot be told"),
        (
            measured(figures(0.5, 6.0), Some(forecast(0.8, 0.85, 0.9))),
            (8, 8),
            "a rebuild to about 0.900",
        ),
    ] {
        let (outcome, taken_back) = run(&stale(), after, found);
        let called_for = outcome.calls_for_rebuild().expect("a rebuild").to_owned();
        assert!(called_for.contains(reason), "{called_for}");
        assert!(taken_back);
    }
}

#[test]
fn where_neither_helps_nothing_is_done() {
    let told = Some(forecast(1.0, 1.0, 0.5));
    let (outcome, _) = run(&unbalanced(), measured(figures(0.5, 6.0), told), (10, 10));
    assert_eq!(outcome.calls_for_rebuild(), None);
    let Ending::RolledBack(reason) = outcome.ending else {
        panic!("{:?}", outcome.ending);
    };
    assert!(
        reason.contains("6.0 times") && reason.contains("with 4 probes"),
        "{reason}"
    );

    let told = Some(forecast(1.0, 1.0, 0.995));
    let (outcome, _) = run(&unbalanced(), measured(figures(0.5, 6.0), told), (10, 10));
    assert!(outcome.calls_for_rebuild().is_some());
}

#[test]
fn rebuilt_lists_must_be_mended() {
    let verdict = |issue: &Issue, after| {
        let strategies = registry();
        let strategy = strategy_for(&strategies, issue).expect("a strategy");
        let before = measured(figures(0.5, 6.0), None);
        serde_json::to_string(&strategy.validate(issue, &before, &measured(after, None)))
            .expect("text")
    };
    assert!(verdict(&stale(), figures(0.99, 6.0)).contains("keep"));
    assert!(verdict(&stale(), figures(0.6, 6.0)).contains("40 %"));
    assert!(verdict(&built_empty(), figures(0.9, 6.0)).contains("10 %"));
    assert!(verdict(&unbalanced(), figures(0.9, 1.5)).contains("keep"));
    assert!(
        verdict(&unbalanced(), figures(0.9, 5.0)).contains("keep"),
        "better than before"
    );
    assert!(verdict(&unbalanced(), figures(0.9, 6.0)).contains("6.0 times"));
}
