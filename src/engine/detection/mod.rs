//! Detection: figures become findings.

pub mod birth;
pub mod damage;
pub mod index_health;
pub mod recall_watch;
