use proptest::prelude::*;
use ruvector_dag_healing_engine::recall::exact::{Exact, Neighbours, Offered, Query, distance};
use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::vector_index::shape::Metric;
use ruvector_dag_healing_engine::vector_index::value::{Value, ValueType};

use super::random::Random;
use super::values::{self, KINDS, decode, encode, tid};

type Vectors = Vec<Vec<f32>>;

/// The neighbours of `queries`, the first of which were the first of the rows.
fn search(
    (value_type, metric): (ValueType, Metric),
    k: u32,
    rows: &Vectors,
    queries: &Vectors,
    own: usize,
) -> Vec<Neighbours> {
    let bytes = |vectors: &Vectors| -> Vec<Vec<u8>> {
        let encoded = vectors.iter().map(|vector| encode(value_type, vector));
        encoded.collect()
    };
    let (rows, queries) = (bytes(rows), bytes(queries));
    let asked: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(nth, bytes)| Query {
            value: decode(value_type, bytes),
            own_row: (nth < own).then(|| tid(nth)),
        })
        .collect();
    let mut exact = Exact::new(metric, value_type, k, &asked);
    for (nth, row) in rows.iter().enumerate() {
        exact.offer(tid(nth), Some(&decode(value_type, row)));
    }
    exact.finish()
}

/// All rows by distance, then by place, computed plainly.
fn expected(
    metric: Metric,
    rows: &Vectors,
    query: &[f32],
    own: Option<usize>,
) -> Vec<(f64, HeapTid)> {
    let mut all: Vec<(f64, HeapTid)> = rows
        .iter()
        .enumerate()
        .filter(|(nth, _)| own != Some(*nth))
        .map(|(nth, row)| (values::distance(metric, row, query), tid(nth)))
        .filter(|(distance, _)| !distance.is_nan())
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all
}

fn agree(kind: (ValueType, Metric), k: u32, rows: &Vectors, queries: &Vectors, own: usize) {
    let found = search(kind, k, rows, queries, own);
    for (nth, (found, query)) in found.iter().zip(queries).enumerate() {
        let metric = kind.1;
        let mut expected = expected(metric, rows, query, (nth < own).then_some(nth));
        let count = (k as usize).min(expected.len());
        let limit = count.checked_sub(1).map(|last| expected[last].0);
        expected.truncate(count);
        let what = format!("{kind:?}, query {nth}");
        assert_eq!(found.expected() as usize, count, "{what}");
        assert_eq!(found.nearest().len(), count, "{what}");
        for (found, expected) in found.nearest().iter().zip(&expected) {
            let slack = 1e-9 * expected.0.abs() + 1e-12;
            assert!(
                (found.distance - expected.0).abs() <= slack,
                "{what}: {found:?} {expected:?}"
            );
            // Cosines are equal but for rounding where they are equal at all.
            if metric != Metric::Cosine {
                assert_eq!(found.row, expected.1, "{what}");
            }
        }
        if let Some(limit) = limit {
            assert!(found.is_hit(limit), "{what}: {limit}");
        }
    }
}

/// Whole numbers, whose sums are exact: few of them, so that many distances are equal.
fn whole(random: &mut Random, count: usize, dimensions: usize, most: u32) -> Vectors {
    let component = |random: &mut Random| f64::from(random.below(2 * most + 1)) - f64::from(most);
    (0..count)
        .map(|_| (0..dimensions).map(|_| component(random) as f32).collect())
        .collect()
}

fn normal(random: &mut Random, count: usize, dimensions: usize) -> Vectors {
    (0..count)
        .map(|_| (0..dimensions).map(|_| random.normal() as f32).collect())
        .collect()
}

#[test]
fn neighbours_are_those_of_the_plain_reference_ties_included() {
    let mut random = Random(2);
    for kind in KINDS {
        for (dimensions, most) in [(1, 3), (3, 1), (19, 2), (70, 9)] {
            let mut rows = whole(&mut random, 300, dimensions, most);
            // Duplicates beyond chance.
            for nth in 0..60 {
                rows[240 + nth] = rows[nth % 6].clone();
            }
            let mut queries = rows[..9].to_vec();
            queries.extend(whole(&mut random, 12, dimensions, most));
            // What has no direction is not asked for here.
            queries.retain(|query| query.iter().any(|x| *x != 0.0));
            let own = usize::from(queries[0] == rows[0]);
            for k in [1, 10, 600] {
                agree(kind, k, &rows, &queries, own);
            }
        }
    }
}

