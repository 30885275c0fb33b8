//! Rows of floats against all queries.
//!
//! Owns the fast sieve in single precision and the exact look at what passes it. Must not know
//! where rows come from.
//!
//! Rows are gathered into blocks, brought into a form in which a sum of products (of differences
//! for L1) tells the rank, and summed with all queries at once. A sum s of row x and query q can
//! belong to a row nearer than the farthest kept only if s ≥ A(x) + B(q); both take in, rounded down, all
//! that single precision can be wrong by: γ = (n + 16) · 2⁻²⁴ of ‖x‖‖q‖ (Higham, Accuracy and
//! stability of numerical algorithms, 2002, §3.1). Only the rows that pass are computed in double precision.
//!
//! | metric | x | q | A(x) | B(q), ρ the rank of the farthest kept |
//! |---|---|---|---|---|
//! | L2 | x − c | q − c | ½(1 − 2γ)‖x‖² | ½((1 − 2γ)‖q‖² − ρ) |
//! | inner product | x | q/‖q‖ | −γ‖x‖ | −ρ/‖q‖ |
//! | cosine | x/‖x‖ | q/‖q‖ | −γ | 1 − ρ |
//! | L1 | x | q | 0 | −(1 + 2γ)ρ |
//!
//! c is the mean of the queries: far from the origin ‖x‖² + ‖q‖² − 2x·q would cancel.

use std::ops::{Range, RangeInclusive};

use super::Offered;
use super::distance::{dense, floats_into, norm, rounding_scale};
use super::kernel::{Panels, ROWS_AT_ONCE, Sum, reaches};
use super::nearest::Nearest;
use crate::vector_index::HeapTid;
use crate::vector_index::shape::Metric;
use crate::vector_index::value::Value;

/// Bytes of rows in a block: half of them stay in a core's second cache with the panel.
const BLOCK_BYTES: usize = 256 << 10;
/// Rows in a block, at most.
const BLOCK_ROWS: usize = 192;
/// Squares of norms within which single precision neither overflows nor loses digits. Beyond,
/// every row passes the sieve.
const TAME: RangeInclusive<f32> = 1e-20..=1e30;

/// Rows in a block.
fn block_rows(dimensions: usize) -> usize {
    let fit = BLOCK_BYTES / (size_of::<f32>() * dimensions.max(1));
    fit.next_multiple_of(ROWS_AT_ONCE)
        .clamp(ROWS_AT_ONCE, BLOCK_ROWS)
}

/// Bytes taken, heaps apart.
pub(super) fn bytes(dimensions: u64, queries: u64) -> u64 {
    let rows = block_rows(usize::try_from(dimensions).unwrap_or(usize::MAX)) as u64;
    // Queries as they are and in panels (filled up to 32), rows as they are and brought into form.
    let floats = dimensions * (queries * 2 + 32 + rows * 2) + (rows + 2) * (queries + 32);
    floats * size_of::<f32>() as u64 + rows * size_of::<HeapTid>() as u64
}

/// Queries and the block of rows that are gathered for them.
#[derive(Debug)]
pub(super) struct Dense {
    metric: Metric,
    dimensions: usize,
    slack: f64,
    /// The queries as they are.
    queries: Vec<f32>,
    /// Norms: of the query as it is, and in the sieve's form.
    norms: Vec<(f64, f64)>,
    void: Vec<bool>,
    panels: Panels,
    pivot: Vec<f32>,
    limits: Vec<f32>,
    /// The block's rows as they are.
    rows: Vec<f32>,
    /// In the sieve's form, where that is another.
    formed: Vec<f32>,
    /// A(x) of each row.
    rises: Vec<f32>,
    tids: Vec<HeapTid>,
    sums: Vec<f32>,
}

