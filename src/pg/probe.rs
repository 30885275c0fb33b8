//! Rows of a table searched for in two of its indexes.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::verification::probe::{Found, Hit, Probe};

use super::compat;
use super::guc::Nested;
use super::privilege::as_table_owner;
use super::search::Searcher;

/// An index to be searched, at a setting where that is not the one in force.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// The index.
    pub index: u32,
    /// The setting and its value.
    pub setting: Option<(&'static str, u32)>,
}

impl Side {
    /// An index at the settings in force.
    pub fn of(index: u32) -> Self {
        Self {
            index,
            setting: None,
        }
    }
}

/// Searches for each of `rows` on the side in place (where it can be searched) and on that of the
/// replacement, `k` neighbours each. Rows that are gone are left out. Inside a transaction with
/// an active snapshot; the indexes' functions run as the table's owner.
pub fn compare(
    table: u32,
    in_place: Option<Side>,
    replacement: Side,
    rows: &[HeapTid],
    k: usize,
) -> Result<Vec<Probe>, PortError> {
    // SAFETY: everything opened here is closed here, or by the abort of the transaction.
    unsafe {
        let heap = pg_sys::table_open(table.into(), pg_sys::AccessShareLock as i32);
        let probes = as_table_owner(&*heap, || {
            let mut searcher = Searcher::open(heap, replacement.index)?;
            let mut old = match in_place {
                Some(side) => Some((side, Searcher::open(heap, side.index)?)),
                None => None,
            };
            let mut probes = Vec::with_capacity(rows.len());
            for row in rows {
                super::lifecycle::interrupts();
                let Some(query) = searcher.rows.value_of(row) else {
                    continue;
                };
                probes.push(Probe {
                    row: row_number(row),
                    own_distance: searcher.distance(query, query),
                    before: match &mut old {
                        Some((side, old)) => search(*side, old, query, k),
                        None => Found::default(),
                    },
                    after: search(replacement, &mut searcher, query, k),
                });
            }
            if let Some((_, old)) = old {
                old.close();
            }
            searcher.close();
            Ok(probes)
        });
        pg_sys::table_close(heap, pg_sys::AccessShareLock as i32);
        probes
    }
}

fn row_number(row: &HeapTid) -> u64 {
    u64::from(row.block) << 16 | u64::from(row.offset)
}

/// The `k` nearest rows that an index finds, with their distances.
///
/// # Safety
/// Inside a transaction with an active snapshot; `query` is a value of the indexed type.
unsafe fn search(side: Side, searcher: &mut Searcher, query: pg_sys::Datum, k: usize) -> Found {
    let mut hits = Vec::with_capacity(k);
    let nested = side
        .setting
        .map(|(name, value)| Nested::set(name, &value.to_string()));
    let buffers = compat::buffers_touched();
    // SAFETY: as the caller promises; the slot holds the row that was found.
    unsafe {
        searcher.nearest(query, k, &mut |searcher, row| {
            if let Some(value) = searcher.rows.slot_value() {
                hits.push(Hit {
                    row: row_number(&row),
                    distance: searcher.distance(query, value),
                });
            }
        });
    }
    let buffers = compat::buffers_touched() - buffers;
    if let Some(set_before) = nested {
        set_before.end();
    }
    Found { hits, buffers }
}
