//! Detection: figures become findings.

pub mod index_health;
