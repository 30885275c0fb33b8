use ruvector_dag_healing_engine::model::{IndexIssue, Issue};
use ruvector_dag_healing_engine::recall::paired::Standing;
use ruvector_dag_healing_engine::repair::plan::{Measured, ProbeFigures};
use ruvector_dag_healing_engine::vector_index::hnsw::HnswFigures;
use ruvector_dag_healing_engine::verification::Verdict;
use ruvector_dag_healing_engine::verification::validation::{mended, rebuilt, tuned, vacuumed};

use super::{fragmentation, healthy};

fn measured(valid: bool, change: impl Fn(&mut HnswFigures)) -> Measured {
    let mut figures = healthy(10_000);
    change(&mut figures);
    Measured {
        hnsw: Some(figures),
        valid,
        ..Measured::default()
    }
}

fn old() -> Measured {
    measured(true, |f| f.fragmentation = 0.8)
}

fn probed(measured: Measured, difference: f64, standing: Option<Standing>) -> Measured {
    let probe = ProbeFigures {
        queries: 64,
        k: 10,
        difference,
        standing,
        buffers: 100.0,
        ..ProbeFigures::default()
    };
    Measured {
        probe: Some(probe),
        ..measured
    }
}

fn undone(issue: &Issue, before: &Measured, after: &Measured) -> String {
    match rebuilt(issue, before, after) {
        Verdict::Keep => "kept".into(),
        Verdict::Undo(reason) => reason,
    }
}

#[test]
fn a_value_is_passed_by_for_better_searches_alone() {
    let issue = Issue::Index(IndexIssue::DuplicateSink {
        index: "i".into(),
        rows: 1_000,
        unreachable: 0.5,
    });
    let old = measured(true, |f| f.orphans_with_rows = 5_000);
    let new = |difference, standing| probed(measured(true, |_| {}), difference, Some(standing));
    let verdict = |after: &Measured| mended(&issue, &old, after);
    assert_eq!(verdict(&new(0.4, Standing::Better)), Verdict::Keep);
    assert_eq!(verdict(&new(0.4, Standing::NotWorse)), Verdict::Keep);
    for unproven in [
        new(0.0, Standing::NotWorse),
        new(0.01, Standing::Undecided),
        new(-0.2, Standing::Worse),
        measured(true, |_| {}),
    ] {
        assert!(
            matches!(verdict(&unproven), Verdict::Undo(_)),
            "{unproven:?}"
        );
    }
}

#[test]
fn a_mended_index_is_kept() {
    assert_eq!(
        rebuilt(&fragmentation(0.8), &old(), &measured(false, |_| {})),
        Verdict::Keep
    );
}

#[test]
fn what_was_to_be_mended_must_be_mended() {
    let issue = fragmentation(0.8);
    assert!(
        undone(&issue, &old(), &measured(false, |f| f.fragmentation = 0.3))
            .contains("fragmentation")
    );

    let issue = Issue::Index(IndexIssue::OrphanNodes {
        index: "i".into(),
        count: 500,
    });
    assert!(
        undone(
            &issue,
            &old(),
            &measured(false, |f| f.orphans_with_rows = 10)
        )
        .contains("orphans")
    );
    assert_eq!(
        undone(
            &issue,
            &old(),
            &measured(false, |f| f.orphans_with_rows = 9)
        ),
        "kept"
    );

    let issue = Issue::Index(IndexIssue::PoorConnectivity {
        index: "i".into(),
        score: 0.5,
    });
    let before = measured(true, |f| f.connectivity_score = 0.5);
    assert!(
        undone(
            &issue,
            &before,
            &measured(false, |f| f.connectivity_score = 0.79)
        )
        .contains("connectivity")
    );
}

#[test]
fn nothing_else_may_get_worse() {
    let issue = fragmentation(0.8);
    assert!(
        undone(
            &issue,
            &old(),
            &measured(false, |f| f.connectivity_score = 0.99)
        )
        .contains("connectivity fell")
    );
    assert!(
        undone(&issue, &old(), &measured(false, |f| f.dangling_edges = 1)).contains("dangling")
    );
    assert!(undone(&issue, &old(), &Measured::default()).contains("could not be read"));
}

