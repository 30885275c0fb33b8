//! How much of the true answer an index returns, and with which setting it returns enough.

use pgrx::datum::JsonB;
use pgrx::prelude::*;
use serde_json::json;

use crate::pg::error::{UserError, or_raise, raise};
use crate::pg::measuring::{self, Goal, Wanted};
use crate::pg::privilege::{as_owner, require_reading};
use crate::pg::{catalog, guc, journal, lifecycle};

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
        mirrored: false,
        rows_only: false,
        budget: measuring::BUDGET,
        seed: lifecycle::now() as u64,
    };
    let measured = or_raise(measuring::recall(&index, &wanted));
    if measured.every > 1 {
        notice!(
            "{}: the table is large: exact neighbours were sought on one block of {}, and the interval is the wider",
            index.info.index_name,
            measured.every
        );
    }
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

/// Finds the smallest `hnsw.ef_search` or `ivfflat.probes` that meets a recall.
#[pg_extern(sql = "")]
#[allow(clippy::type_complexity)]
fn ruvector_dag_tune(
    index: Option<pg_sys::Oid>,
    target_recall: Option<f32>,
) -> TableIterator<
    'static,
    (
        name!(parameter, String),
        name!(current, i32),
        name!(recommended, Option<i32>),
        name!(recall, Option<f64>),
        name!(ci_low, Option<f64>),
        name!(ci_high, Option<f64>),
        name!(p50_ms, Option<f64>),
        name!(curve, JsonB),
    ),
> {
    let Some(index) = index else {
        return TableIterator::new(std::iter::empty());
    };
    let goal = target_recall.map_or(guc::config().target_recall, |goal| {
        // As it was typed, not as a real widens.
        (f64::from(goal) * 1e6).round() / 1e6
    });
    if !(0.5..=1.0).contains(&goal) {
        raise(
            UserError::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("target_recall must be from 0.5 to 1, not {goal}"),
            )
            .hint("NULL stands for ruvector.dag_healing_target_recall."),
        );
    }
    let target = searchable(index);
    let last = or_raise(as_owner(|| journal::last_look(&target.info)));
    let figures = last.as_ref().and_then(|look| look.hnsw.as_ref());
    let goal = Goal {
        recall: goal,
        reachable: figures.map(|figures| f64::from(figures.reachable())),
    };
    let tuned = or_raise(measuring::tune(&target, &goal, lifecycle::now() as u64));
    if let Some(ceiling) = &tuned.tuning.ceiling {
        notice!("{}: {ceiling}", target.info.index_name);
    }
    let estimate = tuned.tuning.estimate;
    let points = tuned.tuning.curve.iter().map(|point| {
        json!({
            "setting": point.setting,
            "recall": point.estimate.recall,
            "ci_low": point.estimate.ci_low,
            "ci_high": point.estimate.ci_high,
            "cost": point.cost,
        })
    });
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    TableIterator::once((
        tuned.parameter.into(),
        number(tuned.current),
        tuned.tuning.recommended.map(number),
        estimate.map(|estimate| estimate.recall),
        estimate.map(|estimate| estimate.ci_low),
        estimate.map(|estimate| estimate.ci_high),
        tuned.p50_ms,
        JsonB(json!({
            "target": goal.recall,
            "queries": estimate.map_or(0, |estimate| estimate.queries),
            "source": tuned.source.name(),
            "points": points.collect::<Vec<_>>(),
        })),
    ))
}

/// An index that the caller may read about and that can be searched, or an error.
fn searchable(index: pg_sys::Oid) -> measuring::Target {
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
