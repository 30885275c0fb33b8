//! Metapage, page headers, line pointers, and the chain of pages.

use crate::vector_index::PAGE_SIZE;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::examination::{Suspect, Suspects, check_page};
use crate::vector_index::finding::Gravity;
use crate::vector_index::hnsw::layout::{Item, LINKS, METAPAGE_END, Meta, PAGE_ID, Page, Tid};
use crate::vector_index::page::{Pointed, RawPage};
use crate::vector_index::shape::IndexShape;

/// Checks the metapage and returns what it says, if it says anything.
pub(super) fn meta(
    bytes: &[u8; PAGE_SIZE],
    shape: &IndexShape,
    suspects: &mut Suspects,
) -> Option<Meta> {
    let page = Page::new(bytes);
    let wrong = || Suspect::page(Gravity::Error, "metapage", 0);
    let meta = match Meta::decode(&page) {
        Ok(meta) => meta,
        Err(reason) => {
            suspects.add(wrong(), || reason);
            return None;
        }
    };
    if page.raw().lower() != METAPAGE_END || !page.raw().has_sane_header() {
        let lower = page.raw().lower();
        suspects.add(wrong(), || {
            format!("its contents end at byte {lower}, not {METAPAGE_END}")
        });
    }
    if let Some(wanted) = shape.dimensions.filter(|&wanted| wanted != meta.dimensions) {
        let suspect = Suspect::page(Gravity::Error, "dimensions", 0);
        suspects.add(suspect.with(u64::from(meta.dimensions), 0), || {
            format!(
                "the metapage has {} dimensions, the column {wanted}",
                meta.dimensions
            )
        });
    }
    if let Some(wanted) = shape.option.filter(|&wanted| wanted != u32::from(meta.m)) {
        let suspect = Suspect::page(Gravity::Warning, "pending_rebuild", 0);
        suspects.add(suspect, || {
            format!(
                "the index was built with m = {} and its options now say {wanted}; only a rebuild changes it",
                meta.m
            )
        });
    }
    Some(meta)
}

/// What is known of the pages that have gone by.
pub(super) struct Pages {
    blocks: u32,
    /// The block that the chain must come to next, while the chain is whole.
    chain: Option<u32>,
    chained: Bitmap,
    used: Bitmap,
}

impl Pages {
    /// Before the first of so many blocks.
    pub(super) fn new(blocks: u32) -> Self {
        Self {
            blocks,
            chain: Some(1),
            chained: Bitmap::new(blocks as usize),
            used: Bitmap::new(blocks as usize),
        }
    }

    /// Checks a page; they come in ascending order.
    pub(super) fn see(&mut self, block: u32, bytes: &[u8; PAGE_SIZE], suspects: &mut Suspects) {
        let page = RawPage::new(bytes);
        if check_page(block, &page, PAGE_ID, suspects) {
            self.used.insert(block as usize);
            check_items(block, bytes, suspects);
        }
        if self.chain != Some(block) {
            return;
        }
        self.chained.insert(block as usize);
        let is_sound = self.used.contains(block as usize);
        self.chain = page.next_block().filter(|_| is_sound);
        let leads_astray = |&next: &u32| next <= block || next >= self.blocks;
        if let Some(next) = self.chain.filter(leads_astray) {
            self.chain = None;
            // Past the end there may be a page that was appended since the end was seen; it is
            // not past the end of the other examination.
            let suspect = Suspect::page(Gravity::Error, "page_chain", block);
            suspects.add(suspect.with(u64::from(next), 0), || match next <= block {
                true => format!("the chain of pages goes back to block {next}"),
                false => format!("the chain of pages goes on to block {next}, past the end"),
            });
        }
    }

    /// Says what is wrong with them together.
    pub(super) fn conclude(self, meta: &Meta, suspects: &mut Suspects) {
        let (blocks, chained) = (self.blocks, self.chained);
        if let Some(next) = self.chain.filter(|&next| next < blocks) {
            // Skipped: it comes before a block that could not be read.
            let suspect = Suspect::page(Gravity::Error, "page_chain", next);
            suspects.add(suspect, || {
                format!("the chain of pages cannot be followed past block {next}")
            });
        }
        for block in self.used.iter().filter(|&block| !chained.contains(block)) {
            let suspect = Suspect::page(Gravity::Warning, "page_unchained", block as u32);
            suspects.add(suspect, || {
                "no chain leads to the page, so no vacuum comes to it".into()
            });
        }
        let insert = meta.insert_page;
        if !chained.contains(insert as usize) && blocks > 1 {
            let suspect = Suspect::page(Gravity::Warning, "insert_page", 0);
            suspects.add(suspect.with(u64::from(insert), 0), || {
                format!("inserts begin at block {insert}, which is on no chain")
            });
        }
    }
}

fn check_items(block: u32, bytes: &[u8; PAGE_SIZE], suspects: &mut Suspects) {
    let page = Page::new(bytes);
    let raw = page.raw();
    for offset in 1..=raw.line_pointers() {
        let tid = Tid { block, offset };
        // A neighbour tuple with a count of links that it has no room for is `neighbor_count`.
        let is_cut = |tuple: &[u8]| tuple.first() == Some(&2) && tuple.len() >= LINKS;
        let cut = matches!(raw.pointed(offset), Some(Pointed::Tuple(tuple)) if is_cut(tuple));
        let is_tuple = matches!(raw.pointed(offset), Some(Pointed::Tuple(_)));
        if is_tuple && matches!(page.item(offset), Some(Item::Malformed) | None) && !cut {
            let suspect = Suspect::tuple(Gravity::Error, "item", tid);
            suspects.add(suspect, || {
                "the tuple is neither element nor neighbour tuple".into()
            });
        }
    }
}
