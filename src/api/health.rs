//! Looking at indexes in the calling session.

use std::time::Instant;

use pgrx::datum::JsonB;
use pgrx::prelude::*;
use ruvector_dag_healing_engine::cycle::overall_status;
use ruvector_dag_healing_engine::detection::damage::Damage;
use ruvector_dag_healing_engine::detection::index_health::findings;
use ruvector_dag_healing_engine::diagnosis::priority;
use ruvector_dag_healing_engine::model::{IndexHealthCheck, IndexInfo};
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::finding::Breach;
use ruvector_dag_healing_engine::vector_index::inspection::{InspectError, InspectOptions};
use ruvector_dag_healing_engine::vector_index::{HeapTid, ReadError};
use serde_json::json;

use crate::pg::careful::{CarefulPages, in_subtransaction, may_be_damage};
use crate::pg::error::{UserError, or_raise, raise};
use crate::pg::pages::OpenIndex;
use crate::pg::privilege::{as_owner, require_reading};
use crate::pg::probe::{self, Side};
use crate::pg::{catalog, comparing, filing, guc, journal, lifecycle};

/// Health of one HNSW index.
#[pg_extern(sql = "")]
#[allow(clippy::type_complexity)]
fn ruvector_dag_hnsw_health(
    index: pg_sys::Oid,
) -> TableIterator<
    'static,
    (
        name!(index_name, String),
        name!(table_name, String),
        name!(connectivity_score, f32),
        name!(layer_distribution, Vec<i64>),
        name!(entry_point_quality, f32),
        name!(orphan_count, i64),
        name!(fragmentation, f32),
        name!(elements, i64),
        name!(live_elements, i64),
        name!(deleted_elements, i64),
        name!(heap_tids, i64),
        name!(zero_in_degree, i64),
        name!(low_degree, i64),
        name!(mean_degree_fill, f32),
        name!(dangling_edges, i64),
        name!(pages, i64),
        name!(sampled, bool),
        name!(last_checked, TimestampWithTimeZone),
    ),
> {
    let named = catalog::named(index.to_u32());
    catalog::require_index(&named, &["hnsw"]);
    require_reading(named.table_oid, &named.table_name);
    let Some(f) = figures_of(index, &named).hnsw else {
        raise(PortError::Gone(format!("index {}", named.name)));
    };
    TableIterator::once((
        named.name,
        named.table_name,
        f.connectivity_score,
        f.layer_distribution.iter().map(|n| count(*n)).collect(),
        f.entry_point_quality,
        count(f.orphan_count),
        f.fragmentation,
        count(f.elements),
        count(f.live_elements),
        count(f.deleted_elements),
        count(f.heap_tids),
        count(f.zero_in_degree),
        count(f.low_degree),
        f.mean_degree_fill,
        count(f.dangling_edges),
        count(f.pages),
        f.sampled,
        pgrx::datum::datetime_support::clock_timestamp(),
    ))
}

/// Health of one IVFFlat index.
#[pg_extern(sql = "")]
#[allow(clippy::type_complexity)]
fn ruvector_dag_ivfflat_health(
    index: pg_sys::Oid,
) -> TableIterator<
    'static,
    (
        name!(index_name, String),
        name!(table_name, String),
        name!(cluster_balance, f32),
        name!(empty_clusters, i64),
        name!(centroid_quality, f32),
        name!(training_staleness_hours, f32),
        name!(lists, i64),
        name!(vectors, i64),
        name!(largest_cluster, i64),
        name!(imbalance_factor, f32),
        name!(pages, i64),
        name!(sampled, bool),
        name!(last_checked, TimestampWithTimeZone),
    ),
> {
    let named = catalog::named(index.to_u32());
    catalog::require_index(&named, &["ivfflat"]);
    require_reading(named.table_oid, &named.table_name);
    let look = figures_of(index, &named);
    let last = or_raise(as_owner(|| journal::last_look(&look.index)));
    let look = look.after(last.as_ref());
    let hours = look.hours_known() as f32;
    let Some(f) = look.ivfflat else {
        raise(PortError::Gone(format!("index {}", named.name)));
    };
    TableIterator::once((
        named.name,
        named.table_name,
        f.cluster_balance,
        count(f.empty_clusters),
        f.centroid_quality,
        hours,
        count(f.lists),
        count(f.vectors),
        count(f.largest_cluster),
        f.imbalance_factor,
        count(f.pages),
        f.sampled,
        pgrx::datum::datetime_support::clock_timestamp(),
    ))
}

/// Rows searched for by their own values where the graph did not fit into memory, every fifth of
/// them elsewhere; and neighbours asked for.
const SEARCHED_ROWS: usize = 1_000;
const NEIGHBORS: u32 = 10;

