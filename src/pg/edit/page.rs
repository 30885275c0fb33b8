//! One page changed: compared and written under its exclusive lock, and logged.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::vector_index::PAGE_SIZE;
use ruvector_dag_healing_engine::vector_index::edit::PageEdit;

use super::hold::Hold;
use super::update_lock::UpdateLock;

/// Makes edits of one page, each if the page is as it was judged; tells which were made. One
/// record for all of them.
pub fn write<E: PageEdit>(hold: &Hold, _lock: &UpdateLock, of: E::Of, edits: &[&E]) -> Vec<bool> {
    let index = hold.index();
    let block = edits.first().map_or(u32::MAX, |edit| edit.block());
    if block >= index.blocks() || edits.iter().any(|edit| edit.block() != block) {
        return vec![false; edits.len()];
    }
    // SAFETY: the relation is open and has the block. The copy that is changed is a whole page;
    // the record is made of how it differs, and the page is written with it or not at all. Nothing
    // in between looks anything up or waits. An error aborts the transaction, which lets go of the
    // buffer.
    unsafe {
        let relation = index.relation();
        let buffer = pg_sys::ReadBuffer(relation, block);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
        let record = pg_sys::GenericXLogStart(relation);
        let page = pg_sys::GenericXLogRegisterBuffer(record, buffer, 0);
        let page = &mut *page.cast::<[u8; PAGE_SIZE]>();
        let made: Vec<bool> = edits.iter().map(|edit| edit.apply(of, page)).collect();
        if made.contains(&true) {
            pg_sys::GenericXLogFinish(record);
        } else {
            pg_sys::GenericXLogAbort(record);
        }
        pg_sys::UnlockReleaseBuffer(buffer);
        made
    }
}
