//! What the exact neighbours of many queries cost, in one run on one core: against nothing but the same sums over rows
//! that lie decoded in memory, by our own loop and by somebody else's.
//!
//! `cargo bench -p ruvector_dag_healing_engine --bench exact`. ROWS, QUERIES and DIMENSIONS may be set in the
//! environment.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ndarray::{Array2, ArrayView2};
use ruvector_dag_healing_engine::recall::exact::kernel::{Panels, Sum};
use ruvector_dag_healing_engine::recall::exact::{Exact, Query};
use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::vector_index::shape::Metric;
use ruvector_dag_healing_engine::vector_index::value::{Value, ValueType};

const REPEATS: usize = 7;
const K: u32 = 10;
/// Rows summed at a time, a block that the second cache holds.
const BLOCK: usize = 168;

fn main() {
    let rows = from_environment("ROWS", 100_000);
    let queries = from_environment("QUERIES", 200);
    let dimensions = from_environment("DIMENSIONS", 384);
    let mut random = Random(1);
    let floats = random.unit_vectors(rows, dimensions);
    let asked = random.unit_vectors(queries, dimensions);
    let work = 2.0 * (rows * queries * dimensions) as f64;
    println!("{queries} queries x {rows} rows x {dimensions} dimensions, k = {K}, one core");

    let table = encode(&floats, dimensions, |x| x.to_le_bytes().to_vec());
    let wanted = encode(&asked, dimensions, |x| x.to_le_bytes().to_vec());
    let halves = |x: f32| half::f16::from_f32(x).to_le_bytes().to_vec();
    let half_table = encode(&floats, dimensions, halves);
    let half_wanted = encode(&asked, dimensions, halves);
    let panels = Panels::new(&asked, dimensions);
    let (left, right) = (
        ArrayView2::from_shape((rows, dimensions), &floats).expect("as many as made"),
        ArrayView2::from_shape((queries, dimensions), &asked).expect("as many as made"),
    );

    let vector = ValueType::Vector;
    let exact = |metric| search(metric, vector, &table, &wanted);
    let [scan, foreign, l2, product, cosine, half] = interleaved([
        &mut || in_memory(&panels, Sum::Products, &floats, dimensions),
        &mut || foreign_product(&left, &right),
        &mut || exact(Metric::L2),
        &mut || exact(Metric::InnerProduct),
        &mut || exact(Metric::Cosine),
        &mut || search(Metric::L2, ValueType::HalfVec, &half_table, &half_wanted),
    ]);
    let report = |name: &str, time: Duration, scan: Duration| {
        let seconds = time.as_secs_f64();
        println!(
            "  {name:<34} {:8.1} ms {:7.1} GFLOP/s {:6.2} x the sums in memory (at most 1.5)",
            seconds * 1e3,
            work / seconds / 1e9,
            seconds / scan.as_secs_f64()
        );
    };
    report("sums in memory", scan, scan);
    report("sums in memory, matrixmultiply", foreign, scan);
    report("exact neighbours, vector L2", l2, scan);
    report("exact neighbours, inner product", product, scan);
    report("exact neighbours, cosine", cosine, scan);
    report("exact neighbours, halfvec L2", half, scan);
    let [scan, l1] = interleaved([
        &mut || in_memory(&panels, Sum::Differences, &floats, dimensions),
        &mut || exact(Metric::L1),
    ]);
    // Three operations where a product takes one, counted as two like it.
    report("sums of differences in memory", scan, scan);
    report("exact neighbours, vector L1", l1, scan);
}

/// The sums alone, of rows that lie ready.
fn in_memory(panels: &Panels, sum: Sum, floats: &[f32], dimensions: usize) -> f64 {
    let mut sums = vec![0.0; BLOCK * panels.stride()];
    let mut largest = f32::MIN;
    for rows in floats.chunks(BLOCK * dimensions) {
        panels.sums(sum, rows, &mut sums);
        largest = largest.max(black_box(&sums)[0]);
    }
    f64::from(largest)
}

fn foreign_product(rows: &ArrayView2<'_, f32>, queries: &ArrayView2<'_, f32>) -> f64 {
    let mut sums = Array2::zeros((BLOCK, queries.nrows()));
    let mut largest = f32::MIN;
    for rows in rows.axis_chunks_iter(ndarray::Axis(0), BLOCK) {
        let mut sums = sums.slice_mut(ndarray::s![..rows.nrows(), ..]);
        ndarray::linalg::general_mat_mul(1.0, &rows, &queries.t(), 0.0, &mut sums);
        largest = largest.max(black_box(&sums)[(0, 0)]);
    }
    f64::from(largest)
}

/// From bytes as they stand in the table to neighbours.
fn search(metric: Metric, value_type: ValueType, table: &[Vec<u8>], wanted: &[Vec<u8>]) -> f64 {
    let value = |bytes| Value::decode(value_type, bytes).expect("as encoded");
    let queries: Vec<_> = wanted
        .iter()
        .map(|bytes| Query {
            value: value(bytes),
            own_row: None,
        })
        .collect();
    let mut exact = Exact::new(metric, value_type, K, &queries);
    for (block, bytes) in (0..).zip(table) {
        exact.offer(HeapTid { block, offset: 1 }, Some(&value(bytes)));
    }
    let neighbours = exact.finish();
    neighbours.iter().filter_map(|n| n.kth_distance()).sum()
}

/// The shortest of some runs of each, taken in turn.
fn interleaved<const N: usize>(mut tasks: [&mut dyn FnMut() -> f64; N]) -> [Duration; N] {
    let mut shortest = [Duration::MAX; N];
    for _ in 0..REPEATS {
        for (task, shortest) in tasks.iter_mut().zip(&mut shortest) {
            let start = Instant::now();
            black_box(task());
            *shortest = start.elapsed().min(*shortest);
        }
    }
    shortest
}

fn encode(floats: &[f32], dimensions: usize, bytes: impl Fn(f32) -> Vec<u8>) -> Vec<Vec<u8>> {
    let value = |row: &[f32]| {
        let mut value = (row.len() as u32).to_le_bytes().to_vec();
        row.iter().for_each(|x| value.extend(bytes(*x)));
        value
    };
    floats.chunks(dimensions).map(value).collect()
}

fn from_environment(name: &str, default: usize) -> usize {
    let set = std::env::var(name).ok();
    set.map_or(default, |value| value.parse().expect("a number"))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
    }

    fn unit_vectors(&mut self, count: usize, dimensions: usize) -> Vec<f32> {
        let mut floats: Vec<f32> = (0..count * dimensions).map(|_| self.next()).collect();
        for row in floats.chunks_mut(dimensions) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        floats
    }
}