#[test]
fn neighbours_of_real_numbers_are_those_of_the_plain_reference() {
    let mut random = Random(4);
    for kind in KINDS.into_iter().filter(|kind| kind.0 != ValueType::Bit) {
        let mut rows = normal(&mut random, 400, 96);
        let mut queries = normal(&mut random, 33, 96);
        if kind.0 == ValueType::HalfVec {
            let halve = |x: &mut f32| *x = half::f16::from_f32(*x).to_f32();
            rows.iter_mut().flatten().for_each(halve);
            queries.iter_mut().flatten().for_each(halve);
        }
        agree(kind, 10, &rows, &queries, 0);
    }
}

/// Where ‖x‖² + ‖q‖² − 2x·q is nothing but rounding, overflows, or vanishes.
#[test]
fn single_precision_is_only_a_sieve() {
    let mut random = Random(6);
    let (far, near) = (1_000.0, 1e-3);
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::L1] {
        for (scale, offset) in [
            (near, far),
            (1e-25, 0.0),
            (1e-42, 0.0),
            (1e18, 0.0),
            (1e36, 0.0),
            (1e36, 1e37),
        ] {
            let moved = |mut vectors: Vectors| {
                for x in vectors.iter_mut().flatten() {
                    *x = (f64::from(*x) * scale + offset) as f32;
                }
                vectors
            };
            let rows = moved(normal(&mut random, 300, 40));
            let queries = moved(normal(&mut random, 20, 40));
            let found = search((ValueType::Vector, metric), 10, &rows, &queries, 0);
            for (found, query) in found.iter().zip(&queries) {
                let expected = expected(metric, &rows, query, None);
                for (found, expected) in found.nearest().iter().zip(&expected) {
                    let slack = 1e-9 * expected.0.abs() + 1e-13;
                    assert!(
                        (found.distance - expected.0).abs() <= slack,
                        "{metric:?} {scale} {offset}: {found:?} {expected:?}"
                    );
                }
            }
        }
    }
}

/// Rows that single precision cannot tell apart: their components in another order, one of them
/// larger by less than a millionth.
#[test]
fn rows_that_are_almost_equally_near_are_told_apart() {
    let mut random = Random(7);
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::L1] {
        for (scale, dimensions, count) in [(1.0, 64, 1_000), (1e-22, 900, 200)] {
            let mut row: Vec<f32> = normal(&mut random, 1, dimensions).remove(0);
            row.iter_mut().for_each(|x| *x *= scale);
            let rows: Vectors = (0..count)
                .map(|_| {
                    for at in 1..row.len() {
                        row.swap(at, random.below(at as u32 + 1) as usize);
                    }
                    let mut row = row.clone();
                    row[0] *= 1.0 + random.below(8) as f32 * f32::EPSILON;
                    row
                })
                .collect();
            let queries = vec![vec![scale; dimensions], vec![-0.5 * scale; dimensions]];
            let found = search((ValueType::Vector, metric), 10, &rows, &queries, 0);
            for (found, query) in found.iter().zip(&queries) {
                let expected = expected(metric, &rows, query, None);
                for (found, expected) in found.nearest().iter().zip(&expected) {
                    let slack = 1e-14 * expected.0.abs().max(f64::from(scale));
                    let apart = (found.distance - expected.0).abs();
                    assert!(apart <= slack, "{metric:?} {scale}: {found:?} {expected:?}");
                }
            }
        }
    }
}

/// Clusters far apart, one row in each huge: limits of one query say nothing about another's.
#[test]
fn rows_of_very_different_sizes_are_told_apart() {
    let mut random = Random(8);
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::L1] {
        let mut rows = normal(&mut random, 600, 24);
        let mut queries = normal(&mut random, 30, 24);
        for vector in rows.iter_mut().chain(&mut queries) {
            let size = 10_f32.powi(random.below(24) as i32 - 12);
            vector.iter_mut().for_each(|x| *x *= size);
        }
        agree((ValueType::Vector, metric), 10, &rows, &queries, 0);
    }
}

