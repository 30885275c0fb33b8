//! One change to one page of a graph, with everything it was judged by.
//!
//! Owns what must still be true for an edit to be made, the making of it on the bytes of a page,
//! and what takes it back. Knows nothing of locks: whoever applies an edit holds off vacuum, so
//! that no element goes between [`Edit::holds`] and [`Edit::apply`].

use serde::{Deserialize, Serialize};

use super::rows::RowsEdit;
use super::tuples::Header;
use super::wants::{all_hold, is_there};
use crate::vector_index::edit::{PageEdit, Undo};
use crate::vector_index::hnsw::layout::{Item, LINKS, Meta, Page};
use crate::vector_index::hnsw::read_page;
use crate::vector_index::page::{Pointed, TID, Tid, tid, tid_bytes, u16_at};
use crate::vector_index::{PAGE_SIZE, PageSource, ReadError};

/// An element as it was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(Tid, u8, u8)", from = "(Tid, u8, u8)")]
pub struct Judged {
    /// Where it is.
    pub at: Tid,
    /// Its highest layer.
    pub level: u8,
    /// Tells the uses of its slot apart.
    pub version: u8,
}

impl From<Judged> for (Tid, u8, u8) {
    fn from(judged: Judged) -> Self {
        (judged.at, judged.level, judged.version)
    }
}

impl From<(Tid, u8, u8)> for Judged {
    fn from((at, level, version): (Tid, u8, u8)) -> Self {
        Self { at, level, version }
    }
}

/// What is done to the links of an element on one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A link in the place of another.
    Replace {
        /// The slot, from 0.
        slot: u16,
        /// What it leads to now.
        was: Judged,
        /// What it shall lead to.
        to: Judged,
    },
    /// More links after those there are.
    Append {
        /// The first free slot; there is no link after it.
        slot: u16,
        /// Those to come.
        to: Vec<Judged>,
    },
    /// The slots as they are and the links that stay; the rest may lead nowhere from here.
    Prune {
        /// The slots.
        was: Vec<Option<Tid>>,
        /// What stays.
        stays: Vec<Tid>,
    },
    /// Other links in the place of all there are.
    Rewrite {
        /// Those there are.
        was: Vec<Judged>,
        /// Those that shall be.
        to: Vec<Judged>,
    },
    /// Takes links out, wherever they stand.
    Unlink {
        /// The links.
        links: Vec<Tid>,
    },
    /// Links past elements that are about to be deleted: those go, others come after what stays.
    Relink {
        /// The links there are.
        slots: u16,
        /// Those to go, and how many rows what they lead to has.
        out: Vec<(Tid, u8)>,
        /// Those to come.
        new: Vec<Judged>,
    },
}

/// A change to one page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// To the links of an element.
    Links {
        /// Whose.
        of: Judged,
        /// Where they are.
        tuple: Tid,
        /// On which layer.
        layer: u8,
        /// What is done to them.
        change: Change,
    },
    /// To what a neighbour tuple says of itself.
    Header(Header),
    /// To the rows of an element.
    Rows(RowsEdit),
    /// Rows from one element to another with the same value.
    Merge {
        /// The one that has fewer then.
        from: RowsEdit,
        /// The one that has more.
        into: RowsEdit,
    },
    /// To where searches start.
    Entry {
        /// Where they start now, and the level the metapage has for it.
        was: Option<Tid>,
        /// See `was`.
        was_level: i16,
        /// Where they shall start.
        to: Judged,
    },
    /// To where inserts begin to look for room.
    InsertPage {
        /// Where they begin now.
        was: u32,
        /// Where they shall.
        to: u32,
    },
}

impl Undo for Edit {
    /// None where what it took away was broken.
    fn undo(&self) -> Option<Self> {
        let (of, tuple, layer, change) = match self {
            Self::Links {
                of,
                tuple,
                layer,
                change,
            } => (of, tuple, layer, change),
            Self::Merge { from, into } => {
                return Some(Self::Merge {
                    from: into.taken_back(),
                    into: from.taken_back(),
                });
            }
            _ => return None,
        };
        let at = |links: &[Judged]| links.iter().map(|link| link.at).collect();
        let change = match change {
            Change::Replace { slot, was, to } => Change::Replace {
                slot: *slot,
                was: *to,
                to: *was,
            },
            Change::Append { to, .. } => Change::Unlink { links: at(to) },
            Change::Rewrite { was, to } => Change::Rewrite {
                was: to.clone(),
                to: was.clone(),
            },
            Change::Prune { .. } | Change::Unlink { .. } | Change::Relink { .. } => return None,
        };
        Some(Self::Links {
            of: *of,
            tuple: *tuple,
            layer: *layer,
            change,
        })
    }
}

impl PageEdit for Edit {
    /// Links of an element on each layer above the ground.
    type Of = u16;

