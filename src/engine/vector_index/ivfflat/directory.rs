//! Which list has which row, and where the lists' centres are.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::entries;
use super::lists::{each_list, each_page_of_entries};
use crate::vector_index::page::RawPage;
use crate::vector_index::{HeapTid, PageSource, ReadError};

/// The lists of an index, and where some rows are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directory {
    /// What follows the length word of each list's centre; empty where it cannot be read.
    pub centers: Vec<Vec<u8>>,
    /// Entries of each list.
    pub sizes: Vec<u64>,
    /// The list of each row asked for that is in one.
    pub list_of: BTreeMap<HeapTid, u32>,
}

/// Reads every page once, those of the lists twice, for the lists of `rows`.
pub fn directory(
    source: &mut dyn PageSource,
    rows: &BTreeSet<HeapTid>,
) -> Result<Directory, ReadError> {
    let mut found = Directory::default();
    let mut starts = Vec::new();
    let list_pages = each_list(source, &mut |_, _, list| {
        starts.push(list.start);
        let center = list.center.map(|center| center.into_owned());
        found.centers.push(center.unwrap_or_default());
    })?;
    found.sizes = vec![0; starts.len()];
    each_page_of_entries(source, &starts, &list_pages, &mut |list, _, bytes| {
        for (_, entry) in entries(&RawPage::new(bytes)) {
            found.sizes[list as usize] += 1;
            if rows.contains(&entry.row) {
                found.list_of.insert(entry.row, list);
            }
        }
    })?;
    Ok(found)
}
