//! IVFFlat indexes of pgvector: what their pages say and how well their lists serve.
//!
//! | module | owns |
//! |---|---|
//! | [`layout`] | the bytes on a page |
//! | `lists` | following the lists through the pages |
//! | `drift` | how far the centres are from their members |
//! | `health` | the figures |

mod drift;
mod health;
pub mod layout;
mod lists;

pub use health::{IvfflatFigures, IvfflatReport, inspect};
