//! Choosing `ivfflat.probes` from where the true neighbours are.
//!
//! Owns the whole curve of recall and cost over the number of lists searched. Must not know how
//! lists are read: a query is told by the ranks of lists, the nearest centre's being 1.
//!
//! A search of p probes compares the rows of the p lists whose centres are nearest, so it finds
//! a true neighbour exactly if its list's rank is at most p: recall(p) is known for every p
//! from one look at the lists.

use std::collections::BTreeSet;

use super::isotonic::carry_bounds;
use super::{CurvePoint, Tuning, choose};
use crate::recall::interval::{QueryHits, RecallEstimate};

/// Where the true neighbours of queries are.
#[derive(Clone, Debug)]
pub struct ProbesTally {
    k: u32,
    queries: Vec<Ranks>,
    /// Rows in the lists of each rank, summed over queries.
    rows: Vec<u64>,
}

/// The ranks of one query, ascending, and how many neighbours it has.
#[derive(Clone, Debug)]
struct Ranks {
    of: u32,
    ranks: Vec<u32>,
}

impl ProbesTally {
    /// For an index of so many lists, searched for `k` neighbours.
    pub fn new(lists: u32, k: u32) -> Self {
        Self {
            k,
            queries: Vec::new(),
            rows: vec![0; lists as usize],
        }
    }

    /// Adds a query that has `of` neighbours. `ranks`: of the list of each row that counts as
    /// one, ties included; 0, or more than there are lists, where no list has it.
    /// `rows_by_rank`: rows in the nearest list, in the next, and so on.
    pub fn add(
        &mut self,
        of: u32,
        ranks: impl IntoIterator<Item = u32>,
        rows_by_rank: impl IntoIterator<Item = u64>,
    ) {
        let lists = self.lists();
        let mut ranks: Vec<u32> = ranks
            .into_iter()
            .filter(|rank| (1..=lists).contains(rank))
            .collect();
        ranks.sort_unstable();
        ranks.truncate(of as usize);
        self.queries.push(Ranks { of, ranks });
        for (sum, rows) in self.rows.iter_mut().zip(rows_by_rank) {
            *sum = sum.saturating_add(rows);
        }
    }

    fn lists(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// What each query finds with so many probes.
    pub fn hits(&self, probes: u32) -> Vec<QueryHits> {
        let hits = |Ranks { of, ranks }: &Ranks| QueryHits {
            hits: ranks.partition_point(|&rank| rank <= probes) as u32,
            of: *of,
        };
        self.queries.iter().map(hits).collect()
    }

    /// Recall with so many probes.
    pub fn recall(&self, probes: u32) -> RecallEstimate {
        RecallEstimate::of(&self.hits(probes), self.k)
    }

    /// Vectors that a query compares with so many probes, in the mean; the centres, which every
    /// query compares all of, not counted.
    pub fn cost(&self, probes: u32) -> f64 {
        let rows = self.rows.iter().take(probes as usize);
        rows.map(|&rows| rows as f64).sum::<f64>() / self.queries.len().max(1) as f64
    }

    /// Recall and cost at every number of probes at which recall rises, at 1, and at all lists.
    pub fn curve(&self) -> Vec<CurvePoint> {
        let ranks = self.queries.iter().flat_map(|query| &query.ranks).copied();
        let mut settings: BTreeSet<u32> = ranks.collect();
        settings.extend([1, self.lists()]);
        let mut curve: Vec<CurvePoint> = settings
            .into_iter()
            .filter(|&setting| setting >= 1 && setting <= self.lists())
            .map(|setting| CurvePoint {
                setting,
                estimate: self.recall(setting),
                cost: self.cost(setting),
            })
            .collect();
        carry_bounds(&mut curve);
        curve
    }

    /// The smallest number of probes whose lower bound meets the target. Where not even all
    /// lists do, rows are missing from the index.
    pub fn tune(&self, target: f64) -> Tuning {
        choose(self.curve(), target, self.lists(), None, 1)
    }
}
