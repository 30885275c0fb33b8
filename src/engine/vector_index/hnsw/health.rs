//! The health of an HNSW index in figures.

use serde::{Deserialize, Serialize};

use super::anatomy::{self, Anatomy};
use super::graph::{Full, Graph, bytes_per_element};
use super::judge::Verdict;
use super::layout::{Element, Links, Meta, Page, Tid};
use super::nodes::Node;
use super::origin::Origin;
use super::pages::{judge_entry, judge_from_pages};
use super::reach::Pulse;
use super::read_meta;
use super::recheck::judge_twice;
use super::scan::{Visitor, scan};
use super::sink::DuplicateSink;
use super::slots::MAX_BLOCKS;
use super::tally::Tally;
use crate::vector_index::inspection::{InspectError, InspectOptions};
use crate::vector_index::{HeapTid, PAGE_SIZE, PageSource};

/// The figures. "Live" is every element that is not flagged deleted; a link is read as
/// pgvector 0.8 reads it, so one after a hole or in a neighbour tuple of another version is
/// none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HnswFigures {
    /// Share of the live elements that a search can reach; 1 without any.
    pub connectivity_score: f32,
    /// Live elements by their highest layer, from the ground up.
    pub layer_distribution: Vec<u64>,
    /// 0 when there are live elements and the entry point is missing or deleted; else its level
    /// as a share of the highest live level (1 if that is 0), times the reached share of its
    /// own layer. 1 without live elements.
    pub entry_point_quality: f32,
    /// Live elements that no search can reach.
    pub orphan_count: u64,
    /// Those of them that have rows.
    pub orphans_with_rows: u64,
    /// 1 − `predicted_pages` / `pages`, not below 0.
    pub fragmentation: f32,
    /// Element tuples, live and deleted.
    pub elements: u64,
    /// Live elements.
    pub live_elements: u64,
    /// Elements flagged deleted, whose slots wait for another.
    pub deleted_elements: u64,
    /// Live elements without rows, which wait for a vacuum.
    pub ghosts: u64,
    /// Rows of live elements.
    pub heap_tids: u64,
    /// Live elements other than the entry point that no live element links to on the ground
    /// layer.
    pub zero_in_degree: u64,
    /// Live elements with fewer than m links on the ground layer.
    pub low_degree: u64,
    /// Mean over the live elements of their links on the ground layer / min(2m, live − 1); 1
    /// where there could be none.
    pub mean_degree_fill: f32,
    /// Links of live elements to what is no element, does not exist or is deleted; those from an
    /// element without rows to a deleted one, as a vacuum leaves them for a while, aside.
    pub dangling_edges: u64,
    /// Pages of the index, the metapage among them.
    pub pages: u64,
    /// Pages a fresh build of the live elements that have rows would take.
    pub predicted_pages: u64,
    /// Pages that an insert goes through before it finds room, on average over elements such as
    /// were inserted last.
    #[serde(default)]
    pub pages_per_insert: f32,
    /// Whether reachability is an estimate, because the memory limit did not allow more. What
    /// is reported as an orphan then is one; what is not may be one.
    pub sampled: bool,
    /// Links of an element on each layer but the ground, where it has twice as many.
    pub m: u16,
    /// Breadth of the search that chose the links when the index was built.
    pub ef_construction: u16,
    /// Dimensions of the indexed column.
    pub dimensions: u32,
    /// The level of the entry point; none when it is missing or deleted.
    #[serde(default)]
    pub entry_level: Option<u8>,
    /// The value that most links lead to, if any stands in many elements.
    #[serde(default)]
    pub duplicate_sink: Option<DuplicateSink>,
    /// How the graph is built, where it was asked for and fits into memory.
    #[serde(default)]
    pub anatomy: Option<Anatomy>,
    /// How what cannot be reached differs from what can.
    #[serde(default)]
    pub origin: Option<Origin>,
}

impl HnswFigures {
    /// Share of the live elements that a search can reach, or need not because they have no rows and
    /// wait for a vacuum.
    pub fn reachable(&self) -> f32 {
        let unneeded = self.orphan_count.saturating_sub(self.orphans_with_rows);
        let unneeded = unneeded as f32 / self.live_elements.max(1) as f32;
        (self.connectivity_score + unneeded).min(1.0)
    }
}

