//! Hooks: what sessions do that our workers must hear of.
//!
//! Only commands come this way; for queries see [`super::observer`]. Nothing here waits or raises:
//! a database's DDL asks our workers out of the way before it looks for other connections, and
//! whatever may change which databases want a healer tells the launcher when it commits.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use pgrx::{pg_guard, pg_sys};

use super::{compat, compat_executor, lifecycle, observer, privilege, progress, shmem};

/// This transaction made, changed or dropped databases.
static DATABASES_CHANGED: AtomicBool = AtomicBool::new(false);
/// This transaction made or dropped extensions.
static EXTENSIONS_CHANGED: AtomicBool = AtomicBool::new(false);
/// The database whose settings this transaction changed.
static SETTINGS_OF: AtomicU32 = AtomicU32::new(0);
/// This transaction keeps our workers out of a database.
static HOLDING: AtomicBool = AtomicBool::new(false);

static mut PREVIOUS_OBJECT_ACCESS: pg_sys::object_access_hook_type = None;
static mut PREVIOUS_UTILITY: pg_sys::ProcessUtility_hook_type = None;

/// Installs the hooks. While the postmaster preloads libraries only.
pub fn init() {
    // SAFETY: the postmaster is single-threaded and no hook runs before this returns.
    unsafe {
        PREVIOUS_OBJECT_ACCESS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(object_access);
        PREVIOUS_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
        pg_sys::RegisterXactCallback(Some(transaction_end), std::ptr::null_mut());
        compat_executor::init();
    }
}

// The two hooks pass an error of the server straight through: nothing in their frames has a
// destructor, so PostgreSQL may jump over them, and the user sees the error as it was raised.
// What is ours runs in functions of its own, which are guarded.

unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: c_int,
    argument: *mut c_void,
) {
    // SAFETY: the hook was written once, before any could run; the arguments are passed on as
    // they came.
    unsafe {
        if let Some(previous) = PREVIOUS_OBJECT_ACCESS {
            previous(access, class, object, sub, argument);
        }
        note_access(access, class, object);
    }
}

unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: as above; PostgreSQL passes a statement that holds a utility command.
    unsafe {
        make_way((*statement).utilityStmt);
        let entered = runs_functions((*statement).utilityStmt).then(observer::enter);
        let next = PREVIOUS_UTILITY.unwrap_or(compat::standard_ProcessUtility);
        next(
            statement,
            query,
            read_only_tree,
            context,
            params,
            environment,
            receiver,
            completion,
        );
        if let Some(entered) = entered {
            observer::leave(entered);
        }
    }
}

/// Whether a command executes no statement of the client's, but may execute those of functions.
///
/// # Safety
/// `command` is a parse tree.
unsafe fn runs_functions(command: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::{
        T_ClosePortalStmt, T_CopyStmt, T_CreateTableAsStmt, T_DeclareCursorStmt, T_ExecuteStmt,
        T_ExplainStmt, T_FetchStmt, T_PrepareStmt, T_TransactionStmt,
    };
    // SAFETY: as the caller promises.
    let tag = unsafe { (*command).type_ };
    !matches!(
        tag,
        T_ClosePortalStmt
            | T_CopyStmt
            | T_CreateTableAsStmt
            | T_DeclareCursorStmt
            | T_ExecuteStmt
            | T_ExplainStmt
            | T_FetchStmt
            | T_PrepareStmt
            | T_TransactionStmt
    )
}

