//! The figures of HNSW indexes, from pages made in memory.
//!
//! `model` writes pages and `reference` computes figures, both independently of the engine;
//! `source` hands the pages out as a server would, quiet or busy.

// How a graph is built, in figures.
mod anatomy;
mod busy;
mod busy_little;
mod check;
mod figures;
mod golden;
// Graphs mended in place.
mod heal;
mod hostile;
mod memory;
mod model;
mod random;
mod reference;
// Where inserts find room.
mod room;
mod rows;
mod source;
