use ruvector_dag_healing_engine::model::{IndexInfo, IndexIssue, Issue};
use ruvector_dag_healing_engine::ports::{IssueState, IssueStatus};
use ruvector_dag_healing_engine::repair::guards::{
    Conditions, OldestTransaction, Refusal, approve, approve_on_request,
};
use ruvector_dag_healing_engine::repair::index_rebalance::{self, IndexRebalanceStrategy};
use ruvector_dag_healing_engine::repair::plan::{OtherIndex, PlanFacts, RepairPlan, StepKind};
use ruvector_dag_healing_engine::repair::strategy::RepairStrategy;
use ruvector_dag_healing_engine::repair::vacuum::VacuumStrategy;
use ruvector_dag_healing_engine::settings::HealingConfig;
use ruvector_dag_healing_engine::vector_index::hnsw::HnswFigures;
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::ValueType;

use super::{fragmentation, healthy, index};

const NOW: i64 = 1_000_000_000_000;
const SECOND: i64 = 1_000_000;

fn plan() -> RepairPlan {
    let facts = PlanFacts {
        figures: Some(healthy(5_000)),
        build_memory: 64 << 20,
        build_ms_per_element: None,
        ..PlanFacts::default()
    };
    IndexRebalanceStrategy.plan(&fragmentation(0.8), &index("i"), &facts)
}

fn state() -> IssueState {
    IssueState {
        status: IssueStatus::Open,
        is_new: false,
        failures: 0,
        last_repair: None,
        last_repair_ms: 0.0,
    }
}

fn conditions() -> Conditions {
    Conditions {
        free_disk: Some(1 << 40),
        free_memory: Some(1 << 40),
        ..Conditions::default()
    }
}

fn refused(state: &IssueState, conditions: &Conditions, config: &HealingConfig) -> Option<Refusal> {
    approve(plan(), state, conditions, config, NOW).err()
}

fn code(state: &IssueState, conditions: &Conditions, config: &HealingConfig) -> String {
    refused(state, conditions, config).map_or("approved".into(), |refusal| refusal.code)
}

#[test]
fn with_nothing_against_it_a_repair_is_approved() {
    assert_eq!(
        refused(&state(), &conditions(), &HealingConfig::default()),
        None
    );
}

#[test]
fn every_condition_against_it_has_its_refusal() {
    let config = HealingConfig::default();
    let against = |change: &dyn Fn(&mut Conditions)| {
        let mut conditions = conditions();
        change(&mut conditions);
        code(&state(), &conditions, &config)
    };
    assert_eq!(against(&|c| c.free_disk = Some(1 << 20)), "no_disk");
    assert_eq!(against(&|c| c.free_memory = Some(1 << 20)), "no_memory");
    assert_eq!(against(&|c| c.free_disk = None), "approved");
    assert_eq!(against(&|c| c.freeze_age = 0.95), "wraparound");
    assert_eq!(against(&|c| c.table_in_repair = true), "table_in_repair");
    assert_eq!(
        against(&|c| c.locked_by = Some("process 7".into())),
        "table_locked"
    );
    let oldest = |seconds| OldestTransaction {
        seconds,
        who: "process 7".into(),
    };
    assert_eq!(
        against(&|c| c.oldest_transaction = Some(oldest(74.0))),
        "approved"
    );
    assert_eq!(
        against(&|c| c.oldest_transaction = Some(oldest(76.0))),
        "old_transaction"
    );
}

#[test]
fn a_heavy_repair_waits_for_the_window() {
    let config = HealingConfig {
        window: "22:00-05:00".parse().unwrap(),
        ..HealingConfig::default()
    };
    let at = |minute_of_day| Conditions {
        minute_of_day,
        ..conditions()
    };
    assert_eq!(code(&state(), &at(12 * 60), &config), "outside_window");
    assert_eq!(code(&state(), &at(23 * 60), &config), "approved");
}

#[test]
fn what_would_take_longer_than_allowed_names_the_setting_that_lets_it() {
    let config = HealingConfig {
        repair_timeout_secs: 1,
        ..HealingConfig::default()
    };
    let refusal = refused(&state(), &conditions(), &config).unwrap();
    assert_eq!(refusal.code, "estimate_over_timeout");
    assert!(
        refusal
            .reason
            .contains("ruvector.dag_healing_repair_timeout"),
        "{}",
        refusal.reason
    );
}