    fn block(&self) -> u32 {
        match self {
            Self::Links { tuple, .. } => tuple.block,
            Self::Header(header) => header.tuple.block,
            Self::Rows(rows) => rows.of.at.block,
            Self::Merge { from, .. } => from.of.at.block,
            Self::Entry { .. } | Self::InsertPage { .. } => 0,
        }
    }

    fn other_block(&self) -> Option<u32> {
        match self {
            Self::Merge { from, into } => {
                let other = into.of.at.block;
                (other != from.of.at.block).then_some(other)
            }
            _ => None,
        }
    }

    /// Rows are in one element to a search that has seen the other, or in both.
    fn excludes_searches(&self) -> bool {
        matches!(self, Self::Merge { .. })
    }

    /// An insert that has chosen a slot to write to would leave a hole where links move up, and one
    /// that ends meanwhile may set the entry point itself.
    fn excludes_inserts(&self) -> bool {
        match self {
            Self::Links { change, .. } => match change {
                Change::Prune { .. } | Change::Unlink { .. } => true,
                Change::Relink { out, new, .. } => new.len() < out.len(),
                Change::Rewrite { was, to } => to.len() < was.len(),
                Change::Replace { .. } | Change::Append { .. } => false,
            },
            Self::Entry { .. } | Self::Header(_) | Self::Rows(_) | Self::Merge { .. } => true,
            Self::InsertPage { .. } => false,
        }
    }

    /// The elements concerned are there, and what is taken out of a layer does not belong there.
    fn holds(&self, source: &mut dyn PageSource) -> Result<bool, ReadError> {
        match self {
            Self::Links {
                of,
                layer,
                change: Change::Prune { was, stays },
                ..
            } => Ok(
                is_there(source, of, *layer)? && all_illegal(source, of.at, *layer, was, stays)?
            ),
            Self::Links { .. } => {
                let mut all = all_hold(std::slice::from_ref(self), source)?;
                Ok(all.pop().flatten().unwrap_or(false))
            }
            Self::Header(header) => header.holds(source),
            // All of it is on the pages that are changed.
            Self::Rows(_) | Self::Merge { .. } => Ok(true),
            Self::Entry { to, .. } => is_there(source, to, to.level),
            Self::InsertPage { to, .. } => {
                let mut found = false;
                read_page(source, *to, &mut |page| found = page.has_hnsw_id())?;
                Ok(found && *to > 0)
            }
        }
    }

    fn all_hold(
        edits: &[Self],
        source: &mut dyn PageSource,
    ) -> Result<Vec<Option<bool>>, ReadError> {
        all_hold(edits, source)
    }

    fn apply(&self, m: u16, page: &mut [u8; PAGE_SIZE]) -> bool {
        let looked = Page::new(page);
        if !looked.has_hnsw_id() || !looked.raw().has_sane_header() {
            return false;
        }
        match self {
            Self::Links {
                of,
                tuple,
                layer,
                change,
            } => {
                let slots = Slots::find(page, of, *tuple, *layer, m);
                slots.is_some_and(|mut slots| slots.change(change))
            }
            Self::Header(header) => header.apply(m, page),
            Self::Rows(rows) => rows.apply(page),
            Self::Merge { from, into } => {
                // Both or none.
                let is_ready = from.is_as_judged(&looked) && into.is_as_judged(&looked);
                is_ready && from.apply(page) && into.apply(page)
            }
            Self::Entry { was, was_level, to } => {
                let same = |meta: Meta| meta.entry == *was && meta.entry_level == *was_level;
                if !Meta::decode(&looked).is_ok_and(same) {
                    return false;
                }
                page[40..44].copy_from_slice(&to.at.block.to_le_bytes());
                page[44..46].copy_from_slice(&to.at.offset.to_le_bytes());
                page[46..48].copy_from_slice(&i16::from(to.level).to_le_bytes());
                true
            }
            Self::InsertPage { was, to } => {
                if !Meta::decode(&looked).is_ok_and(|meta| meta.insert_page == *was) {
                    return false;
                }
                page[48..52].copy_from_slice(&to.to_le_bytes());
                true
            }
        }
    }

    fn apply_across(
        &self,
        _m: u16,
        page: &mut [u8; PAGE_SIZE],
        other: &mut [u8; PAGE_SIZE],
    ) -> bool {
        let Self::Merge { from, into } = self else {
            return false;
        };
        let is_ready = |rows: &RowsEdit, page: &[u8; PAGE_SIZE]| {
            let page = Page::new(page);
            page.has_hnsw_id() && page.raw().has_sane_header() && rows.is_as_judged(&page)
        };
        is_ready(from, page) && is_ready(into, other) && from.apply(page) && into.apply(other)
    }
}

/// The slots of one layer on a page.
struct Slots<'a>(&'a mut [u8]);

