//! Sums over dimensions for many rows and many queries at once, as the processor is fastest at.
//!
//! Owns the arrangement of queries in memory and the loop over it, and which instructions it is
//! compiled to, chosen when it runs. Knows of no metric beyond what is summed.
//!
//! Queries stand in panels, two vector registers wide, dimension after dimension; a panel stays in
//! the nearest cache while rows pass by, six at a time, so that twelve sums are under way at once
//! (Goto and van de Geijn, Anatomy of high-performance matrix multiplication, 2008).

use pulp::{Arch, Simd, WithSimd};

/// Rows that are summed at a time.
pub(super) const ROWS_AT_ONCE: usize = 6;
/// Registers of a panel.
const REGISTERS: usize = 2;
/// Bytes that the widest register's loads are aligned to.
const ALIGNMENT: usize = 64;

/// What is summed over dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// x · q.
    Products,
    /// −|x − q|.
    Differences,
}

/// Queries, arranged.
#[derive(Debug, Clone)]
pub struct Panels {
    arch: Arch,
    dimensions: usize,
    /// Queries in a panel.
    width: usize,
    /// Queries, those that fill up the last panel among them.
    stride: usize,
    floats: Vec<f32>,
    /// Where the panels begin, so that they are aligned.
    start: usize,
}

impl Panels {
    /// Arranges queries of so many dimensions, one after another in `queries`.
    pub fn new(queries: &[f32], dimensions: usize) -> Self {
        let arch = Arch::new();
        let width = REGISTERS * arch.dispatch(Lanes);
        let count = queries.len().checked_div(dimensions).unwrap_or(0);
        let stride = count.next_multiple_of(width);
        let mut floats = vec![0.0; stride * dimensions + ALIGNMENT / size_of::<f32>()];
        let start = floats.as_ptr().align_offset(ALIGNMENT);
        let start = start.min(ALIGNMENT / size_of::<f32>());
        for (number, query) in queries.chunks_exact(dimensions.max(1)).enumerate() {
            let panel = start + number / width * width * dimensions + number % width;
            for (slot, x) in floats[panel..].iter_mut().step_by(width).zip(query) {
                *slot = *x;
            }
        }
        Self {
            arch,
            dimensions,
            width,
            stride,
            floats,
            start,
        }
    }

    /// Sums for each row: the number of queries, rounded up.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Writes for each of `rows` (one after another) its sums with all queries, [`Self::stride`]
    /// a row, those past the last query without meaning. The error of a sum of n products is at
    /// most n · 2⁻²⁴ · Σ|x·q|, to first order.
    pub fn sums(&self, sum: Sum, rows: &[f32], sums: &mut [f32]) {
        self.arch.dispatch(Pass {
            panels: self,
            sum,
            rows,
            sums,
        });
    }

    /// What the sums are compiled to.
    pub(super) fn arch(&self) -> Arch {
        self.arch
    }

    /// Whether `sums` has one that is not below `rise` + its query's part of `limits`.
    pub(super) fn any_reaches(&self, sums: &[f32], rise: f32, limits: &[f32]) -> bool {
        self.arch.dispatch(
            #[inline(always)]
            || {
                let pairs = sums.iter().zip(limits);
                pairs.fold(false, |any, (&sum, &limit)| {
                    any | reaches(sum, rise + limit)
                })
            },
        )
    }
}

/// Whether a sum is not below a limit; one that is not a number may be anything.
#[inline(always)]
pub(super) fn reaches(sum: f32, limit: f32) -> bool {
    !matches!(sum.partial_cmp(&limit), Some(std::cmp::Ordering::Less))
}

/// Floats in a register.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

struct Pass<'a> {
    panels: &'a Panels,
    sum: Sum,
    rows: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let dimensions = self.panels.dimensions;
        let width = self.panels.width;
        if dimensions == 0 || width != REGISTERS * S::F32_LANES {
            return;
        }
        let all = &self.panels.floats[self.panels.start..];
        let panels = all.chunks_exact(width * dimensions);
        for (number, panel) in panels.take(self.panels.stride / width).enumerate() {
            let (panel, _) = S::as_simd_f32s(panel);
            let rows = self.rows.chunks(ROWS_AT_ONCE * dimensions);
            let sums = self.sums.chunks_mut(ROWS_AT_ONCE * self.panels.stride);
            for (rows, sums) in rows.zip(sums) {
                let mut row = rows.chunks_exact(dimensions);
                // Fewer rows than fit: the first is summed again in their place.
                let first = &rows[..dimensions.min(rows.len())];
                let rows: [&[f32]; ROWS_AT_ONCE] =
                    std::array::from_fn(|_| row.next().unwrap_or(first));
                let found = match self.sum {
                    Sum::Products => tile(simd, panel, rows, |x, q, sum| {
                        simd.mul_add_e_f32s(x, q, sum)
                    }),
                    Sum::Differences => tile(simd, panel, rows, |x, q, sum| {
                        simd.sub_f32s(sum, simd.abs_f32s(simd.sub_f32s(x, q)))
                    }),
                };
                let into = sums.chunks_exact_mut(self.panels.stride);
                for (into, found) in into.zip(&found) {
                    let (into, _) = S::as_mut_simd_f32s(&mut into[number * width..][..width]);
                    into.copy_from_slice(found);
                }
            }
        }
    }
}

/// The sums of six rows with a panel.
#[inline(always)]
fn tile<S: Simd>(
    simd: S,
    panel: &[S::f32s],
    rows: [&[f32]; ROWS_AT_ONCE],
    add: impl Fn(S::f32s, S::f32s, S::f32s) -> S::f32s,
) -> [[S::f32s; REGISTERS]; ROWS_AT_ONCE] {
    let mut sums = [[simd.splat_f32s(0.0); REGISTERS]; ROWS_AT_ONCE];
    let [a, b, c, d, e, f] = rows;
    let columns = a.iter().zip(b).zip(c).zip(d).zip(e).zip(f);
    let (panel, _) = panel.as_chunks::<REGISTERS>();
    for (queries, (((((a, b), c), d), e), f)) in panel.iter().zip(columns) {
        for (x, sums) in [a, b, c, d, e, f].into_iter().zip(&mut sums) {
            let x = simd.splat_f32s(*x);
            for (sum, q) in sums.iter_mut().zip(queries) {
                *sum = add(x, *q, *sum);
            }
        }
    }
    sums
}
