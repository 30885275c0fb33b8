//! The figures of IVFFlat indexes, from pages made in memory. `model` writes them.

mod figures;
mod model;
