use ruvector_dag_healing_engine::vector_index::shape::Metric;
use ruvector_dag_healing_engine::vector_index::value::ValueType;
use ruvector_dag_healing_engine::workload::sample::{enough, fits, place};

use super::{shape, vector};

#[test]
fn half_of_what_is_asked_for_is_enough_within_bounds() {
    let known = [
        (0, 0),
        (1, 1),
        (30, 30),
        (50, 50),
        (60, 50),
        (200, 100),
        (400, 200),
        (10_000, 200),
        (u32::MAX, 200),
    ];
    for (asked, expected) in known {
        assert_eq!(enough(asked), expected, "{asked}");
    }
}

#[test]
fn only_what_the_index_can_be_asked_for_fits() {
    let l2 = shape(Metric::L2);
    let sound = vector(&[1.0, 0.0, -2.5]);
    assert!(fits(&l2, &sound));
    let mut cut_short = sound.clone();
    cut_short.pop();
    let mut too_long = sound.clone();
    too_long.push(0);
    for bad in [
        vec![],
        vec![3],
        cut_short,
        too_long,
        vector(&[1.0, 2.0]),
        vector(&[1.0, f32::NAN, 0.0]),
        vector(&[1.0, 0.0, f32::INFINITY]),
    ] {
        assert!(!fits(&l2, &bad), "{bad:?}");
    }
    // What has no direction is near nothing.
    let none = vector(&[0.0, 0.0, 0.0]);
    assert!(fits(&l2, &none) && !fits(&shape(Metric::Cosine), &none));
    // Where the column takes any number of dimensions, so does its index.
    let mut any = l2;
    any.dimensions = None;
    assert!(fits(&any, &vector(&[1.0, 2.0])));
    any.value_type = ValueType::Bit;
    assert!(fits(&any, &[5, 0, 0, 0, 0b1010_1000]) && !fits(&any, &[5, 0, 0, 0, 0b1010_1001]));
}

#[test]
fn of_all_queries_of_a_shelf_each_is_as_likely_to_stay() {
    const PLACES: usize = 8;
    const QUERIES: u64 = 40;
    const ROUNDS: u32 = 20_000;
    let mut stayed = [0_u32; QUERIES as usize];
    let mut seed = 1;
    for _ in 0..ROUNDS {
        let mut shelf = [None; PLACES];
        for nth in 0..QUERIES {
            if let Some(place) = place(nth, PLACES, &mut seed) {
                shelf[place] = Some(nth);
            }
        }
        for nth in shelf.iter().flatten() {
            stayed[*nth as usize] += 1;
        }
    }
    // 4,000 of 20,000 rounds, with a standard deviation of 57.
    for (nth, count) in stayed.iter().enumerate() {
        assert!(count.abs_diff(4_000) < 260, "query {nth}: {count}");
    }
}

#[test]
fn places_are_never_past_the_last_nor_is_anything_drawn_without_any() {
    let mut seed = 0;
    for nth in [0, 1, 63, 64, 65, u64::MAX - 1, u64::MAX] {
        for places in [1, 16, 64] {
            for _ in 0..100 {
                assert!(place(nth, places, &mut seed).is_none_or(|place| place < places));
            }
        }
        assert_eq!(place(nth, 0, &mut seed), None);
    }
}
