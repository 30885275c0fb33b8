//! Repair: which strategy mends an issue, in which steps, and whether now is the time.
//!
//! Steps are described here and taken elsewhere (see [`crate::ports::Workbench`]).

pub mod guards;
pub mod in_place;
pub mod index_rebalance;
pub mod lists;
pub mod parameter_tuning;
pub mod plan;
pub mod recovery;
pub mod runner;
pub mod strategy;
pub mod topology_repair;
pub mod vacuum;
