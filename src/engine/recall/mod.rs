//! Recall: how much of the true answer an index returns, how sure that is, and what follows.
//!
//! Owns the exact answer ([`exact`]), the estimate and its interval ([`interval`]), the watch that
//! raises an alarm ([`heartbeat`]), the comparison of two indexes ([`paired`]), the choice of
//! search parameters ([`tune`]), the draw of queries ([`queries`]) and of blocks to read
//! ([`blocks`]), and putting these together ([`measure`]). Knows nothing of how an index is searched, of where rows come from, or of time.

mod betting;
pub mod blocks;
pub mod exact;
pub mod heartbeat;
pub mod interval;
pub mod measure;
pub mod paired;
pub mod queries;
pub mod tune;
