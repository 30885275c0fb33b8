use ruvector_dag_healing_engine::recall::interval::{QueryHits, RecallEstimate};

use super::random::Random;

fn hits(hits: u32, of: u32) -> QueryHits {
    QueryHits { hits, of }
}

/// Share of measurements whose interval holds the true recall, and its mean width.
fn coverage(recall: f64, correlation: f64, queries: u32, runs: u32) -> (f64, f64) {
    let mut random = Random(7);
    let (mut covered, mut width) = (0, 0.0);
    for _ in 0..runs {
        let results: Vec<_> = (0..queries)
            .map(|_| random.query(recall, correlation, 10))
            .collect();
        let estimate = RecallEstimate::of(&results, 10);
        covered += u32::from((estimate.ci_low..=estimate.ci_high).contains(&recall));
        width += estimate.ci_high - estimate.ci_low;
    }
    (
        f64::from(covered) / f64::from(runs),
        width / f64::from(runs),
    )
}

/// `cargo test coverage_of -- --nocapture` prints the table. A thousand runs know a coverage to ±1.4 %.
#[test]
fn coverage_of_the_interval_is_what_it_says() {
    println!("true recall, correlation, queries: coverage, mean width");
    let mut short = Vec::new();
    for recall in [0.80, 0.90, 0.95, 0.99] {
        for correlation in [0.05, 0.2, 0.4] {
            for queries in [50, 200] {
                let (share, width) = coverage(recall, correlation, queries, 1_000);
                let line =
                    format!("{recall:.2}  {correlation:.2}  {queries:>3}:  {share:.3}  {width:.4}");
                println!("{line}");
                if share < 0.93 {
                    short.push(line);
                }
            }
        }
    }
    assert!(short.is_empty(), "covers too little:\n{}", short.join("\n"));
}

#[test]
fn many_queries_do_not_leave_the_interval_wider_than_they_need_to() {
    // Independent hits, 2,000 of them: the binomial interval is 0.0193 wide.
    let (_, width) = coverage(0.95, 0.001, 200, 200);
    assert!(width < 0.0193 * 1.35, "{width}");
}

#[test]
fn without_a_miss_each_query_counts_for_one() {
    let estimate = RecallEstimate::of(&[hits(10, 10); 200], 10);
    assert_eq!((estimate.recall, estimate.ci_high), (1.0, 1.0));
    // 0.025^(1/200) = 0.9817, a little lower for the degrees of freedom.
    assert!((0.980..0.9818).contains(&estimate.ci_low), "{estimate:?}");
    let nothing = RecallEstimate::of(&[hits(0, 10); 200], 10);
    assert_eq!((nothing.recall, nothing.ci_low), (0.0, 0.0));
    assert!((nothing.ci_high - (1.0 - estimate.ci_low)).abs() < 1e-9);
    let alike = RecallEstimate::of(&[hits(9, 10); 200], 10);
    assert!(alike.ci_low < 0.86 && alike.ci_high > 0.93, "{alike:?}");
}

#[test]
fn few_queries_say_little_and_none_nothing() {
    let none = RecallEstimate::of(&[], 10);
    assert_eq!((none.recall, none.ci_low, none.ci_high), (1.0, 0.0, 1.0));
    assert_eq!(none.queries, 0);
    let one = RecallEstimate::of(&[hits(10, 10)], 10);
    assert!(one.ci_low < 0.03 && one.ci_high == 1.0, "{one:?}");
    let two = RecallEstimate::of(&[hits(10, 10), hits(5, 10)], 10);
    assert_eq!(two.recall, 0.75);
    assert!(two.ci_low < 0.3 && two.ci_high > 0.95, "{two:?}");
}

#[test]
fn a_table_smaller_than_k_is_measured_by_what_it_has() {
    let results = [hits(3, 3), hits(0, 0), hits(2, 3), hits(7, 3)];
    let estimate = RecallEstimate::of(&results, 10);
    assert!((estimate.recall - 8.0 / 9.0).abs() < 1e-12);
    assert_eq!((estimate.queries, estimate.k), (3, 10));
    assert!(estimate.ci_low >= 0.0 && estimate.ci_high <= 1.0);
}

#[test]
fn correlation_widens_the_interval() {
    let spread: Vec<_> = (0..200)
        .map(|i| hits(if i % 2 == 0 { 10 } else { 9 }, 10))
        .collect();
    let together: Vec<_> = (0..200)
        .map(|i| hits(if i % 20 == 0 { 0 } else { 10 }, 10))
        .collect();
    let (spread, together) = (
        RecallEstimate::of(&spread, 10),
        RecallEstimate::of(&together, 10),
    );
    for estimate in [spread, together] {
        assert!((estimate.recall - 0.95).abs() < 1e-12);
    }
    assert!(together.half_width() > 2.0 * spread.half_width());
}

#[test]
fn the_queries_it_takes_to_show_a_recall_are_foretold() {
    let few: Vec<_> = (0..60)
        .map(|i| hits(if i % 3 == 0 { 9 } else { 10 }, 10))
        .collect();
    let estimate = RecallEstimate::of(&few, 10);
    assert!(estimate.ci_low < 0.95);
    let wanted = estimate.queries_to_show(0.95).expect("it is above");
    let many = |count: u32| {
        let results: Vec<_> = few.iter().copied().cycle().take(count as usize).collect();
        RecallEstimate::of(&results, 10).ci_low
    };
    assert!(
        many(wanted / 2) < 0.95 && many(wanted * 5 / 4) > 0.95,
        "{wanted}"
    );
    assert_eq!(estimate.queries_to_show(0.97), None);
    assert_eq!(RecallEstimate::of(&[], 10).queries_to_show(0.5), None);
}