#[test]
fn a_repair_rests_after_the_last_and_longer_after_failures() {
    let config = HealingConfig::default();
    let after = |seconds: i64, failures, last_repair_ms| {
        let last_repair = Some(NOW - seconds * SECOND);
        let state = IssueState {
            failures,
            last_repair,
            last_repair_ms,
            ..state()
        };
        code(&state, &conditions(), &config)
    };
    assert_eq!(after(59, 0, 0.0), "cooldown");
    assert_eq!(after(61, 0, 0.0), "approved");
    assert_eq!(after(1_999, 0, 100_000.0), "cooldown");
    assert_eq!(after(2_001, 0, 100_000.0), "approved");
    assert_eq!(after(299, 1, 0.0), "backoff");
    assert_eq!(after(301, 1, 0.0), "approved");
    assert_eq!(after(599, 2, 0.0), "backoff");
    assert_eq!(after(601, 2, 0.0), "approved");
    assert_eq!(after(7 * 86_400 - 1, 1_000_000, 0.0), "backoff");
    assert_eq!(after(7 * 86_400 + 1, 1_000_000, 0.0), "approved");
}

#[test]
fn whoever_asks_is_spared_the_waiting_but_not_the_harm() {
    let busy = Conditions {
        oldest_transaction: Some(OldestTransaction {
            seconds: 1e6,
            who: "x".into(),
        }),
        free_memory: Some(0),
        ..conditions()
    };
    assert!(approve_on_request(plan(), &busy).is_ok());
    let full = Conditions {
        free_disk: Some(0),
        ..conditions()
    };
    assert_eq!(
        approve_on_request(plan(), &full).unwrap_err().code,
        "no_disk"
    );
}

#[test]
fn a_measured_build_replaces_the_guess_and_a_spilled_one_costs_more() {
    let estimate = |build_memory, build_ms_per_element| {
        let facts = PlanFacts {
            figures: Some(healthy(100_000)),
            build_memory,
            build_ms_per_element,
            ..PlanFacts::default()
        };
        IndexRebalanceStrategy
            .plan(&fragmentation(0.8), &index("i"), &facts)
            .estimate
    };
    let roomy = estimate(1 << 40, None);
    let tight = estimate(64 << 20, None);
    assert!(tight.duration_ms > 5.0 * roomy.duration_ms);
    assert!(tight.memory_bytes <= 64 << 20);
    assert_eq!(estimate(64 << 20, Some(0.1)).duration_ms, 500.0 + 10_000.0);
}

/// What makes a plan another.
type Change = dyn Fn(&mut IndexInfo, &mut PlanFacts);

fn l2() -> IndexShape {
    IndexShape {
        value_type: ValueType::Vector,
        metric: Metric::L2,
        normalized: false,
        dimensions: None,
        option: None,
    }
}

/// Another graph of the table.
fn other(figures: Option<HnswFigures>) -> OtherIndex {
    let index = IndexInfo {
        shape: Some(l2()),
        ..index("other")
    };
    OtherIndex { index, figures }
}

/// Whether a repair may start by itself, or the code of the reason why not.
fn approved(plan: RepairPlan) -> Result<(), String> {
    let config = HealingConfig {
        repair_timeout_secs: 86_400,
        ..HealingConfig::default()
    };
    let approved = approve(plan, &state(), &Conditions::default(), &config, 0);
    approved.map(|_| ()).map_err(|refusal| refusal.code)
}

