use ruvector_dag_healing_engine::verification::probe::{Hit, Probe, figures};

fn hits(rows: &[(u64, f64)]) -> Vec<Hit> {
    rows.iter()
        .map(|&(row, distance)| Hit { row, distance })
        .collect()
}

fn probe(row: u64, before: &[(u64, f64)], after: &[(u64, f64)]) -> Probe {
    Probe {
        row,
        own_distance: 0.0,
        before: hits(before),
        after: hits(after),
    }
}

#[test]
fn equal_answers_are_equally_good() {
    let same = [(1, 0.0), (2, 0.1)];
    let (before, after) = figures(&[probe(1, &same, &same)], 2);
    assert_eq!((before.recall, after.recall), (1.0, 1.0));
    assert_eq!((after.difference, after.difference_se), (0.0, 0.0));
    assert_eq!((before.self_found, after.self_found), (1.0, 1.0));
}

#[test]
fn what_only_the_other_found_counts_against_an_index() {
    let (before, after) = figures(&[probe(1, &[(7, 0.5), (8, 0.6)], &[(1, 0.0), (2, 0.1)])], 2);
    assert_eq!((before.recall, after.recall), (0.0, 1.0));
    assert_eq!((before.self_found, after.self_found), (0.0, 1.0));
    assert_eq!(after.difference, 1.0);
}

#[test]
fn rows_at_the_same_distance_are_as_good() {
    let (before, after) = figures(&[probe(1, &[(2, 0.0), (3, 0.0)], &[(4, 0.0), (5, 0.0)])], 2);
    assert_eq!((before.recall, after.recall), (1.0, 1.0));
    assert_eq!((before.self_found, after.self_found), (1.0, 1.0));
}

#[test]
fn a_missing_answer_is_a_lost_one() {
    let (_, after) = figures(&[probe(1, &[(1, 0.0), (2, 0.1)], &[(1, 0.0)])], 2);
    assert_eq!((after.recall, after.difference), (0.5, -0.5));
}

#[test]
fn the_error_of_the_difference_is_that_of_its_mean() {
    let good = probe(1, &[(1, 0.0)], &[(1, 0.0)]);
    let bad = probe(1, &[(1, 0.0)], &[]);
    let (_, after) = figures(&[good.clone(), bad.clone(), good, bad], 1);
    assert_eq!(after.difference, -0.5);
    // Four differences 0, −1, 0, −1: sample variance 1/3, over 4.
    assert!((after.difference_se - (1.0f64 / 12.0).sqrt()).abs() < 1e-12);
}

#[test]
fn without_probes_nothing_is_claimed_and_nothing_is_nan() {
    let (before, after) = figures(&[], 10);
    assert_eq!(
        (before.queries, after.difference, after.difference_se),
        (0, 0.0, 0.0)
    );
}