#[test]
fn the_order_of_rows_does_not_matter() {
    let mut random = Random(9);
    for kind in KINDS {
        let rows = whole(&mut random, 300, 8, 1);
        let queries = whole(&mut random, 10, 8, 1);
        let encoded: Vec<_> = rows.iter().map(|row| encode(kind.0, row)).collect();
        let asked: Vec<_> = queries.iter().map(|query| encode(kind.0, query)).collect();
        let asked: Vec<_> = asked
            .iter()
            .map(|bytes| Query {
                value: decode(kind.0, bytes),
                own_row: None,
            })
            .collect();
        let run = |order: &mut dyn Iterator<Item = usize>| {
            let mut exact = Exact::new(kind.1, kind.0, 5, &asked);
            order.for_each(|nth| {
                exact.offer(tid(nth), Some(&decode(kind.0, &encoded[nth])));
            });
            exact.finish()
        };
        assert_eq!(run(&mut (0..300)), run(&mut (0..300).rev()), "{kind:?}");
    }
}

#[test]
fn what_an_index_does_not_have_is_left_out() {
    let query = encode(ValueType::Vector, &[1.0, 0.0]);
    let query = Query {
        value: decode(ValueType::Vector, &query),
        own_row: None,
    };
    let zero = encode(ValueType::Vector, &[0.0, 0.0]);
    let nan = encode(ValueType::Vector, &[f32::NAN, 0.0]);
    let infinite = encode(ValueType::Vector, &[0.0, f32::NEG_INFINITY]);
    let long = encode(ValueType::Vector, &[1.0, 0.0, 0.0]);
    let other = encode(ValueType::HalfVec, &[1.0, 0.0]);
    let vector = |bytes| decode(ValueType::Vector, bytes);
    for (metric, of_zero) in [
        (Metric::L2, Offered::Compared),
        (Metric::InnerProduct, Offered::Compared),
        (Metric::Cosine, Offered::ZeroNorm),
        (Metric::L1, Offered::Compared),
    ] {
        let mut exact = Exact::new(metric, ValueType::Vector, 10, &[query]);
        let mut offer = |value: Option<Value<'_>>| exact.offer(tid(0), value.as_ref());
        assert_eq!(offer(Some(vector(&zero))), of_zero);
        assert_eq!(offer(None), Offered::Null);
        assert_eq!(offer(Some(vector(&nan))), Offered::NotANumber);
        assert_eq!(offer(Some(vector(&infinite))), Offered::NotANumber);
        assert_eq!(offer(Some(vector(&long))), Offered::OtherDimensions);
        let half = decode(ValueType::HalfVec, &other);
        assert_eq!(offer(Some(half)), Offered::OtherDimensions);
        let tally = exact.tally();
        assert_eq!((tally.null, tally.faulty), (1, 4));
        assert_eq!(tally.compared + tally.zero_norm, 1);
        let found = &exact.finish()[0];
        assert_eq!(u64::from(found.expected()), tally.compared, "{metric:?}");
    }
    let sparse = encode(ValueType::SparseVec, &[0.0, 0.0]);
    let asked = encode(ValueType::SparseVec, &[1.0, 0.0]);
    let asked = Query {
        value: decode(ValueType::SparseVec, &asked),
        own_row: None,
    };
    let mut exact = Exact::new(Metric::Cosine, ValueType::SparseVec, 10, &[asked]);
    let sparse = decode(ValueType::SparseVec, &sparse);
    assert_eq!(exact.offer(tid(0), Some(&sparse)), Offered::ZeroNorm);
}

