//! Neighbour tuples and the links in them.

use std::collections::HashSet;

use super::super::layout::{Element, Links, Meta, Tid};
use super::super::scan::{Visitor, scan};
use super::places::{Place, Places};
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::examination::{Suspect, Suspects, number};
use crate::vector_index::finding::Gravity;
use crate::vector_index::{PAGE_SIZE, PageSource, ReadError};

/// Checks every neighbour tuple and every link.
///
/// `first`: what is at the places of the first run of blocks.
pub(super) fn check(
    source: &mut dyn PageSource,
    meta: &Meta,
    first: Places,
    memory_limit: usize,
    suspects: &mut Suspects,
) -> Result<(), ReadError> {
    let blocks = first.end;
    let mut places = first;
    // An index without pages for elements has no links to look at.
    while places.blocks.start < blocks {
        let next = places.blocks.end;
        let mut visit = Visit {
            claimed: Bitmap::new(places.count()),
            places: &places,
            // What concerns no other place is looked at once.
            is_first: places.blocks.start == 1,
            with_rows: 0,
            has_rows: HashSet::new(),
            lonely: Vec::new(),
            layer: Vec::new(),
            suspects,
        };
        let mut readable = Readable(source);
        scan(&mut readable, meta.m, &mut (1..blocks), &mut visit)?;
        visit.conclude();
        if next >= blocks {
            break;
        }
        places = Places::read(source, meta.m, next, blocks, memory_limit)?;
    }
    Ok(())
}

/// The pages that can be read.
struct Readable<'a>(&'a mut dyn PageSource);

impl PageSource for Readable<'_> {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        self.0.block_count()
    }

    fn read(
        &mut self,
        blocks: &mut dyn Iterator<Item = u32>,
        sink: &mut dyn FnMut(u32, &[u8; PAGE_SIZE]),
    ) -> Result<(), ReadError> {
        let mut blocks = blocks.peekable();
        loop {
            match self.0.read(&mut blocks, sink) {
                Err(ReadError::Unreadable { .. }) if blocks.peek().is_some() => {}
                Err(ReadError::Unreadable { .. }) => return Ok(()),
                read => return read,
            }
        }
    }
}

fn no_tuple(at: Tid, element: &Element<'_>, suspects: &mut Suspects) {
    let tuple = element.neighbor_tid();
    let suspect = Suspect::tuple(Gravity::Error, "neighbor_tuple", at);
    suspects.add(suspect.with(number(tuple), 0), || {
        let Tid { block, offset } = tuple;
        format!("the element's neighbour tuple ({block},{offset}) is none")
    });
}

fn check_tuple(
    at: Tid,
    element: &Element<'_>,
    places: &Places,
    claimed: &mut Bitmap,
    suspects: &mut Suspects,
) {
    let tuple = element.neighbor_tid();
    let Tid { block, offset } = tuple;
    let Place::Neighbors { version, level } = places.at(tuple) else {
        return no_tuple(at, element, suspects);
    };
    if places
        .number(tuple)
        .is_some_and(|tuple| !claimed.insert(tuple))
    {
        let suspect = Suspect::tuple(Gravity::Error, "neighbor_tuple_shared", at);
        suspects.add(suspect.with(number(tuple), 0), || {
            format!("the neighbour tuple ({block},{offset}) is another element's, too")
        });
    }
    let detail = u64::from(element.version()) << 8 | u64::from(version);
    if version != element.version() {
        let suspect = Suspect::tuple(Gravity::Warning, "neighbor_version", at);
        suspects.add(suspect.with(number(tuple), detail), || {
            format!(
                "the element is of version {}, its neighbour tuple ({block},{offset}) of {version}",
                element.version()
            )
        });
    }
    if level != Some(element.level()) {
        let suspect = Suspect::tuple(Gravity::Warning, "neighbor_count", at);
        suspects.add(suspect.with(number(tuple), detail), || {
            format!(
                "the neighbour tuple ({block},{offset}) has not the slots of an element of level {}",
                element.level()
            )
        });
    }
}

/// Looks at neighbour tuples and links.
struct Visit<'a> {
    /// Neighbour tuples that are an element's.
    claimed: Bitmap,
    places: &'a Places,
    is_first: bool,
    /// Elements with rows, and those of them that wait for their links.
    with_rows: u64,
    has_rows: HashSet<Tid>,
    /// Elements with rows and without links on the ground layer.
    lonely: Vec<Tid>,
    layer: Vec<Tid>,
    suspects: &'a mut Suspects,
}

