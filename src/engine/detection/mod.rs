//! Detection: figures become findings.

pub mod birth;
pub mod index_health;
pub mod recall_watch;