/// What an inspection found.
#[derive(Debug, Clone, PartialEq)]
pub struct HnswReport {
    /// The figures.
    pub figures: HnswFigures,
    /// Rows of live elements, reachable or not, drawn at random: each row of the index is as
    /// likely to be among them as any other.
    pub sampled_rows: Vec<HeapTid>,
    /// Elements with rows drawn at random from those that no search can reach.
    pub unreachable: Vec<Tid>,
    /// The same of the others, if any cannot be reached.
    pub reached: Vec<Tid>,
    /// What stands for the values that many elements have, those of most first.
    pub frequent: Vec<u64>,
    /// What the figures do not say, in words.
    pub notices: Vec<String>,
}

/// Inspects an index.
///
/// Reads every page once, in block order, and then a few again: those of elements that seem
/// wrong and their neighbours', because the pages are of different moments. Takes at most
/// `memory_limit` bytes for the graph ([`bytes_per_element`]).
pub fn inspect(
    source: &mut dyn PageSource,
    options: &InspectOptions,
) -> Result<HnswReport, InspectError> {
    let blocks = source.block_count()?;
    let meta = read_meta(source)?;
    let mut pass = FirstPass {
        tally: Tally::new(blocks, &meta, options.sample_rows, options.seed),
        graph: Graph::new(blocks, options.memory_limit),
    };
    scan(source, meta.m, &mut (1..blocks), &mut pass)?;
    let FirstPass { tally, mut graph } = pass;
    if let Ok(graph) = &mut graph {
        graph.finish();
    }

    let mut notices = notices(&tally);
    let (verdict, exact) = match &mut graph {
        Ok(graph) if graph.floor() == 0 => (judge_twice(source, graph, &meta)?.0, true),
        Ok(graph) => judge_from_pages(source, graph, &meta)?,
        Err(Full) => {
            notices.push(NOT_EXAMINED.into());
            (judge_entry(source, &meta, &tally)?, false)
        }
    };
    match &graph {
        Ok(graph) if exact && graph.floor() == 0 => {}
        _ => notices.push(advice(exact, blocks, &meta, &tally, options.memory_limit)),
    }
    let anatomy = match &graph {
        Ok(graph) if options.anatomy && exact && graph.floor() == 0 => {
            dissect(source, graph, &meta, &tally, &mut notices)?
        }
        _ => None,
    };
    Ok(HnswReport {
        figures: HnswFigures {
            sampled: !exact,
            anatomy,
            ..figures(u64::from(blocks), &meta, &tally, &verdict)
        },
        unreachable: verdict.unreachable,
        reached: verdict.reached,
        frequent: tally.frequent_values(),
        sampled_rows: tally.rows.into_items(),
        notices,
    })
}

/// How a graph is built, if there is room to look.
fn dissect(
    source: &mut dyn PageSource,
    graph: &Graph,
    meta: &Meta,
    tally: &Tally,
    notices: &mut Vec<String>,
) -> Result<Option<Anatomy>, InspectError> {
    let bytes = anatomy::bytes_for(graph.slots.count());
    if !graph.has_room(bytes) {
        notices.push(format!(
            "how the graph is built was not looked at: it takes {} kB more of maintenance_work_mem",
            bytes.div_ceil(1024)
        ));
        return Ok(None);
    }
    let pages = u64::from(source.block_count()?);
    let entry = meta.entry.and_then(|tid| graph.find(tid));
    let found = anatomy::anatomy(graph, meta.m, entry, &mut Pulse::new(source))?;
    let freed = pages.saturating_sub(tally.placement.pages());
    Ok(Some(Anatomy {
        layer_law_p: anatomy::layer_law_p(&tally.levels, meta.m),
        rebuild_frees_bytes: freed * PAGE_SIZE as u64,
        ..found
    }))
}

/// Counts, and keeps the graph as long as there is room for it.
struct FirstPass {
    tally: Tally,
    graph: Result<Graph, Full>,
}

impl FirstPass {
    /// Takes a step with the graph; where there is no room for it, with a thin graph.
    fn keep(&mut self, step: impl Fn(&mut Graph) -> Result<(), Full>) {
        let Ok(graph) = &mut self.graph else {
            return;
        };
        if step(graph).is_err() {
            let graph = std::mem::replace(&mut self.graph, Err(Full));
            self.graph = graph.and_then(|graph| {
                if graph.floor() == 0 {
                    graph.thin()
                } else {
                    Err(Full)
                }
            });
            if let Ok(graph) = &mut self.graph
                && step(graph).is_err()
            {
                self.graph = Err(Full);
            }
        }
    }
}

