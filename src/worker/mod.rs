//! Workers: how they live and die. What they do is the engine's and `pg`'s.

pub mod healer;
pub mod launcher;
pub mod repair;
