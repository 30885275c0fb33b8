//! One page changed, or two at once: compared and written under their exclusive locks, and logged.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::vector_index::PAGE_SIZE;
use ruvector_dag_healing_engine::vector_index::edit::PageEdit;

use super::hold::Hold;
use super::page_lock::PageLock;

/// Makes edits of the same page, or the same two, each if they are as it was judged; tells which were
/// made. One record for all of them.
pub fn write<E: PageEdit>(hold: &Hold, _lock: &PageLock, of: E::Of, edits: &[&E]) -> Vec<bool> {
    let index = hold.index();
    let blocks_of = |edit: &&E| (edit.block(), edit.other_block());
    let Some((block, other)) = edits.first().map(blocks_of) else {
        return Vec::new();
    };
    let is_there = |block: u32| block < index.blocks();
    let are_alike = edits.iter().all(|edit| blocks_of(edit) == (block, other));
    if !is_there(block) || !other.is_none_or(is_there) || other == Some(block) || !are_alike {
        return vec![false; edits.len()];
    }
    // SAFETY: the relation is open and has the blocks. The copies that are changed are whole pages;
    // the record is made of how they differ, and the pages are written with it or not at all.
    // Nothing in between looks anything up or waits, but for the buffers, which are locked in the
    // order in which they stand. An error aborts the transaction, which lets go of them.
    unsafe {
        let relation = index.relation();
        let mut blocks: Vec<u32> = std::iter::once(block).chain(other).collect();
        blocks.sort_unstable();
        let lock = |&block: &u32| {
            let buffer = pg_sys::ReadBuffer(relation, block);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
            buffer
        };
        let buffers: Vec<pg_sys::Buffer> = blocks.iter().map(lock).collect();
        let record = pg_sys::GenericXLogStart(relation);
        let copy = |buffer: &pg_sys::Buffer| {
            let page = pg_sys::GenericXLogRegisterBuffer(record, *buffer, 0);
            &mut *page.cast::<[u8; PAGE_SIZE]>()
        };
        let mut pages: Vec<&mut [u8; PAGE_SIZE]> = buffers.iter().map(copy).collect();
        if blocks[0] != block {
            pages.reverse();
        }
        let make = |edit: &&E| match &mut pages[..] {
            [page] => edit.apply(of, page),
            [page, other] => edit.apply_across(of, page, other),
            _ => false,
        };
        let made: Vec<bool> = edits.iter().map(make).collect();
        if made.contains(&true) {
            pg_sys::GenericXLogFinish(record);
        } else {
            pg_sys::GenericXLogAbort(record);
        }
        for buffer in buffers {
            pg_sys::UnlockReleaseBuffer(buffer);
        }
        made
    }
}