#[pg_guard]
unsafe extern "C-unwind" fn note_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
) {
    use pg_sys::ObjectAccessType::{OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE};
    let made_or_dropped = access == OAT_POST_CREATE || access == OAT_DROP;
    if class == pg_sys::ExtensionRelationId && made_or_dropped {
        EXTENSIONS_CHANGED.store(true, Ordering::Relaxed);
    } else if class == pg_sys::DatabaseRelationId && (made_or_dropped || access == OAT_POST_ALTER) {
        DATABASES_CHANGED.store(true, Ordering::Relaxed);
    } else if class == compat::DB_ROLE_SETTING_RELATION && access == OAT_POST_ALTER {
        SETTINGS_OF.store(object.to_u32(), Ordering::Relaxed);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn make_way(command: *mut pg_sys::Node) {
    // SAFETY: a parse tree, as the caller says.
    if let Some(database) = unsafe { database_needed_alone(command) } {
        hold(database);
    }
}

/// The database that a command can work on only when nobody else is connected to it, where the
/// role may give that command. What is denied to it must not stop a repair.
///
/// # Safety
/// `command` is a parse tree.
unsafe fn database_needed_alone(command: *mut pg_sys::Node) -> Option<u32> {
    // SAFETY: each cast follows the node's tag; lists and names belong to the parse tree.
    unsafe {
        let mut template = false;
        let name = match (*command).type_ {
            pg_sys::NodeTag::T_DropdbStmt => (*command.cast::<pg_sys::DropdbStmt>()).dbname,
            pg_sys::NodeTag::T_AlterDatabaseStmt => {
                let alter = command.cast::<pg_sys::AlterDatabaseStmt>();
                option((*alter).options, "tablespace")?;
                (*alter).dbname
            }
            pg_sys::NodeTag::T_RenameStmt => {
                let rename = command.cast::<pg_sys::RenameStmt>();
                if (*rename).renameType != pg_sys::ObjectType::OBJECT_DATABASE {
                    return None;
                }
                (*rename).subname
            }
            pg_sys::NodeTag::T_CreatedbStmt => {
                template = true;
                let create = command.cast::<pg_sys::CreatedbStmt>();
                match option((*create).options, "template") {
                    Some(option) if !(*option).arg.is_null() => pg_sys::defGetString(option),
                    _ => c"template1".as_ptr().cast_mut(),
                }
            }
            _ => return None,
        };
        if name.is_null() {
            return None;
        }
        let oid = pg_sys::get_database_oid(name, true).to_u32();
        let allowed = oid != 0
            && match template {
                true => privilege::may_create_databases(),
                false => compat::owns_database(oid.into(), privilege::current_role()),
            };
        allowed.then_some(oid)
    }
}

/// The option of that name in a list of options.
///
/// # Safety
/// `options` is a list of `DefElem`, or null.
unsafe fn option(options: *mut pg_sys::List, name: &str) -> Option<*mut pg_sys::DefElem> {
    // SAFETY: as the caller promises.
    unsafe {
        pgrx::PgList::<pg_sys::DefElem>::from_pg(options)
            .iter_ptr()
            .find(|option| compat::text((**option).defname) == name)
    }
}

/// Keeps our workers out of a database until this transaction ends, and asks those in it to
/// leave. PostgreSQL itself gives them five seconds.
fn hold(database: u32) {
    let me = lifecycle::my_pid();
    let leaving = shmem::write(|board| {
        if let Some(place) = board.holds.iter_mut().find(|hold| hold.database == 0) {
            *place = shmem::Hold { database, pid: me };
        }
        let healer = board.healer_mut(database).map(|healer| {
            healer.leave = true;
            healer.pid
        });
        let mut repairs = [0; shmem::MAX_REPAIRS];
        for (pid, repair) in repairs.iter_mut().zip(&board.repairs) {
            if repair.request.database == database {
                *pid = repair.pid;
            }
        }
        (healer, repairs)
    });
    let Some((healer, repairs)) = leaving else {
        return;
    };
    HOLDING.store(true, Ordering::Relaxed);
    shmem::wake(healer.unwrap_or_default());
    for pid in repairs.into_iter().filter(|pid| *pid != 0) {
        lifecycle::terminate(pid);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_end(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    let committed = event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE;
    if !committed && event != XACT_EVENT_ABORT {
        return;
    }
    progress::clear();
    let held = HOLDING.swap(false, Ordering::Relaxed);
    let databases = DATABASES_CHANGED.swap(false, Ordering::Relaxed) && committed;
    let extensions = EXTENSIONS_CHANGED.swap(false, Ordering::Relaxed) && committed;
    let settings_of = SETTINGS_OF.swap(0, Ordering::Relaxed);
    if held || databases || extensions {
        let (me, database) = (lifecycle::my_pid(), lifecycle::my_database());
        shmem::write(|board| {
            if held {
                for hold in board.holds.iter_mut().filter(|hold| hold.pid == me) {
                    *hold = shmem::Hold::default();
                }
            }
            board.databases_changed |= databases;
            if extensions {
                board.wish_for_healer(database);
            }
        });
        shmem::wake_launcher();
    }
    if extensions {
        shmem::wake_healer(lifecycle::my_database());
    }
    if settings_of != 0 && committed {
        shmem::wake_healer(settings_of);
    }
}