/// Elements without links that are remembered; there is one at most in a sound index.
const MAX_LONELY: usize = 10_000;

impl Visitor for Visit<'_> {
    fn element(&mut self, tid: Tid, element: &Element<'_>) {
        let tuple = element.neighbor_tid();
        if self.places.blocks.contains(&tuple.block) {
            check_tuple(tid, element, self.places, &mut self.claimed, self.suspects);
        } else if self.is_first && (tuple.block == 0 || tuple.block >= self.places.end) {
            no_tuple(tid, element, self.suspects);
        }
        if !element.deleted() && element.heap_tids().len() > 0 {
            self.with_rows += 1;
            self.has_rows.insert(tid);
        }
    }

    fn links(&mut self, tid: Tid, level: u8, links: Option<Links<'_>>) {
        let has_rows = self.has_rows.remove(&tid);
        let Some(links) = links else {
            return;
        };
        for layer in 0..=level {
            if self.is_first {
                self.check_layer(tid, layer, links);
            }
            for target in links.layer(layer) {
                self.check_link(tid, has_rows, layer, target);
            }
        }
        let is_lonely = has_rows && links.layer(0).len() == 0;
        if is_lonely && self.lonely.len() < MAX_LONELY {
            self.lonely.push(tid);
        }
    }
}

impl Visit<'_> {
    fn check_layer(&mut self, at: Tid, layer: u8, links: Links<'_>) {
        if links.has_hole(layer) {
            let suspect = Suspect::tuple(Gravity::Warning, "neighbor_hole", at);
            self.suspects.add(suspect.with(u64::from(layer), 0), || {
                format!("links of layer {layer} stand after a gap, where nothing reads them")
            });
        }
        self.layer.clear();
        self.layer.extend(links.layer(layer));
        self.layer.sort_unstable();
        let repeated: Vec<Tid> = self
            .layer
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect();
        for target in repeated {
            self.say(
                Gravity::Notice,
                "edge_repeated",
                at,
                layer,
                target,
                0,
                "there twice",
            );
        }
    }

    fn check_link(&mut self, at: Tid, has_rows: bool, layer: u8, target: Tid) {
        let is_ours = self.places.blocks.contains(&target.block);
        // A link past the end is looked at with the first places.
        let is_past = self.is_first && (target.block == 0 || target.block >= self.places.end);
        if !is_ours && !is_past {
            return;
        }
        let (gravity, check, detail, what) = match self.places.at(target) {
            _ if target == at => (Gravity::Warning, "edge_to_itself", 0, "to itself"),
            Place::Nothing => (Gravity::Error, "edge_to_nothing", 0, "to no tuple"),
            Place::Neighbors { .. } => (
                Gravity::Error,
                "edge_to_neighbor_tuple",
                0,
                "to a neighbour tuple",
            ),
            Place::Deleted { version } if has_rows => (
                Gravity::Error,
                "edge_to_deleted",
                u64::from(version),
                "to a deleted element",
            ),
            Place::Live { level } if level < layer => (
                Gravity::Warning,
                "edge_above_level",
                u64::from(level),
                "to an element that is not on the layer",
            ),
            Place::Live { .. } | Place::Deleted { .. } => return,
        };
        self.say(gravity, check, at, layer, target, detail, what);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one line for each kind of bad link"
    )]
    fn say(
        &mut self,
        gravity: Gravity,
        check: &'static str,
        at: Tid,
        layer: u8,
        target: Tid,
        detail: u64,
        what: &str,
    ) {
        let detail = detail << 8 | u64::from(layer);
        let suspect = Suspect::tuple(gravity, check, at).with(number(target), detail);
        self.suspects.add(suspect, || {
            let Tid { block, offset } = target;
            format!("the link to ({block},{offset}) on layer {layer} is {what}")
        });
    }

    /// Says which elements are alone although there are others.
    fn conclude(self) {
        if !self.is_first || self.with_rows < 2 {
            return;
        }
        for at in self.lonely {
            let suspect = Suspect::tuple(Gravity::Warning, "no_links", at);
            self.suspects.add(suspect, || {
                "the element has no links on the ground layer although there are others".into()
            });
        }
    }
}
