//! The queries kept of each index, in a table that only its owner can read.
//!
//! The table is unlogged: what people asked goes into no WAL, backup, standby or subscription.
//! Values reach it row by row, never as part of a statement, so that nothing that logs statements
//! and their parameters can log them.

use std::collections::BTreeSet;

use pgrx::datum::IntoDatum;
use pgrx::pg_sys;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use serde_json::json;

use super::{lifecycle, sql};

/// The places taken in the sample of an index.
pub fn places_taken(index: &IndexInfo) -> Result<BTreeSet<u32>, PortError> {
    let places: Vec<u32> = sql::rows(
        "SELECT to_jsonb(place) FROM ruvector_dag_healing.query_sample
         WHERE identity = $1->>'identity'",
        &json!({"identity": index.identity()}),
    )?;
    Ok(places.into_iter().collect())
}

/// Puts queries at places of the sample of an index, instead of what was there.
pub fn keep(index: &IndexInfo, queries: &[(u32, Vec<u8>)]) -> Result<(), PortError> {
    let places: Vec<u32> = queries.iter().map(|(place, _)| *place).collect();
    sql::run(
        "DELETE FROM ruvector_dag_healing.query_sample
         WHERE identity = $1->>'identity'
           AND place IN (SELECT p::integer FROM jsonb_array_elements_text($1->'places') p)",
        &json!({"identity": index.identity(), "places": places}),
    )?;
    insert(&index.identity(), queries)
}

/// Adds rows to the table.
fn insert(identity: &str, queries: &[(u32, Vec<u8>)]) -> Result<(), PortError> {
    // SAFETY: inside a transaction. The values are of the types of the table's columns; what is
    // allocated goes with the transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"ruvector_dag_healing".as_ptr(), true);
        let table = pg_sys::get_relname_relid(c"query_sample".as_ptr(), schema);
        if table == pg_sys::InvalidOid {
            return Err(PortError::Gone("the sample of queries".into()));
        }
        let table = pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32);
        for (place, value) in queries {
            let null = || PortError::Failed("a null in the sample of queries".into());
            let mut values = [
                identity.into_datum().ok_or_else(null)?,
                (*place as i32).into_datum().ok_or_else(null)?,
                value.as_slice().into_datum().ok_or_else(null)?,
                pg_sys::Datum::from(lifecycle::now_of_postgres()),
            ];
            let mut nulls = [false; 4];
            let row =
                pg_sys::heap_form_tuple((*table).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            // Into the table and its index, without a statement.
            pg_sys::CatalogTupleInsert(table, row);
        }
        pg_sys::table_close(table, pg_sys::NoLock as i32);
    }
    Ok(())
}

/// Forgets the queries of all indexes but these (by identity), and those kept for longer.
pub fn forget(all_but: &[String], days: u32) -> Result<(), PortError> {
    let values = json!({"all_but": all_but, "days": days});
    sql::run(
        "DELETE FROM ruvector_dag_healing.query_sample
         WHERE captured_at < now() - ($1->>'days')::integer * interval '1 day'",
        &values,
    )?;
    // From one identity to the next, past the rows of each.
    sql::run(
        "WITH RECURSIVE kept(identity) AS (
            SELECT min(identity) FROM ruvector_dag_healing.query_sample
          UNION ALL
            SELECT (SELECT min(q.identity) FROM ruvector_dag_healing.query_sample q
                    WHERE q.identity > kept.identity)
            FROM kept WHERE kept.identity IS NOT NULL
         )
         DELETE FROM ruvector_dag_healing.query_sample q USING kept
         WHERE q.identity = kept.identity AND NOT $1->'all_but' ? kept.identity",
        &values,
    )
}

/// Draws queries of an index from its sample, `count` at most. None on a standby, which has none.
pub fn draw(index: &IndexInfo, count: u32, seed: u64) -> Result<Vec<Vec<u8>>, PortError> {
    if lifecycle::in_recovery() {
        return Ok(Vec::new());
    }
    sql::byte_rows(
        "SELECT value FROM ruvector_dag_healing.query_sample
         WHERE identity = $1->>'identity'
         ORDER BY hashint4extended(place, ($1->>'seed')::bigint)
         LIMIT ($1->>'count')::bigint",
        &json!({"identity": index.identity(), "count": count, "seed": seed as i64}),
    )
}

/// Queries kept in this database, of all indexes together.
pub fn kept() -> Result<u64, PortError> {
    if lifecycle::in_recovery() {
        return Ok(0);
    }
    let kept = sql::row(
        "SELECT to_jsonb(count(*)) FROM ruvector_dag_healing.query_sample WHERE $1 IS NOT NULL",
        &json!({}),
    )?;
    Ok(kept.unwrap_or_default())
}
