use ruvector_dag_healing_engine::detection::index_health::{findings, look_is_due};
use ruvector_dag_healing_engine::diagnosis::diagnose;
use ruvector_dag_healing_engine::model::{IndexHealthCheck, IndexInfo, Severity};
use ruvector_dag_healing_engine::repair::strategy::registry;
use ruvector_dag_healing_engine::vector_index::hnsw::HnswFigures;
use ruvector_dag_healing_engine::vector_index::ivfflat::IvfflatFigures;

use super::{codes, healthy, index, look};

#[test]
fn a_healthy_index_has_no_issue() {
    assert!(codes(&look(|_| {})).is_empty());
    assert!(codes(&look(|f| *f = healthy(0))).is_empty());
}

#[test]
fn every_threshold_is_where_it_is_said_to_be() {
    let none: [&str; 0] = [];
    assert_eq!(codes(&look(|f| f.fragmentation = 0.5)), none);
    assert_eq!(codes(&look(|f| f.fragmentation = 0.501)), ["fragmentation"]);
    assert_eq!(codes(&look(|f| f.orphans_with_rows = 10)), none);
    assert_eq!(codes(&look(|f| f.orphans_with_rows = 11)), ["orphan_nodes"]);
    let big = |orphans| look(move |f| (*f, f.orphans_with_rows) = (healthy(10_000_000), orphans));
    assert_eq!(codes(&big(100)), none);
    assert_eq!(codes(&big(101)), ["orphan_nodes"]);
    assert_eq!(codes(&look(|f| f.connectivity_score = 0.8)), none);
    assert_eq!(
        codes(&look(|f| f.connectivity_score = 0.79)),
        ["poor_connectivity"]
    );
    // Elements without rows need not be reached.
    let emptied = look(|f| (f.connectivity_score, f.orphan_count) = (0.5, f.live_elements / 2));
    assert_eq!(codes(&emptied), none);
    assert_eq!(codes(&look(|f| f.pages_per_insert = 200.0)), none);
    assert_eq!(
        codes(&look(|f| f.pages_per_insert = 201.0)),
        ["distant_insert_page"]
    );
}

#[test]
fn a_single_edge_that_leads_nowhere_is_an_issue_whatever_the_size() {
    let small = look(|f| {
        *f = healthy(10);
        f.dangling_edges = 1;
    });
    assert_eq!(codes(&small), ["dangling_edges"]);
}

/// A look at an IVFFlat index that is `days` old.
fn lists(days: i64, change: impl Fn(&mut IvfflatFigures)) -> IndexHealthCheck {
    let mut figures = IvfflatFigures {
        cluster_balance: 0.4,
        empty_clusters: 0,
        centroid_quality: 0.99,
        lists: 20,
        vectors: 20_000,
        largest_cluster: 1_900,
        imbalance_factor: 1.2,
        pages: 500,
        predicted_pages: 500,
        fragmentation: 0.0,
        list_sizes: [500, 1_000, 1_800],
        effective_lists: 16.0,
        gini: 0.2,
        mean_displacement: 0.1,
        max_displacement: 0.2,
        recommended_lists: 20,
        untrained_lists: 0,
        sampled: false,
        dimensions: 3,
    };
    change(&mut figures);
    IndexHealthCheck {
        ivfflat: Some(figures),
        first_seen: Some(0),
        ..IndexHealthCheck::new(index("i"), days * 86_400_000_000)
    }
}

#[test]
fn lists_have_thresholds_of_their_own() {
    let none: [&str; 0] = [];
    assert_eq!(codes(&lists(30, |_| {})), none, "old is no fault");
    assert_eq!(codes(&lists(6, |f| f.centroid_quality = 0.5)), none);
    assert_eq!(
        codes(&lists(8, |f| f.centroid_quality = 0.84)),
        ["stale_training"]
    );
    assert_eq!(codes(&lists(0, |f| f.cluster_balance = 2.0)), none);
    assert_eq!(
        codes(&lists(0, |f| f.cluster_balance = 2.1)),
        ["unbalanced_clusters"]
    );
    assert_eq!(
        codes(&lists(0, |f| f.imbalance_factor = 4.1)),
        ["unbalanced_clusters"]
    );
    let few = |f: &mut IvfflatFigures| (f.imbalance_factor, f.lists) = (4.1, 15);
    assert_eq!(codes(&lists(0, few)), none);
    let small = |f: &mut IvfflatFigures| (f.cluster_balance, f.vectors) = (9.0, 999);
    assert_eq!(codes(&lists(0, small)), none);
}

#[test]
fn what_is_known_of_a_file_goes_with_the_file() {
    let first = lists(0, |_| {}).after(None);
    let later = IndexHealthCheck {
        first_seen: None,
        ..lists(2, |_| {})
    };
    assert_eq!(later.clone().after(Some(&first)).hours_known(), 48.0);
    let mut rebuilt = later;
    rebuilt.index.relfilenode += 1;
    assert_eq!(rebuilt.after(Some(&first)).hours_known(), 0.0);
}

