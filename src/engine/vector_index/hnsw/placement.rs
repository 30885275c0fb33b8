//! How many pages a fresh build of an index would take.
//!
//! Follows pgvector's `CreateGraphPages` (`src/hnswbuild.c`) tuple by tuple. Knows nothing of
//! what is on the pages there are.

use super::layout::{LINKS, VALUE};
use crate::vector_index::PAGE_SIZE;
use crate::vector_index::page::{LINE_POINTER, PAGE_HEADER, SPECIAL, max_align};

/// Bytes of a page for tuples and their line pointers.
const ROOM: usize = PAGE_SIZE - PAGE_HEADER - SPECIAL;
/// Bytes of the largest tuple.
const MAX_TUPLE: usize = ROOM - LINE_POINTER;

/// Elements laid onto pages one after another.
#[derive(Debug)]
pub(crate) struct Placement {
    m: u16,
    pages: u64,
    room: usize,
}

impl Placement {
    /// An index without elements: the metapage and the first element page.
    pub(crate) fn new(m: u16) -> Self {
        Self {
            m,
            pages: 2,
            room: ROOM,
        }
    }

    /// Lays down an element of `level` whose value has `value_size` bytes, and its links.
    pub(crate) fn add(&mut self, value_size: usize, level: u8) {
        let element = max_align(VALUE + value_size);
        let links = max_align(LINKS + 6 * (usize::from(level) + 2) * usize::from(self.m));
        let both = element + links + LINE_POINTER;
        if self.free() < element || (both <= MAX_TUPLE && self.free() < both) {
            self.next_page();
        }
        self.put(element);
        if self.free() < links {
            self.next_page();
        }
        self.put(links);
    }

    /// Pages so far, the metapage among them.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// What `PageGetFreeSpace` returns: room after the line pointer a tuple would need.
    fn free(&self) -> usize {
        self.room.saturating_sub(LINE_POINTER)
    }

    fn put(&mut self, tuple: usize) {
        self.room = self.room.saturating_sub(tuple + LINE_POINTER);
    }

    fn next_page(&mut self) {
        self.pages += 1;
        self.room = ROOM;
    }
}