/// Searches the index for some of its rows, unless its figures speak against it.
fn search(look: &mut IndexHealthCheck, rows: &[HeapTid], full: bool) {
    let sampled = look.hnsw.as_ref().is_some_and(|figures| figures.sampled);
    if look.hnsw.is_none() || !look.may_be_searched() || !(full || sampled) {
        return;
    }
    let every = if sampled { 1 } else { 5 };
    let rows: Vec<HeapTid> = rows.iter().step_by(every).copied().collect();
    let (table, index) = (look.index.table_oid, look.index.index_oid);
    let searches = || probe::compare(table, None, Side::of(index), &rows, NEIGHBORS as usize);
    match in_subtransaction(may_be_damage, searches) {
        Ok(found) => look.searched(&or_raise(found), NEIGHBORS),
        Err(reason) => look.notices.push(format!("searches fail: {reason}")),
    }
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Forces a full check of a relation's vector indexes now, and hands what it finds to the healer.
#[pg_extern(sql = "")]
fn ruvector_dag_health_check(relation: pg_sys::Oid) -> JsonB {
    let started = Instant::now();
    let named = catalog::named(relation.to_u32());
    catalog::require_relation(&named);
    require_reading(named.table_oid, &named.table_name);
    let indexes = or_raise(as_owner(|| catalog::indexes_of(relation.to_u32())));
    if indexes.is_empty() {
        raise(catalog::no_vector_index(&named));
    }
    let mut severities = Vec::new();
    let mut shown = Vec::new();
    let mut looks = Vec::new();
    for index in indexes {
        let look = look_at(index, true);
        let found = findings(&look);
        severities.extend(
            found
                .iter()
                .map(|f| priority::severity(&f.issue, priority::compute_priority(&f.issue))),
        );
        let mut entry = json!({
            "index_name": look.index.index_name,
            "table_name": look.index.table_name,
            "access_method": look.index.access_method,
            "valid": look.index.valid,
            "issues": found.iter().map(|f| f.issue_id()).collect::<Vec<_>>(),
            "notices": look.notices,
        });
        if let (Some(searched), Some(entry)) = (&look.self_query, entry.as_object_mut()) {
            entry.insert("self_query".into(), json!(searched));
        }
        for figures in [
            serde_json::to_value(&look.hnsw),
            serde_json::to_value(&look.ivfflat),
        ] {
            if let (Some(entry), Ok(serde_json::Value::Object(figures))) =
                (entry.as_object_mut(), figures)
            {
                entry.extend(figures);
            }
        }
        shown.push(entry);
        looks.push(look);
    }
    let filed = filing::file(&looks);
    JsonB(json!({
        "relation": named.name,
        "status": overall_status(severities),
        "indexes": shown,
        "filed": filed,
        "duration_ms": started.elapsed().as_secs_f64() * 1000.0,
    }))
}

/// Reads an index, takes its figures and checks its structure; one that is being built has none.
/// `compared`: whether it is compared with its table as well.
pub(super) fn look_at(index: IndexInfo, compared: bool) -> IndexHealthCheck {
    let mut look = IndexHealthCheck::new(index, lifecycle::now());
    if look.index.valid {
        examine(&mut look, compared);
        read(&mut look, true);
    }
    let last = or_raise(as_owner(|| journal::last_look(&look.index)));
    look.after(last.as_ref())
}

/// Takes the figures of an index that a session named.
fn figures_of(index: pg_sys::Oid, named: &catalog::Named) -> IndexHealthCheck {
    let info = catalog::require_info(index.to_u32(), named);
    if info.access_method == "ivfflat" {
        catalog::require_shape(&info);
    }
    let mut look = IndexHealthCheck::new(info, lifecycle::now());
    read(&mut look, false);
    look
}

fn open(index: &IndexInfo) -> CarefulPages {
    match OpenIndex::open(index.index_oid, false) {
        Some(open) => CarefulPages::new(open),
        None => raise(PortError::Gone(format!("index {}", index.index_name))),
    }
}

/// Checks the structure of an index and, if asked to, compares it with its table.
fn examine(look: &mut IndexHealthCheck, compared: bool) {
    let (mut pages, index) = (open(&look.index), look.index.clone());
    let limit = guc::maintenance_work_mem();
    if let Err(InspectError::Read(error)) = look.check(&mut pages, limit, &mut |_| {}) {
        raise(PortError::from(error));
    }
    if let (true, Some(damage)) = (compared, &mut look.damage) {
        let add = &mut |breach: Breach| damage.add(&breach);
        damage.compared = or_raise(comparing::compare(&index, &mut pages, add));
    }
}

/// `full`: with how the graph is built.
fn read(look: &mut IndexHealthCheck, full: bool) {
    let name = look.index.index_name.clone();
    let mut pages = open(&look.index);
    // What cannot be read is an issue then, and no reason to say nothing of the rest.
    let is_known = look.damage.as_ref().is_some_and(Damage::is_unreadable);
    let options = InspectOptions {
        memory_limit: guc::maintenance_work_mem(),
        anatomy: full,
        sample_rows: SEARCHED_ROWS,
        ..InspectOptions::default()
    };
    match look.inspect(&mut pages, &options) {
        Ok(rows) => search(look, &rows, full),
        Err(InspectError::Read(ReadError::Unreadable { reason, .. })) if is_known => {
            look.notices.push(reason);
        }
        Err(InspectError::NotSuch { reason }) if is_known => look.notices.push(reason),
        Err(InspectError::Read(ReadError::Unreadable { block, reason })) => raise(
            UserError::new(
                PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                format!("block {block} of index {name} cannot be read"),
            )
            .detail(reason)
            .hint("ruvector_dag_health_check() files it as an issue that can be repaired."),
        ),
        Err(InspectError::Read(error)) => raise(PortError::from(error)),
        Err(InspectError::NotSuch { reason }) => raise(
            UserError::new(
                PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
                format!("index {name} cannot be read"),
            )
            .detail(reason)
            .hint("If it is still being built, try again later; else REINDEX it."),
        ),
    }
    for notice in &look.notices {
        notice!("{name}: {notice}");
    }
}
