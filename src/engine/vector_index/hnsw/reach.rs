//! What a search can come to, layer by layer.
//!
//! An element reached on a layer is a start for the layer below, and only live elements whose
//! level is that of the layer or higher are passed through on it. It is a breadth-first search
//! without the distances that guide pgvector's: what it does not reach, no search does.

use super::graph::Graph;
use crate::vector_index::agenda::Agenda;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::{PageSource, ReadError};

/// Lets the source end a long computation.
pub(crate) struct Pulse<'a> {
    source: &'a mut dyn PageSource,
    steps: u32,
}

impl<'a> Pulse<'a> {
    /// Elements between two questions: some milliseconds' work.
    const STEPS: u32 = 1 << 14;

    /// A pulse that asks this source.
    pub(crate) fn new(source: &'a mut dyn PageSource) -> Self {
        Self { source, steps: 0 }
    }

    /// To be called for each element.
    pub(crate) fn beat(&mut self) -> Result<(), ReadError> {
        self.steps += 1;
        if self.steps == Self::STEPS {
            self.steps = 0;
            self.source.block_count()?;
        }
        Ok(())
    }
}

/// How far a search comes.
#[derive(Debug)]
pub(crate) struct Reach {
    /// The slots of live elements that it does not come to.
    pub(crate) missed: Bitmap,
    /// How many it comes to on the entry point's own layer, if that is kept.
    pub(crate) on_entry_layer: u64,
    /// The slots it comes to above the ground layer, and the entry point's.
    pub(crate) starts: Vec<u32>,
}

/// Follows the links that the graph keeps from the element in slot `entry`, if there is one.
pub(crate) fn reach(
    graph: &Graph,
    entry: Option<usize>,
    pulse: &mut Pulse<'_>,
) -> Result<Reach, ReadError> {
    let mut reach = Reach {
        missed: graph.live.clone(),
        on_entry_layer: 0,
        starts: Vec::with_capacity(graph.above_ground() + 1),
    };
    let Some(entry) = entry.filter(|&entry| reach.missed.remove(entry)) else {
        return Ok(reach);
    };
    reach.starts.push(entry as u32);
    let top = graph.level(entry);
    let mut count = 1;
    let mut agenda = Agenda::new(graph.slots.count());
    for layer in (graph.floor()..=top).rev() {
        reach
            .starts
            .iter()
            .for_each(|&start| agenda.add(start as usize));
        while let Some(slot) = agenda.next() {
            pulse.beat()?;
            for &link in graph.links(slot, layer) {
                let target = graph
                    .slots
                    .of(link)
                    .filter(|&target| reach.missed.contains(target));
                let Some(target) =
                    target.filter(|&target| layer == 0 || graph.level(target) >= layer)
                else {
                    continue;
                };
                reach.missed.remove(target);
                agenda.add(target);
                count += 1;
                if layer > 0 {
                    reach.starts.push(target as u32);
                }
            }
        }
        if layer == top {
            reach.on_entry_layer = count;
        }
    }
    Ok(reach)
}
