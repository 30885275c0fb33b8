//! Which blocks of a table are read where reading all of them would cost too much.
//!
//! Owns the draw: one run of blocks at random from every so many, so that each block is drawn with
//! the same probability. Knows nothing of what is on them.

use std::ops::Range;

use crate::vector_index::sample::SplitMix;
use crate::vector_index::table::RowSource;
use crate::vector_index::{PAGE_SIZE, ReadError};

/// Blocks read between two pauses.
const BLOCKS_AT_A_TIME: u32 = 512;
/// Blocks that are read together: single ones would cost as much as several.
const RUN: u32 = 16;

/// Bytes of a row besides its value, and of a value that is kept out of line.
const ROW_BYTES: usize = 40;
const LONGEST_IN_LINE: usize = 2_000;

/// How much may be read of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of values, about.
    pub bytes: u64,
    /// What the draw of blocks begins with.
    pub seed: u64,
}

impl Budget {
    /// The blocks to read of a table whose values have so many bytes each: one of `most` at least.
    pub fn blocks(
        self,
        table: &mut dyn RowSource,
        value_bytes: usize,
        most: u32,
    ) -> Result<Blocks, ReadError> {
        let count = table.block_count()?;
        let in_line = match value_bytes {
            ..=LONGEST_IN_LINE => value_bytes,
            _ => 0,
        };
        // Rows are not known before the first vacuum or analyze: then as many as there may be.
        let fit = u64::from(count) * (PAGE_SIZE / (ROW_BYTES + in_line)) as u64;
        let bytes = table
            .row_count()
            .min(fit)
            .saturating_mul(value_bytes as u64);
        let wanted = bytes.div_ceil(self.bytes.max(1));
        let every = wanted.clamp(1, u64::from(most.max(1)));
        Ok(Blocks::one_in(every as u32, count, self.seed))
    }
}

/// The blocks of a table that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    count: u32,
    every: u32,
    seed: u64,
}

impl Blocks {
    /// One in `every` of `count` blocks.
    pub fn one_in(every: u32, count: u32, seed: u64) -> Self {
        Self {
            count,
            every: every.max(1),
            seed,
        }
    }

    /// Of how many blocks one is read.
    pub fn every(&self) -> u32 {
        self.every
    }

    /// The blocks, run by run, in order.
    pub fn runs(&self) -> impl Iterator<Item = Range<u32>> + use<> {
        let Self { count, every, seed } = *self;
        let mut random = SplitMix(seed);
        let run = if every == 1 { BLOCKS_AT_A_TIME } else { RUN };
        let stratum = run.saturating_mul(every);
        (0..count)
            .step_by(stratum as usize)
            .filter_map(move |start| {
                let skipped = (random.below(u64::from(every)) as u32).saturating_mul(run);
                let start = start.checked_add(skipped).filter(|&start| start < count)?;
                Some(start..count.min(start.saturating_add(run)))
            })
    }
}
