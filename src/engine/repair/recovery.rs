//! What to do about a repair that nobody is working on any more.
//!
//! A step's mark in the journal is committed together with its effect, so the journal tells
//! exactly how far a repair came, whatever ended it. The second index, if one is left, is removed
//! afterwards like any other (see [`Spare`]).

/// How far a repair came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Whether it was begun in this database of this server. A restored dump or a copied
    /// database carries the rows of another.
    pub ours: bool,
    /// Whether it has not ended.
    pub open: bool,
    /// Whether the replacement was put in place.
    pub swapped: bool,
}

/// How to close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It has ended; there is nothing to close.
    Nothing,
    /// It failed; what was there is still in place.
    CloseFailed,
    /// It succeeded: the replacement is in place.
    CloseSucceeded,
    /// It belongs to another database: close it, touch nothing.
    Abandon,
}

/// Decides how to close a repair.
pub fn decide(traces: Traces) -> Recovery {
    match traces {
        Traces { ours: false, .. } => Recovery::Abandon,
        Traces { open: false, .. } => Recovery::Nothing,
        Traces { swapped: true, .. } => Recovery::CloseSucceeded,
        _ => Recovery::CloseFailed,
    }
}

/// The index of a finished repair that is not in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// Whether it is there, under the OID, the name and the table that the journal recorded, and
    /// not valid: provably ours.
    pub provably_ours: bool,
    /// Whether its grace period is over, or it never had one.
    pub overdue: bool,
}

/// What to do with a spare index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposal {
    /// Its grace period is not over.
    Keep,
    /// Remove it.
    Drop,
    /// It is gone, or has become somebody's index: forget it.
    Forget,
}

/// Decides what to do with a spare index.
pub fn dispose(spare: Spare) -> Disposal {
    match spare {
        Spare {
            provably_ours: false,
            ..
        } => Disposal::Forget,
        Spare { overdue: false, .. } => Disposal::Keep,
        _ => Disposal::Drop,
    }
}
