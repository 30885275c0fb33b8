//! What is known of single elements: by slot for all of them, or in a sorted list for few.

use super::lists::NO_LIST;
use crate::vector_index::chunked::Chunked;

/// An element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// Address of its links.
    pub(crate) list: u32,
    /// Its highest layer.
    pub(crate) level: u8,
    /// Tells the uses of its slot apart.
    pub(crate) version: u8,
}

const _: () = assert!(size_of::<Node>() == 8);

impl Node {
    /// An element without links.
    pub(crate) fn new(level: u8, version: u8) -> Self {
        Self {
            list: NO_LIST,
            level,
            version,
        }
    }
}

/// Elements by slot.
#[derive(Debug)]
pub(crate) enum Nodes {
    /// One for every slot, the empty ones too.
    All(Chunked<Node>),
    /// Only those on more than the ground layer, ascending.
    Upper(Chunked<u32>, Chunked<Node>),
}

impl Nodes {
    /// Puts an element into a slot. Into the list of few goes one that is above the ground and
    /// comes after the last, or takes the place of another; any else is left out.
    pub(crate) fn put(&mut self, slot: usize, node: Node) {
        match self {
            Self::All(nodes) => {
                while nodes.len() <= slot {
                    nodes.push(Node::new(0, 0));
                }
                if let Some(place) = nodes.get_mut(slot) {
                    *place = node;
                }
            }
            Self::Upper(slots, nodes) => {
                if let Some(place) = position(slots, slot).and_then(|i| nodes.get_mut(i)) {
                    *place = node;
                    return;
                }
                let last = slots.len().checked_sub(1).and_then(|last| slots.get(last));
                if node.level > 0 && last.is_none_or(|&last| slot > last as usize) {
                    slots.push(slot as u32);
                    nodes.push(node);
                }
            }
        }
    }

    /// The element in a slot.
    #[inline]
    pub(crate) fn get(&self, slot: usize) -> Option<&Node> {
        match self {
            Self::All(nodes) => nodes.get(slot),
            Self::Upper(slots, nodes) => nodes.get(position(slots, slot)?),
        }
    }

    /// The element in a slot.
    #[inline]
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Node> {
        match self {
            Self::All(nodes) => nodes.get_mut(slot),
            Self::Upper(slots, nodes) => nodes.get_mut(position(slots, slot)?),
        }
    }
}

/// Where a slot is in an ascending list.
fn position(slots: &Chunked<u32>, slot: usize) -> Option<usize> {
    let (mut low, mut high) = (0, slots.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match (*slots.get(middle)? as usize).cmp(&slot) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}
