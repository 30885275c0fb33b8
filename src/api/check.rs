//! `ruvector_dag_index_check`: amcheck for vector indexes.

use std::collections::HashMap;

use pgrx::prelude::*;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::finding::{Breach, Gravity};
use ruvector_dag_healing_engine::vector_index::inspection::InspectError;
use ruvector_dag_healing_engine::vector_index::{hnsw, ivfflat};

use crate::pg::careful::CarefulPages;
use crate::pg::error::{or_raise, raise};
use crate::pg::pages::OpenIndex;
use crate::pg::privilege::require_reading;
use crate::pg::{catalog, comparing, guc};

/// Rows shown of one check; of more only their number is.
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
    let limit = guc::maintenance_work_mem();
    let Some(open) = OpenIndex::open(index.to_u32(), false) else {
        raise(PortError::Gone(format!("index {}", named.name)));
    };
    let mut source = CarefulPages::new(open);
    let mut rows = Rows::default();
    let is_hnsw = info.access_method == "hnsw";
    let check = if is_hnsw { hnsw::check } else { ivfflat::check };
    conclude(check(&mut source, &shape, limit, &mut |b| rows.add(b)));

    if heap && !info.valid {
        notice!(
            "{}: not compared with its table: the index is not valid",
            named.name
        );
    } else if heap {
        let compared = comparing::compare(&info, &mut source, &mut |b| rows.add(b));
        match or_raise(compared) {
            true => {}
            false => notice!(
                "{}: not compared with its table: the pages of {} are not PostgreSQL's own",
                named.name,
                named.table_name
            ),
        }
    }
    TableIterator::new(rows.shown().into_iter().map(|breach| {
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

/// An index whose metapage cannot be read has a row that says so.
fn conclude(done: Result<(), InspectError>) {
    if let Err(InspectError::Read(error)) = done {
        raise(PortError::from(error));
    }
}

/// The rows to show.
#[derive(Default)]
struct Rows {
    shown: Vec<Breach>,
    of_check: HashMap<&'static str, (Gravity, usize)>,
}

impl Rows {
    fn add(&mut self, breach: Breach) {
        let (_, count) = self
            .of_check
            .entry(breach.check)
            .or_insert((breach.gravity, 0));
        *count += 1;
        if *count <= MAX_ROWS {
            self.shown.push(breach);
        }
    }

    fn shown(mut self) -> Vec<Breach> {
        for (check, (gravity, count)) in self.of_check {
            if let Some(more) = count.checked_sub(MAX_ROWS).filter(|&more| more > 0) {
                self.shown.push(Breach {
                    gravity,
                    check,
                    block: None,
                    item: None,
                    row: None,
                    message: format!("{more} more like these are not shown"),
                });
            }
        }
        self.shown
    }
}
