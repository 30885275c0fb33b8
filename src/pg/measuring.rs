//! Searches of an index in the snapshot in which its table is read, for measuring recall.

use std::time::Instant;

use pgrx::pg_sys;
use ruvector_dag_healing_engine::recall::measure::{Answer, Searching};
use ruvector_dag_healing_engine::vector_index::ReadError;

use super::compat;
use super::guc::{self, Nested};
use super::heap::Table;
use super::lifecycle;
use super::search::Searcher;

/// The setting that says how much of an index a search looks at, and its largest value.
pub fn effort_setting(access_method: &str) -> (&'static str, u32) {
    match access_method {
        "hnsw" => ("hnsw.ef_search", 1_000),
        _ => ("ivfflat.probes", 32_768),
    }
}

/// An index open for searching, at the settings in force unless others are set.
pub struct Searches {
    searcher: Searcher,
    memory: pg_sys::MemoryContext,
    setting: &'static str,
    /// What the setting was set to here.
    nested: Option<Nested>,
}

impl Searches {
    /// Opens an index of an open table. Fails where it has no distance operator.
    pub fn open(table: &Table, index: u32, access_method: &str) -> Result<Self, ReadError> {
        let broken = |error: ruvector_dag_healing_engine::ports::PortError| ReadError::Unreadable {
            block: 0,
            reason: error.to_string(),
        };
        // SAFETY: inside the transaction of the table, which stays open as long.
        let searcher = unsafe { Searcher::open(table.relation(), index) }.map_err(broken)?;
        Ok(Self {
            searcher,
            // SAFETY: deleted by `close`, or with the transaction.
            memory: unsafe { compat::new_memory_context(c"searches") },
            setting: effort_setting(access_method).0,
            nested: None,
        })
    }

    /// Closes what was opened.
    pub fn close(mut self) {
        self.nested.take().map(Nested::end);
        // SAFETY: opened by `open`, in the same transaction.
        unsafe {
            pg_sys::MemoryContextDelete(self.memory);
            self.searcher.close();
        }
    }
}

impl Searching for Searches {
    fn effort(&self) -> u32 {
        guc::number(self.setting)
    }

    fn set_effort(&mut self, effort: u32) {
        self.nested.take().map(Nested::end);
        self.nested = Some(Nested::set(self.setting, &effort.to_string()));
    }

    fn search(&mut self, query: &[u8], k: usize) -> Result<Answer, ReadError> {
        lifecycle::interrupts();
        let mut rows = Vec::with_capacity(k);
        // SAFETY: the context is switched back and emptied; the query is of the indexed type, as
        // what the table's rows gave; the searcher's index and snapshot are open.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.memory);
            let datum = compat::varlena(query);
            let buffers = compat::buffers_touched();
            let started = Instant::now();
            self.searcher
                .nearest(datum, k, &mut |_, row| rows.push(row));
            let ms = started.elapsed().as_secs_f64() * 1000.0;
            let buffers = compat::buffers_touched() - buffers;
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.memory);
            Ok(Answer { rows, ms, buffers })
        }
    }
}
