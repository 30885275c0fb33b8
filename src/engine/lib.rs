//! The self-healing engine: detection → diagnosis → repair → verification.
//!
//! It owns every figure, threshold and decision. It knows no PostgreSQL: no SQL, no clock,
//! no files, no environment. What it needs of the outside stands in [`ports`] as traits.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod cycle;
pub mod detection;
pub mod diagnosis;
pub mod model;
pub mod ports;
pub mod recall;
pub mod repair;
pub mod settings;
pub mod vector_index;
pub mod verification;
pub mod workload;
