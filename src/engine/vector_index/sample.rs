//! Drawing at random, the same draw for the same seed.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#[derive(Debug, Clone)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, each as likely as the next (bias below 2⁻⁶⁴ · bound).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// A sample without replacement of a stream of unknown length: every item is as likely to be
/// in it as any other (Vitter, Random sampling with a reservoir, 1985, algorithm R).
#[derive(Debug, Clone)]
pub(crate) struct Reservoir<T> {
    items: Vec<T>,
    capacity: usize,
    seen: u64,
    random: SplitMix,
}

impl<T> Reservoir<T> {
    /// A sample of at most `capacity` items, drawn by `seed`.
    pub(crate) fn new(capacity: usize, seed: u64) -> Self {
        Self {
            items: Vec::new(),
            capacity,
            seen: 0,
            random: SplitMix(seed),
        }
    }

    /// Shows it the next item of the stream.
    pub(crate) fn offer(&mut self, item: T) {
        self.offer_with(|| item);
    }

    /// Shows it the next item of the stream, which is made only if it is drawn.
    pub(crate) fn offer_with(&mut self, item: impl FnOnce() -> T) {
        self.seen += 1;
        if self.items.len() < self.capacity {
            self.items.push(item());
        } else if self.capacity > 0 {
            let at = self.random.below(self.seen);
            if let Some(slot) = usize::try_from(at)
                .ok()
                .and_then(|at| self.items.get_mut(at))
            {
                *slot = item();
            }
        }
    }

    /// The sample in random order (Fisher and Yates), so that the first of them are a sample, too.
    pub(crate) fn into_items(mut self) -> Vec<T> {
        for end in (2..=self.items.len()).rev() {
            let at = self.random.below(end as u64) as usize;
            self.items.swap(at, end - 1);
        }
        self.items
    }
}
