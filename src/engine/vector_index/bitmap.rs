//! A set of small numbers as bits. Knows nothing of what the numbers stand for.

/// A set of numbers; one bit for each up to the highest there was room for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    /// An empty set with room for the numbers below `len`.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
        }
    }

    /// Bytes of a set with room for the numbers below `len`.
    pub(crate) fn bytes_for(len: usize) -> usize {
        len.div_ceil(64) * size_of::<u64>()
    }

    /// Makes room for the numbers below `len`.
    pub(crate) fn grow(&mut self, len: usize) {
        if self.words.len() < len.div_ceil(64) {
            self.words.resize(len.div_ceil(64), 0);
        }
    }

    /// Adds `n`, if there is room for it, and tells whether it is new.
    #[inline]
    pub(crate) fn insert(&mut self, n: usize) -> bool {
        let bit = 1 << (n % 64);
        self.words.get_mut(n / 64).is_some_and(|word| {
            let new = *word & bit == 0;
            *word |= bit;
            new
        })
    }

    /// Takes `n` out and tells whether it was in.
    #[inline]
    pub(crate) fn remove(&mut self, n: usize) -> bool {
        let bit = 1 << (n % 64);
        self.words.get_mut(n / 64).is_some_and(|word| {
            let was_in = *word & bit != 0;
            *word &= !bit;
            was_in
        })
    }

    /// Puts `n` in, if there is room for it, or takes it out.
    pub(crate) fn set(&mut self, n: usize, is_in: bool) {
        if is_in {
            self.insert(n);
        } else {
            self.remove(n);
        }
    }

    /// Whether `n` is in.
    #[inline]
    pub(crate) fn contains(&self, n: usize) -> bool {
        self.words
            .get(n / 64)
            .is_some_and(|word| word & (1 << (n % 64)) != 0)
    }

    /// Keeps only the numbers that are in `other` too.
    pub(crate) fn intersect(&mut self, other: &Self) {
        for (i, word) in self.words.iter_mut().enumerate() {
            *word &= other.words.get(i).copied().unwrap_or(0);
        }
    }

    /// The numbers that are in, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(i, &word)| {
            std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|rest| *rest != 0)
                .map(move |rest| i * 64 + rest.trailing_zeros() as usize)
        })
    }
}
