//! How a graph is built, beyond what is wrong with it: for people who compare indexes.
//!
//! Walks the whole graph several times, so it is done only where it is asked for.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::graph::Graph;
use super::reach::Pulse;
use super::slots::block_of;
use crate::vector_index::ReadError;
use crate::vector_index::bitmap::Bitmap;

/// Elements with no more incoming links are one deletion or two from being orphans.
const AT_RISK: u32 = 2;
/// A layer expected to have fewer elements is counted with the one below (Cochran, 1954).
const MIN_EXPECTED: f64 = 5.0;

/// The figures, of live elements. "Links" are those on the ground layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anatomy {
    /// Links.
    pub edges: u64,
    /// Links to an element, on average.
    pub in_degree_mean: f32,
    /// The median.
    pub in_degree_median: u32,
    /// The 99th percentile.
    pub in_degree_p99: u32,
    /// The most.
    pub in_degree_max: u32,
    /// Hubness: skewness of the links to an element, E[(k − μ)³] / σ³ (Radovanović, Nanopoulos,
    /// Ivanović, Hubs in space, 2010); 0 where all have as many.
    pub in_degree_skewness: f32,
    /// Gini coefficient of the links to an element: 0 all as many, 1 all to one.
    pub in_degree_gini: f32,
    /// Share of the links that lead to the hundredth of the elements with most.
    pub top_percent_edge_share: f32,
    /// Elements that two links lead to, or fewer.
    pub at_risk: u64,
    /// Share of the elements with fewer than m of 2m links.
    pub below_half_share: f32,
    /// Share of the links that lead to no live element, or to one without rows.
    pub dead_edge_ratio: f32,
    /// Share of the links that another of the same element repeats.
    pub duplicate_edge_ratio: f32,
    /// Links of an element to itself, on any layer.
    pub self_edges: u64,
    /// Links on a layer above the ground to elements that are not on it.
    pub lower_level_edges: u64,
    /// Share of the links whose element links back.
    pub reciprocity: f32,
    /// Share of the elements that can reach one another by links: those of the strongly
    /// connected component of the element with most links to it, the giant one if it has half.
    pub giant_component_share: f32,
    /// Links to the entry point on its own layer.
    pub entry_in_degree: u32,
    /// Fewest links from the entry point to an element: mean over those it can reach.
    pub mean_hops: f32,
    /// The most of them.
    pub max_hops: u32,
    /// Pages that the links of one element lead to, on average: what one step of a search reads.
    pub pages_per_step: f32,
    /// How likely the layers of a sound graph are at least as far from n · m⁻ˡ elements on layer l
    /// and above: a G-test; 1 where there are too few elements to tell.
    pub layer_law_p: f64,
    /// Bytes that a rebuild would free.
    pub rebuild_frees_bytes: u64,
}

/// Bytes of memory it takes besides the graph.
pub(super) fn bytes_for(slots: usize) -> usize {
    // Counted by slot, then sorted by element: at most twice a word for each slot.
    2 * slots * size_of::<u32>() + 4 * Bitmap::bytes_for(slots)
}

/// Takes the figures of a graph with all its layers, but for those of pages and layers.
/// `entry`: the slot of the entry point.
pub(super) fn anatomy(
    graph: &Graph,
    m: u16,
    entry: Option<usize>,
    pulse: &mut Pulse<'_>,
) -> Result<Anatomy, ReadError> {
    let mut links = Links::new(graph, m, entry);
    for slot in graph.live.iter() {
        pulse.beat()?;
        links.add(slot);
    }
    let hub = (0..).zip(&links.to).max_by_key(|(_, to)| **to);
    let giant = match hub {
        Some((hub, _)) if graph.live.contains(hub) => component(graph, hub, pulse)?,
        _ => 0,
    };
    let (mean_hops, max_hops) = match entry {
        Some(entry) => hops(graph, entry, pulse)?,
        None => (0.0, 0),
    };
    Ok(Anatomy {
        giant_component_share: share(giant, links.elements),
        mean_hops,
        max_hops,
        ..links.figures()
    })
}

fn share(part: u64, whole: u64) -> f32 {
    part as f32 / whole.max(1) as f32
}