impl Visitor for FirstPass {
    fn page(&mut self, block: u32, page: &Page<'_>) {
        self.tally.page(block, page);
    }

    fn element(&mut self, tid: Tid, element: &Element<'_>) {
        self.tally.element(tid, element);
        if !element.deleted() {
            let rows = element.heap_tids().len() > 0;
            let node = Node::new(element.level(), element.version());
            self.keep(|graph| graph.add(tid, node, rows));
        }
    }

    fn links(&mut self, tid: Tid, level: u8, links: Option<Links<'_>>) {
        self.tally.links(tid, level, links);
        self.keep(|graph| graph.set_links(tid, links));
    }
}

/// The figures from what was counted and what was judged.
fn figures(pages: u64, meta: &Meta, tally: &Tally, verdict: &Verdict) -> HnswFigures {
    let live = tally.live();
    let predicted_pages = tally.placement.pages();
    let highest = tally.highest_level();
    HnswFigures {
        connectivity_score: share(live.saturating_sub(verdict.orphans), live),
        layer_distribution: tally.levels[..highest.map_or(0, |level| usize::from(level) + 1)]
            .to_vec(),
        entry_point_quality: entry_point_quality(live, verdict),
        orphan_count: verdict.orphans,
        orphans_with_rows: verdict.orphans_with_rows,
        fragmentation: 1.0 - share(predicted_pages.min(pages), pages),
        elements: tally.elements,
        live_elements: live,
        deleted_elements: tally.elements - live,
        ghosts: tally.ghosts,
        heap_tids: tally.heap_tids,
        zero_in_degree: verdict.zero_in_degree,
        low_degree: tally.below_degree(meta.m),
        mean_degree_fill: tally.mean_degree_fill() as f32,
        dangling_edges: verdict.dangling_edges,
        pages,
        predicted_pages,
        pages_per_insert: tally.room.pages_per_insert(),
        sampled: false,
        m: meta.m,
        ef_construction: meta.ef_construction,
        dimensions: meta.dimensions,
        entry_level: verdict.entry.map(|entry| entry.level),
        duplicate_sink: None,
        anatomy: None,
        origin: None,
    }
}

/// See [`HnswFigures::entry_point_quality`].
fn entry_point_quality(live: u64, verdict: &Verdict) -> f32 {
    match verdict.entry {
        _ if live == 0 => 1.0,
        None => 0.0,
        Some(entry) => {
            let height = match verdict.highest {
                Some(highest) if highest > 0 => share(u64::from(entry.level), u64::from(highest)),
                _ => 1.0,
            };
            height * share(entry.reached, entry.live)
        }
    }
}

/// `part` / `whole`; 1 of nothing.
fn share(part: u64, whole: u64) -> f32 {
    if whole == 0 {
        1.0
    } else {
        (part.min(whole) as f64 / whole as f64) as f32
    }
}

/// What is said of an index that was only counted.
const NOT_EXAMINED: &str =
    "orphans, links that lead nowhere and elements without links to them were not looked for";

/// What it would take to examine the index by one reading.
fn advice(exact: bool, blocks: u32, meta: &Meta, tally: &Tally, limit: usize) -> String {
    let how = match exact {
        true => "the pages were read several times",
        false => "reachability is an estimate",
    };
    if blocks > MAX_BLOCKS {
        return format!("{how}: the index is larger than 256 GiB");
    }
    // A deleted element takes an empty slot and one of its neighbour tuple.
    let graph =
        tally.live() * bytes_per_element(meta.m) as u64 + (tally.elements - tally.live()) * 24;
    let megabytes = (graph + 4 * u64::from(blocks)).div_ceil(1 << 20) + 1;
    format!(
        "{how}: {live} elements do not fit into {limit} kB; raise maintenance_work_mem to {megabytes} MB",
        live = tally.live(),
        limit = limit / 1024,
    )
}

/// What the figures do not say.
fn notices(tally: &Tally) -> Vec<String> {
    let said = [
        (
            tally.foreign_pages,
            "pages do not bear the page id of an HNSW index",
        ),
        (
            tally.overfull_pages,
            "pages have more line pointers than pgvector ever makes",
        ),
        (
            tally.unreadable_links,
            "live elements have no neighbour tuple that fits them, so that pgvector ignores their links",
        ),
    ];
    said.iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
}