#[test]
fn queries_that_have_no_neighbours_stay_in_their_place() {
    let good = encode(ValueType::Vector, &[1.0, 2.0]);
    let zero = encode(ValueType::Vector, &[0.0, 0.0]);
    let nan = encode(ValueType::Vector, &[1.0, f32::NAN]);
    let long = encode(ValueType::Vector, &[1.0, 2.0, 3.0]);
    let asked: Vec<_> = [&zero, &nan, &good, &long]
        .map(|bytes| Query {
            value: decode(ValueType::Vector, bytes),
            own_row: None,
        })
        .to_vec();
    let mut exact = Exact::new(Metric::Cosine, ValueType::Vector, 3, &asked);
    for nth in 0..5 {
        exact.offer(tid(nth), Some(&decode(ValueType::Vector, &good)));
    }
    let found = exact.finish();
    let counts: Vec<_> = found.iter().map(Neighbours::expected).collect();
    assert_eq!(counts, [0, 0, 3, 0]);
    assert!(!found[0].is_hit(0.0) && found[0].kth_distance().is_none());
    assert_eq!((found[0].hits([0.0; 4]).hits, found[0].hits([]).of), (0, 0));
    // A metric that the type does not have.
    for (value_type, metric) in [
        (ValueType::Vector, Metric::Hamming),
        (ValueType::Bit, Metric::L2),
        (ValueType::SparseVec, Metric::Jaccard),
    ] {
        let found = search(
            (value_type, metric),
            3,
            &vec![vec![1.0; 4]; 5],
            &vec![vec![1.0; 4]],
            0,
        );
        assert_eq!(found[0].expected(), 0);
    }
}

#[test]
fn without_queries_rows_or_neighbours_there_is_nothing() {
    let rows = vec![vec![1.0, 2.0]; 200];
    for kind in KINDS {
        assert!(search(kind, 10, &rows, &vec![], 0).is_empty());
        assert_eq!(search(kind, 10, &vec![], &rows, 0)[0].expected(), 0);
        let none = search(kind, 0, &rows, &rows[..1].to_vec(), 0);
        assert!(none[0].nearest().is_empty() && !none[0].is_hit(-1e9));
    }
}

#[test]
fn a_query_is_not_its_own_neighbour() {
    let rows = vec![vec![1.0, 2.0], vec![1.0, 2.0], vec![5.0, 5.0]];
    for kind in KINDS {
        let found = search(kind, 3, &rows, &rows[..1].to_vec(), 1);
        let rows: Vec<_> = found[0].nearest().iter().map(|n| n.row).collect();
        assert_eq!(found[0].expected(), 2, "{kind:?}");
        assert!(rows.contains(&tid(1)) && rows.contains(&tid(2)), "{kind:?}");
    }
}

#[test]
fn rows_as_near_as_the_last_count_and_no_farther_ones() {
    let at = |x: f32| vec![x, 0.0];
    let rows = vec![at(1.0), at(2.0), at(2.0), at(2.0), at(2.000_1), at(3.0)];
    let found = &search((ValueType::Vector, Metric::L2), 2, &rows, &vec![at(0.0)], 0)[0];
    assert_eq!(found.nearest().len(), 2);
    assert_eq!(found.as_near().len(), 4);
    assert!(found.is_hit(2.0 + 1.9e-6) && !found.is_hit(2.0 + 2.1e-6));
    let hits = found.hits([1.0, 2.0, 2.0, 2.000_1]);
    assert_eq!((hits.hits, hits.of), (2, 2));
    assert_eq!(found.hits([2.0, 3.0, f64::NAN]).hits, 1);
}

#[test]
fn ties_are_right_below_and_near_zero() {
    let at = |x: f32| vec![x, 0.0];
    // Distances −3, −2, −1: a larger one is farther.
    let rows = vec![at(1.0), at(2.0), at(3.0)];
    let product = (ValueType::Vector, Metric::InnerProduct);
    let found = &search(product, 2, &rows, &vec![at(1.0)], 0)[0];
    assert_eq!(found.kth_distance(), Some(-2.0));
    assert!(found.is_hit(-2.0 + 1e-6) && found.is_hit(-2.5) && !found.is_hit(-2.0 + 1e-5));
    // The products cancel: 1,000 · 1 − 1,000 · 1. Single precision leaves some 1e-4 of it.
    let rows = vec![vec![1_000.0, -1_000.0], vec![-1_000.0, -1_000.0]];
    let found = &search(product, 1, &rows, &vec![vec![1.0, 1.0]], 0)[0];
    assert_eq!(found.kth_distance(), Some(0.0));
    assert!(found.is_hit(1e-3) && !found.is_hit(1e-2));
    // The same direction: pgvector's cosine distance is off by what single precision leaves of 1.
    let cosine = (ValueType::Vector, Metric::Cosine);
    let found = &search(cosine, 1, &vec![at(2.0)], &vec![at(1.0)], 0)[0];
    assert!(found.is_hit(5e-7) && !found.is_hit(5e-6));
    let found = &search(
        (ValueType::Vector, Metric::L2),
        1,
        &vec![at(1.0)],
        &vec![at(1.0)],
        0,
    )[0];
    assert!(found.is_hit(0.0) && !found.is_hit(1e-12));
}

