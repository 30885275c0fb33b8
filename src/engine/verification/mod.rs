//! Verification: whether what was done is better than what was there.

pub mod comparison;
pub mod forecast;
mod lists;
pub mod probe;
pub mod rollback;
pub mod validation;

use serde::{Deserialize, Serialize};

/// The outcome of comparing before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// Better: keep it.
    Keep,
    /// Not better, for the reason given: undo it.
    Undo(String),
}
