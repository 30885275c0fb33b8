//! Measuring the recall of an index: searches compared with the exact answer, in one snapshot.
//!
//! Owns the comparison. Knows nothing of where queries come from (`queries`), nor of how an
//! index is searched: that is handed in as [`Searching`].

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::blocks::Budget;
use super::exact::distance::Operand;
use super::exact::pair::Pairs;
use super::exact::{Exact, Neighbour, Neighbours, Query, distance};
use super::interval::{QueryHits, RecallEstimate};
use super::tune::{LARGEST_EF, ProbesTally};
use crate::vector_index::ivfflat::Directory;
use crate::vector_index::shape::{IndexShape, Metric};
use crate::vector_index::table::{RowSink, RowSource};
use crate::vector_index::value::Value;
use crate::vector_index::{HeapTid, PAGE_SIZE, ReadError};

/// Called after so many blocks of the table were read, or as much in values that are kept out of
/// line: may sleep, and may end it.
pub type Pause<'a> = dyn FnMut(u32) -> Result<(), ReadError> + 'a;

/// Shows every row on some runs of blocks, with pauses.
pub(super) fn with_pauses(
    table: &mut dyn RowSource,
    runs: impl Iterator<Item = Range<u32>>,
    pause: &mut Pause<'_>,
    sink: &mut RowSink<'_>,
) -> Result<(), ReadError> {
    for blocks in runs {
        let (read, bytes) = (blocks.end - blocks.start, Cell::new(0));
        table.rows(blocks, &mut |row, value| {
            sink(row, &|| {
                let value = value();
                bytes.set(bytes.get() + value.len());
                value
            });
        })?;
        let values = u32::try_from(bytes.get() / PAGE_SIZE).unwrap_or(u32::MAX);
        pause(read.max(values))?;
    }
    Ok(())
}

/// How much the distance of a row may differ from what it was, as a share, for it to be the same row.
const SAME: f64 = 1e-5;

/// An index that can be searched, in the snapshot in which its table is read.
pub trait Searching {
    /// What says how much of the index a search looks at, as it is in force: `hnsw.ef_search`
    /// or `ivfflat.probes`.
    fn effort(&self) -> u32;
    /// Whether it is the breadth of a search, in which a row searched for by its own value takes
    /// up one place.
    fn has_beam(&self) -> bool;
    /// Sets it for the searches to come.
    fn set_effort(&mut self, effort: u32);
    /// The `k` nearest rows that the index finds for a query, nearest first, by the heads of
    /// their chains of updates.
    fn search(&mut self, query: &[u8], k: usize) -> Result<Answer, ReadError>;
}

/// What a search returned, and what that took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The rows.
    pub rows: Vec<HeapTid>,
    /// Milliseconds.
    pub ms: f64,
    /// Buffers looked at.
    pub buffers: u64,
}

/// A query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What follows the length word of its value.
    pub value: Vec<u8>,
    /// The row it was taken from, which is not to count as its own neighbour.
    pub own_row: Option<HeapTid>,
}

/// Where queries come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuerySource {
    /// Statements asked them.
    Captured,
    /// They are values of rows.
    SampledRows,
    /// They are beside rows, as far as the nearest row is on the other side.
    MirroredRows,
}

impl QuerySource {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Captured => "captured queries",
            Self::SampledRows => "sampled rows",
            Self::MirroredRows => "mirrored rows",
        }
    }
}

/// The exact answers to some queries.
#[derive(Debug)]
pub struct Truth {
    shape: IndexShape,
    asked: Vec<Asked>,
    neighbours: Vec<Neighbours>,
    k: u32,
    /// Of how many blocks one was read.
    every: u32,
}

impl Truth {
    /// Seeks the `k` nearest rows of each query, in one pass over the table with pauses.
    ///
    /// Where that is dearer than `budget` allows, one block of several is read, one of k/2 at
    /// least: a neighbour that was missed and stands on one of these stands for as many, and as
    /// queries then differ more, the interval is wider. Where a query misses many, one may be
    /// taken for a neighbour that is not: at a recall of 0.8 this makes a point.
    pub fn seek(
        table: &mut dyn RowSource,
        shape: &IndexShape,
        mut asked: Vec<Asked>,
        k: u32,
        budget: Budget,
        pause: &mut Pause<'_>,
    ) -> Result<Self, ReadError> {
        let value_type = shape.value_type;
        asked.retain(|one| Value::decode(value_type, &one.value).is_ok());
        let queries: Vec<Query<'_>> = asked
            .iter()
            .filter_map(|one| {
                Some(Query {
                    value: Value::decode(value_type, &one.value).ok()?,
                    own_row: one.own_row,
                })
            })
            .collect();
        let mut exact = Exact::new(shape.metric, shape.value_type, k, &queries);
        let value_bytes = asked.first().map_or(0, |one| one.value.len());
        // In one snapshot: rows that come later are not seen in any block.
        let blocks = budget.blocks(table, value_bytes, k / 2)?;
        with_pauses(table, blocks.runs(), pause, &mut |row, value| {
            let value = value();
            let value = Value::decode(shape.value_type, &value).ok();
            exact.offer(row, value.as_ref());
        })?;
        Ok(Self {
            shape: shape.clone(),
            asked,
            neighbours: exact.finish(),
            k,
            every: blocks.every(),
        })
    }

    /// Of how many blocks one was read.
    pub fn every(&self) -> u32 {
        self.every
    }