/// Counts links.
struct Links<'a> {
    graph: &'a Graph,
    m: usize,
    entry: Option<usize>,
    /// Links to each slot.
    to: Vec<u32>,
    sorted: Vec<u32>,
    elements: u64,
    edges: u64,
    below_half: u64,
    dead: u64,
    repeated: u64,
    to_self: u64,
    lower: u64,
    mutual: u64,
    pages: u64,
    entry_in_degree: u32,
}

impl<'a> Links<'a> {
    fn new(graph: &'a Graph, m: u16, entry: Option<usize>) -> Self {
        Self {
            graph,
            m: usize::from(m),
            entry,
            to: vec![0; graph.slots.count()],
            sorted: Vec::new(),
            elements: 0,
            edges: 0,
            below_half: 0,
            dead: 0,
            repeated: 0,
            to_self: 0,
            lower: 0,
            mutual: 0,
            pages: 0,
            entry_in_degree: 0,
        }
    }

    fn add(&mut self, slot: usize) {
        self.elements += 1;
        let graph = self.graph;
        let entry_level = self.entry.map(|entry| graph.level(entry));
        for (layer, links) in graph.layers(slot) {
            for &link in links.all {
                let target = graph.live_slot(link);
                let Some(target) = target else {
                    self.dead += u64::from(layer == 0);
                    continue;
                };
                self.to_self += u64::from(target == slot);
                self.lower += u64::from(graph.level(target) < layer);
                if Some(target) == self.entry && Some(layer) == entry_level {
                    self.entry_in_degree += 1;
                }
                if layer == 0 {
                    self.dead += u64::from(!graph.rows.contains(target));
                    self.to[target] += 1;
                    let back = |&link: &u32| graph.live_slot(link) == Some(slot);
                    self.mutual += u64::from(graph.links(target, 0).iter().any(back));
                }
            }
            if layer == 0 {
                self.add_ground(links.all);
            }
        }
    }

    fn add_ground(&mut self, links: &[u32]) {
        self.edges += links.len() as u64;
        self.below_half += u64::from(links.len() < self.m);
        self.sorted.clear();
        self.sorted.extend_from_slice(links);
        self.sorted.sort_unstable();
        self.sorted.dedup();
        self.repeated += (links.len() - self.sorted.len()) as u64;
        self.sorted.dedup_by_key(|link| block_of(*link));
        self.pages += self.sorted.len() as u64;
    }

