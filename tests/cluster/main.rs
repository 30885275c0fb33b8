//! Tests that need real servers. Every test starts its own through [`harness::Server`], on a private
//! socket, and leaves nothing behind; `RUVECTOR_TEST_PG` names the PostgreSQL prefix to use.

mod harness;

// The healer at work: it finds, mends, undoes, gives way and survives.
mod healing;
// What the other tests rely on in the harness itself.
mod promises;
// Graphs mended in place, on real servers.
mod in_place;
// Rebuilds: under load, judged, undone, interrupted.
mod rebuild;
// A server starts, the extension installs, the server stops at once and leaves nothing behind.
mod smoke;
// The SQL surface: every script of tests/sql against its expected output.
mod sql;
// Commands that need a database for themselves.
mod database_ddl;
// Workers end when told, come back when they should, and never twice.
mod endings;
// A healer comes and goes with the extension.
mod extension;
// Settings are taken up while the workers run.
mod settings;
// What the other tests see of the workers from outside.
mod workers;
// The health of an index agrees with a second reader of its files.
mod agreement;
// That second reader.
mod oracle;
// It agrees for every kind of index, type of values and history.
mod matrix;
// The types of values.
mod values;
// Indexes are read while others write to them or drop them.
mod reading;
// What works where the library is not preloaded, and what is said of the rest.
mod not_preloaded;
// Nothing but looking on a standby, until it is promoted.
mod standby;
// What one session alone cannot show of the functions.
mod calls;
// Idle workers cost next to nothing.
mod idle;
// Few worker slots and many databases.
mod slots;
// What an index is born with.
mod born;
// The structural check: what is wrong with an index, and nothing else.
mod check;
// IVFFlat indexes agree with a second reader, too.
mod lists;
// Recall as it is measured, against SQL.
mod recall;
// Queries captured from statements.
mod workload;
