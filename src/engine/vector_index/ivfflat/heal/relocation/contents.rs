//! What is on some pages of a list, and on which pages it will be.

use std::collections::BTreeMap;
use std::ops::Range;

use super::page::{ROOM, taken};
use super::wanted::{Goes, Wanted};
use super::{Alone, astray};
use crate::vector_index::ReadError;
use crate::vector_index::ivfflat::layout::{entry, has_id};
use crate::vector_index::page::{Pointed, RawPage};

/// Where the bytes of an entry are.
pub type Place = Range<usize>;

/// What is on some pages of a list.
#[derive(Default)]
pub struct Contents {
    bytes: Vec<u8>,
    /// The entries that stay, and of those that go later the list, the number of that move, and the entry.
    own: Vec<Place>,
    later: Vec<(u32, usize, Place)>,
    /// The entries that go to a list.
    runs: BTreeMap<u32, Vec<Place>>,
    /// Room on the page before them.
    room: usize,
    /// Where the list goes on behind them.
    pub behind: Option<u32>,
}

impl Contents {
    /// Of pages, to which a page leads one after another.
    pub fn read(
        alone: &mut dyn Alone,
        before: u32,
        pages: &[u32],
        wanted: &mut Wanted<'_>,
    ) -> Result<Self, ReadError> {
        let mut contents = Self {
            bytes: Vec::with_capacity(pages.len() * ROOM),
            ..Self::default()
        };
        let mut fault = None;
        let mut expected = Some(before);
        let mut blocks = std::iter::once(before).chain(pages.iter().copied());
        alone.read(&mut blocks, &mut |block, bytes| {
            let page = RawPage::new(bytes);
            if expected != Some(block) || !has_id(&page) || !page.has_sane_header() {
                fault.get_or_insert(block);
                return;
            }
            expected = page.next_block();
            if block == before {
                contents.room = page.upper() - page.lower();
            } else if contents.add(block, &page, wanted).is_none() {
                fault.get_or_insert(block);
            }
        })?;
        contents.behind = expected;
        contents
            .later
            .sort_unstable_by_key(|(to, nth, _)| (*to, *nth));
        match fault {
            Some(block) => Err(astray(block)),
            None => Ok(contents),
        }
    }

    /// Adds what is on a page; none if anything on it is no entry.
    fn add(&mut self, block: u32, page: &RawPage<'_>, wanted: &mut Wanted<'_>) -> Option<()> {
        for offset in 1..=page.line_pointers() {
            let Pointed::Tuple(tuple) = page.pointed(offset)? else {
                return None;
            };
            let row = entry(tuple)?.row;
            let start = self.bytes.len();
            self.bytes.extend_from_slice(tuple);
            let place = start..self.bytes.len();
            match wanted.goes(block, row) {
                Goes::No => self.own.push(place),
                Goes::Later(nth) => self.later.push((wanted.scattered[nth].to, nth, place)),
                Goes::To(to) => self.runs.entry(to).or_default().push(place),
            }
        }
        Some(())
    }

    /// The bytes of an entry.
    pub fn entry(&self, place: &Place) -> &[u8] {
        &self.bytes[place.clone()]
    }

    /// What stays, and behind that what goes later: as much as there is room for on the page before, and
    /// then page by page.
    pub fn own(&self) -> Vec<Vec<&Place>> {
        let later = self.later.iter().map(|(_, _, place)| place);
        fill(self.own.iter().chain(later), self.room)
    }

    /// What goes to each list, page by page.
    pub fn runs(&self) -> impl Iterator<Item = (u32, Vec<Vec<&Place>>)> {
        let each = self.runs.iter();
        each.map(|(to, run)| (*to, fill(run.iter(), 0).split_off(1)))
    }

    /// The numbers of the moves that go later, with which of the pages of [`own`](Self::own) each entry is on.
    pub fn later<'a>(
        &'a self,
        own: &'a [Vec<&Place>],
    ) -> impl Iterator<Item = (usize, usize)> + 'a {
        let pages = own.iter().enumerate();
        let pages = pages.flat_map(|(page, entries)| std::iter::repeat_n(page, entries.len()));
        let later = pages.skip(self.own.len()).zip(&self.later);
        later.map(|(page, (_, nth, _))| (*nth, page))
    }
}

/// As many entries as fit into some room, and then page by page.
fn fill<'a>(entries: impl Iterator<Item = &'a Place>, room: usize) -> Vec<Vec<&'a Place>> {
    let (mut pages, mut left) = (vec![Vec::new()], room);
    for entry in entries {
        let size = taken(entry.len());
        if size > left {
            pages.push(Vec::new());
            left = ROOM;
        }
        left = left.saturating_sub(size);
        if let Some(page) = pages.last_mut() {
            page.push(entry);
        }
    }
    pages
}
