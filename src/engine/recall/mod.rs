//! Recall: how much of the true answer an index returns, how sure that is, and what follows.
//!
//! Owns the exact answer ([`exact`]), the estimate and its interval ([`interval`]), the watch that
//! raises an alarm ([`heartbeat`]), the comparison of two indexes ([`paired`]) and the choice of
//! search parameters ([`tune`]). Knows nothing of how an index is searched, of where rows and
//! queries come from, or of time.

mod betting;
pub mod exact;
pub mod heartbeat;
pub mod interval;
pub mod paired;
pub mod tune;
