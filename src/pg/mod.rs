//! PostgreSQL: buffers, locks, shared memory, hooks, transactions, settings, errors.
//!
//! The only room where `unsafe` may stand. It implements the engine's ports and decides
//! nothing: no threshold and no figure is computed here.
#![allow(unsafe_code)]

mod baseline;
pub mod build;
pub mod captures;
pub mod careful;
pub mod catalog;
pub mod comparing;
pub mod compat;
mod compat_executor;
pub mod database_setting;
pub mod databases;
pub mod detached;
pub mod edit;
mod edit_log;
mod entry;
pub mod error;
pub mod executor;
pub mod filing;
mod graveyard;
pub mod guc;
pub mod heap;
pub mod history;
pub mod hooks;
pub mod journal;
pub mod lifecycle;
mod lists_mending;
pub mod locks;
pub mod measuring;
pub mod mending;
mod moving;
mod observer;
mod ordered_scans;
pub mod pages;
pub mod privilege;
pub mod probe;
pub mod procedure;
pub mod progress;
pub mod query_sample;
mod reattaching;
pub mod registration;
mod rows;
mod search;
pub mod shmem;
pub mod sql;
pub mod system;
mod throttle;
pub mod toplevel;
mod tuning;
mod uncounted;
pub mod workbench;
pub mod world;
pub mod xact;
