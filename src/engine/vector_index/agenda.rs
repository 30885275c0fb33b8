//! What is still to be done, taken in ascending order, round and round.
//!
//! Going through memory in order is what makes a walk through a large graph fast. A tree of
//! bitmaps, each bit of a level telling whether a word of the level below has any, finds the
//! next number in a few steps however far away it is.

/// A set of numbers that is emptied in ascending order, beginning again after the highest.
#[derive(Debug)]
pub(crate) struct Agenda {
    /// The bits of the numbers, the bits of their words, and so on up to a single word.
    levels: Vec<Vec<u64>>,
    cursor: usize,
}

impl Agenda {
    /// An empty agenda for the numbers below `len`.
    pub(crate) fn new(len: usize) -> Self {
        let mut levels = vec![vec![0; len.div_ceil(64).max(1)]];
        while let Some(words) = levels.last().map(Vec::len).filter(|&words| words > 1) {
            levels.push(vec![0; words.div_ceil(64)]);
        }
        Self { levels, cursor: 0 }
    }

    /// Adds a number, if there is room for it.
    #[inline]
    pub(crate) fn add(&mut self, mut n: usize) {
        for words in &mut self.levels {
            let Some(word) = words.get_mut(n / 64) else {
                return;
            };
            let had_any = *word != 0;
            *word |= 1 << (n % 64);
            if had_any {
                return;
            }
            n /= 64;
        }
    }

    /// Takes the next number out.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<usize> {
        let next = self
            .first_from(self.cursor)
            .or_else(|| self.first_from(0))?;
        self.remove(next);
        self.cursor = next + 1;
        Some(next)
    }

    /// The lowest number from `n` up.
    #[inline]
    pub(crate) fn first_from(&self, mut n: usize) -> Option<usize> {
        for (level, words) in self.levels.iter().enumerate() {
            let word = words.get(n / 64)? & (u64::MAX << (n % 64));
            if word != 0 {
                let found = n / 64 * 64 + word.trailing_zeros() as usize;
                let below = self.levels[..level].iter().rev();
                return below.into_iter().try_fold(found, |at, words| {
                    Some(at * 64 + words.get(at)?.trailing_zeros() as usize)
                });
            }
            n = n / 64 + 1;
        }
        None
    }

    /// Whether nothing is left to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.first_from(0).is_none()
    }

    /// Whether a number is in.
    #[inline]
    pub(crate) fn contains(&self, n: usize) -> bool {
        let words = self.levels.first();
        words
            .and_then(|words| words.get(n / 64))
            .is_some_and(|word| word & (1 << (n % 64)) != 0)
    }

    /// Takes a number out.
    #[inline]
    pub(crate) fn remove(&mut self, mut n: usize) {
        for words in &mut self.levels {
            let Some(word) = words.get_mut(n / 64) else {
                return;
            };
            *word &= !(1 << (n % 64));
            if *word != 0 {
                return;
            }
            n /= 64;
        }
    }
}