impl<'a> Slots<'a> {
    /// The layer of a neighbour tuple; none where the tuple is not the element's.
    fn find(
        page: &'a mut [u8; PAGE_SIZE],
        of: &Judged,
        at: Tid,
        layer: u8,
        m: u16,
    ) -> Option<Self> {
        let raw = Page::new(page).raw();
        let Some(Pointed::Tuple(tuple)) = raw.pointed(at.offset) else {
            return None;
        };
        let (start, ..) = raw.line_pointer(at.offset)?;
        let (level, m) = (usize::from(of.level), usize::from(m));
        let count = (level + 2) * m;
        let is_of = tuple.len() >= LINKS + count * TID
            && tuple[0] == 2
            && tuple[1] == of.version
            && usize::from(u16_at(tuple, 2)) == count;
        let above = level.checked_sub(usize::from(layer))?;
        let first = start + LINKS + above * m * TID;
        let slots = if layer == 0 { 2 * m } else { m };
        is_of.then(|| page.get_mut(first..first + slots * TID).map(Self))?
    }

    fn all(&self) -> impl Iterator<Item = Option<Tid>> + '_ {
        let slot = |bytes| Some(tid(bytes)).filter(|tid| tid.offset != 0);
        self.0.chunks_exact(TID).map(slot)
    }

    /// The links up to the first free slot.
    fn links(&self) -> Vec<Tid> {
        self.all().map_while(|link| link).collect()
    }

    fn write(&mut self, links: impl Iterator<Item = Tid>) {
        let mut links = links;
        for slot in self.0.chunks_exact_mut(TID) {
            slot.copy_from_slice(&tid_bytes(links.next()));
        }
    }

    /// Makes a change and tells so, if the slots are as it says.
    fn change(&mut self, change: &Change) -> bool {
        let links = self.links();
        let nothing_after = |count| self.all().skip(count).all(|link| link.is_none());
        match change {
            Change::Replace { slot, was, to } => {
                let nth = usize::from(*slot);
                if links.get(nth) != Some(&was.at) || links.contains(&to.at) {
                    return false;
                }
                let slots = links.iter().enumerate();
                self.write(slots.map(|(n, &link)| if n == nth { to.at } else { link }));
            }
            Change::Append { slot, to } => {
                let slot = usize::from(*slot);
                let has_room = slot + to.len() <= self.0.len() / TID;
                let is_new = |to: &Judged| !links.contains(&to.at);
                if links.len() != slot
                    || !nothing_after(slot)
                    || !has_room
                    || !to.iter().all(is_new)
                {
                    return false;
                }
                self.write(links.iter().copied().chain(to.iter().map(|to| to.at)));
            }
            Change::Prune { was, stays } => {
                if !self.all().eq(was.iter().copied()) {
                    return false;
                }
                self.write(stays.iter().copied());
            }
            Change::Rewrite { was, to } => {
                let same = links.iter().eq(was.iter().map(|was| &was.at));
                let has_room = to.len() <= self.0.len() / TID;
                if !same || !nothing_after(was.len()) || !has_room {
                    return false;
                }
                self.write(to.iter().map(|to| to.at));
            }
            Change::Unlink { links: out } => {
                if !out.iter().any(|link| links.contains(link)) {
                    return false;
                }
                self.write(links.into_iter().filter(|link| !out.contains(link)));
            }
            Change::Relink { slots, out, new } => {
                let nothing_after = nothing_after(links.len());
                let goes = |link: &Tid| out.iter().any(|(at, _)| at == link);
                let stays: Vec<Tid> = links.iter().copied().filter(|link| !goes(link)).collect();
                let is_new = |new: &Judged| !stays.contains(&new.at);
                if links.len() != usize::from(*slots)
                    || !nothing_after
                    || links.len() - stays.len() != out.len()
                    || stays.len() + new.len() > self.0.len() / TID
                    || !new.iter().all(is_new)
                {
                    return false;
                }
                self.write(stays.into_iter().chain(new.iter().map(|new| new.at)));
            }
        }
        true
    }
}

/// Whether everything that does not stay is no legal link of `of` on a layer, or stands there
/// before.
fn all_illegal(
    source: &mut dyn PageSource,
    of: Tid,
    layer: u8,
    was: &[Option<Tid>],
    stays: &[Tid],
) -> Result<bool, ReadError> {
    for link in was.iter().flatten() {
        if !stays.contains(link) && *link != of && is_legal(source, *link, layer)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a link on a layer may lead there: to a live element that is on it.
pub(super) fn is_legal(
    source: &mut dyn PageSource,
    link: Tid,
    layer: u8,
) -> Result<bool, ReadError> {
    let mut legal = false;
    if link.block > 0 {
        read_page(source, link.block, &mut |page| {
            if let Some(Item::Element(element)) = page.item(link.offset) {
                legal = !element.deleted() && element.level() >= layer;
            }
        })?;
    }
    Ok(legal)
}