impl Dense {
    /// `queries`: none for those that have no neighbours; all others have so many dimensions.
    pub(super) fn new(metric: Metric, dimensions: usize, queries: &[Option<Vec<f32>>]) -> Self {
        let zero = vec![0.0; dimensions];
        let flat: Vec<f32> = queries
            .iter()
            .flat_map(|query| query.as_ref().unwrap_or(&zero))
            .copied()
            .collect();
        let pivot = pivot(metric, dimensions, queries);
        let mut formed = flat.clone();
        let mut norms = Vec::with_capacity(queries.len());
        for nth in 0..queries.len() {
            let query = &mut formed[nth * dimensions..][..dimensions];
            let own = norm(query);
            match metric {
                Metric::L2 => query.iter_mut().zip(&pivot).for_each(|(x, c)| *x -= c),
                Metric::InnerProduct | Metric::Cosine if own > 0.0 => {
                    let direction: Vec<f32> = scaled(query, 1.0 / own).collect();
                    query.copy_from_slice(&direction);
                }
                _ => {}
            }
            norms.push((own, norm(query)));
        }
        let panels = Panels::new(&formed, dimensions);
        let rows = block_rows(dimensions);
        Self {
            metric,
            dimensions,
            slack: (dimensions as f64 + 16.0) * 0.5_f64.powi(24),
            norms,
            void: queries.iter().map(Option::is_none).collect(),
            pivot,
            limits: vec![f32::INFINITY; panels.stride()],
            rows: vec![0.0; rows * dimensions],
            formed: vec![0.0; rows * dimensions],
            rises: Vec::with_capacity(rows),
            tids: Vec::with_capacity(rows),
            sums: vec![0.0; rows * panels.stride()],
            queries: flat,
            panels,
        }
    }

    /// Adds a row to the block, and looks at the block when it is full.
    pub(super) fn offer(
        &mut self,
        row: HeapTid,
        value: &Value<'_>,
        nearest: &mut [Nearest],
    ) -> Offered {
        if value.dimensions() as usize != self.dimensions {
            return Offered::OtherDimensions;
        }
        let place = self.tids.len() * self.dimensions;
        let place = place..place + self.dimensions;
        floats_into(value, &mut self.rows[place.clone()]);
        let arch = self.panels.arch();
        let formed = arch.dispatch(
            #[inline(always)]
            || self.form(place),
        );
        match formed {
            Ok(rise) => {
                self.rises.push(rise);
                self.tids.push(row);
                if self.tids.len() == block_rows(self.dimensions) {
                    self.flush(nearest);
                }
                Offered::Compared
            }
            Err(left_out) => left_out,
        }
    }

    /// Brings the row at a place of the block into form. Returns its A(x), or why it is left out.
    #[inline(always)]
    fn form(&mut self, place: Range<usize>) -> Result<f32, Offered> {
        let row = &self.rows[place.clone()];
        let formed = &mut self.formed[place];
        let own = square(row);
        let tame = TAME.contains(&own);
        if !tame && row.iter().any(|x| !x.is_finite()) {
            return Err(Offered::NotANumber);
        }
        let norm = if tame {
            f64::from(own).sqrt()
        } else {
            norm(row)
        };
        let (formed, rise) = match self.metric {
            Metric::L2 => {
                let centred = row.iter().zip(&self.pivot).map(|(x, c)| x - c);
                formed.iter_mut().zip(centred).for_each(|(y, x)| *y = x);
                let formed = square(formed);
                (formed, 0.5 * (1.0 - 2.0 * self.slack) * f64::from(formed))
            }
            Metric::Cosine if norm == 0.0 => return Err(Offered::ZeroNorm),
            Metric::Cosine => {
                let direction = scaled(row, 1.0 / norm);
                formed.iter_mut().zip(direction).for_each(|(y, x)| *y = x);
                (1.0, -self.slack)
            }
            Metric::InnerProduct => (own, -self.slack * norm),
            _ => (own, 0.0),
        };
        Ok(if formed <= *TAME.end() {
            down(rise)
        } else {
            f32::NEG_INFINITY
        })
    }

    /// Looks at the rows gathered.
    pub(super) fn flush(&mut self, nearest: &mut [Nearest]) {
        if self.tids.is_empty() {
            return;
        }
        for (query, nearest) in nearest.iter().enumerate() {
            self.set_limit(query, nearest);
        }
        let kind = match self.metric {
            Metric::L1 => Sum::Differences,
            _ => Sum::Products,
        };
        let stride = self.panels.stride();
        let mut sums = std::mem::take(&mut self.sums);
        let used = self.tids.len() * stride;
        let rows = match self.metric {
            Metric::L2 | Metric::Cosine => &self.formed,
            _ => &self.rows,
        };
        let rows = &rows[..self.tids.len() * self.dimensions];
        self.panels.sums(kind, rows, &mut sums[..used]);
        for (nth, sums) in sums[..used].chunks_exact(stride).enumerate() {
            self.sift(nth, sums, nearest);
        }
        self.sums = sums;
        self.rises.clear();
        self.tids.clear();
    }

