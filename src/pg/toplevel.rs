//! Top-level commands from a worker: those that commit transactions of their own.

use std::ffi::CString;

use pgrx::pg_sys;
use ruvector_dag_healing_engine::ports::PortError;

use super::compat;
use super::xact::{Snapshot, transaction};

/// `VACUUM` of a table, which is skipped where somebody else has it locked. `table` is
/// schema-qualified and quoted by PostgreSQL.
pub fn vacuum(table: &str) -> Result<(), PortError> {
    run(&format!("VACUUM (SKIP_LOCKED) {table}"))
}

/// Runs one command as if a client had sent it. Such commands allocate in the portal's memory and
/// expect their parse tree to survive the transactions they commit, so both get their own.
fn run(command: &str) -> Result<(), PortError> {
    let text = CString::new(command).map_err(|error| PortError::Failed(error.to_string()))?;
    // SAFETY: the context is deleted below; nothing allocated in it is used after that.
    let memory = unsafe {
        pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"ruvector_dag_healing command".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    };
    let done = transaction(Snapshot::None, || {
        // SAFETY: the sequence PostgreSQL's own command loop uses, for one utility statement.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(memory);
            let parsed = pg_sys::pg_parse_query(text.as_ptr());
            let raw = pgrx::PgList::<pg_sys::RawStmt>::from_pg(parsed)
                .get_ptr(0)
                .ok_or_else(|| PortError::Failed("no command".into()))?;
            let tag = pg_sys::CreateCommandTag((*raw).stmt);
            let planned =
                pg_sys::palloc0(size_of::<pg_sys::PlannedStmt>()).cast::<pg_sys::PlannedStmt>();
            (*planned).type_ = pg_sys::NodeTag::T_PlannedStmt;
            (*planned).commandType = pg_sys::CmdType::CMD_UTILITY;
            (*planned).canSetTag = true;
            (*planned).utilityStmt = (*raw).stmt;
            (*planned).stmt_location = -1;
            let statements = pg_sys::lappend(std::ptr::null_mut(), planned.cast());
            pg_sys::MemoryContextSwitchTo(before);

            let portal = pg_sys::CreatePortal(c"".as_ptr(), true, true);
            (*portal).visible = false;
            let none = std::ptr::null_mut();
            pg_sys::PortalDefineQuery(portal, none, text.as_ptr(), tag, statements, none.cast());
            pg_sys::PortalStart(portal, none.cast(), 0, none.cast());
            let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone);
            let mut completion = pg_sys::QueryCompletion::default();
            compat::portal_run_top_level(portal, receiver, &raw mut completion);
            pg_sys::PortalDrop(portal, false);
        }
        Ok(())
    });
    // SAFETY: made above; the transaction that used it is over.
    unsafe { pg_sys::MemoryContextDelete(memory) };
    done
}
