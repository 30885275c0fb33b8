//! Who may do what.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::compat;
use super::error::{UserError, raise};

/// The role on whose behalf the session acts.
pub fn current_role() -> pg_sys::Oid {
    // SAFETY: a plain value of this process.
    unsafe { pg_sys::GetUserId() }
}

/// Whether a role may act as `pg_monitor`.
fn monitors(role: pg_sys::Oid) -> bool {
    let monitor = pg_sys::Oid::from(pg_sys::ROLE_PG_MONITOR);
    // SAFETY: looks both roles up in the catalog.
    unsafe { pg_sys::has_privs_of_role(role, monitor) }
}

/// Whether the caller may create databases.
pub fn may_create_databases() -> bool {
    // SAFETY: the cached row of the role is released after its flag was read.
    unsafe {
        if pg_sys::superuser() {
            return true;
        }
        let id = pg_sys::SysCacheIdentifier::AUTHOID as i32;
        let tuple = pg_sys::SearchSysCache1(id, pg_sys::Datum::from(current_role()));
        if tuple.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_authid>();
        let may = (*form).rolcreatedb;
        pg_sys::ReleaseSysCache(tuple);
        may
    }
}

/// Raises an error unless the caller may read about a table: its owner or `pg_monitor`.
pub fn require_reading(table: u32, name: &str) {
    let role = current_role();
    if !monitors(role) && !compat::owns_relation(pg_sys::Oid::from(table), role) {
        denied(
            name,
            "Reading needs the table's owner or a member of pg_monitor.",
        );
    }
}

/// Raises an error unless the caller may repair a table: its owner or who may maintain it.
pub fn require_acting(table: u32, name: &str) {
    let (role, oid) = (current_role(), pg_sys::Oid::from(table));
    if !compat::owns_relation(oid, role) && !compat::may_maintain(oid, role) {
        denied(
            name,
            "Repairing needs the table's owner or, from PostgreSQL 17, the MAINTAIN privilege.",
        );
    }
}

/// Raises an error unless the caller may read about a table or repair it. A table that is gone
/// has nothing to hide.
pub fn require_reading_or_acting(table: u32) {
    let (role, oid) = (current_role(), pg_sys::Oid::from(table));
    // SAFETY: looks the name up in the catalog; null where there is none, else a copy.
    let name = unsafe { pg_sys::get_rel_name(oid) };
    if name.is_null() || monitors(role) {
        return;
    }
    if !compat::owns_relation(oid, role) && !compat::may_maintain(oid, role) {
        // SAFETY: a NUL-terminated string.
        let name = unsafe { compat::text(name) };
        denied(
            &name,
            "This needs the table's owner, the MAINTAIN privilege, or a member of pg_monitor.",
        );
    }
}

/// Raises an error unless the caller may act as `pg_monitor`.
pub fn require_monitoring(what: &str, why: &str) {
    if !monitors(current_role()) {
        raise(
            UserError::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied for {what}"),
            )
            .detail(why)
            .hint(
                "Ask for membership in pg_monitor, or use ruvector_dag_health_check on your own \
                 tables.",
            ),
        );
    }
}

fn denied(name: &str, detail: &str) -> ! {
    raise(
        UserError::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for table {name}"),
        )
        .detail(detail)
        .hint("Ask the table's owner, or have a superuser grant the privilege."),
    )
}

/// Runs `work` as the bootstrap superuser with a search path that nobody else can write to, and
/// goes back. If it raises, the end of the (sub)transaction goes back.
pub fn as_owner<T>(work: impl FnOnce() -> T) -> T {
    let superuser = pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID);
    let local = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
    acting_as(superuser, local, work)
}

/// Runs `work` as the owner of a table, as PostgreSQL's maintenance commands run the functions
/// of its indexes, and goes back. If it raises, the end of the (sub)transaction goes back.
pub fn as_table_owner<T>(table: &pg_sys::RelationData, work: impl FnOnce() -> T) -> T {
    // SAFETY: an open relation has its row of the catalog.
    let owner = unsafe { (*table.rd_rel).relowner };
    acting_as(owner, pg_sys::SECURITY_RESTRICTED_OPERATION, work)
}

fn acting_as<T>(role: pg_sys::Oid, restrictions: u32, work: impl FnOnce() -> T) -> T {
    let (mut before, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: the pattern of PostgreSQL's own maintenance commands: switch, set, work, restore.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&raw mut before, &raw mut context);
        pg_sys::SetUserIdAndSecContext(role, context | restrictions as i32);
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog, pg_temp".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            pgrx::PgLogLevel::ERROR as i32,
            false,
        );
        let value = work();
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(before, context);
        value
    }
}
