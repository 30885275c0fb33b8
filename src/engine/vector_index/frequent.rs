//! Which keys stand out by their number in a stream of any length, in bounded memory.

use std::collections::HashMap;

/// Counts as Misra and Gries do (Finding repeated elements, 1982): of `n` keys shown, each one
/// that came more than `n` / [`KEYS`](Self::KEYS) times is kept, with a count that is too low
/// by at most so much. Takes some 70 kB. Of a value that a hundredth of the rows have, ten to an element, none is missed.
#[derive(Debug, Default)]
pub(crate) struct Frequent(HashMap<u64, u32>);

impl Frequent {
    /// Keys kept.
    pub(crate) const KEYS: usize = 2_048;

    /// Shows it the next key of the stream.
    pub(crate) fn offer(&mut self, key: u64) {
        if let Some(count) = self.0.get_mut(&key) {
            *count = count.saturating_add(1);
        } else if self.0.len() < Self::KEYS {
            self.0.insert(key, 1);
        } else {
            self.0.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// The `most` keys that came most often, of those that came `times` at least.
    pub(crate) fn keys(&self, times: u32, most: usize) -> Vec<u64> {
        let mut kept: Vec<(u32, u64)> = self
            .0
            .iter()
            .filter(|(_, count)| **count >= times)
            .map(|(&key, &count)| (count, key))
            .collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        kept.truncate(most);
        kept.into_iter().map(|(_, key)| key).collect()
    }
}
