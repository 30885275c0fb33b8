//! Writes IVFFlat files as pgvector does, independently of the engine.

use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::ValueType;
use ruvector_dag_healing_engine::vector_index::{PAGE_SIZE, PageSource, ReadError};

pub type Bytes = [u8; PAGE_SIZE];

const NONE: u32 = u32::MAX;

/// An index of `vector`, as its catalog entry has it.
pub fn shape(metric: Metric) -> IndexShape {
    IndexShape {
        value_type: ValueType::Vector,
        metric,
        normalized: metric == Metric::Cosine,
        dimensions: None,
        option: None,
    }
}

/// An index of `vector`.
#[derive(Debug, Clone)]
pub struct Index {
    pub centers: Vec<Vec<f32>>,
    /// Of each list.
    pub members: Vec<Vec<Vec<f32>>>,
    /// Entries on a page.
    pub per_page: usize,
    /// Whether short values have a length word of one byte, as in tuples that PostgreSQL formed.
    pub short: bool,
}

pub fn vector(components: &[f32]) -> Vec<u8> {
    let mut data = (components.len() as u32).to_le_bytes().to_vec();
    components.iter().for_each(|c| data.extend(c.to_le_bytes()));
    data
}

fn long(data: &[u8]) -> Vec<u8> {
    let word = (data.len() as u32 + 4) << 2;
    [&word.to_le_bytes()[..], data].concat()
}

fn short(data: &[u8]) -> Vec<u8> {
    let head = ((data.len() as u8 + 1) << 1) | 1;
    [&[head][..], data].concat()
}

/// A page with these tuples and the page that comes after it.
pub fn page(tuples: &[Vec<u8>], next: u32) -> Bytes {
    let mut page = [0; PAGE_SIZE];
    let (mut lower, mut upper) = (24, PAGE_SIZE - 8);
    for tuple in tuples {
        upper = (upper - tuple.len()) & !7;
        page[upper..upper + tuple.len()].copy_from_slice(tuple);
        let pointer = upper as u32 | 1 << 15 | (tuple.len() as u32) << 17;
        page[lower..lower + 4].copy_from_slice(&pointer.to_le_bytes());
        lower += 4;
    }
    page[12..14].copy_from_slice(&(lower as u16).to_le_bytes());
    page[14..16].copy_from_slice(&(upper as u16).to_le_bytes());
    page[16..18].copy_from_slice(&(PAGE_SIZE as u16 - 8).to_le_bytes());
    page[PAGE_SIZE - 8..PAGE_SIZE - 4].copy_from_slice(&next.to_le_bytes());
    page[PAGE_SIZE - 2..].copy_from_slice(&0xFF84_u16.to_le_bytes());
    page
}

impl Index {
    pub fn pages(&self) -> Vec<Bytes> {
        let mut meta = page(&[], NONE);
        meta[24..28].copy_from_slice(&0x014F_F1A7_u32.to_le_bytes());
        meta[28..32].copy_from_slice(&1_u32.to_le_bytes());
        let dimensions = self.centers.first().map_or(1, Vec::len) as u16;
        meta[32..34].copy_from_slice(&dimensions.to_le_bytes());
        meta[34..36].copy_from_slice(&(self.centers.len() as u16).to_le_bytes());
        // Lists on one page, then the entries of each list.
        let mut entries = Vec::new();
        let mut lists = Vec::new();
        for (number, (center, members)) in (0..).zip(self.centers.iter().zip(&self.members)) {
            let start = 2 + entries.len() as u32;
            let chunks: Vec<_> = members.chunks(self.per_page).collect();
            for nth in 0..chunks.len().max(1) {
                let chunk = chunks.get(nth).copied().unwrap_or_default();
                let rows = (nth * self.per_page + 1) as u16..;
                let tuples: Vec<_> = rows
                    .zip(chunk)
                    .map(|(offset, member)| self.entry(number, offset, member))
                    .collect();
                let next = if nth + 1 < chunks.len() {
                    3 + entries.len() as u32
                } else {
                    NONE
                };
                entries.push(page(&tuples, next));
            }
            let head = [start.to_le_bytes(), start.to_le_bytes()].concat();
            lists.push([head, long(&vector(center))].concat());
        }
        let mut pages = vec![meta, page(&lists, NONE)];
        pages.extend(entries);
        pages
    }

    /// Of the row whose block is the number of its list.
    fn entry(&self, block: u16, offset: u16, member: &[f32]) -> Vec<u8> {
        let data = vector(member);
        let value = if self.short {
            short(&data)
        } else {
            long(&data)
        };
        // And that there is a value of variable length.
        let [block, offset] = [block, offset].map(u16::to_le_bytes);
        let head = [0, 0, block[0], block[1], offset[0], offset[1], 0, 0x40];
        [&head[..], &value].concat()
    }
}

/// Pages that stay as they are.
pub struct Source(pub Vec<Bytes>);

impl PageSource for Source {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        Ok(self.0.len() as u32)
    }

    fn read(
        &mut self,
        blocks: &mut dyn Iterator<Item = u32>,
        sink: &mut dyn FnMut(u32, &[u8; PAGE_SIZE]),
    ) -> Result<(), ReadError> {
        for block in blocks {
            if let Some(page) = self.0.get(block as usize) {
                sink(block, page);
            }
        }
        Ok(())
    }
}
