//! Links of elements, as words one after another in chunks that never move.
//!
//! A list is one run of words for each layer from the lowest kept up: a head, then the links.
//! The head has the number of links in its low half and, in its high half, how many of them,
//! the last ones, were not there at the look before.

/// Words of a chunk, as bits of an address.
const CHUNK_BITS: u32 = 12;
/// Words of a chunk. The longest list an element can have on one page, 1,621 words, fits.
const CHUNK: usize = 1 << CHUNK_BITS;
/// The address that stands for no list.
pub(crate) const NO_LIST: u32 = u32::MAX;

/// The links of one element on one layer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Layer<'a> {
    /// Every link.
    pub(crate) all: &'a [u32],
    /// How many of them, the last ones, were not there at the look before.
    pub(crate) fresh: usize,
}

impl<'a> Layer<'a> {
    /// The links that were there at the look before too.
    pub(crate) fn settled(&self) -> &'a [u32] {
        &self.all[..self.all.len().saturating_sub(self.fresh)]
    }
}

/// Puts a head before the links of one layer.
pub(crate) fn write_layer(words: &mut Vec<u32>, links: impl Iterator<Item = u32>, fresh: usize) {
    let head = words.len();
    words.push(0);
    words.extend(links);
    let count = words.len() - head - 1;
    words[head] = count as u32 & 0xFFFF | (fresh as u32) << 16;
}

/// All the lists.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    chunks: Vec<Vec<u32>>,
}

impl Lists {
    /// Bytes of one chunk and of what keeps it.
    const CHUNK_BYTES: usize = CHUNK * size_of::<u32>() + 2 * size_of::<Vec<u32>>();

    /// Bytes it would take with one more list of any length.
    pub(crate) fn bytes_after_push(&self) -> usize {
        (self.chunks.len() + 1) * Self::CHUNK_BYTES
    }

    /// Bytes that short lists of so many words together take.
    pub(crate) fn bytes_for(words: usize) -> usize {
        (words / (CHUNK - CHUNK / 32) + 1) * Self::CHUNK_BYTES
    }

    /// Keeps a list and returns its address; none when there is no address left.
    pub(crate) fn push(&mut self, words: &[u32]) -> Option<u32> {
        if words.len() > CHUNK {
            return None;
        }
        if self
            .chunks
            .last()
            .is_none_or(|chunk| chunk.len() + words.len() > CHUNK)
        {
            if self.chunks.len() + 1 >= 1 << (32 - CHUNK_BITS) {
                return None;
            }
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len().checked_sub(1)?;
        let start = self.chunks[chunk].len();
        self.chunks[chunk].extend_from_slice(words);
        Some((chunk << CHUNK_BITS | start) as u32)
    }

    /// The layers of a list, lowest first, and whatever comes after them: a list does not know
    /// its own length, so take no more layers than it has.
    pub(crate) fn layers(&self, address: u32) -> impl Iterator<Item = Layer<'_>> {
        let (chunk, start) = ((address >> CHUNK_BITS) as usize, address as usize % CHUNK);
        let mut words = self
            .chunks
            .get(chunk)
            .and_then(|chunk| chunk.get(start..))
            .unwrap_or_default();
        std::iter::from_fn(move || {
            let (&head, rest) = words.split_first()?;
            let (all, rest) = rest.split_at_checked((head & 0xFFFF) as usize)?;
            words = rest;
            Some(Layer {
                all,
                fresh: (head >> 16) as usize,
            })
        })
    }
}
