//! Detection: figures become findings.

mod birth;
pub mod damage;
pub mod index_health;
pub mod recall_watch;