#[test]
fn dead_rows_are_taken_out_in_the_cheaper_way() {
    let plan = |dead_share: f64, change: &Change| {
        let mut index = index("i");
        let mut figures = healthy(100_000);
        figures.heap_tids = 100_000;
        index.live_rows = (100_000.0 * (1.0 - dead_share)) as u64;
        let mut facts = PlanFacts {
            figures: Some(figures),
            build_memory: 1 << 40,
            build_ms_per_element: None,
            ..PlanFacts::default()
        };
        change(&mut index, &mut facts);
        let share = dead_share as f32;
        let issue = Issue::Index(IndexIssue::DeadTuples {
            index: "i".into(),
            share,
        });
        VacuumStrategy.plan(&issue, &index, &facts)
    };
    let few = plan(0.01, &|_, _| {});
    assert_eq!(few.steps, [StepKind::Vacuum]);
    let many = plan(0.4, &|_, _| {});
    assert_eq!(
        (many.steps.first(), many.steps.last()),
        (Some(&StepKind::CreateCopy), Some(&StepKind::Vacuum))
    );
    // Kept for an undo, the old index would be vacuumed as well.
    assert!(!many.reversible && many.estimate.disk_bytes > 0);
    let others: [&Change; 3] = [
        // The others are vacuumed in any case.
        &|_, facts| facts.others = vec![other(None)],
        // Lists have nothing to link anew.
        &|index, _| index.access_method = "ivfflat".into(),
        // A build that does not fit into memory is dear.
        &|_, facts| facts.build_memory = 1 << 20,
    ];
    for change in others {
        assert_eq!(plan(0.4, change).steps, [StepKind::Vacuum]);
    }
    let shaped: &Change = &|index, _| index.shape = Some(l2());
    for share in [0.15, 0.4] {
        let relinked = plan(share, shaped);
        let steps = [
            StepKind::Baseline,
            StepKind::Relink,
            StepKind::Vacuum,
            StepKind::Link,
            StepKind::Verify,
        ];
        assert_eq!(
            (&relinked.steps[..], relinked.reversible),
            (&steps[..], false)
        );
        assert_eq!(relinked.costs_ms.len(), steps.len());
        assert!(approved(relinked).is_ok());
    }
    // In every graph of the table.
    let with_another = plan(0.4, &|index, facts| {
        shaped(index, facts);
        facts.others = vec![other(Some(healthy(100_000)))];
    });
    let alone = plan(0.4, shaped);
    assert_eq!(with_another.steps, alone.steps);
    let costs = [with_another, alone].map(|plan| plan.costs_ms[1]);
    assert!(costs[0] > 1.9 * costs[1], "{costs:?}");
    let not: [&Change; 4] = [
        // Of another graph nothing is known yet, or it does not fit into memory.
        &|_, facts| facts.others = vec![other(None)],
        &|_, facts| {
            facts.others = vec![other(Some(healthy(10_000_000)))];
            facts.build_memory = 1 << 30;
        },
        &|_, facts| facts.in_place_failed = true,
        // The graph does not fit into memory.
        &|_, facts| facts.build_memory = 1 << 20,
    ];
    for change in not {
        let plan = |share| {
            plan(share, &|index, facts| {
                shaped(index, facts);
                change(index, facts);
            })
        };
        assert!(!plan(0.4).steps.contains(&StepKind::Relink));
        // Too few for a repair that is dear.
        assert_eq!(approved(plan(0.15)), Err("left_to_autovacuum".into()));
        assert_eq!(approved(plan(0.4)), Ok(()));
    }
    // Most of its pages would be empty.
    assert!(!plan(0.6, shaped).steps.contains(&StepKind::Relink));
    // Where pgvector's vacuum does harm it is given nothing to delete.
    for (release, does_harm) in [
        ("0.8.3", true),
        ("0.8.4", false),
        ("0.9.0", false),
        ("0.5.1", true),
    ] {
        let with = |change: &'static Change| {
            plan(0.4, &move |index, facts| {
                shaped(index, facts);
                facts.pgvector = release.parse().ok();
                change(index, facts);
            })
        };
        let alone = with(&|_, _| {});
        assert_eq!(alone.steps.last() == Some(&StepKind::Vacuum), does_harm);
        assert_eq!(alone.vacuum_fault.is_some(), does_harm, "{release}");
        let of_two = with(&|_, facts| facts.others = vec![other(None)]);
        let refused = Err("pgvector_release".into());
        assert_eq!(approved(of_two) == refused, does_harm, "{release}");
        let of_lists = with(&|index, _| index.access_method = "ivfflat".into());
        assert_eq!(of_lists.vacuum_fault, None);
    }
    // A look that is out of date: those who are dead are not in the index.
    let gone = plan(0.4, &|_, facts| {
        facts.figures.as_mut().expect("figures").heap_tids = 60_000;
    });
    assert_eq!(gone.steps, [StepKind::Vacuum]);
}

#[test]
fn an_index_that_fails_writes_is_not_kept() {
    let reversible = |change: fn(&mut HnswFigures)| {
        let mut figures = healthy(10_000);
        change(&mut figures);
        let facts = PlanFacts {
            figures: Some(figures),
            build_memory: 1 << 30,
            build_ms_per_element: None,
            ..PlanFacts::default()
        };
        index_rebalance::rebuild("any", &fragmentation(0.8), &index("i"), &facts).reversible
    };
    assert!(reversible(|_| {}));
    assert!(reversible(|figures| figures.orphan_count = 5));
    assert!(!reversible(|figures| figures.dangling_edges = 1));
    assert!(!reversible(|figures| figures.entry_point_quality = 0.0));
}
