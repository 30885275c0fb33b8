//! What must still be so, outside the page that is changed, for edits of links to be made.

use super::edit::{Change, Edit, Judged};
use crate::vector_index::hnsw::layout::{Item, Page};
use crate::vector_index::hnsw::read_page;
use crate::vector_index::page::Tid;
use crate::vector_index::{PageSource, ReadError};

/// Something that must be so for an edit to be made.
enum Want {
    /// A live element is there as it was judged and reaches up to a layer.
    There(Judged, u8),
    /// A live element has so many rows.
    Rows(Tid, u8),
    /// Nothing.
    Never(Tid),
}

impl Want {
    fn at(&self) -> Tid {
        match self {
            Self::There(judged, _) => judged.at,
            Self::Rows(at, _) | Self::Never(at) => *at,
        }
    }

    fn is_so(&self, page: &Page<'_>) -> bool {
        let Some(Item::Element(element)) = page.item(self.at().offset) else {
            return false;
        };
        let is = match self {
            Self::There(judged, layer) => {
                element.version() == judged.version
                    && element.level() == judged.level
                    && element.level() >= *layer
            }
            Self::Rows(_, rows) => element.heap_tids().len() == usize::from(*rows),
            Self::Never(_) => false,
        };
        is && !element.deleted()
    }
}

/// What else must still be so for an edit, element by element; none where that can only be told
/// right before the change is made.
fn wants(edit: &Edit) -> Option<Vec<Want>> {
    let Edit::Links {
        of, layer, change, ..
    } = edit
    else {
        return None;
    };
    let there = |judged: &Judged| Want::There(*judged, *layer);
    let other = |to: &Judged| match to.at == of.at {
        true => Want::Never(of.at),
        false => there(to),
    };
    let mut wants = vec![there(of)];
    match change {
        Change::Replace { to, .. } => wants.push(other(to)),
        Change::Append { to, .. } | Change::Rewrite { to, .. } => {
            wants.extend(to.iter().map(other));
        }
        Change::Relink { out, new, .. } => {
            wants.extend(out.iter().map(|&(at, rows)| Want::Rows(at, rows)));
            wants.extend(new.iter().map(other));
        }
        Change::Unlink { .. } => {}
        Change::Prune { .. } => return None,
    }
    Some(wants)
}

/// Whether what edits were judged by is still so; none of those that this can only be told of
/// right before they are made. Each page is read once.
pub(super) fn all_hold(
    edits: &[Edit],
    source: &mut dyn PageSource,
) -> Result<Vec<Option<bool>>, ReadError> {
    let mut holds = Vec::with_capacity(edits.len());
    let mut all = Vec::new();
    for (nth, edit) in edits.iter().enumerate() {
        let wanted = wants(edit);
        holds.push(wanted.as_ref().map(|_| true));
        all.extend(wanted.into_iter().flatten().map(|want| (want, nth)));
    }
    all.sort_unstable_by_key(|(want, _)| want.at());
    let mut at = 0;
    let mut blocks: Vec<u32> = all.iter().map(|(want, _)| want.at().block).collect();
    blocks.dedup();
    let mut judge = |block: u32, page: Option<&Page<'_>>| {
        while let Some((want, nth)) = all.get(at).filter(|(want, _)| want.at().block <= block) {
            let is_so = want.at().block == block && page.is_some_and(|page| want.is_so(page));
            if !is_so {
                holds[*nth] = Some(false);
            }
            at += 1;
        }
    };
    source.read(&mut blocks.into_iter(), &mut |block, bytes| {
        judge(block, Some(&Page::new(bytes)));
    })?;
    // What is past the end of the file was not handed on.
    judge(u32::MAX, None);
    Ok(holds)
}

/// Whether a live element is there as it was judged and reaches up to a layer.
pub(super) fn is_there(
    source: &mut dyn PageSource,
    judged: &Judged,
    layer: u8,
) -> Result<bool, ReadError> {
    let mut found = false;
    let want = Want::There(*judged, layer);
    read_page(source, judged.at.block, &mut |page| {
        found = want.is_so(page)
    })?;
    Ok(found)
}
