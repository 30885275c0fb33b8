//! Settings that this database gives to new connections, one at a time.

use std::ffi::CString;

use pgrx::{PgList, pg_sys};
use ruvector_dag_healing_engine::ports::PortError;
use serde_json::json;

use super::{lifecycle, sql};

/// What a setting is set to for this database and every role, if it is.
pub fn get(name: &str) -> Result<Option<String>, PortError> {
    let value: Option<Option<String>> = sql::row(
        "SELECT to_jsonb((
            SELECT substr(one, length($1->>'name') + 2)
            FROM pg_db_role_setting s, unnest(s.setconfig) one
            WHERE s.setdatabase = ($1->>'database')::oid AND s.setrole = 0
              AND starts_with(one, ($1->>'name') || '=')))",
        &json!({"name": name, "database": lifecycle::my_database()}),
    )?;
    Ok(value.flatten())
}

/// Sets it, or with no value leaves it to the system; `ALTER DATABASE … SET`. Inside a transaction.
pub fn set(name: &str, value: Option<&str>) -> Result<(), PortError> {
    let text = |text: &str| CString::new(text).map_err(|e| PortError::Failed(e.to_string()));
    let (name, value) = (text(name)?, value.map(text).transpose()?);
    // SAFETY: nodes as the parser makes them, in the transaction's memory, zeroed but for what is
    // written; the strings are copied into the same memory.
    unsafe {
        let command =
            pg_sys::palloc0(size_of::<pg_sys::VariableSetStmt>()).cast::<pg_sys::VariableSetStmt>();
        (*command).type_ = pg_sys::NodeTag::T_VariableSetStmt;
        (*command).name = pg_sys::pstrdup(name.as_ptr());
        (*command).kind = match &value {
            None => pg_sys::VariableSetKind::VAR_RESET,
            Some(value) => {
                let constant =
                    pg_sys::palloc0(size_of::<pg_sys::A_Const>()).cast::<pg_sys::A_Const>();
                (*constant).type_ = pg_sys::NodeTag::T_A_Const;
                (*constant).val.sval = pg_sys::String {
                    type_: pg_sys::NodeTag::T_String,
                    sval: pg_sys::pstrdup(value.as_ptr()),
                };
                (*constant).location = -1;
                let mut arguments = PgList::<pg_sys::Node>::new();
                arguments.push(constant.cast());
                (*command).args = arguments.into_pg();
                pg_sys::VariableSetKind::VAR_SET_VALUE
            }
        };
        let alter = pg_sys::palloc0(size_of::<pg_sys::AlterDatabaseSetStmt>())
            .cast::<pg_sys::AlterDatabaseSetStmt>();
        (*alter).type_ = pg_sys::NodeTag::T_AlterDatabaseSetStmt;
        (*alter).dbname = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        (*alter).setstmt = command;
        pg_sys::AlterDatabaseSet(alter);
    }
    Ok(())
}
