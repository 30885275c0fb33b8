use std::collections::BTreeMap;

use ruvector_dag_healing_engine::detection::damage::Damage;
use ruvector_dag_healing_engine::detection::index_health::findings;
use ruvector_dag_healing_engine::diagnosis::diagnose;
use ruvector_dag_healing_engine::model::{IndexHealthCheck, IndexIssue, Issue, Severity};
use ruvector_dag_healing_engine::recall::paired::Standing;
use ruvector_dag_healing_engine::repair::plan::{Measured, PlanFacts, ProbeFigures, StepKind};
use ruvector_dag_healing_engine::repair::strategy::registry;
use ruvector_dag_healing_engine::vector_index::finding::{Breach, Gravity};
use ruvector_dag_healing_engine::vector_index::hnsw::HnswFigures;
use ruvector_dag_healing_engine::verification::Verdict;
use ruvector_dag_healing_engine::verification::validation::{mended, rebuilt};

use super::{codes, healthy, look};

fn breach(check: &'static str) -> Breach {
    Breach {
        gravity: Gravity::Error,
        check,
        block: Some(3),
        item: Some(5),
        row: None,
        message: format!("a {check}"),
    }
}

fn damage(checks: &[&'static str]) -> Damage {
    let mut damage = Damage::default();
    checks.iter().for_each(|check| damage.add(&breach(check)));
    damage
}

fn damaged(checks: &[&'static str], change: impl Fn(&mut HnswFigures)) -> IndexHealthCheck {
    IndexHealthCheck {
        damage: Some(damage(checks)),
        ..look(change)
    }
}

const NONE: [&str; 0] = [];

#[test]
fn a_breach_is_an_issue_with_its_numbers_and_examples() {
    let look = damaged(&["neighbor_count", "neighbor_count", "value"], |_| {});
    let found = findings(&look);
    assert_eq!(codes(&look), ["corrupt_page"]);
    let evidence = &found[0].evidence["damage"];
    assert_eq!(evidence["checks"]["neighbor_count"], 2);
    assert_eq!(evidence["first"][0], "(3,5): a neighbor_count");
    let diagnosis = diagnose(found[0].clone(), &registry());
    assert_eq!(
        (diagnosis.priority, diagnosis.severity),
        (90, Severity::High)
    );
    assert_eq!(diagnosis.recommended_repair, "topology_repair");
    assert!(
        diagnosis.root_cause.starts_with("3 breaches"),
        "{diagnosis:?}"
    );
    // Whatever their number, the examples stay few.
    let many = damage(&["value"; 1_000]);
    assert_eq!((many.count(), many.first.len()), (1_000, 5));
}

#[test]
fn what_pgvector_makes_itself_and_what_is_harmless_are_no_issue() {
    let mut damage = damage(&["pending_rebuild", "page_zeroed"]);
    damage.add(&Breach {
        gravity: Gravity::Notice,
        ..breach("edge_repeated")
    });
    assert_eq!(damage.count(), 0);
    let look = IndexHealthCheck {
        damage: Some(damage),
        ..look(|_| {})
    };
    assert_eq!(codes(&look), NONE);
    assert!(look.may_be_searched());
}

#[test]
fn what_figures_show_goes_by_its_own_name_unless_there_is_more() {
    let dangling = |f: &mut HnswFigures| f.dangling_edges = 1;
    assert_eq!(
        codes(&damaged(&["edge_to_nothing"], dangling)),
        ["dangling_edges"]
    );
    assert_eq!(
        codes(&damaged(&["edge_to_nothing"], |_| {})),
        ["corrupt_page"]
    );
    let nowhere = |f: &mut HnswFigures| f.entry_point_quality = 0.0;
    assert_eq!(
        codes(&damaged(&["entry_missing"], nowhere)),
        ["dead_entry_point"]
    );
    // One repair for all of it.
    let more = damaged(&["edge_to_nothing", "heap_tids_gap"], |f| {
        f.dangling_edges = 1;
        f.orphans_with_rows = 500;
    });
    assert_eq!(codes(&more), ["corrupt_page"]);
    // What has nothing to do with it stays.
    let waste = damaged(&["value"], |f| f.fragmentation = 0.9);
    assert_eq!(codes(&waste), ["corrupt_page", "fragmentation"]);
}

#[test]
fn what_the_table_showed_stays_until_the_two_are_compared_again() {
    let seen = Damage {
        compared: true,
        ..damage(&["row_missing", "neighbor_hole"])
    };
    let kept = Damage::default().after(Some(&seen));
    let rows = BTreeMap::from([("row_missing".to_owned(), 1)]);
    assert_eq!((&kept.checks, kept.compared), (&rows, true));
    assert!(!kept.first.is_empty());
    let compared = Damage {
        compared: true,
        ..Damage::default()
    };
    assert_eq!(compared.clone().after(Some(&seen)), compared);
    // Another file has other rows; a look without a check of the structure keeps all.
    let before = IndexHealthCheck {
        damage: Some(seen.clone()),
        ..look(|_| {})
    };
    assert_eq!(look(|_| {}).after(Some(&before)).damage, Some(seen));
    let mut rebuilt = look(|_| {});
    rebuilt.index.relfilenode += 1;
    assert_eq!(rebuilt.after(Some(&before)).damage, None);
}

#[test]
fn damage_with_edges_that_lead_nowhere_names_what_makes_them() {
    for (dangling, named) in [(2, true), (0, false)] {
        let look = damaged(&["no_links"], |figures| figures.dangling_edges = dangling);
        assert_eq!(codes(&look), ["corrupt_page"]);
        let cause = diagnose(findings(&look)[0].clone(), &registry()).root_cause;
        assert!(cause.contains("a no_links"), "{cause}");
        assert_eq!(cause.contains("pgvector before 0.8.4"), named, "{cause}");
    }
}

fn corrupt(in_place: bool) -> Issue {
    Issue::Index(IndexIssue::CorruptPage {
        index: "i".into(),
        breaches: 1,
        in_place,
    })
}

#[test]
fn only_damage_of_graphs_that_can_be_proven_right_is_mended_in_place() {
    let how = |access_method: &str, checks: &[&'static str]| {
        let mut look = damaged(checks, |_| {});
        look.index.access_method = access_method.into();
        match &findings(&look)[0].issue {
            Issue::Index(IndexIssue::CorruptPage { in_place, .. }) => *in_place,
            other => panic!("{other:?}"),
        }
    };
    assert!(how(
        "hnsw",
        &["value", "row_missing", "no_links", "entry_level"]
    ));
    assert!(!how("hnsw", &["value", "neighbor_tuple_shared"]));
    assert!(!how("hnsw", &["page_chain"]));
    assert!(!how("hnsw", &["more"]));
    assert!(how("ivfflat", &["insert_page"]));
    assert!(!how("ivfflat", &["insert_page", "page_chain"]));
    assert!(!how("ivfflat", &["value_differs"]));
}

#[test]
fn rows_are_put_back_by_the_step_after_the_one_that_takes_them_out() {
    use StepKind::{Baseline, Detach, Entry, Link, Prune, Reinsert, Tuples, Verify};
    let facts = PlanFacts {
        figures: Some(healthy(100_000)),
        build_memory: 1 << 30,
        ..PlanFacts::default()
    };
    let plan = |in_place| {
        let (strategies, issue) = (registry(), corrupt(in_place));
        let strategy = strategies.iter().find(|one| one.can_repair(&issue));
        let strategy = strategy.expect("a strategy");
        strategy.plan(&issue, &super::in_place::graph(), &facts)
    };
    let steps = [
        Tuples, Entry, Prune, Detach, Reinsert, Baseline, Link, Verify,
    ];
    assert_eq!(plan(true).steps, steps);
    assert_eq!(plan(false).repair_type, "index_rebuild");
    // Where an eighth of the rows have to be put back a rebuild is cheaper.
    let many = Issue::Index(IndexIssue::CorruptPage {
        index: "i".into(),
        breaches: 13_000,
        in_place: true,
    });
    let strategies = registry();
    let strategy = strategies.iter().find(|one| one.can_repair(&many));
    let planned = strategy
        .expect("a strategy")
        .plan(&many, &super::in_place::graph(), &facts);
    assert_eq!(planned.repair_type, "index_rebuild");
    // A vacuum of what was replaced may never end.
    assert!(!plan(false).reversible);
}

#[test]
fn a_repair_of_damage_is_kept_if_nothing_is_left_of_it() {
    let measured = |damage: Option<Damage>| Measured {
        hnsw: Some(healthy(1_000)),
        damage,
        valid: true,
        ..Measured::default()
    };
    let before = measured(Some(damage(&["value"])));
    for judge in [mended, rebuilt] {
        let verdict = |after: Option<Damage>| judge(&corrupt(true), &before, &measured(after));
        assert_eq!(verdict(Some(Damage::default())), Verdict::Keep);
        assert_ne!(verdict(None), Verdict::Keep);
        let Verdict::Undo(reason) = verdict(Some(damage(&["value", "value"]))) else {
            panic!("kept");
        };
        assert_eq!(reason, "there are still 2 value");
    }
    // Half a point that is not shown is no reason to keep what is damaged.
    let fell = |standing| {
        let probe = |difference| ProbeFigures {
            queries: 64,
            difference,
            standing,
            ..ProbeFigures::default()
        };
        let before = Measured {
            probe: Some(probe(0.0)),
            ..before.clone()
        };
        let after = Measured {
            probe: Some(probe(-0.02)),
            ..measured(Some(Damage::default()))
        };
        rebuilt(&corrupt(false), &before, &after)
    };
    assert_eq!(fell(Some(Standing::Undecided)), Verdict::Keep);
    assert_ne!(fell(Some(Standing::Worse)), Verdict::Keep);
}