#[test]
fn orphans_without_rows_are_nobodys_loss() {
    assert!(codes(&look(|f| f.orphan_count = 5_000)).is_empty());
}

#[test]
fn a_small_index_has_no_quality_to_judge() {
    let small = |elements| look(move |f| (*f, f.fragmentation) = (healthy(elements), 0.9));
    assert!(codes(&small(999)).is_empty());
    assert_eq!(codes(&small(1_000)), ["fragmentation"]);
}

#[test]
fn an_estimate_of_reachability_accuses_nobody() {
    let sampled =
        look(|f| (f.sampled, f.connectivity_score, f.orphans_with_rows) = (true, 0.5, 5_000));
    assert!(codes(&sampled).is_empty());
}

#[test]
fn an_invalid_index_is_one_unless_somebody_builds_it() {
    let mut look = look(|_| {});
    look.index.valid = false;
    assert_eq!(codes(&look), ["invalid_index"]);
    look.index.under_construction = true;
    assert!(codes(&look).is_empty());
}

#[test]
fn a_leftover_of_a_valid_index_is_advised_about_not_repaired() {
    let mut look = look(|_| {});
    (look.index.valid, look.index.valid_twin) = (false, Some("public.j".into()));
    let diagnosis = diagnose(findings(&look).remove(0), &registry());
    assert_eq!(diagnosis.recommended_repair, "none");
    assert!(
        diagnosis.impact["advice"]
            .as_str()
            .unwrap()
            .starts_with("DROP INDEX CONCURRENTLY i;")
    );
}

#[test]
fn dead_rows_count_when_they_are_many_and_in_the_index() {
    let with = |dead_rows, live_rows| {
        let mut look = look(|_| {});
        (look.index.dead_rows, look.index.live_rows) = (dead_rows, live_rows);
        codes(&look).contains(&"dead_tuples")
    };
    assert!(with(1_100, 8_900));
    assert!(!with(1_000, 9_100));
    assert!(!with(999, 1));
    // Rows that were updated where they were are not in the index.
    assert!(!with(4_000, 9_500));
    // More dead rows than the index has entries: the counter lags behind a vacuum.
    assert!(!with(10_001, 0));
}

#[test]
fn priorities_and_severities_follow_the_table() {
    let diagnosed = |change: &dyn Fn(&mut HnswFigures)| {
        let found = findings(&look(change)).remove(0);
        let diagnosis = diagnose(found, &registry());
        (diagnosis.priority, diagnosis.severity)
    };
    assert_eq!(
        diagnosed(&|f| f.fragmentation = 0.75),
        (75, Severity::Medium)
    );
    assert_eq!(diagnosed(&|f| f.fragmentation = 0.85), (85, Severity::High));
    assert_eq!(
        diagnosed(&|f| f.orphans_with_rows = 12),
        (20, Severity::Low)
    );
    assert_eq!(
        diagnosed(&|f| f.orphans_with_rows = 60),
        (60, Severity::Medium)
    );
    assert_eq!(
        diagnosed(&|f| f.orphans_with_rows = 5_000),
        (90, Severity::High)
    );
    assert_eq!(
        diagnosed(&|f| f.connectivity_score = 0.7),
        (50, Severity::Medium)
    );
    assert_eq!(
        diagnosed(&|f| f.connectivity_score = 0.4),
        (100, Severity::Critical)
    );
}

#[test]
fn an_issue_keeps_its_id_across_a_rebuild() {
    let sick = look(|f| f.fragmentation = 0.9);
    let mut rebuilt = sick.clone();
    (rebuilt.index.index_oid, rebuilt.index.relfilenode) = (999, 999);
    assert_eq!(
        findings(&sick)[0].issue_id(),
        findings(&rebuilt)[0].issue_id()
    );
    let mut other = sick.clone();
    other.index = index("other");
    assert_ne!(
        findings(&sick)[0].issue_id(),
        findings(&other)[0].issue_id()
    );
}

#[test]
fn a_look_is_due_when_something_may_have_changed() {
    let seen = look(|_| {});
    let due = |now, change: &dyn Fn(&mut IndexInfo)| {
        let mut index = seen.index.clone();
        change(&mut index);
        look_is_due(Some(&seen), &index, now)
    };
    const DAY: i64 = 86_400_000_000;
    assert!(look_is_due(None, &seen.index, 0));
    assert!(!due(0, &|_| {}));
    assert!(!due(DAY, &|_| {}));
    assert!(due(DAY + 1, &|_| {}));
    // 1 % of 5,000 rows is 50.
    assert!(!due(0, &|i| i.modifications = 50));
    assert!(due(0, &|i| i.modifications = 51));
    assert!(due(0, &|i| i.vacuums = 1));
    assert!(due(0, &|i| i.relfilenode = 2));
    assert!(due(0, &|i| i.valid = false));
    assert!(due(0, &|i| i.blocks = 1_011));
    assert!(!due(0, &|i| i.blocks = 1_010));
}
