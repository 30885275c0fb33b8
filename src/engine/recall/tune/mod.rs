//! The smallest search parameter that reaches a recall.
//!
//! Owns the curve of recall over a parameter and the choice of a point on it: the smallest whose
//! lower bound meets the target. Must not know how a measurement is made, nor set anything.
//!
//! More of the parameter never finds less, so a curve is smoothed to rise, and the
//! lower bound of a smaller setting holds for a larger one.

mod ef_search;
mod isotonic;
mod probes;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use ef_search::{EfRequest, LARGEST_EF, Measurement, tune_ef};
pub use probes::ProbesTally;

use super::interval::RecallEstimate;

/// One setting and what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// `hnsw.ef_search` or `ivfflat.probes`.
    pub setting: u32,
    /// Recall at it, the curve smoothed.
    pub estimate: RecallEstimate,
    /// What a query costs at it: of probes the mean number of vectors compared, of
    /// `hnsw.ef_search` in the unit of the measurement.
    pub cost: f64,
}

/// Why no setting is recommended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Ceiling {
    /// No search can reach more than this share of the rows: repair, no setting helps.
    Unreachable {
        /// It.
        reachable: f64,
    },
    /// Recall at the largest setting is not above the target.
    BelowTarget,
    /// Recall at the largest setting is above the target, its lower bound is not.
    TooFewQueries {
        /// Queries with which it would, about.
        wanted: u32,
    },
    /// The measurements allowed were used up before the largest setting was tried.
    OutOfCalls,
}

/// More queries than anybody would ask to tell two figures apart.
const MOST_QUERIES: u32 = 100_000;

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { reachable } => write!(
                f,
                "no setting helps: searches can reach {:.1} % of the rows; see \
                 ruvector_dag_detected_issues for the repair",
                reachable * 100.0
            ),
            Self::BelowTarget => write!(f, "the largest setting does not reach the target"),
            Self::TooFewQueries { wanted } if *wanted > MOST_QUERIES => write!(
                f,
                "recall at the largest setting is too near the target to tell them apart"
            ),
            Self::TooFewQueries { wanted } => write!(
                f,
                "the largest setting may reach the target: that would take some {wanted} queries \
                 to show"
            ),
            Self::OutOfCalls => write!(f, "the target was not reached in the settings tried"),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// The smallest setting measured whose lower bound meets the target.
    pub recommended: Option<u32>,
    /// Recall at it; where none is recommended, at the largest setting measured.
    pub estimate: Option<RecallEstimate>,
    /// Every setting measured, ascending.
    pub curve: Vec<CurvePoint>,
    /// Why none is recommended.
    pub ceiling: Option<Ceiling>,
    /// Measurements made.
    pub calls: u32,
}

/// Chooses from a curve that rises. `largest`: the largest setting there is; `reachable`: the
/// share of rows that a search can reach, where that is known.
fn choose(
    curve: Vec<CurvePoint>,
    target: f64,
    largest: u32,
    reachable: Option<f64>,
    calls: u32,
) -> Tuning {
    let met = curve.iter().find(|point| point.estimate.ci_low >= target);
    let shown = met.or(curve.last()).copied();
    let ceiling = match (met, shown) {
        (Some(_), _) => None,
        (None, last) => Some(ceiling(last, target, largest, reachable)),
    };
    Tuning {
        recommended: met.map(|point| point.setting),
        estimate: shown.map(|point| point.estimate),
        ceiling,
        calls,
        curve,
    }
}

fn ceiling(last: Option<CurvePoint>, target: f64, largest: u32, reachable: Option<f64>) -> Ceiling {
    if let Some(reachable) = reachable.filter(|&reachable| reachable < target) {
        return Ceiling::Unreachable { reachable };
    }
    let Some(last) = last.filter(|last| last.setting >= largest) else {
        return Ceiling::OutOfCalls;
    };
    match last.estimate.queries_to_show(target) {
        Some(wanted) => Ceiling::TooFewQueries { wanted },
        None => Ceiling::BelowTarget,
    }
}
