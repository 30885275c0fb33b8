//! An element and the slots of its links as they stand on their pages, for an edit to be judged
//! by.

use super::edit::Judged;
use crate::vector_index::hnsw::layout::{HEAP_TIDS, Item, LINKS, Page};
use crate::vector_index::hnsw::read_page;
use crate::vector_index::page::{Pointed, TID, Tid, tid, u16_at};
use crate::vector_index::{HeapTid, PageSource, ReadError};

const _: () = assert!(HEAP_TIDS == LINKS);

/// An element as it stands.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) judged: Judged,
    /// Where its links are.
    pub(super) tuple: Tid,
    /// One of its rows.
    pub(super) row: Option<HeapTid>,
    /// Its slots, layer by layer from the top.
    slots: Vec<Option<Tid>>,
    m: usize,
}

impl Seen {
    /// Reads a live element and its links; none where there are none that pgvector would read.
    pub(super) fn at(
        source: &mut dyn PageSource,
        at: Tid,
        m: u16,
    ) -> Result<Option<Self>, ReadError> {
        let mut found: Option<Self> = None;
        read_page(source, at.block, &mut |page| {
            let Some(Item::Element(element)) = page.item(at.offset) else {
                return;
            };
            if element.deleted() {
                return;
            }
            let mut seen = Self {
                judged: Judged {
                    at,
                    level: element.level(),
                    version: element.version(),
                },
                tuple: element.neighbor_tid(),
                row: element.heap_tids().next(),
                slots: Vec::new(),
                m: usize::from(m),
            };
            if seen.tuple.block == at.block {
                seen.take_slots(page);
            }
            found = Some(seen);
        })?;
        let Some(mut seen) = found else {
            return Ok(None);
        };
        if seen.tuple.block != at.block {
            read_page(source, seen.tuple.block, &mut |page| seen.take_slots(page))?;
        }
        Ok(Some(seen).filter(|seen| !seen.slots.is_empty()))
    }

    fn take_slots(&mut self, page: &Page<'_>) {
        let Some(Pointed::Tuple(tuple)) = page.raw().pointed(self.tuple.offset) else {
            return;
        };
        let count = (usize::from(self.judged.level) + 2) * self.m;
        if tuple.len() >= LINKS + count * TID
            && tuple[0] == 2
            && tuple[1] == self.judged.version
            && usize::from(u16_at(tuple, 2)) == count
        {
            let slot = |bytes| Some(tid(bytes)).filter(|tid| tid.offset != 0);
            let bytes = &tuple[LINKS..LINKS + count * TID];
            self.slots = bytes.chunks_exact(TID).map(slot).collect();
        }
    }

    /// The slots of a layer.
    pub(super) fn layer(&self, layer: u8) -> &[Option<Tid>] {
        let start = usize::from(self.judged.level.saturating_sub(layer)) * self.m;
        let count = if layer == 0 { 2 * self.m } else { self.m };
        self.slots.get(start..start + count).unwrap_or_default()
    }
}
