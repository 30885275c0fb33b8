//! Repairs that change pages of the index in place, on servers whose files were damaged while they
//! were stopped.

// What is planted is mended, and the index stays the one it is.
mod mended;
mod plant;
