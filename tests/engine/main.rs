//! Tests of the engine alone: no server, no clock, seconds.

// The sources keep the rules of the house.
mod tidy;
// Figures of HNSW indexes.
mod hnsw;
// The healing loop: decisions, without a server.
mod healing;
// An index compared with its table.
mod table;
// Figures of IVFFlat indexes.
mod ivfflat;
// Recall: measured, watched, compared, tuned.
mod recall;
// Queries captured from statements: which are kept.
mod workload;
