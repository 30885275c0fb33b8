use std::cell::RefCell;
use std::convert::Infallible;

use ruvector_dag_healing_engine::recall::interval::{QueryHits, RecallEstimate};
use ruvector_dag_healing_engine::recall::tune::{
    Ceiling, EfRequest, LARGEST_EF, Measurement, ProbesTally, Tuning, tune_ef,
};

use super::random::Random;

const K: u32 = 10;

fn request(target: f64) -> EfRequest {
    EfRequest {
        target,
        k: K,
        current: 40,
        calls: 20,
        reachable: None,
    }
}

/// Queries, each neighbour of which needs some `ef_search`: hard queries more than easy ones, and some more than
/// there is.
struct Graph(Vec<[f64; K as usize]>);

impl Graph {
    fn draw(random: &mut Random, queries: usize, typical: f64) -> Self {
        let query = |random: &mut Random| {
            let hard = typical * random.normal().exp();
            std::array::from_fn(|_| hard * (0.8 * random.normal()).exp())
        };
        Self((0..queries).map(|_| query(random)).collect())
    }

    fn results(&self, ef: u32) -> Vec<QueryHits> {
        let found = |needs: &[f64; 10]| needs.iter().filter(|need| **need <= f64::from(ef)).count();
        let queries = self.0.iter().map(found);
        queries
            .map(|hits| QueryHits {
                hits: hits as u32,
                of: K,
            })
            .collect()
    }

    fn recall(&self, ef: u32) -> RecallEstimate {
        RecallEstimate::of(&self.results(ef), K)
    }

    fn tune(&self, request: &EfRequest) -> (Tuning, Vec<u32>) {
        let asked = RefCell::new(Vec::new());
        let tuning = tune_ef(request, |ef| {
            asked.borrow_mut().push(ef);
            Ok::<_, Infallible>(Measurement {
                results: self.results(ef),
                cost: f64::from(ef),
            })
        });
        let Ok(tuning) = tuning;
        (tuning, asked.into_inner())
    }
}

#[test]
fn the_smallest_setting_is_found() {
    let mut random = Random(21);
    for current in [1, 40, 41, 700, 1_000, 0, u32::MAX] {
        for typical in [0.5, 3.0, 20.0, 60.0] {
            let graph = Graph::draw(&mut random, 150, typical);
            let request = EfRequest {
                current,
                ..request(0.9)
            };
            let (tuning, asked) = graph.tune(&request);
            let smallest = (1..=LARGEST_EF).find(|&ef| graph.recall(ef).ci_low >= 0.9);
            assert_eq!(tuning.recommended, smallest, "from {current}");
            assert_eq!(tuning.calls as usize, asked.len());
            assert!(asked.len() <= 20, "{asked:?}");
            assert!(asked.iter().all(|ef| (1..=LARGEST_EF).contains(ef)));
            assert_eq!(tuning.ceiling.is_none(), smallest.is_some());
            let settings: Vec<_> = tuning.curve.iter().map(|point| point.setting).collect();
            let mut sorted = asked;
            sorted.sort_unstable();
            assert_eq!(settings, sorted);
        }
    }
}

/// On 4,000 queries held back, what was recommended reaches the target, and no smaller setting tested would have been
/// shown to.
#[test]
fn what_is_recommended_holds_for_other_queries() {
    let mut random = Random(22);
    let mut reached = 0;
    for _ in 0..100 {
        let graph = Graph::draw(&mut random, 200, 12.0);
        let (tuning, _) = graph.tune(&request(0.95));
        let recommended = tuning.recommended.expect("there is one");
        let fresh = Graph::draw(&mut random, 4_000, 12.0);
        reached += u32::from(fresh.recall(recommended).recall >= 0.95);
        let below = tuning.curve.iter().filter(|p| p.setting < recommended);
        assert!(below.clone().all(|point| point.estimate.ci_low < 0.95));
        assert!(below.count() > 0);
    }
    println!("{reached} of 100 reach 0.95 on held-back queries");
    assert!(reached >= 95, "{reached}");
}

#[test]
fn a_curve_that_stumbles_is_smoothed() {
    // Recall in tenths of all 100 queries at each setting; 20 stumbles.
    let tenths = |ef: u32| match ef {
        ..10 => 5,
        10..20 => 8,
        20..40 => 6,
        40..80 => 9,
        _ => 10,
    };
    let measure = |ef| {
        Ok::<_, Infallible>(Measurement {
            results: vec![
                QueryHits {
                    hits: tenths(ef),
                    of: 10
                };
                100
            ],
            cost: 0.0,
        })
    };
    let request = EfRequest {
        current: 10,
        calls: 4,
        ..request(0.94)
    };
    let Ok(tuning) = tune_ef(&request, measure);
    let recalls: Vec<_> = tuning
        .curve
        .iter()
        .map(|point| (point.setting, (point.estimate.recall * 100.0).round()))
        .collect();
    assert_eq!(recalls, [(10, 70.0), (20, 70.0), (40, 90.0), (80, 100.0)]);
    assert_eq!(tuning.recommended, Some(80));
    for pair in tuning.curve.windows(2) {
        let (a, b) = (pair[0].estimate, pair[1].estimate);
        assert!(a.ci_low <= b.ci_low && a.ci_high <= b.ci_high);
    }
}

