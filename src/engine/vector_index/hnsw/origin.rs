//! Whether what cannot be reached was so from the start: by what its values are.
//!
//! Some graphs are born with elements that no search comes to. By inner product a short vector
//! is hardly ever anybody's nearest, so that nothing keeps a link to it. Where rows lie in
//! tight clusters, pruning keeps no link from one to another.

use serde::{Deserialize, Serialize};

use super::layout::{Element, Item, Tid};
use super::read_page;
use crate::vector_index::value::{Value, ValueType};
use crate::vector_index::{PageSource, ReadError};

/// Elements of either side that are compared, and of the reached whose links are measured.
pub(super) const COMPARED: usize = 400;
const MEASURED: usize = 60;
/// Fewer tell nothing.
const MIN_COMPARED: usize = 10;

/// How the values that cannot be reached differ from those that can.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// How likely one that cannot be reached is shorter than one that can (the Mann–Whitney
    /// U as a share): 0.5 if length has nothing to do with it, 1 if all of them are.
    pub norm_rank: f32,
    /// Median distance from an element to the nearest it links to / median distance of two
    /// elements drawn at random: far below 1 where rows lie in tight clusters.
    pub link_tightness: f32,
}

/// Compares elements that cannot be reached with others that can. None when there are too few
/// of either. Reads some thousand pages.
pub fn origin(
    source: &mut dyn PageSource,
    value_type: ValueType,
    m: u16,
    unreachable: &[Tid],
    reached: &[Tid],
) -> Result<Option<Origin>, ReadError> {
    let missed = values_at(source, value_type, unreachable)?;
    let found = values_at(source, value_type, reached)?;
    if missed.len().min(found.len()) < MIN_COMPARED {
        return Ok(None);
    }
    let mut near = Vec::new();
    for &tid in reached.iter().take(MEASURED) {
        near.extend(nearest_link(source, value_type, m, tid)?);
    }
    let mut far: Vec<f64> = found
        .chunks_exact(2)
        .map(|pair| pair[0].distance(&pair[1]))
        .collect();
    let link_tightness = match (median(&mut near), median(&mut far)) {
        (Some(near), Some(far)) if far > 0.0 => near / far,
        _ => 1.0,
    };
    Ok(Some(Origin {
        norm_rank: rank(&missed, &found) as f32,
        link_tightness: link_tightness as f32,
    }))
}

/// How likely a value of `these` is shorter than one of `those`; equals count half.
fn rank(these: &[Point], those: &[Point]) -> f64 {
    let shorter: f64 = these
        .iter()
        .flat_map(|this| those.iter().map(|that| this.norm.total_cmp(&that.norm)))
        .map(|order| match order {
            std::cmp::Ordering::Less => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Greater => 0.0,
        })
        .sum();
    shorter / (these.len() * those.len()) as f64
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A value taken off its page.
struct Point {
    norm: f64,
    /// Of a sparse vector.
    indices: Vec<u32>,
    components: Vec<f32>,
}

impl Point {
    fn new(value: &Value<'_>) -> Self {
        Self {
            norm: value.norm(),
            indices: value.indices().collect(),
            components: value.components().collect(),
        }
    }

    /// Euclidean distance; of bits the root of the Hamming distance.
    fn distance(&self, other: &Self) -> f64 {
        let apart = |a: f32, b: f32| (f64::from(a) - f64::from(b)).powi(2);
        let mut sum = 0.0;
        if self.indices.is_empty() && other.indices.is_empty() {
            let pairs = self.components.iter().zip(&other.components);
            sum = pairs.map(|(&a, &b)| apart(a, b)).sum();
        } else {
            let mut these = self.indices.iter().zip(&self.components).peekable();
            let mut those = other.indices.iter().zip(&other.components).peekable();
            loop {
                sum += match (these.peek(), those.peek()) {
                    (Some((i, a)), Some((j, b))) if i == j => {
                        let apart = apart(**a, **b);
                        these.next();
                        those.next();
                        apart
                    }
                    (Some((i, a)), Some((j, _))) if i < j => {
                        let apart = apart(**a, 0.0);
                        these.next();
                        apart
                    }
                    (_, Some((_, b))) => {
                        let apart = apart(**b, 0.0);
                        those.next();
                        apart
                    }
                    (Some((_, a)), None) => {
                        let apart = apart(**a, 0.0);
                        these.next();
                        apart
                    }
                    (None, None) => break,
                };
            }
        }
        sum.sqrt()
    }
}

/// Reads the live element at a place, if there is one.
fn element_at<T>(
    source: &mut dyn PageSource,
    tid: Tid,
    take: impl Fn(&Element<'_>) -> Option<T>,
) -> Result<Option<T>, ReadError> {
    let mut taken = None;
    read_page(source, tid.block, &mut |page| {
        if let Some(Item::Element(element)) = page.item(tid.offset)
            && !element.deleted()
        {
            taken = take(&element);
        }
    })?;
    Ok(taken)
}

fn point(value_type: ValueType, element: &Element<'_>) -> Option<Point> {
    let value = Value::decode(value_type, element.value()).ok()?;
    Some(Point::new(&value))
}

fn values_at(
    source: &mut dyn PageSource,
    value_type: ValueType,
    tids: &[Tid],
) -> Result<Vec<Point>, ReadError> {
    let mut points = Vec::with_capacity(tids.len());
    for &tid in tids {
        points.extend(element_at(source, tid, |element| {
            point(value_type, element)
        })?);
    }
    Ok(points)
}

/// The distance from an element to the nearest of those it links to on the ground layer.
fn nearest_link(
    source: &mut dyn PageSource,
    value_type: ValueType,
    m: u16,
    tid: Tid,
) -> Result<Option<f64>, ReadError> {
    let seen = element_at(source, tid, |element| {
        let own = point(value_type, element)?;
        let (level, version) = (element.level(), element.version());
        Some((own, element.neighbor_tid(), level, version))
    })?;
    let Some((own, at, level, version)) = seen else {
        return Ok(None);
    };
    let mut links = Vec::new();
    read_page(source, at.block, &mut |page| {
        if let Some(Item::Neighbors(tuple)) = page.item(at.offset)
            && let Some(tuple) = tuple.of(level, version, m)
        {
            links.extend(tuple.layer(0));
        }
    })?;
    let others = values_at(source, value_type, &links)?;
    let nearest = others.iter().map(|other| own.distance(other));
    Ok(nearest.min_by(f64::total_cmp))
}
