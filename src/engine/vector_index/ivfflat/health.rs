//! The health of an IVFFlat index in figures.

use serde::{Deserialize, Serialize};

use super::drift::{Distortion, Members, bytes_per_list};
use super::layout::{Meta, entries};
use super::lists::{each_list, each_page_of_entries};
use super::untrained::Untrained;
use crate::vector_index::inspection::{InspectError, InspectOptions};
use crate::vector_index::page::{LINE_POINTER, PAGE_HEADER, RawPage, SPECIAL, max_align};
use crate::vector_index::sample::Reservoir;
use crate::vector_index::shape::IndexShape;
use crate::vector_index::value::Value;
use crate::vector_index::{HeapTid, PAGE_SIZE, PageSource, ReadError};

/// Rows for each list that pgvector's documentation recommends, up to a million rows.
const ROWS_PER_LIST: u64 = 1_000;
const MANY_ROWS: u64 = 1_000_000;

/// The figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IvfflatFigures {
    /// Standard deviation of the sizes of lists / their mean; 0 without entries.
    pub cluster_balance: f32,
    /// Lists without entries.
    pub empty_clusters: u64,
    /// 1 − Σ nᵢ‖μᵢ − cᵢ‖² / ΣᵢΣ‖x − cᵢ‖²: 1 − the share of the distortion that moving the centres
    /// onto their members' mean would remove. Members and means are taken by direction for
    /// inner product and cosine; bits by majority and Hamming distance. 1 without distortion.
    pub centroid_quality: f32,
    /// Lists.
    pub lists: u64,
    /// Entries.
    pub vectors: u64,
    /// Entries of the longest list.
    pub largest_cluster: u64,
    /// Lists · Σn² / (Σn)², what a probe costs against lists of one size; 1 without entries.
    pub imbalance_factor: f32,
    /// Pages of the index, the metapage among them.
    pub pages: u64,
    /// Pages a fresh build of the same lists would take.
    pub predicted_pages: u64,
    /// 1 − `predicted_pages` / `pages`, not below 0.
    pub fragmentation: f32,
    /// Sizes of lists: shortest, median, 95th percentile.
    pub list_sizes: [u64; 3],
    /// Lists of one size that would cost a probe as much: lists / imbalance factor.
    pub effective_lists: f32,
    /// Gini coefficient of the sizes of lists: 0 all equal, 1 all in one.
    pub gini: f32,
    /// Distance of a centre from its members' mean / their root mean square distance from it:
    /// mean over the lists with entries, and the largest.
    pub mean_displacement: f32,
    /// See `mean_displacement`.
    pub max_displacement: f32,
    /// Lists that pgvector's documentation recommends for as many rows.
    pub recommended_lists: u64,
    /// Lists whose centres were drawn at random, for want of rows to train them on.
    #[serde(default)]
    pub untrained_lists: u64,
    /// Whether the figures are an estimate; they never are.
    pub sampled: bool,
    /// Dimensions of the indexed column.
    pub dimensions: u16,
}

/// What an inspection found.
#[derive(Debug, Clone, PartialEq)]
pub struct IvfflatReport {
    /// The figures.
    pub figures: IvfflatFigures,
    /// Rows drawn at random: each is as likely to be among them as any other.
    pub sampled_rows: Vec<HeapTid>,
    /// What the figures do not say, in words.
    pub notices: Vec<String>,
}

/// Inspects an index. Reads every page once, in block order (those of the lists twice), and again
/// for as many times as the
/// sums of all lists do not fit into `memory_limit` together: 12 bytes for each dimension of
/// each list.
pub fn inspect(
    source: &mut dyn PageSource,
    shape: &IndexShape,
    options: &InspectOptions,
) -> Result<IvfflatReport, InspectError> {
    let pages = source.block_count()?;
    let meta = read_meta(source)?;
    let group = (options.memory_limit / bytes_per_list(meta.dimensions)).max(1);
    let group = u32::try_from(group).unwrap_or(u32::MAX);

    let mut untrained = Untrained::default();
    let mut starts = Vec::new();
    let mut list_bytes = 0;
    let list_pages = each_list(source, &mut |_, _, list| {
        starts.push(list.start);
        if let Some(center) = &list.center
            && let Ok(center) = Value::decode(shape.value_type, center)
        {
            untrained.offer(shape, &center);
        }
        list_bytes = list_bytes.max(list.size);
    })?;
    let mut sizes = vec![0_u64; starts.len()];
    let mut fills = vec![Fill::default(); starts.len()];
    let mut rows = Reservoir::new(options.sample_rows, options.seed);
    let mut distortions: Vec<Distortion> = Vec::with_capacity(starts.len());
    let mut unreadable = 0_u64;

    let mut first = 0_u32;
    loop {
        let mut members: Vec<Option<Members>> = Vec::new();
        let wanted = first..first.saturating_add(group);
        each_list(source, &mut |number, _, list| {
            if wanted.contains(&number) {
                let center = list.center.and_then(|center| Members::new(shape, &center));
                unreadable += u64::from(center.is_none());
                members.push(center);
            }
        })?;
        each_page_of_entries(source, &starts, &list_pages, &mut |list, _, bytes| {
            let nth = list.checked_sub(first).map(|nth| nth as usize);
            let mut members = nth.and_then(|nth| members.get_mut(nth)?.as_mut());
            for (_, entry) in entries(&RawPage::new(bytes)) {
                if first == 0 {
                    sizes[list as usize] += 1;
                    fills[list as usize].add(entry.size);
                    rows.offer(entry.row);
                }
                if let Some(members) = &mut members {
                    match entry.value() {
                        Some(value) => members.add(shape, &value),
                        None => unreadable += 1,
                    }
                }
            }
        })?;
        distortions.extend(
            members
                .iter()
                .flatten()
                .map(|members| members.distortion(shape)),
        );
        first = wanted.end;
        if first as usize >= starts.len() {
            break;
        }
    }

    let per_page = (ROOM / (max_align(list_bytes) + LINE_POINTER)).max(1) as u64;
    let predicted = 1
        + (starts.len() as u64).div_ceil(per_page)
        + fills.iter().map(|fill| fill.pages).sum::<u64>();
    let mut notices = Vec::new();
    if unreadable > 0 {
        notices.push(format!("{unreadable} values cannot be read"));
    }
    if starts.len() != usize::from(meta.lists) {
        notices.push(format!(
            "the metapage has {} lists, {} are there",
            meta.lists,
            starts.len()
        ));
    }
    Ok(IvfflatReport {
        figures: IvfflatFigures {
            untrained_lists: untrained.count(),
            ..figures(pages, predicted, &meta, sizes, &distortions)
        },
        sampled_rows: rows.into_items(),
        notices,
    })
}

