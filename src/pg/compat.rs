//! What differs between PostgreSQL's major versions, and what the bindings lack.

use std::ffi::{CStr, c_char, c_int};
use std::time::Duration;

use pgrx::pg_sys;

/// `TimeoutId` of the timer that PostgreSQL arms for `statement_timeout`; the same in all majors.
const STATEMENT_TIMEOUT: c_int = 3;

/// OID of `pg_db_role_setting`; the same in all majors.
pub const DB_ROLE_SETTING_RELATION: pg_sys::Oid = pg_sys::Oid::from_u32(2964);

// What the bindings leave out (utils/timeout.h, catalog/pg_db_role_setting.h), and signal handlers, which must be the
// server's own functions and not the bindings' guarded wrappers.
unsafe extern "C-unwind" {
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    fn die(signal: c_int);
    #[link_name = "SignalHandlerForConfigReload"]
    fn reload(signal: c_int);
    #[link_name = "StatementCancelHandler"]
    fn cancel(signal: c_int);
    fn GetCurrentStatementStartTimestamp() -> i64;
    fn ApplySetting(
        snapshot: pg_sys::Snapshot,
        database: pg_sys::Oid,
        role: pg_sys::Oid,
        settings: pg_sys::Relation,
        source: pg_sys::GucSource::Type,
    );
    /// The server's own function: errors pass through it as they were raised.
    pub fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        query: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        receiver: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Has this process cancelled (as by `SIGINT`) when the time has passed.
pub fn cancel_after(time: Duration) {
    let ms = c_int::try_from(time.as_millis())
        .unwrap_or(c_int::MAX)
        .max(1);
    // SAFETY: InitPostgres has registered the timer in every process with a database
    // connection, and only such processes call this.
    unsafe { enable_timeout_after(STATEMENT_TIMEOUT, ms) }
}

/// Has this process take over what its database gives to new connections by now, as when it
/// connected. Inside a transaction.
pub fn apply_database_settings() {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: as InitPostgres does it; what is opened is closed, or ends with the transaction.
    unsafe {
        let settings = pg_sys::table_open(DB_ROLE_SETTING_RELATION, lock);
        let newest = pg_sys::GetCatalogSnapshot(DB_ROLE_SETTING_RELATION);
        let snapshot = pg_sys::RegisterSnapshot(newest);
        let (database, source) = (pg_sys::MyDatabaseId, pg_sys::GucSource::PGC_S_DATABASE);
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            ApplySetting(snapshot, database, pg_sys::InvalidOid, settings, source);
        });
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(settings, lock);
    }
}

/// Has `SIGTERM` end this process at its next interrupt check, `SIGHUP` ask for the settings to
/// be read again, and `SIGINT` cancel what it does.
pub fn handle_signals() {
    let handlers: [(u32, pg_sys::pqsigfunc); 3] = [
        (pg_sys::SIGTERM, Some(die)),
        (pg_sys::SIGHUP, Some(reload)),
        (pg_sys::SIGINT, Some(cancel)),
    ];
    for (signal, handler) in handlers {
        // SAFETY: the server's own handlers, all async-signal-safe.
        unsafe {
            #[cfg(feature = "pg18")]
            pg_sys::pqsignal_be(signal as c_int, handler);
            #[cfg(not(feature = "pg18"))]
            pg_sys::pqsignal(signal as c_int, handler);
        }
    }
}

/// When the client's command began, in microseconds; as long as it is executed it stays the same.
pub fn statement_start() -> i64 {
    // SAFETY: reads a variable of this process. Without the bindings' guard: it cannot raise, and
    // is read by every statement.
    unsafe { GetCurrentStatementStartTimestamp() }
}

/// The first column of an open index.
pub fn first_column(index: &pg_sys::RelationData) -> &pg_sys::FormData_pg_attribute {
    // SAFETY: an open index has its description, and a column.
    unsafe {
        #[cfg(feature = "pg18")]
        return &*pg_sys::TupleDescAttr(index.rd_att, 0);
        #[cfg(not(feature = "pg18"))]
        return &*(*index.rd_att).attrs.as_ptr();
    }
}

/// Whether a role owns a relation, or a role that does.
pub fn owns_relation(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: both look the relation up in the catalog and raise an error where it is missing.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(relation, role);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, relation, role);
    }
}

