//! What releases of pgvector do wrong that a repair has to reckon with.

pub use semver::Version as Release;

/// The first whose vacuum neither deletes an element that an insert is linking to (pgvector #988,
/// #990) nor fails for ever where one was put in its place (#993).
const DELETES_SAFELY: Release = Release::new(0, 8, 4);

/// Why a vacuum may damage a graph while rows are inserted, and what helps, if it may.
pub fn vacuum_fault(release: &Release) -> Option<String> {
    (*release < DELETES_SAFELY).then(|| {
        format!(
            "a vacuum by pgvector {release} can damage a graph that is inserted into meanwhile; \
             upgrade pgvector to {DELETES_SAFELY} or later"
        )
    })
}