pub(super) fn read_meta(source: &mut dyn PageSource) -> Result<Meta, InspectError> {
    let mut meta = None;
    source.read(&mut std::iter::once(0), &mut |_, bytes| {
        meta = Some(Meta::decode(&RawPage::new(bytes)));
    })?;
    match meta {
        Some(decoded) => decoded.map_err(|reason| InspectError::NotSuch { reason }),
        None => Err(ReadError::Gone.into()),
    }
}

/// Bytes of a page for tuples and their line pointers.
const ROOM: usize = PAGE_SIZE - PAGE_HEADER - SPECIAL;

/// The pages of a list as a build fills them, one after another; an empty list has one.
#[derive(Debug, Clone, Copy)]
struct Fill {
    pages: u64,
    room: usize,
}

impl Default for Fill {
    fn default() -> Self {
        Self {
            pages: 1,
            room: ROOM,
        }
    }
}

impl Fill {
    fn add(&mut self, tuple: usize) {
        let needed = max_align(tuple) + LINE_POINTER;
        if self.room < needed {
            self.pages += 1;
            self.room = ROOM;
        }
        self.room = self.room.saturating_sub(needed);
    }
}

fn figures(
    pages: u32,
    predicted_pages: u64,
    meta: &Meta,
    mut sizes: Vec<u64>,
    distortions: &[Distortion],
) -> IvfflatFigures {
    sizes.sort_unstable();
    let lists = sizes.len() as f64;
    let vectors: u64 = sizes.iter().sum();
    let squares: f64 = sizes.iter().map(|&n| (n as f64).powi(2)).sum();
    let imbalance = match vectors {
        0 => 1.0,
        _ => lists * squares / (vectors as f64).powi(2),
    };
    let ranked: f64 = (1..)
        .zip(&sizes)
        .map(|(rank, &n)| f64::from(rank) * n as f64)
        .sum();
    let gini = match vectors {
        0 => 0.0,
        _ => 2.0 * ranked / (lists * vectors as f64) - (lists + 1.0) / lists,
    };
    let whole: f64 = distortions.iter().map(|d| d.whole).sum();
    let removable: f64 = distortions.iter().map(|d| d.removable).sum();
    let with_entries = sizes.iter().filter(|&&n| n > 0).count().max(1) as f64;
    let displaced = distortions.iter().map(|d| d.displacement);
    let at = |share: f64| {
        let last = sizes.len().saturating_sub(1);
        let nth = (share * last as f64).round() as usize;
        sizes.get(nth).copied().unwrap_or(0)
    };
    let pages = u64::from(pages);
    IvfflatFigures {
        // The imbalance factor is 1 + the square of the coefficient of variation.
        cluster_balance: if vectors == 0 {
            0.0
        } else {
            (imbalance - 1.0).max(0.0).sqrt() as f32
        },
        empty_clusters: sizes.iter().filter(|&&n| n == 0).count() as u64,
        centroid_quality: if whole > 0.0 {
            (1.0 - removable / whole) as f32
        } else {
            1.0
        },
        lists: sizes.len() as u64,
        vectors,
        largest_cluster: sizes.last().copied().unwrap_or(0),
        imbalance_factor: imbalance as f32,
        pages,
        predicted_pages,
        fragmentation: (1.0 - predicted_pages as f64 / pages.max(1) as f64).max(0.0) as f32,
        list_sizes: [at(0.0), at(0.5), at(0.95)],
        effective_lists: (lists / imbalance) as f32,
        gini: gini.max(0.0) as f32,
        mean_displacement: (displaced.clone().sum::<f64>() / with_entries) as f32,
        max_displacement: displaced.fold(0.0, f64::max) as f32,
        recommended_lists: match vectors {
            ..=MANY_ROWS => (vectors / ROWS_PER_LIST).max(1),
            many => many.isqrt(),
        },
        untrained_lists: 0,
        sampled: false,
        dimensions: meta.dimensions,
    }
}
