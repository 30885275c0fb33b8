//! Page sources: quiet ones, ones that change while they are read, ones that fail.

use std::collections::HashMap;

use ruvector_dag_healing_engine::vector_index::hnsw::{HnswReport, inspect};
use ruvector_dag_healing_engine::vector_index::inspection::{InspectError, InspectOptions};
use ruvector_dag_healing_engine::vector_index::{PAGE_SIZE, PageSource, ReadError};

use super::model::{Bytes, Index};

/// An index whose pages may be another each time they are read.
pub struct Source {
    /// What the file holds from the first reading of a page, the second …; the last stays.
    pub stages: Vec<Vec<Bytes>>,
    /// How often each block was read.
    pub reads: HashMap<u32, usize>,
    /// Every block in the order read.
    pub order: Vec<u32>,
    /// Whether it says that nobody wrote to it.
    pub still: bool,
    /// Pages that may be read before it fails.
    pub patience: usize,
    /// Times it may be asked for the number of blocks before it fails.
    pub counts: usize,
    /// How it fails.
    pub failure: ReadError,
}

impl Source {
    /// Pages that stay as they are.
    pub fn quiet(pages: Vec<Bytes>) -> Self {
        Self::changing(vec![pages])
    }

    /// Pages that are of another stage each time they are read.
    pub fn changing(stages: Vec<Vec<Bytes>>) -> Self {
        Self {
            stages,
            reads: HashMap::new(),
            order: Vec::new(),
            still: false,
            patience: usize::MAX,
            counts: usize::MAX,
            failure: ReadError::Stopped,
        }
    }

    /// How often the most often read page was read, the metapage aside.
    pub fn most_reads(&self) -> usize {
        self.reads
            .iter()
            .filter(|(block, _)| **block > 0)
            .map(|(_, n)| *n)
            .max()
            .unwrap_or(0)
    }
}

impl PageSource for Source {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        self.counts = self
            .counts
            .checked_sub(1)
            .ok_or_else(|| self.failure.clone())?;
        // The file has grown once its last stage has been seen.
        let stage = self
            .reads
            .values()
            .copied()
            .max()
            .unwrap_or(0)
            .min(self.stages.len() - 1);
        Ok(self.stages[stage].len() as u32)
    }

    fn read(
        &mut self,
        blocks: &mut dyn Iterator<Item = u32>,
        sink: &mut dyn FnMut(u32, &[u8; PAGE_SIZE]),
    ) -> Result<(), ReadError> {
        for block in blocks {
            if self.patience == 0 {
                return Err(self.failure.clone());
            }
            let nth = self.reads.entry(block).or_default();
            // A block that was not there at first is of the last stage.
            let pages = self.stages[(*nth).min(self.stages.len() - 1)..]
                .iter()
                .find(|pages| pages.len() > block as usize);
            if let Some(pages) = pages {
                self.patience -= 1;
                *nth += 1;
                self.order.push(block);
                sink(block, &pages[block as usize]);
            }
        }
        Ok(())
    }

    fn is_still(&mut self) -> bool {
        self.still
    }
}

/// Ample memory, no rows.
pub fn options() -> InspectOptions {
    InspectOptions {
        memory_limit: 64 << 20,
        anatomy: false,
        sample_rows: 0,
        seed: 1,
    }
}

/// Inspects pages that stay as they are.
pub fn look(pages: Vec<Bytes>) -> Result<HnswReport, InspectError> {
    inspect(&mut Source::quiet(pages), &options())
}

/// Inspects a model, which must succeed.
pub fn report(index: &Index) -> HnswReport {
    look(index.build().pages).expect("an honest index")
}
