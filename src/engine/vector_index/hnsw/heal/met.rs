//! What was met since something began anew, without emptying anything in between.

/// Elements by slot.
pub(super) struct Met {
    /// Since which beginning each slot was met last.
    turns: Vec<u32>,
    now: u32,
}

impl Met {
    /// Bytes it takes for so many slots.
    pub(super) fn bytes_for(slots: usize) -> usize {
        slots * size_of::<u32>()
    }

    pub(super) fn new(slots: usize) -> Self {
        Self {
            turns: vec![0; slots],
            now: 0,
        }
    }

    /// Forgets everything.
    pub(super) fn begin(&mut self) {
        self.now = self.now.checked_add(1).unwrap_or_else(|| {
            self.turns.fill(0);
            1
        });
    }

    /// Meets an element, and tells whether it is new.
    pub(super) fn meet(&mut self, slot: usize) -> bool {
        std::mem::replace(&mut self.turns[slot], self.now) != self.now
    }
}
