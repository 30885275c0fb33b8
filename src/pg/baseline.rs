//! Queries whose exact answers are known, answered by an index before it is mended in place and
//! again afterwards.

use ruvector_dag_healing_engine::ports::{AskedTwice, PortError};
use ruvector_dag_healing_engine::recall::measure::{Answers, Searching, Truth};

use super::measuring::{Sparing, Target, Wanted, in_background, measure, with_searches};

/// The queries, the exact answers, and those of the index.
pub struct Baseline {
    truth: Truth,
    before: Answers,
    /// The setting in force.
    effort: u32,
    k: u32,
}

impl Baseline {
    /// Draws queries and has the index answer them at the settings in force. None where the table's
    /// pages are not PostgreSQL's own.
    pub fn take(
        target: &Target,
        wanted: &Wanted,
        sparing: &Sparing<'_>,
    ) -> Result<Option<Self>, PortError> {
        in_background(&target.info, sparing, |table, pause| {
            measure(target, wanted, table, pause, |truth, _, table, index| {
                let effort = index.effort();
                let before = truth.ask(index, table, effort)?;
                let k = wanted.k;
                Ok(Self {
                    truth,
                    before,
                    effort,
                    k,
                })
            })
        })
    }

    /// The exact answers.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// How much of the index a search looks at, by the setting in force.
    pub fn effort(&self) -> u32 {
        self.effort
    }

    /// Has the index answer the same queries once more, at the setting in force or another; those of
    /// which a neighbour has gone since are left out.
    pub fn again(
        &self,
        target: &Target,
        effort: Option<u32>,
        sparing: &Sparing<'_>,
    ) -> Result<Option<AskedTwice>, PortError> {
        let answered = in_background(&target.info, sparing, |table, _| {
            with_searches(target, table, |table, index| {
                let effort = effort.unwrap_or_else(|| index.effort());
                let after = self.truth.ask(index, table, effort)?;
                Ok((self.truth.stands(table)?, after))
            })
        })?;
        Ok(answered.map(|(stands, after)| {
            let both = self.before.hits.iter().copied().zip(after.hits);
            let standing = both.zip(stands).filter(|(_, stands)| *stands);
            AskedTwice {
                buffers: (self.before.buffers, after.buffers),
                hits: standing.map(|(both, _)| both).collect(),
                k: self.k,
            }
        }))
    }
}
