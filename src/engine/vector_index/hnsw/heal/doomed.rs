//! Elements that the next vacuum deletes: none of their rows can be seen by any transaction.
//!
//! Cost: the index is read once, and each page of the table that an element has a row on. Memory:
//! [`BYTES_PER_ROW`].

use super::survey::Survey;
use crate::vector_index::bitmap::Bitmap;
use crate::vector_index::hnsw::layout::Page;
use crate::vector_index::{HeapTid, PageSource, ReadError};

/// Bytes of memory that finding them takes for a row.
pub const BYTES_PER_ROW: u64 = 2 * size_of::<(HeapTid, u32)>() as u64;

/// Rows asked about at a time.
const ASKED_AT_ONCE: usize = 1 << 16;

/// The table of an index, asked what is gone from it.
pub trait Graveyard {
    /// Tells of each row, in the order of their places, whether no transaction can see it any
    /// more, nor what it was updated to on the same page.
    fn are_gone(&mut self, rows: &[HeapTid], gone: &mut Vec<bool>) -> Result<(), ReadError>;
}

/// What is to be deleted, and of how many rows each element was.
pub(super) struct Doomed {
    pub(super) elements: Bitmap,
    pub(super) rows: Vec<u8>,
}

impl Doomed {
    /// Finds them, elements that have no rows among them, in at most `room` bytes; and how many of
    /// these are left once it is done. None where they are too few.
    pub(super) fn find(
        survey: &Survey,
        source: &mut dyn PageSource,
        table: &mut dyn Graveyard,
        room: usize,
    ) -> Result<Option<(Self, usize)>, ReadError> {
        let graph = &survey.graph;
        let count = graph.slots.count();
        let asked = ASKED_AT_ONCE * (size_of::<HeapTid>() + size_of::<bool>());
        let Some(room) = room.checked_sub(Bitmap::bytes_for(count) + count + asked) else {
            return Ok(None);
        };
        let most = room / BYTES_PER_ROW as usize;
        let mut doomed = Self {
            elements: Bitmap::new(count),
            rows: vec![0; count],
        };
        let mut rows: Vec<(HeapTid, u32)> = Vec::new();
        let blocks = source.block_count()?;
        source.read(&mut (1..blocks), &mut |block, bytes| {
            for (at, element) in Page::new(bytes).elements(block) {
                let slot = graph.slot_of(at, &element);
                if let Some(slot) = slot.filter(|_| rows.len() <= most) {
                    rows.extend(element.heap_tids().map(|row| (row, slot as u32)));
                    doomed.rows[slot] = element.heap_tids().len() as u8;
                    doomed.elements.insert(slot);
                }
            }
        })?;
        if rows.len() > most {
            return Ok(None);
        }
        rows.sort_unstable();
        let (mut asked, mut gone) = (Vec::new(), Vec::new());
        for rows in rows.chunks(ASKED_AT_ONCE) {
            asked.clear();
            asked.extend(rows.iter().map(|(row, _)| *row));
            gone.clear();
            table.are_gone(&asked, &mut gone)?;
            for (nth, (_, slot)) in rows.iter().enumerate() {
                if gone.get(nth) != Some(&true) {
                    doomed.elements.remove(*slot as usize);
                }
            }
        }
        Ok(Some((doomed, room)))
    }
}
