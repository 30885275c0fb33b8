//! Where to begin with what cannot be reached: at elements from which all the rest of it can be.

use super::draft::Draft;
use super::search::Walked;
use crate::vector_index::bitmap::Bitmap;

/// All `missed` elements, first those from which the others are reached: one of each group of
/// elements that reach each other and that no other group leads to.
///
/// Whatever is met first in such a group is met from outside it by nothing. So in a first round
/// over all elements every group has one from which it was entered; entered again in the reverse
/// order, a group that another leads to has been entered from there.
pub(super) fn sources_first(draft: &Draft<'_>, missed: &[usize]) -> Vec<usize> {
    let slots = draft.survey.graph.slots.count();
    let mut wanted = Bitmap::new(slots);
    for &slot in missed {
        wanted.insert(slot);
    }
    let entered = entries(draft, missed.iter().copied(), wanted.clone());
    let mut order = entries(draft, entered.into_iter().rev(), wanted.clone());
    for &source in &order {
        wanted.remove(source);
    }
    order.extend(missed.iter().copied().filter(|&slot| wanted.contains(slot)));
    order
}

/// Those of `starts` that are not reached within `left` from one before.
fn entries(draft: &Draft<'_>, starts: impl Iterator<Item = usize>, mut left: Bitmap) -> Vec<usize> {
    let mut entries = Vec::new();
    let mut agenda = Vec::new();
    for start in starts {
        if !left.remove(start) {
            continue;
        }
        entries.push(start);
        agenda.push(start);
        while let Some(slot) = agenda.pop() {
            let next = draft.targets(slot, 0);
            agenda.extend(next.into_iter().filter(|&target| left.remove(target)));
        }
    }
    entries
}
