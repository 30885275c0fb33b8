//! IVFFlat indexes, from pages made in memory. `model` writes them.

// What the lists are like.
mod figures;
// What mends them in place, and what is told of it before.
mod heal;
mod model;
// What evens their sizes.
mod regroup;
mod relocation;
