//! IVFFlat indexes of pgvector: what their pages say and how well their lists serve.
//!
//! | module | owns |
//! |---|---|
//! | [`layout`] | the bytes on a page |
//! | `lists` | following the lists through the pages |
//! | `directory` | which list has which row |
//! | `drift` | how far the centres are from their members |
//! | `health` | the figures |
//! | [`check`](mod@check) | whether everything is as pgvector leaves it |
//! | `rows` | the rows and values it has |
//! | [`heal`] | what mends it in place |

mod check;
mod directory;
mod drift;
pub mod heal;
mod health;
pub mod layout;
mod lists;
mod rows;
mod untrained;

pub use check::check;
pub use directory::{Directory, directory};
pub use health::{IvfflatFigures, IvfflatReport, inspect};
pub use lists::chains_end;
pub use rows::entries;
