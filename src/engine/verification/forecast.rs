//! What moving the centres of lists, evening their sizes, and a rebuild would do to recall, told before
//! anything is written.
//!
//! Recall at so many probes follows from where the true neighbours of queries are and in which
//! order the lists are searched; both are known of lists that are not there yet.

use serde::{Deserialize, Serialize};

use crate::recall::measure::Truth;
use crate::recall::paired::{Gate, MARGIN, Standing};
use crate::recall::tune::ProbesTally;
use crate::vector_index::ivfflat::Directory;
use crate::vector_index::ivfflat::heal::{ListSurvey, Regrouping};

/// Share of what a rebuild would gain with which no rebuild is wanted.
const ENOUGH: f64 = 0.95;
/// Share of what a rebuild is told to miss that it may find after all: it trains on more rows, and for
/// longer. On 100,000 × 128 with 100 lists it found none of it to 0.6, at one probe.
const UNTOLD: f64 = 0.4;

/// Share of the rows compared for as much recall, above which evening the sizes of lists is not worth it.
const WORTH_IT: f64 = 0.8;

/// What a search finds, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Lists searched.
    pub probes: u32,
    /// Recall.
    pub recall: f64,
    /// Rows compared.
    pub compared: f64,
}

impl Expected {
    fn of(tally: &ProbesTally, probes: u32) -> Self {
        Self {
            probes,
            recall: tally.recall(probes).recall,
            compared: tally.cost(probes).round(),
        }
    }

    /// With the fewest probes that find no less, by half of what is allowed, if any number does.
    fn matched_by(&self, tally: &ProbesTally) -> Option<Self> {
        let least = self.recall - MARGIN / 2.0;
        let curve = tally.curve().into_iter();
        let mut good = curve.filter(|point| point.estimate.recall >= least);
        Some(Self::of(tally, good.next()?.setting))
    }
}

/// What searches find at the setting in force, and would find.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Queries.
    pub queries: u32,
    /// Neighbours of each.
    pub k: u32,
    /// As it is.
    pub as_is: Expected,
    /// With every centre moved to the mean of its members.
    pub recentered: Expected,
    /// After a rebuild, about. None where there was too little memory to tell.
    pub rebuilt: Option<Expected>,
    /// After a rebuild, with the fewest probes that find no less than is found now.
    pub rebuilt_as_good: Option<Expected>,
    /// Whether the queries show that moving the centres would lower recall.
    pub worse: bool,
    /// With lists of even size, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regrouped: Option<Regrouped>,
}

/// What searches would find with lists of even size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Regrouped {
    /// At the setting in force.
    pub expected: Expected,
    /// With the fewest probes that find no less than is found now, where any number does.
    pub as_good: Option<Expected>,
}

impl Forecast {
    /// By the exact answers to some queries, whose neighbours the survey was asked for.
    pub fn of(truth: &Truth, survey: &ListSurvey, probes: u32, k: u32) -> Self {
        let tally = |directory: &Directory| truth.tally(directory);
        let (as_is, recentered) = (tally(&survey.as_is()), tally(&survey.recentered()));
        let rebuilt = survey.rebuilt().map(|rebuilt| tally(&rebuilt));
        let (before, after) = (as_is.hits(probes), recentered.hits(probes));
        let both = before.iter().zip(&after);
        let recalls = both.filter_map(|(before, after)| before.recall().zip(after.recall()));
        let pairs: Vec<(f64, f64)> = recalls.collect();
        let queries = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
        let mut gate = Gate::new(queries);
        gate.observe(&pairs);
        let now = Expected::of(&as_is, probes);
        let as_good = rebuilt.as_ref().and_then(|rebuilt| now.matched_by(rebuilt));
        Self {
            queries,
            k,
            as_is: now,
            recentered: Expected::of(&recentered, probes),
            rebuilt: rebuilt.map(|rebuilt| Expected::of(&rebuilt, probes)),
            rebuilt_as_good: as_good,
            worse: gate.standing() == Standing::Worse,
            regrouped: None,
        }
    }

    /// The same with what evening the sizes of lists would do.
    pub fn with(self, truth: &Truth, survey: &ListSurvey, regrouping: &Regrouping) -> Self {
        let tally = truth.tally(&regrouping.directory(survey));
        let regrouped = Regrouped {
            expected: Expected::of(&tally, self.as_is.probes),
            as_good: self.as_is.matched_by(&tally),
        };
        Self {
            regrouped: Some(regrouped),
            ..self
        }
    }

    /// Why the lists are better left as large as they are, if they are: searches that find as much
    /// would hardly compare fewer rows.
    pub fn against_regrouping(&self) -> Option<String> {
        let (k, now) = (self.k, self.as_is);
        let Some(regrouped) = self.regrouped else {
            return Some("no list can be split to any use".into());
        };
        match regrouped.as_good {
            Some(good) if good.compared <= WORTH_IT * now.compared => None,
            Some(good) => Some(format!(
                "with lists of even size recall@{k} of {:.3} would take {} probes instead of {}, and {} \
                 rows compared instead of {}",
                now.recall, good.probes, now.probes, good.compared, now.compared
            )),
            None => Some(format!(
                "with lists of even size no number of probes would take recall@{k} to {:.3}",
                now.recall
            )),
        }
    }

    /// Why the centres are better left where they are, if they are: recall would fall, or a rebuild
    /// would gain much that moving them does not.
    pub fn against_moving(&self) -> Option<String> {
        let (k, as_is, moved) = (self.k, self.as_is.recall, self.recentered.recall);
        if self.worse || moved < as_is - MARGIN {
            return Some(format!(
                "with moved centres recall@{k} would fall from {as_is:.3} to {moved:.3}"
            ));
        }
        let rebuilt = self.rebuilt?.recall;
        (moved - as_is < ENOUGH * (rebuilt - as_is) - MARGIN).then(|| {
            format!(
                "moved centres would take recall@{k} from {as_is:.3} to {moved:.3}, a rebuild to \
                 about {rebuilt:.3}"
            )
        })
    }

    /// Why the index is better not rebuilt, if it is: recall at the setting in force would fall.
    pub fn against_rebuild(&self) -> Option<String> {
        let (now, rebuilt) = (self.as_is, self.rebuilt?);
        let at_best = rebuilt.recall + UNTOLD * (1.0 - rebuilt.recall);
        let falls = at_best < now.recall - MARGIN;
        let as_good = self.rebuilt_as_good.map_or(String::new(), |good| {
            format!(
                "; with {} probes it would find as much and compare {} rows instead of {}",
                good.probes, good.compared, now.compared
            )
        });
        falls.then(|| {
            format!(
                "with {} probes a rebuild would take recall@{} from {:.3} to about {:.3}{as_good}",
                now.probes, self.k, now.recall, rebuilt.recall
            )
        })
    }
}
