//! Any bytes as the file of an index, and what is asked of it.

use ruvector_dag_healing_engine::vector_index::inspection::InspectOptions;
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::ValueType;
use ruvector_dag_healing_engine::vector_index::{PAGE_SIZE, PageSource, ReadError};

/// Pages one after another; the last is filled up with zeroes.
pub struct Pages(Vec<[u8; PAGE_SIZE]>);

impl Pages {
    pub fn of(bytes: &[u8]) -> Self {
        let page = |chunk: &[u8]| {
            let mut page = [0; PAGE_SIZE];
            page[..chunk.len()].copy_from_slice(chunk);
            page
        };
        Self(bytes.chunks(PAGE_SIZE).map(page).collect())
    }
}

impl PageSource for Pages {
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

/// Every type of value, and both ways to look at its length.
pub fn shapes() -> impl Iterator<Item = IndexShape> {
    let types = [
        ValueType::Vector,
        ValueType::HalfVec,
        ValueType::Bit,
        ValueType::SparseVec,
    ];
    types.into_iter().flat_map(|value_type| {
        [Metric::L2, Metric::Cosine].map(|metric| IndexShape {
            value_type,
            metric,
            normalized: metric == Metric::Cosine,
            dimensions: Some(3),
            option: Some(2),
        })
    })
}

/// Much memory and none.
pub fn options() -> [InspectOptions; 2] {
    [64 << 20, 0].map(|memory_limit| InspectOptions {
        memory_limit,
        anatomy: true,
        sample_rows: 3,
        seed: 1,
    })
}
