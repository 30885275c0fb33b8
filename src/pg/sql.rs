//! SQL from within: statements that take one JSON document and give rows of JSON.
//!
//! Statements are constants. Values reach them only as `$1`, so nothing is ever pasted into SQL.

use pgrx::datum::{DatumWithOid, JsonB};
use pgrx::spi::SpiTupleTable;
use pgrx::{Spi, pg_sys};
use ruvector_dag_healing_engine::ports::PortError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn argument(values: &impl Serialize) -> Result<DatumWithOid<'static>, PortError> {
    let values = serde_json::to_value(values).map_err(|error| failed(&error))?;
    // SAFETY: a JsonB converts into a datum of the type named.
    Ok(unsafe { DatumWithOid::new(JsonB(values), pg_sys::JSONBOID) })
}

fn failed(error: &dyn std::fmt::Display) -> PortError {
    PortError::Failed(error.to_string())
}

/// Rows of a statement that only reads and selects one `jsonb` column. Takes no transaction id, so
/// it works on a standby and in read-only transactions, and costs the cluster none.
pub fn rows<T: DeserializeOwned>(
    statement: &'static str,
    values: &impl Serialize,
) -> Result<Vec<T>, PortError> {
    reading(statement, values, collect)
}

/// Rows of a statement that only reads and selects one `bytea` column.
pub fn byte_rows(
    statement: &'static str,
    values: &impl Serialize,
) -> Result<Vec<Vec<u8>>, PortError> {
    reading(statement, values, |table| {
        let bytes = table.map(|row| row.get::<Vec<u8>>(1).map_err(|error| failed(&error)));
        bytes.map(|bytes| Ok(bytes?.unwrap_or_default())).collect()
    })
}

fn reading<T>(
    statement: &'static str,
    values: &impl Serialize,
    collect: impl FnOnce(SpiTupleTable<'_>) -> Result<Vec<T>, PortError>,
) -> Result<Vec<T>, PortError> {
    let argument = argument(values)?;
    // SAFETY: a statement that only reads uses the active snapshot; where there is none it gets
    // one, which goes before this returns, or with the transaction.
    let pushed = unsafe {
        let missing = !pg_sys::ActiveSnapshotSet();
        if missing {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        missing
    };
    let rows = Spi::connect(|client| {
        let table = client
            .select(statement, None, &[argument])
            .map_err(|error| failed(&error))?;
        collect(table)
    });
    if pushed {
        // SAFETY: pushed above.
        unsafe { pg_sys::PopActiveSnapshot() };
    }
    rows
}

/// The first row of such a statement, if there is one.
pub fn row<T: DeserializeOwned>(
    statement: &'static str,
    values: &impl Serialize,
) -> Result<Option<T>, PortError> {
    Ok(rows(statement, values)?.into_iter().next())
}

/// Rows of a statement that changes something and selects one `jsonb` column.
pub fn written_rows<T: DeserializeOwned>(
    statement: &'static str,
    values: &impl Serialize,
) -> Result<Vec<T>, PortError> {
    let argument = argument(values)?;
    Spi::connect_mut(|client| {
        let table = client
            .update(statement, None, &[argument])
            .map_err(|error| failed(&error))?;
        collect(table)
    })
}

/// The first row of such a statement, if there is one.
pub fn written_row<T: DeserializeOwned>(
    statement: &'static str,
    values: &impl Serialize,
) -> Result<Option<T>, PortError> {
    Ok(written_rows(statement, values)?.into_iter().next())
}

fn collect<T: DeserializeOwned>(table: SpiTupleTable<'_>) -> Result<Vec<T>, PortError> {
    let mut rows = Vec::with_capacity(table.len());
    for row in table {
        let row = row.get::<JsonB>(1).map_err(|error| failed(&error))?;
        let row = row.map_or(Value::Null, |row| row.0);
        rows.push(serde_json::from_value(row).map_err(|error| failed(&error))?);
    }
    Ok(rows)
}

/// Runs a statement that changes something.
pub fn run(statement: &'static str, values: &impl Serialize) -> Result<(), PortError> {
    let argument = argument(values)?;
    Spi::connect_mut(|client| {
        let done = client.update(statement, None, &[argument]);
        done.map(|_| ()).map_err(|error| failed(&error))
    })
}
