//! What seems wrong at one examination, and what is wrong at two.

use std::collections::BTreeMap;

use crate::vector_index::finding::{Breach, Gravity};
use crate::vector_index::page::Tid;

/// Suspects kept; of more only the number is known.
const MAX_SUSPECTS: usize = 100_000;

/// What seems wrong: the same at two examinations if all of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Suspect {
    block: Option<u32>,
    item: Option<u16>,
    check: &'static str,
    gravity: Gravity,
    /// What else must be the same: the other end of a link, versions, levels.
    detail: [u64; 2],
}

impl Suspect {
    /// Something with the index as a whole.
    pub(super) fn index(gravity: Gravity, check: &'static str) -> Self {
        Self {
            block: None,
            item: None,
            check,
            gravity,
            detail: [0; 2],
        }
    }

    /// Something with a page.
    pub(super) fn page(gravity: Gravity, check: &'static str, block: u32) -> Self {
        Self {
            block: Some(block),
            ..Self::index(gravity, check)
        }
    }

    /// Something with a tuple.
    pub(super) fn tuple(gravity: Gravity, check: &'static str, tid: Tid) -> Self {
        Self {
            item: Some(tid.offset),
            ..Self::page(gravity, check, tid.block)
        }
    }

    /// The same with what else must be the same.
    pub(super) fn with(self, a: u64, b: u64) -> Self {
        Self {
            detail: [a, b],
            ..self
        }
    }
}

/// Everything that seems wrong.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    found: BTreeMap<Suspect, String>,
    unlisted: u64,
}

impl Suspects {
    /// Adds a suspect with what to say of it.
    pub(super) fn add(&mut self, suspect: Suspect, message: impl FnOnce() -> String) {
        if self.found.len() < MAX_SUSPECTS {
            self.found.entry(suspect).or_insert_with(message);
        } else if !self.found.contains_key(&suspect) {
            self.unlisted += 1;
        }
    }

    /// Whether nothing seems wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Reports what both have.
    pub(super) fn and(self, other: Self, report: &mut dyn FnMut(Breach)) {
        for (suspect, message) in self.found {
            if other.found.contains_key(&suspect) {
                report(Breach {
                    gravity: suspect.gravity,
                    check: suspect.check,
                    block: suspect.block,
                    item: suspect.item,
                    message,
                });
            }
        }
        let more = self.unlisted.min(other.unlisted);
        if more > 0 {
            report(Breach {
                gravity: Gravity::Error,
                check: "more",
                block: None,
                item: None,
                message: format!("{more} more breaches are not listed"),
            });
        }
    }
}

/// A tuple's place as a number.
pub(super) fn number(tid: Tid) -> u64 {
    u64::from(tid.block) << 16 | u64::from(tid.offset)
}
