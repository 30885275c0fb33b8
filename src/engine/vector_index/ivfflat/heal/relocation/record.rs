//! Pages that change together.

use super::page::ListedPage;
use super::{Alone, MOST_PAGES, astray};
use crate::vector_index::{PAGE_SIZE, ReadError};

/// Changes that are being made to copies of pages; nothing is changed unless it is finished.
pub struct Record<'a> {
    alone: &'a mut dyn Alone,
    /// Pages of the index, with those added.
    blocks: u32,
    pages: Vec<(u32, ListedPage)>,
}

impl<'a> Record<'a> {
    /// Begins one.
    pub fn start(alone: &'a mut dyn Alone) -> Result<Self, ReadError> {
        Ok(Self {
            blocks: alone.block_count()?,
            alone,
            pages: Vec::new(),
        })
    }

    /// Whether so many pages more are not too many.
    pub fn has_room(&self, more: usize) -> bool {
        self.pages.len() + more <= MOST_PAGES
    }

    /// Finishes what there is where so many pages more could be too many.
    pub fn make_room(&mut self, more: usize) -> Result<(), ReadError> {
        match self.has_room(more) {
            true => Ok(()),
            false => self.finish(),
        }
    }

    /// Whether it is a page of the index.
    pub fn is_there(&self, block: u32) -> bool {
        block < self.blocks
    }

    /// The next block at the end of the file, where a page is put before the next is asked for.
    pub fn next_new(&mut self) -> u32 {
        self.blocks += 1;
        self.blocks - 1
    }

    /// A page that is there.
    pub fn existing(&mut self, block: u32) -> Result<&mut ListedPage, ReadError> {
        let found = self.pages.iter().position(|(held, _)| *held == block);
        let nth = match found {
            Some(nth) => nth,
            None => {
                let mut page = None;
                self.alone
                    .read(&mut std::iter::once(block), &mut |_, bytes| {
                        page = Some(ListedPage::of(bytes));
                    })?;
                self.pages.push((block, page.ok_or(astray(block))?));
                self.pages.len() - 1
            }
        };
        Ok(&mut self.pages[nth].1)
    }

    /// An empty page, the last of its chain: one that is in none, or the next at the end of the file. Tells
    /// where it is.
    pub fn added(&mut self, spare: Option<u32>) -> u32 {
        let block = spare.unwrap_or_else(|| self.next_new());
        self.put(block, ListedPage::empty());
        block
    }

    /// A page that was made.
    pub fn put(&mut self, block: u32, page: ListedPage) {
        self.pages.retain(|(held, _)| *held != block);
        self.pages.push((block, page));
    }

    /// Makes the changes, and empties pages that are in no chain.
    pub fn finish_with_empty(&mut self, blocks: &[u32]) -> Result<(), ReadError> {
        self.finish()?;
        let empty = ListedPage::empty();
        let Some(bytes) = empty.changed() else {
            return Ok(());
        };
        for blocks in blocks.chunks(MOST_PAGES) {
            let pages: Vec<(u32, &[u8; PAGE_SIZE])> =
                blocks.iter().map(|&block| (block, bytes)).collect();
            self.alone.write(&pages)?;
        }
        Ok(())
    }

    /// Makes the changes, and begins anew.
    pub fn finish(&mut self) -> Result<(), ReadError> {
        for (block, page) in &mut self.pages {
            if !page.settle() {
                return Err(astray(*block));
            }
        }
        let pages = self.pages.iter();
        let mut changed: Vec<(u32, &[u8; PAGE_SIZE])> = pages
            .filter_map(|(block, page)| Some((*block, page.changed()?)))
            .collect();
        changed.sort_unstable_by_key(|(block, _)| *block);
        if !changed.is_empty() {
            self.alone.write(&changed)?;
        }
        self.pages.clear();
        Ok(())
    }
}
