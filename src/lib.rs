//! `ruvector_dag_healing`: keeps pgvector indexes healthy by itself.
//!
//! Four rooms: `engine` (its own package: all decisions), [`pg`] (PostgreSQL, the only place for
//! `unsafe`), [`worker`] (lifecycles), [`api`] (what people call).

mod api;
mod pg;
mod worker;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

#[cfg(not(panic = "unwind"))]
compile_error!("errors cross between PostgreSQL and Rust by unwinding: build with panic = unwind");

extension_sql_file!("../sql/schema.sql", name = "schema");
extension_sql_file!(
    "../sql/functions.sql",
    name = "functions",
    requires = ["schema"]
);
extension_sql_file!(
    "../sql/privileges.sql",
    name = "privileges",
    requires = ["functions"],
    finalize
);

/// Called when the library is loaded: by the postmaster at server start, or by a session later.
#[pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    pg::guc::init();
    if pg::lifecycle::preloading() {
        pg::shmem::init();
        pg::captures::init();
        pg::hooks::init();
        pg::registration::register_launcher();
    }
}
