//! The healer left to itself while something comes in between: it starts, steps back, survives and comes
//! back to what it had begun. Single repairs, asked for, are the matter of [`crate::rebuild`].

pub mod stage;

// Whatever ends the server or the worker at any step, the healer finds its way back and mends the index.
mod crash;
// Dead rows that nobody vacuums.
mod dead;
// A repair that gave way or was too slow rests, and is taken up again.
mod gives_way;
// Each reason not to start, with its code, until it is gone.
mod guards;
// Damage that an old pgvector does by itself.
mod race;
// What the healer mends by itself keeps its tablespace, statistics target and place.
mod shapes;
// An undo that is interrupted was made or was not: the index in place and the history agree.
mod undo;
