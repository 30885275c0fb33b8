//! Releases of pgvector, and what one of them does wrong that a repair has to reckon with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A release of pgvector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Release {
    major: u16,
    minor: u16,
    patch: u16,
}

/// The first whose vacuum neither deletes an element that an insert is linking to (pgvector #988,
/// #990) nor fails for ever where one was put in its place (#993).
const DELETES_SAFELY: Release = Release::new(0, 8, 4);

impl Release {
    /// One by its number.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Why its vacuum may damage a graph while rows are inserted, and what helps, if it may.
    pub fn vacuum_fault(self) -> Option<String> {
        (self < DELETES_SAFELY).then(|| {
            format!(
                "a vacuum by pgvector {self} can damage a graph that is inserted into meanwhile; \
                 upgrade pgvector to {DELETES_SAFELY} or later"
            )
        })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Release {
    type Err = &'static str;

    fn from_str(version: &str) -> Result<Self, Self::Err> {
        let mut numbers = version.split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit());
            part[..digits.unwrap_or(part.len())].parse::<u16>()
        });
        let mut next = || match numbers.next() {
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => Err("not a version"),
            None => Ok(0),
        };
        Ok(Self::new(next()?, next()?, next()?))
    }
}