    /// How many queries there are.
    pub fn len(&self) -> usize {
        self.asked.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Has the index answer every query at an effort, and compares.
    pub fn ask(
        &self,
        index: &mut dyn Searching,
        table: &mut dyn RowSource,
        effort: u32,
    ) -> Result<Answers, ReadError> {
        let mut answers = Answers::default();
        let mut set = None;
        for (asked, neighbours) in self.asked.iter().zip(&self.neighbours) {
            let own = u32::from(asked.own_row.is_some());
            let wanted = match index.has_beam() {
                true => (effort + own).min(LARGEST_EF),
                false => effort,
            };
            if set.replace(wanted) != Some(wanted) {
                index.set_effort(wanted);
            }
            let mut answer = index.search(&asked.value, (self.k + own) as usize)?;
            answer.rows.retain(|row| Some(*row) != asked.own_row);
            answer.rows.truncate(self.k as usize);
            answers
                .hits
                .push(self.hits(asked, neighbours, &answer.rows, table)?);
            answers.ms.push(answer.ms);
            answers.buffers += answer.buffers;
        }
        Ok(answers)
    }

    /// Of each query, whether all rows that count as its neighbours are still there and as near. Where
    /// some have gone since, and others may have taken their places, an index cannot find them.
    pub fn stands(&self, table: &mut dyn RowSource) -> Result<Vec<bool>, ReadError> {
        let mut stands = Vec::with_capacity(self.neighbours.len());
        for (asked, neighbours) in self.asked.iter().zip(&self.neighbours) {
            let mut all = true;
            for near in neighbours.as_near() {
                let distance = self.distance_of(asked, near.row, table)?;
                let differs = |distance: f64| (distance - near.distance).abs();
                all = all && distance.is_some_and(|d| differs(d) <= SAME * d.abs());
            }
            stands.push(all);
        }
        Ok(stands)
    }

    /// Every row that counts as a neighbour of some query. Of a table that was read whole.
    pub fn rows(&self) -> BTreeSet<HeapTid> {
        let near = self.neighbours.iter().flat_map(Neighbours::as_near);
        near.map(|near| near.row).collect()
    }

    /// Where the neighbours are, for the whole curve of recall over `ivfflat.probes`.
    pub fn tally(&self, directory: &Directory) -> ProbesTally {
        let value_type = self.shape.value_type;
        // Centres that are compared by direction are of unit length.
        let pairs = Pairs::new(match self.shape.metric {
            Metric::Cosine => Metric::InnerProduct,
            metric => metric,
        });
        let operand = |data: &[u8]| Operand::of(&Value::decode(value_type, data).ok()?);
        let centers: Vec<Option<Operand>> = directory
            .centers
            .iter()
            .map(|center| operand(center))
            .collect();
        let lists = u32::try_from(directory.sizes.len()).unwrap_or(u32::MAX);
        let mut tally = ProbesTally::new(lists, self.k);
        for (asked, neighbours) in self.asked.iter().zip(&self.neighbours) {
            let Some(query) = operand(&asked.value) else {
                continue;
            };
            let mut order: Vec<(f64, usize)> = centers
                .iter()
                .enumerate()
                .map(|(list, center)| {
                    let apart = center.as_ref().and_then(|to| pairs.rank(&query, to));
                    (apart.unwrap_or(f64::INFINITY), list)
                })
                .collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut rank = vec![0; order.len()];
            for (nth, (_, list)) in (1..).zip(&order) {
                rank[*list] = nth;
            }
            let rank_of = |row: &HeapTid| {
                let list = directory.list_of.get(row);
                list.map_or(0, |&list| rank[list as usize])
            };
            tally.add(
                neighbours.expected(),
                neighbours.as_near().iter().map(|near| rank_of(&near.row)),
                order.iter().map(|(_, list)| directory.sizes[*list]),
            );
        }
        tally
    }

    /// How many true neighbours are among `found`.
    fn hits(
        &self,
        asked: &Asked,
        neighbours: &Neighbours,
        found: &[HeapTid],
        table: &mut dyn RowSource,
    ) -> Result<QueryHits, ReadError> {
        let mut nearby = Vec::with_capacity(found.len());
        for &row in found {
            let known = neighbours.as_near().iter().find(|near| near.row == row);
            let distance = match known {
                Some(near) => Some(near.distance),
                None => self.distance_of(asked, row, table)?,
            };
            nearby.extend(distance.map(|distance| Neighbour { row, distance }));
        }
        Ok(match self.every {
            1 => neighbours.hits(nearby.iter().map(|one| one.distance)),
            every => neighbours.hits_of_sample(&nearby, self.k, every),
        })
    }

    fn distance_of(
        &self,
        asked: &Asked,
        row: HeapTid,
        table: &mut dyn RowSource,
    ) -> Result<Option<f64>, ReadError> {
        let decode = |bytes| Value::decode(self.shape.value_type, bytes).ok();
        let value = table.value(row)?.and_then(decode);
        let query = decode(&asked.value);
        Ok(query
            .zip(value)
            .and_then(|(query, value)| distance(self.shape.metric, &query, &value)))
    }
}

/// The answers of an index to all queries at one effort.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Query by query.
    pub hits: Vec<QueryHits>,
    /// Milliseconds, query by query.
    pub ms: Vec<f64>,
    /// Buffers looked at, together.
    pub buffers: u64,
}

impl Answers {
    /// Recall with its interval.
    pub fn estimate(&self, k: u32) -> RecallEstimate {
        RecallEstimate::of(&self.hits, k)
    }

    /// A quantile of the times, 0 … 1, in milliseconds; 0 without queries.
    pub fn ms_quantile(&self, q: f64) -> f64 {
        let mut ms = self.ms.clone();
        ms.sort_by(f64::total_cmp);
        let at = (q * ms.len().saturating_sub(1) as f64).round() as usize;
        ms.get(at).copied().unwrap_or(0.0)
    }
}
