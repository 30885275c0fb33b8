//! `ruvector_dag_recall`: how much of the true answer an index returns.

use pgrx::prelude::*;

use crate::pg::error::{UserError, or_raise, raise};
use crate::pg::measuring::{self, Wanted};
use crate::pg::privilege::require_reading;
use crate::pg::{catalog, lifecycle};

/// Neighbours and queries that may be asked for.
const MOST_NEIGHBORS: i32 = 1_000;
const MOST_QUERIES: i32 = 10_000;

/// Measures the recall of an index against exact search, at the settings of this session.
#[pg_extern(sql = "")]
#[allow(clippy::type_complexity)]
fn ruvector_dag_recall(
    index: pg_sys::Oid,
    k: i32,
    queries: i32,
) -> TableIterator<
    'static,
    (
        name!(recall, f64),
        name!(ci_low, f64),
        name!(ci_high, f64),
        name!(queries, i32),
        name!(k, i32),
        name!(source, String),
        name!(p50_ms, f64),
        name!(p99_ms, f64),
    ),
> {
    let index = searchable(index);
    let wanted = Wanted {
        k: in_range("k", k, MOST_NEIGHBORS),
        queries: in_range("queries", queries, MOST_QUERIES),
        seed: lifecycle::now() as u64,
    };
    let measured = or_raise(measuring::recall(&index, &wanted));
    let estimate = measured.answers.estimate(wanted.k);
    TableIterator::once((
        estimate.recall,
        estimate.ci_low,
        estimate.ci_high,
        estimate.queries as i32,
        k,
        measured.source.name().into(),
        measured.answers.ms_quantile(0.5),
        measured.answers.ms_quantile(0.99),
    ))
}

/// An index that the caller may read about and that can be searched, or an error.
pub(super) fn searchable(index: pg_sys::Oid) -> measuring::Target {
    let named = catalog::named(index.to_u32());
    catalog::require_index(&named, &["hnsw", "ivfflat"]);
    require_reading(named.table_oid, &named.table_name);
    let info = catalog::require_info(index.to_u32(), &named);
    let shape = catalog::require_shape(&info);
    if !info.valid {
        raise(
            UserError::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("index {} is not valid", named.name),
            )
            .detail("No query uses it: it was left half built, or it is being built.")
            .hint("Wait for its build, or REINDEX it."),
        );
    }
    measuring::Target { info, shape }
}

/// A number from 1 to `most`, or an error.
fn in_range(name: &str, value: i32, most: i32) -> u32 {
    if !(1..=most).contains(&value) {
        raise(
            UserError::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("{name} must be from 1 to {most}, not {value}"),
            )
            .hint("10 neighbours of 200 queries tell recall to about one point."),
        );
    }
    value.unsigned_abs()
}
