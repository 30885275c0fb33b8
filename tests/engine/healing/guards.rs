use ruvector_dag_healing_engine::ports::{IssueState, IssueStatus};
use ruvector_dag_healing_engine::repair::guards::{
    Conditions, OldestTransaction, Refusal, approve, approve_on_request,
};
use ruvector_dag_healing_engine::repair::index_rebalance::IndexRebalanceStrategy;
use ruvector_dag_healing_engine::repair::plan::{PlanFacts, RepairPlan};
use ruvector_dag_healing_engine::repair::strategy::RepairStrategy;
use ruvector_dag_healing_engine::settings::HealingConfig;

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
