use ruvector_dag_healing_engine::verification::probe::{Found, Hit, Probe};

fn found(rows: &[(u64, f64)]) -> Found {
    let hits = rows.iter().map(|&(row, distance)| Hit { row, distance });
    Found {
        hits: hits.collect(),
        buffers: 0,
    }
}

fn probe(row: u64, before: &[(u64, f64)], after: &[(u64, f64)]) -> Probe {
    Probe {
        row,
        own_distance: 0.0,
        before: found(before),
        after: found(after),
    }
}

/// Whether either search found the row itself.
fn found_itself(probe: &Probe, k: u32) -> (f64, f64) {
    (
        probe.found_itself(&probe.before, k),
        probe.found_itself(&probe.after, k),
    )
}

#[test]
fn equal_answers_are_equally_good() {
    let same = [(1, 0.0), (2, 0.1)];
    let probe = probe(1, &same, &same);
    assert_eq!(probe.recalls(2), (1.0, 1.0));
    assert_eq!(found_itself(&probe, 2), (1.0, 1.0));
}

#[test]
fn what_only_the_other_found_counts_against_an_index() {
    let probe = probe(1, &[(7, 0.5), (8, 0.6)], &[(1, 0.0), (2, 0.1)]);
    assert_eq!(probe.recalls(2), (0.0, 1.0));
    assert_eq!(found_itself(&probe, 2), (0.0, 1.0));
}

#[test]
fn rows_at_the_same_distance_are_as_good() {
    let probe = probe(1, &[(2, 0.0), (3, 0.0)], &[(4, 0.0), (5, 0.0)]);
    assert_eq!(probe.recalls(2), (1.0, 1.0));
    assert_eq!(found_itself(&probe, 2), (1.0, 1.0));
}

#[test]
fn a_missing_answer_is_a_lost_one() {
    let probe = probe(1, &[(1, 0.0), (2, 0.1)], &[(1, 0.0)]);
    assert_eq!(probe.recalls(2), (1.0, 0.5));
}

#[test]
fn where_neither_found_anything_nothing_is_claimed() {
    assert_eq!(probe(1, &[], &[]).recalls(10), (1.0, 1.0));
}
