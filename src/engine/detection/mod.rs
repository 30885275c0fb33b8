//! Detection: figures become findings.

mod birth;
pub mod index_health;
pub mod recall_watch;
