//! What is wrong in a graph: what cannot be reached, what nothing links to, what leads nowhere.
//!
//! A fault counts when it stood at the judgement before as well; at the first judgement every
//! fault counts, and it is for the caller to look a second time before believing it.

use super::graph::Graph;
use super::layout::Tid;
use super::origin::COMPARED;
use super::reach::{Pulse, Reach, reach};
use crate::vector_index::ReadError;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::sample::Reservoir;

/// The faulty elements of a judgement, by slot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// They cannot be reached.
    pub(crate) missed: Bitmap,
    /// No live element links to them on the ground layer; the entry point may be among them.
    pub(crate) unlinked: Bitmap,
    /// Some of their links lead to no live element.
    pub(crate) dangling: Bitmap,
    /// They have gone since the judgement.
    pub(crate) gone: Bitmap,
}

/// What a judgement found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Live elements that cannot be reached.
    pub(crate) orphans: u64,
    /// Those of them that have rows.
    pub(crate) orphans_with_rows: u64,
    /// Live elements, the entry point aside, that no live element links to on the ground layer.
    pub(crate) zero_in_degree: u64,
    /// Links of live elements that lead to no live element.
    pub(crate) dangling_edges: u64,
    /// Faults that did not stand at the judgement before.
    pub(crate) doubts: u64,
    /// The layer of the entry point; none when it is missing or deleted.
    pub(crate) entry: Option<EntryLayer>,
    /// The highest layer a live element is on.
    pub(crate) highest: Option<u8>,
    /// Elements with rows drawn at random from those that cannot be reached, and from the others.
    pub(crate) unreachable: Vec<Tid>,
    pub(crate) reached: Vec<Tid>,
}

/// The highest layer of the entry point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryLayer {
    /// Its number.
    pub(crate) level: u8,
    /// Live elements on it.
    pub(crate) live: u64,
    /// Those of them that can be reached on it.
    pub(crate) reached: u64,
}

impl Verdict {
    /// Whether there is anything that a page read at another moment could explain.
    pub(crate) fn is_suspicious(&self) -> bool {
        self.orphans + self.zero_in_degree + self.dangling_edges + self.doubts > 0
            || self.entry.map(|entry| entry.level) != self.highest
    }

    /// Counts elements that cannot be reached or that nothing links to.
    pub(crate) fn count(
        &mut self,
        graph: &Graph,
        entry: Option<usize>,
        now: &Faults,
        before: Option<&Faults>,
    ) {
        let stood = |fault: fn(&Faults) -> &Bitmap, slot| {
            before.is_none_or(|before| fault(before).contains(slot))
        };
        for slot in now
            .missed
            .iter()
            .filter(|&slot| graph.counted.contains(slot))
        {
            let stood = stood(|faults| &faults.missed, slot);
            self.orphans += u64::from(stood);
            self.orphans_with_rows += u64::from(stood && graph.rows.contains(slot));
            self.doubts += u64::from(!stood);
        }
        for slot in now
            .unlinked
            .iter()
            .filter(|&slot| graph.counted.contains(slot) && Some(slot) != entry)
        {
            let stood = stood(|faults| &faults.unlinked, slot);
            self.zero_in_degree += u64::from(stood);
            self.doubts += u64::from(!stood);
        }
    }

    /// Draws elements of either side, so that their values can be compared.
    pub(crate) fn draw(&mut self, graph: &Graph, missed: &Bitmap) {
        if self.orphans_with_rows == 0 {
            return;
        }
        let mut sides = [0, 1].map(|seed| Reservoir::new(COMPARED, seed));
        for slot in graph.live.iter() {
            if graph.counted.contains(slot) && graph.rows.contains(slot) {
                sides[usize::from(missed.contains(slot))].offer(slot);
            }
        }
        let [reached, unreachable] = sides.map(|side| {
            let slots = side.into_items().into_iter();
            slots.filter_map(|slot| graph.slots.tid(slot)).collect()
        });
        self.reached = reached;
        self.unreachable = unreachable;
    }

    /// Notes the entry point, of whose own layer `reached` elements can be reached.
    pub(crate) fn note_entry(&mut self, graph: &Graph, entry: Option<usize>, reached: u64) {
        let level = entry.map(|slot| graph.level(slot));
        let mut live = 0;
        for slot in graph.live.iter() {
            let own = graph.level(slot);
            self.highest = self.highest.max(Some(own));
            live += u64::from(Some(own) >= level);
        }
        self.entry = level.map(|level| EntryLayer {
            level,
            live,
            reached,
        });
    }
}

/// Judges a graph with all its layers, in the light of the judgement before. `entry`: the
/// element every search starts from.
pub(crate) fn judge(
    graph: &Graph,
    entry: Option<Tid>,
    before: Option<&Faults>,
    pulse: &mut Pulse<'_>,
) -> Result<(Verdict, Faults), ReadError> {
    let mut verdict = Verdict::default();
    let (unlinked, dangling) = follow_links(graph, before, &mut verdict, pulse)?;
    let entry = entry.and_then(|tid| graph.find(tid));
    let Reach {
        missed,
        on_entry_layer,
        ..
    } = reach(graph, entry, pulse)?;
    let gone = Bitmap::default();
    let faults = Faults {
        missed,
        unlinked,
        dangling,
        gone,
    };
    verdict.count(graph, entry, &faults, before);
    verdict.note_entry(graph, entry, on_entry_layer);
    Ok((verdict, faults))
}

/// Follows every link of every element and counts those that lead nowhere. Returns the slots
/// that none leads to on the ground layer, and those whose links lead nowhere.
fn follow_links(
    graph: &Graph,
    before: Option<&Faults>,
    verdict: &mut Verdict,
    pulse: &mut Pulse<'_>,
) -> Result<(Bitmap, Bitmap), ReadError> {
    let mut unlinked = graph.live.clone();
    let mut dangling = Bitmap::new(graph.slots.count());
    for slot in graph.live.iter() {
        pulse.beat()?;
        for (layer, links) in graph.layers(slot) {
            for (nth, &link) in links.all.iter().enumerate() {
                if let Some(target) = graph.live_slot(link) {
                    if layer == 0 {
                        unlinked.remove(target);
                    }
                    continue;
                }
                dangling.insert(slot);
                let target = graph.slots.of(link);
                let just_gone =
                    |before: &Faults| target.is_some_and(|target| before.gone.contains(target));
                let stood = nth < links.settled().len() && !before.is_some_and(just_gone);
                verdict.doubts += u64::from(!stood);
                verdict.dangling_edges += u64::from(stood && graph.counted.contains(slot));
            }
        }
    }
    Ok((unlinked, dangling))
}