    /// Looks at the queries that a row may be near to.
    fn sift(&mut self, nth: usize, sums: &[f32], nearest: &mut [Nearest]) {
        let rise = self.rises[nth];
        if !self.panels.any_reaches(sums, rise, &self.limits) {
            return;
        }
        let (arch, metric, tid) = (self.panels.arch(), self.metric, self.tids[nth]);
        let row = &self.rows[nth * self.dimensions..][..self.dimensions];
        let length = match metric {
            Metric::InnerProduct | Metric::Cosine => norm(row),
            _ => 0.0,
        };
        for (query, nearest) in nearest.iter_mut().enumerate() {
            if !reaches(sums[query], rise + self.limits[query]) || self.void[query] {
                continue;
            }
            let row = &self.rows[nth * self.dimensions..][..self.dimensions];
            let other = &self.queries[query * self.dimensions..][..self.dimensions];
            let norms = (length, self.norms[query].0);
            let rank = arch.dispatch(
                #[inline(always)]
                || dense(metric, row, other, norms),
            );
            let scale = rounding_scale(metric, norms);
            if rank.is_some_and(|rank| nearest.offer(tid, rank, scale)) {
                self.set_limit(query, nearest);
            }
        }
    }

    /// B(q).
    fn set_limit(&mut self, query: usize, nearest: &Nearest) {
        let rank = nearest.limit();
        let (own, formed) = self.norms[query];
        let limit = match self.metric {
            _ if self.void[query] || rank == f64::NEG_INFINITY => f64::INFINITY,
            _ if formed * formed > f64::from(*TAME.end()) => f64::NEG_INFINITY,
            Metric::L2 => 0.5 * ((1.0 - 2.0 * self.slack) * formed * formed - rank),
            Metric::InnerProduct => -rank / own,
            Metric::Cosine => 1.0 - rank,
            _ => -rank * (1.0 + 2.0 * self.slack),
        };
        // 0 / 0: a query without norm, to which all rows are equally near.
        self.limits[query] = if limit.is_nan() {
            f32::NEG_INFINITY
        } else {
            down(limit)
        };
    }
}

/// The mean of the queries, for L2; else 0.
fn pivot(metric: Metric, dimensions: usize, queries: &[Option<Vec<f32>>]) -> Vec<f32> {
    let mut pivot = vec![0.0; dimensions];
    if metric == Metric::L2 {
        let mut mean = vec![0.0_f64; dimensions];
        let share = 1.0 / queries.iter().flatten().count().max(1) as f64;
        for query in queries.iter().flatten() {
            let components = mean.iter_mut().zip(query);
            components.for_each(|(mean, x)| *mean += f64::from(*x) * share);
        }
        let rounded = pivot.iter_mut().zip(mean);
        rounded.for_each(|(pivot, mean)| *pivot = mean as f32);
    }
    pivot
}

/// Components times a factor, in two steps where single precision cannot hold it.
#[inline(always)]
fn scaled(components: &[f32], by: f64) -> impl Iterator<Item = f32> {
    let rounded = by as f32;
    let (first, then) = if rounded.is_normal() {
        (rounded, 1.0)
    } else {
        let halfway = by.sqrt();
        (halfway as f32, (by / f64::from(halfway as f32)) as f32)
    };
    components.iter().map(move |x| x * first * then)
}

/// ‖x‖², in sums that do not wait for one another.
#[inline(always)]
fn square(components: &[f32]) -> f32 {
    let (chunks, rest) = components.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x * x;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>()
}

/// The next lower single precision number, and lower still by what products lose that are too small for it.
fn down(x: f64) -> f32 {
    ((x as f32).next_down() - f32::MIN_POSITIVE).next_down()
}