#[test]
fn recall_is_judged_by_what_was_shown_and_else_by_the_mean() {
    let issue = fragmentation(0.8);
    let before = probed(old(), 0.0, None);
    let with = |difference, standing| {
        let after = probed(measured(false, |_| {}), difference, Some(standing));
        undone(&issue, &before, &after)
    };
    assert_eq!(with(-0.01, Standing::NotWorse), "kept");
    assert!(with(-0.03, Standing::Worse).contains("recall@10"));
    assert_eq!(with(0.03, Standing::Better), "kept");
    for undecided in [Standing::Undecided, Standing::UndecidedAtCap] {
        assert_eq!(with(-0.004, undecided), "kept");
        assert!(with(-0.006, undecided).contains("fell by 0.006"));
    }
}

#[test]
fn what_finds_no_more_must_not_cost_much_more() {
    let issue = fragmentation(0.8);
    let before = probed(old(), 0.0, None);
    let with = |buffers, standing| {
        let mut after = probed(measured(false, |_| {}), 0.0, Some(standing));
        after.probe.as_mut().expect("figures").buffers = buffers;
        undone(&issue, &before, &after)
    };
    assert_eq!(with(149.0, Standing::NotWorse), "kept");
    assert!(with(151.0, Standing::NotWorse).contains("151 buffers instead of 100"));
    assert_eq!(with(151.0, Standing::Better), "kept");
}

#[test]
fn where_searches_answer_as_well_reachability_is_a_symptom() {
    let issue = fragmentation(0.8);
    let before = probed(old(), 0.0, None);
    let after = measured(false, |f| f.connectivity_score = 0.7);
    let after = probed(after, 0.0, Some(Standing::NotWorse));
    assert_eq!(undone(&issue, &before, &after), "kept");
}

#[test]
fn an_index_that_served_nobody_is_no_yardstick() {
    let issue = Issue::Index(IndexIssue::InvalidIndex {
        index: "i".into(),
        twin: None,
    });
    let before = measured(false, |_| {});
    assert_eq!(
        undone(
            &issue,
            &before,
            &measured(false, |f| f.connectivity_score = 0.97)
        ),
        "kept"
    );
}

#[test]
fn a_vacuum_that_could_not_remove_the_dead_did_not_help() {
    let rows = |dead, live| Measured {
        dead_rows: Some(dead),
        live_rows: Some(live),
        ..Measured::default()
    };
    assert_eq!(
        vacuumed(&rows(9_000, 10_000), &rows(0, 10_000)),
        Verdict::Keep
    );
    assert!(matches!(
        vacuumed(&rows(9_000, 10_000), &rows(9_000, 10_000)),
        Verdict::Undo(_)
    ));
}

#[test]
fn a_setting_must_be_shown_to_find_more_and_be_affordable() {
    let searched = |standing, buffers| {
        let mut measured = probed(Measured::default(), 0.05, standing);
        measured.probe.as_mut().expect("a probe").difference_se = 0.03;
        measured.probe.as_mut().expect("a probe").buffers = buffers;
        measured
    };
    let before = searched(None, 100.0);
    let judge = |standing, buffers| tuned(&before, &searched(Some(standing), buffers));
    assert_eq!(judge(Standing::Better, 400.0), Verdict::Keep);
    for (standing, buffers, reason) in [
        (Standing::NotWorse, 100.0, "not shown to rise"),
        (Standing::Undecided, 100.0, "not shown to rise"),
        (Standing::Better, 600.0, "600 buffers instead of 100"),
    ] {
        match judge(standing, buffers) {
            Verdict::Undo(said) => assert!(said.contains(reason), "{said}"),
            Verdict::Keep => panic!("{standing:?} at {buffers} buffers was kept"),
        }
    }
    // Not to have fallen was shown first, and to have risen as well.
    let mut clear = searched(Some(Standing::NotWorse), 100.0);
    clear.probe.as_mut().expect("a probe").difference_se = 0.008;
    assert_eq!(tuned(&before, &clear), Verdict::Keep);
    let Verdict::Undo(said) = tuned(&Measured::default(), &searched(Some(Standing::Better), 1.0))
    else {
        panic!("nothing was searched for");
    };
    assert!(said.contains("nothing"), "{said}");
}
