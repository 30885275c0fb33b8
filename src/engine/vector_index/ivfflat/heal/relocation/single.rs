//! Entries that go from list to list one by one: to where there is room in the one they belong into.

use super::record::Record;
use super::{Alone, Chains, astray};
use crate::vector_index::ReadError;
use crate::vector_index::ivfflat::heal::Move;

/// Moves the entries of a few pages, at most [`PAGES_TOGETHER`](super::super::PAGES_TOGETHER). Tells
/// which were not there, or are where they would go.
pub fn move_singly(
    alone: &mut dyn Alone,
    chains: &mut Chains,
    moves: &[Move],
) -> Result<Vec<usize>, ReadError> {
    let mut mover = Mover {
        record: Record::start(alone)?,
        chains,
        entry: Vec::new(),
    };
    let mut by_list: Vec<usize> = (0..moves.len()).collect();
    by_list.sort_by_key(|&nth| moves[nth].to);
    let mut lost = Vec::new();
    for nth in by_list {
        if !mover.move_one(&moves[nth])? {
            lost.push(nth);
        }
    }
    mover.record.finish()?;
    lost.sort_unstable();
    Ok(lost)
}

struct Mover<'a> {
    record: Record<'a>,
    chains: &'a mut Chains,
    /// The one that is on its way.
    entry: Vec<u8>,
}

impl Mover<'_> {
    fn move_one(&mut self, one: &Move) -> Result<bool, ReadError> {
        let from = one.at.block;
        while let Some(room) = self.chains.room(one.to) {
            if room == from || !self.record.is_there(from) {
                return Ok(false);
            }
            // From, to, and to what that leads.
            self.record.make_room(3)?;
            let Some((offset, entry)) = self.record.existing(from)?.entry(one.row, one.at.offset)
            else {
                return Ok(false);
            };
            self.entry.clear();
            self.entry.extend_from_slice(entry);
            let target = self.record.existing(room)?;
            if !target.is_sound() {
                return Err(astray(room));
            }
            if target.add(&self.entry) {
                self.record.existing(from)?.remove(offset);
                return Ok(true);
            }
            self.go_on(one.to, room)?;
        }
        Ok(false)
    }

    /// There is no room on a page: its list goes on at the next, which is added where there is none.
    fn go_on(&mut self, list: u32, full: u32) -> Result<(), ReadError> {
        let next = match self.record.existing(full)?.next() {
            Some(next) => next,
            None => {
                let added = self.record.added(self.chains.take_spare());
                self.record.existing(full)?.lead_to(Some(added));
                added
            }
        };
        match self.chains.no_room(list, next) {
            true => Ok(()),
            false => Err(astray(full)),
        }
    }
}