/// Whether a role owns a database, or a role that does.
pub fn owns_database(database: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: looks the database up in the catalog and raises an error where it is missing.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_database_ownercheck(database, role);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::DatabaseRelationId, database, role);
    }
}

/// Whether a role may maintain a table without owning it (PostgreSQL 17 and later).
pub fn may_maintain(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    // SAFETY: looks the relation up in the catalog.
    unsafe {
        pg_sys::pg_class_aclcheck(relation, role, pg_sys::ACL_MAINTAIN.into())
            == pg_sys::AclResult::ACLCHECK_OK
    }
    #[cfg(not(any(feature = "pg17", feature = "pg18")))]
    {
        let _ = (relation, role);
        false
    }
}

/// Whether this process holds a lock in this mode.
pub fn holds_lock(tag: &pg_sys::LOCKTAG, mode: pg_sys::LOCKMODE) -> bool {
    // SAFETY: looks into a table of this process.
    unsafe {
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        return pg_sys::LockHeldByMe(tag, mode, false);
        #[cfg(not(any(feature = "pg17", feature = "pg18")))]
        return pg_sys::LockHeldByMe(tag, mode);
    }
}

/// Starts an index scan ordered by one distance.
///
/// # Safety
/// Both relations are open and belong together; `snapshot` is registered or active.
pub unsafe fn begin_ordered_scan(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
) -> pg_sys::IndexScanDesc {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(feature = "pg18")]
        return pg_sys::index_beginscan(heap, index, snapshot, std::ptr::null_mut(), 0, 1);
        #[cfg(not(feature = "pg18"))]
        return pg_sys::index_beginscan(heap, index, snapshot, 0, 1);
    }
}

/// A memory context below the current one.
///
/// # Safety
/// Its name is static; it is deleted, or goes with its parent.
pub unsafe fn new_memory_context(name: &'static CStr) -> pg_sys::MemoryContext {
    // SAFETY: as the caller promises.
    unsafe {
        pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            name.as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}

/// A value of variable length with these contents, in the current memory context.
///
/// # Safety
/// None but that whoever takes the value takes such contents.
pub unsafe fn varlena(contents: &[u8]) -> pg_sys::Datum {
    let size = contents.len() + pg_sys::VARHDRSZ;
    // SAFETY: so many bytes were just allocated, the length word among them.
    unsafe {
        let value = pg_sys::palloc(size).cast::<pg_sys::varlena>();
        pgrx::set_varsize_4b(value, size as i32);
        std::ptr::copy_nonoverlapping(
            contents.as_ptr(),
            value.cast::<u8>().add(pg_sys::VARHDRSZ),
            contents.len(),
        );
        pg_sys::Datum::from(value)
    }
}

/// Buffers that this process has looked at since it began.
pub fn buffers_touched() -> u64 {
    // SAFETY: counters of this process.
    let usage = unsafe { pg_sys::pgBufferUsage };
    let shared = usage.shared_blks_hit + usage.shared_blks_read;
    (shared + usage.local_blks_hit + usage.local_blks_read) as u64
}

/// Runs a portal to its end as a top-level command.
///
/// # Safety
/// The portal has been started.
pub unsafe fn portal_run_top_level(
    portal: pg_sys::Portal,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    const FETCH_ALL: i64 = i64::MAX;
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(feature = "pg18")]
        pg_sys::PortalRun(portal, FETCH_ALL, true, receiver, receiver, completion);
        #[cfg(not(feature = "pg18"))]
        pg_sys::PortalRun(
            portal, FETCH_ALL, true, true, receiver, receiver, completion,
        );
    }
}

/// A C string from the server, which is empty where the pointer is null. Other encodings than
/// UTF-8 are read as far as they go.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string.
pub unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// Settings that a role or database may carry and that would change what a worker does, with
/// the values that a worker needs.
pub const WORKER_SETTINGS: &[(&str, &str)] = &[
    ("search_path", "pg_catalog, pg_temp"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    ("transaction_timeout", "0"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("row_security", "off"),
    ("zero_damaged_pages", "off"),
    ("ignore_checksum_failure", "off"),
    ("enable_indexscan", "on"),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
];
