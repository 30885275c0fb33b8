//! What people call. Arguments and privileges are checked here, rows are shaped here; figures and
//! decisions are made in the engine.

mod acting;
mod check;
mod health;
mod recall;
mod status;
