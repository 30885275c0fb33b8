//! `ruvector_dag_index_check`: amcheck for vector indexes.

use std::collections::HashMap;

use pgrx::prelude::*;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::finding::{Breach, Gravity};
use ruvector_dag_healing_engine::vector_index::inspection::InspectError;
use ruvector_dag_healing_engine::vector_index::shape::IndexShape;
use ruvector_dag_healing_engine::vector_index::table::Entries;
use ruvector_dag_healing_engine::vector_index::{PageSource, hnsw, ivfflat, table};

use crate::pg::careful::CarefulPages;
use crate::pg::error::{UserError, raise};
use crate::pg::pages::OpenIndex;
use crate::pg::privilege::require_reading;
use crate::pg::{catalog, guc, heap};

/// Rows shown of one check; of more only the number is.
const MAX_ROWS: usize = 1_000;

/// Checks the structure of a vector index and, with `heap`, compares it with its table.
#[pg_extern(sql = "")]
#[allow(clippy::type_complexity)]
fn ruvector_dag_index_check(
    index: pg_sys::Oid,
    heap: bool,
) -> TableIterator<
    'static,
    (
        name!(severity, String),
        name!(check_name, String),
        name!(block, Option<i64>),
        name!(item, Option<i32>),
        name!(message, String),
    ),
> {
    let named = catalog::named(index.to_u32());
    catalog::require_index(&named, &["hnsw", "ivfflat"]);
    require_reading(named.table_oid, &named.table_name);
    let info = catalog::require_info(index.to_u32(), &named);
    let shape = catalog::require_shape(&info);
    let mut rows = Rows::default();
    let pages = || {
        let open = OpenIndex::open(index.to_u32(), false);
        CarefulPages::new(
            open.unwrap_or_else(|| raise(PortError::Gone(format!("index {}", named.name)))),
        )
    };
    let mut source = pages();
    let done = check_structure(&info, &shape, &mut source, &mut |breach| rows.add(breach));
    conclude(done);
    drop(source);
    if heap {
        if !info.valid {
            notice!("{}: not compared with its table: the index is not valid", named.name);
        } else if rows.has_errors() {
            notice!(
                "{}: not compared with its table: its structure is damaged",
                named.name
            );
        } else {
            let mut source = pages();
            let entries = &mut |sink: &mut EntrySink<'_>| list_entries(&info, &shape, &mut source, sink);
            let done = heap::with_table(info.table_oid, info.index_oid, |rows_of_table| {
                let limit = guc::maintenance_work_mem();
                table::compare(entries, rows_of_table, &shape, limit, &mut |b| rows.add(b))
            });
            match done {
                Some(done) => conclude(done),
                None => notice!(
                    "{}: not compared with its table: {} is not of PostgreSQL's own kind",
                    named.name,
                    named.table_name
                ),
            }
        }
    }
    TableIterator::new(rows.finish().into_iter().map(|breach| {
        let severity = match breach.gravity {
            Gravity::Error => "error",
            Gravity::Warning => "warning",
            Gravity::Notice => "notice",
        };
        (
            severity.into(),
            breach.check.into(),
            breach.block.map(i64::from),
            breach.item.map(i32::from),
            breach.message,
        )
    }))
}
