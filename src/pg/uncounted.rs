//! Reading that PostgreSQL's statistics do not count: people tell from them whether an index is
//! used and how a table is read, and what we do says nothing of that.

use pgrx::pg_sys;

/// A relation whose statistics stand still in this process until this goes out of scope.
pub struct Uncounted {
    relation: pg_sys::Relation,
    enabled: bool,
    info: *mut pg_sys::PgStat_TableStatus,
}

impl Uncounted {
    /// Stops the counting.
    ///
    /// # Safety
    /// The relation is open until this goes out of scope.
    pub unsafe fn new(relation: pg_sys::Relation) -> Self {
        // SAFETY: as the caller promises; without either of the two nothing is counted.
        unsafe {
            let was = Self {
                relation,
                enabled: (*relation).pgstat_enabled,
                info: (*relation).pgstat_info,
            };
            (*relation).pgstat_enabled = false;
            (*relation).pgstat_info = std::ptr::null_mut();
            was
        }
    }
}

impl Drop for Uncounted {
    fn drop(&mut self) {
        // Calls nothing of PostgreSQL's, so it may run while an error unwinds.
        // SAFETY: the relation is still open: an error unwinds before its transaction aborts.
        unsafe {
            (*self.relation).pgstat_enabled = self.enabled;
            (*self.relation).pgstat_info = self.info;
        }
    }
}