#[test]
fn the_distance_of_two_values_is_that_of_the_operator() {
    let mut random = Random(10);
    for (value_type, metric) in KINDS {
        for pair in whole(&mut random, 40, 11, 2).chunks(2) {
            let (a, b) = (encode(value_type, &pair[0]), encode(value_type, &pair[1]));
            let found = distance(metric, &decode(value_type, &a), &decode(value_type, &b));
            let expected = values::distance(metric, &pair[0], &pair[1]);
            match found {
                Some(found) => assert!((found - expected).abs() < 1e-12, "{metric:?}"),
                None => assert!(expected.is_nan()),
            }
        }
    }
    let (a, b) = (
        encode(ValueType::Bit, &[1.0]),
        encode(ValueType::Vector, &[1.0]),
    );
    let (bit, vector) = (decode(ValueType::Bit, &a), decode(ValueType::Vector, &b));
    assert_eq!(distance(Metric::L2, &vector, &bit), None);
    assert_eq!(distance(Metric::Hamming, &vector, &vector), None);
    assert_eq!(distance(Metric::L2, &bit, &bit), None);
    let empty = encode(ValueType::Bit, &[0.0]);
    let empty = decode(ValueType::Bit, &empty);
    assert_eq!(distance(Metric::Jaccard, &empty, &empty), Some(1.0));
}

#[test]
fn memory_is_bounded_by_the_queries() {
    let bytes = |value_type, dimensions| Exact::bytes(value_type, dimensions, 200, 10);
    assert!(bytes(ValueType::Vector, 384) < 2 << 20);
    assert!(bytes(ValueType::Vector, 16_000) < 32 << 20);
    assert!(bytes(ValueType::Bit, 64_000) < 2 << 20);
    assert!(bytes(ValueType::SparseVec, 1_000) < 20 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes as rows and queries: no panic, and no more neighbours than rows.
    #[test]
    fn any_bytes_are_survived(
        kind in prop::sample::select(KINDS.to_vec()),
        wrong in any::<bool>(),
        head in prop_oneof![Just(2_u32), Just(3), Just(17)],
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20),
        k in prop_oneof![Just(0_u32), Just(3), Just(u32::MAX)],
    ) {
        let metric = if wrong { Metric::Jaccard } else { kind.1 };
        let values: Vec<Vec<u8>> = values
            .into_iter()
            .map(|tail| [head.to_le_bytes().to_vec(), tail].concat())
            .map(|mut data| {
                // As long as the dimensions ask for, mostly.
                let wanted = match kind.0 {
                    ValueType::Vector => 4 + 4 * head as usize,
                    ValueType::HalfVec => 4 + 2 * head as usize,
                    ValueType::Bit => 4 + head.div_ceil(8) as usize,
                    ValueType::SparseVec => data.len(),
                };
                if data.len() > 20 {
                    data.resize(wanted, 0);
                }
                data
            })
            .collect();
        let decoded: Vec<_> = values.iter().filter_map(|v| Value::decode(kind.0, v).ok()).collect();
        let queries: Vec<_> = decoded.iter().map(|&value| Query { value, own_row: None }).collect();
        let mut exact = Exact::new(metric, kind.0, k, &queries);
        for (nth, value) in decoded.iter().enumerate() {
            exact.offer(tid(nth), Some(value));
        }
        let compared = exact.tally().compared;
        for neighbours in exact.finish() {
            prop_assert!(u64::from(neighbours.expected()) <= compared.min(k.into()));
        }
    }
}
