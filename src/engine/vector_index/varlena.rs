//! PostgreSQL's variable-length values as they stand in index tuples: with a long or a short
//! length word, plain or compressed.
//!
//! Bytes are hostile: nothing is read or made beyond what the tuple and [`MAX_RAW`] allow.

use std::borrow::Cow;

use super::page::u32_at;

/// The longest value that is taken to be one; a `bit` of 64,000 bits, the longest that can be
/// indexed, has 8 kB.
const MAX_RAW: usize = 64 << 10;

/// What follows the length word of the value that `bytes` begin with. None where it is cut
/// short, stands elsewhere, or cannot be decompressed.
pub(crate) fn contents(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let &first = bytes.first()?;
    if first & 1 == 1 {
        // A length of nothing is a pointer to elsewhere.
        let length = usize::from(first >> 1);
        return bytes.get(1..length).map(Cow::Borrowed);
    }
    let word = bytes.get(..4).map(|word| u32_at(word, 0))?;
    let length = (word >> 2) as usize;
    let data = bytes.get(4..length)?;
    if word & 3 == 0 {
        return Some(Cow::Borrowed(data));
    }
    let (info, packed) = data.split_at_checked(4)?;
    let info = u32_at(info, 0);
    let (raw, method) = ((info & 0x3FFF_FFFF) as usize, info >> 30);
    if raw > MAX_RAW {
        return None;
    }
    let plain = match method {
        0 => pglz(packed, raw)?,
        1 => lz4_flex::block::decompress(packed, raw).ok()?,
        _ => return None,
    };
    (plain.len() == raw).then_some(Cow::Owned(plain))
}

/// A value that is not compressed, with a long length word.
pub(crate) fn plain(contents: &[u8]) -> Vec<u8> {
    let length = (contents.len() as u32 + 4) << 2;
    [&length.to_le_bytes(), contents].concat()
}

/// PostgreSQL's own compression (`src/common/pg_lzcompress.c`): a control byte for each eight
/// items, each a byte or a reference of an offset and a length.
fn pglz(packed: &[u8], raw: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(raw);
    let mut packed = packed.iter().copied();
    while plain.len() < raw {
        let control = packed.next()?;
        for item in 0..8 {
            if plain.len() >= raw {
                break;
            }
            let first = packed.next()?;
            if control >> item & 1 == 0 {
                plain.push(first);
                continue;
            }
            let second = packed.next()?;
            let offset = usize::from(first & 0xF0) << 4 | usize::from(second);
            let mut length = usize::from(first & 0x0F) + 3;
            if length == 18 {
                length += usize::from(packed.next()?);
            }
            let from = plain.len().checked_sub(offset).filter(|_| offset > 0)?;
            for nth in 0..length.min(raw - plain.len()) {
                plain.push(plain[from + nth]);
            }
        }
    }
    Some(plain)
}