    /// The figures, but for those that take another walk.
    fn figures(self) -> Anatomy {
        let live = self.graph.live.iter();
        let mut to: Vec<u32> = live.map(|slot| self.to[slot]).collect();
        to.sort_unstable();
        let n = to.len().max(1) as f64;
        let sum: f64 = to.iter().map(|&k| f64::from(k)).fold(0.0, |a, b| a + b);
        let mean = sum / n;
        let moment = |power: i32| {
            to.iter()
                .map(|&k| (f64::from(k) - mean).powi(power))
                .sum::<f64>()
                / n
        };
        let spread = moment(2).sqrt();
        // Of values in ascending order: 2 Σ i·kᵢ / (n Σ k) − (n + 1) / n.
        let ranked: f64 = (1..)
            .zip(&to)
            .map(|(i, &k)| f64::from(i) * f64::from(k))
            .sum();
        let at = |share: f64| {
            let nth = (share * to.len() as f64) as usize;
            to.get(nth.min(to.len().saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        let top = to.len().div_ceil(100);
        let to_top: u64 = to.iter().rev().take(top).map(|&k| u64::from(k)).sum();
        Anatomy {
            edges: self.edges,
            in_degree_mean: mean as f32,
            in_degree_median: at(0.5),
            in_degree_p99: at(0.99),
            in_degree_max: at(1.0),
            in_degree_skewness: if spread > 0.0 {
                (moment(3) / spread.powi(3)) as f32
            } else {
                0.0
            },
            in_degree_gini: if sum > 0.0 {
                (2.0 * ranked / (n * sum) - (n + 1.0) / n) as f32
            } else {
                0.0
            },
            top_percent_edge_share: share(to_top, self.edges),
            at_risk: to.partition_point(|&k| k <= AT_RISK) as u64,
            below_half_share: share(self.below_half + self.without_links(), self.elements),
            dead_edge_ratio: share(self.dead, self.edges),
            duplicate_edge_ratio: share(self.repeated, self.edges),
            self_edges: self.to_self,
            lower_level_edges: self.lower,
            reciprocity: share(self.mutual, self.edges),
            giant_component_share: 0.0,
            entry_in_degree: self.entry_in_degree,
            mean_hops: 0.0,
            max_hops: 0,
            pages_per_step: share(self.pages, self.elements),
            layer_law_p: 1.0,
            rebuild_frees_bytes: 0,
        }
    }

    /// Live elements that have no list of links at all.
    fn without_links(&self) -> u64 {
        let has_none = |slot: &usize| self.graph.layers(*slot).next().is_none();
        self.graph.live.iter().filter(has_none).count() as u64
    }
}

/// How many elements are on a cycle with one: reached from it, and reaching it.
fn component(graph: &Graph, hub: usize, pulse: &mut Pulse<'_>) -> Result<u64, ReadError> {
    let count = graph.slots.count();
    let mut forward = Bitmap::new(count);
    walk(graph, hub, pulse, &mut |_, slot| {
        forward.insert(slot);
    })?;
    let mut back = Bitmap::new(count);
    back.insert(hub);
    // Who links to one of those found so far. Most are found in the first passes, because a pass
    // sees what it found itself.
    loop {
        let mut found = false;
        for slot in forward.iter() {
            pulse.beat()?;
            let leads_back = |&link: &u32| {
                let target = graph.live_slot(link);
                target.is_some_and(|target| back.contains(target))
            };
            if !back.contains(slot) && graph.links(slot, 0).iter().any(leads_back) {
                back.insert(slot);
                found = true;
            }
        }
        if !found {
            return Ok(back.iter().count() as u64);
        }
    }
}

/// The mean and the largest number of links from an element to those it can reach.
fn hops(graph: &Graph, entry: usize, pulse: &mut Pulse<'_>) -> Result<(f32, u32), ReadError> {
    let (mut sum, mut reached, mut most) = (0_u64, 0, 0);
    walk(graph, entry, pulse, &mut |hops, _| {
        sum += u64::from(hops);
        reached += 1;
        most = hops;
    })?;
    Ok((share(sum, reached), most))
}

/// Visits what can be reached from an element on the ground layer, the nearest first.
fn walk(
    graph: &Graph,
    from: usize,
    pulse: &mut Pulse<'_>,
    visit: &mut dyn FnMut(u32, usize),
) -> Result<(), ReadError> {
    let count = graph.slots.count();
    let mut seen = Bitmap::new(count);
    let mut front = Bitmap::new(count);
    seen.insert(from);
    front.insert(from);
    for hops in 0.. {
        let mut next = Bitmap::new(count);
        let mut is_last = true;
        for slot in front.iter() {
            pulse.beat()?;
            visit(hops, slot);
            for &link in graph.links(slot, 0) {
                if let Some(target) = graph.live_slot(link)
                    && seen.insert(target)
                {
                    next.insert(target);
                    is_last = false;
                }
            }
        }
        if is_last {
            break;
        }
        front = next;
    }
    Ok(())
}

/// See [`Anatomy::layer_law_p`]. `levels`: live elements by their highest layer.
pub(super) fn layer_law_p(levels: &[u64], m: u16) -> f64 {
    let all = levels.iter().sum::<u64>() as f64;
    let step = 1.0 / f64::from(m.max(2));
    // Layers from the ground up, the last with everything above it.
    let mut bins = Vec::new();
    let (mut left, mut above) = (all, all);
    for &count in levels {
        let next = above * step;
        if next < MIN_EXPECTED {
            break;
        }
        bins.push((count as f64, above - next));
        left -= count as f64;
        above = next;
    }
    bins.push((left, above));
    let Ok(law) = ChiSquared::new(bins.len() as f64 - 1.0) else {
        return 1.0;
    };
    let g: f64 = bins
        .iter()
        .filter(|(seen, _)| *seen > 0.0)
        .map(|(seen, expected)| 2.0 * seen * (seen / expected).ln())
        .sum();
    law.sf(g.max(0.0))
}