#[test]
fn what_a_smaller_setting_reaches_a_larger_one_does() {
    // 0.85 by all queries alike, then 0.86 by some that find all and some that find nothing.
    let results = |ef: u32, nth: u32| match ef {
        ..80 => 8 + nth % 2,
        _ if nth < 86 => 10,
        _ => 0,
    };
    let measure = |ef| {
        let hits = (0..100).map(|nth| results(ef, nth));
        Ok::<_, Infallible>(Measurement {
            results: hits.map(|hits| QueryHits { hits, of: 10 }).collect(),
            cost: 0.0,
        })
    };
    let request = EfRequest {
        calls: 2,
        ..request(0.9)
    };
    let Ok(tuning) = tune_ef(&request, measure);
    let (small, large) = (tuning.curve[0].estimate, tuning.curve[1].estimate);
    assert!((0.80..0.85).contains(&small.ci_low), "{small:?}");
    assert_eq!(large.ci_low, small.ci_low);
    assert_eq!(small.ci_high, large.ci_high.min(small.ci_high));
}

#[test]
fn where_no_setting_reaches_the_target_it_is_said_why() {
    let mut random = Random(23);
    let hopeless = Graph::draw(&mut random, 200, 800.0);
    let (tuning, asked) = hopeless.tune(&request(0.95));
    assert_eq!(tuning.recommended, None);
    assert_eq!(tuning.ceiling, Some(Ceiling::BelowTarget));
    assert_eq!(asked, [40, 80, 160, 320, 640, 1_000]);
    let shown = tuning.estimate.expect("it was measured");
    assert_eq!(shown.recall, hopeless.recall(1_000).recall);

    let (tuning, _) = hopeless.tune(&EfRequest {
        reachable: Some(0.8),
        ..request(0.95)
    });
    assert_eq!(
        tuning.ceiling,
        Some(Ceiling::Unreachable { reachable: 0.8 })
    );
    let (tuning, asked) = hopeless.tune(&EfRequest {
        calls: 3,
        ..request(0.95)
    });
    assert_eq!(tuning.ceiling, Some(Ceiling::OutOfCalls));
    assert_eq!(asked.len(), 3);

    let few = Graph::draw(&mut random, 20, 1.0);
    let (tuning, _) = few.tune(&request(0.95));
    let Some(Ceiling::TooFewQueries { wanted }) = tuning.ceiling else {
        panic!("{:?}", tuning.ceiling);
    };
    // Without a miss 73 queries show 0.95: 0.025^(1/73).
    assert_eq!(few.recall(LARGEST_EF).recall, 1.0);
    assert!((73..100).contains(&wanted), "{wanted}");
}

#[test]
fn without_calls_or_queries_nothing_is_claimed() {
    let graph = Graph(vec![]);
    let (tuning, _) = graph.tune(&request(0.9));
    assert_eq!(tuning.recommended, None);
    let (tuning, asked) = graph.tune(&EfRequest {
        calls: 0,
        ..request(0.9)
    });
    assert!(asked.is_empty() && tuning.curve.is_empty());
    assert_eq!(tuning.ceiling, Some(Ceiling::OutOfCalls));
    assert_eq!(graph.tune(&request(f64::NAN)).0.recommended, None);
}

#[test]
fn an_error_ends_the_search() {
    let mut calls = 0;
    let failed = tune_ef(&request(0.9), |_| {
        calls += 1;
        Err("cancelled")
    });
    assert_eq!((failed, calls), (Err("cancelled"), 1));
}

#[test]
fn probes_find_the_neighbours_whose_lists_they_read() {
    let mut tally = ProbesTally::new(4, 3);
    // The third neighbour is in no list; of the second query two rows tie for one place.
    tally.add(3, [2, 1, 0], [10, 20, 30, 40]);
    tally.add(2, [4, 3, 4], [5, 5, 5, 5]);
    let recalls: Vec<_> = (0..=5).map(|p| tally.recall(p).recall).collect();
    let expected = [
        0.0,
        1.0 / 6.0,
        2.0 / 6.0,
        (2.0 / 3.0 + 0.5) / 2.0,
        (2.0 / 3.0 + 1.0) / 2.0,
        (2.0 / 3.0 + 1.0) / 2.0,
    ];
    for (found, expected) in recalls.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{recalls:?}");
    }
    let costs: Vec<_> = (0..=5).map(|p| tally.cost(p)).collect();
    assert_eq!(costs, [0.0, 7.5, 20.0, 37.5, 60.0, 60.0]);
    let settings: Vec<_> = tally.curve().iter().map(|p| p.setting).collect();
    assert_eq!(settings, [1, 2, 3, 4]);
    let tuning = tally.tune(0.99);
    assert_eq!(tuning.ceiling, Some(Ceiling::BelowTarget));
    assert_eq!(tuning.recommended, None);
}

#[test]
fn the_smallest_number_of_probes_is_found() {
    let mut random = Random(24);
    let mut tally = ProbesTally::new(100, K);
    for _ in 0..200 {
        let hard = 2.0 * random.normal().exp();
        let ranks: Vec<u32> = (0..10)
            .map(|_| 1 + (hard * (0.6 * random.normal()).exp()) as u32)
            .collect();
        tally.add(10, ranks, [100; 100]);
    }
    let tuning = tally.tune(0.95);
    let smallest = (1..=100).find(|&probes| tally.recall(probes).ci_low >= 0.95);
    assert!(smallest.is_some());
    assert_eq!(tuning.recommended, smallest);
    let point = tuning.curve.iter().find(|p| Some(p.setting) == smallest);
    assert_eq!(
        point.map(|p| p.cost),
        smallest.map(|probes| f64::from(probes) * 100.0)
    );
}

#[test]
fn an_index_without_lists_or_queries_has_no_curve_to_speak_of() {
    let none = ProbesTally::new(0, K);
    assert!(none.curve().is_empty());
    assert_eq!(none.tune(0.9).recommended, None);
    let unasked = ProbesTally::new(10, K);
    assert_eq!(unasked.tune(0.9).recommended, None);
    assert_eq!(unasked.cost(3), 0.0);
}
