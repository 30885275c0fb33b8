//! Watching recall: a few queries at a time, an alarm when it is below the target.
//!
//! Owns the test of recall ≥ target, which may be looked at after every query and goes on over
//! restarts: its state is a value to be kept. Must not know when measurements are taken.
//!
//! What bet is placed follows the last hundred queries or so, so that a decline is seen about as
//! soon after a long healthy time as on the first day.

use serde::{Deserialize, Serialize};

use super::betting::{Gambler, Strategy};
use super::interval::QueryHits;

/// Probability that a watch that stays at its target ever raises an alarm, at most.
pub const FALSE_ALARMS: f64 = 0.01;
/// Queries after which one counts for half.
const HALF_LIFE: f64 = 100.0;
/// A target of 1 would allow any stake.
const LEAST_ROOM: f64 = 1e-3;

/// What a watch was begun for. Evidence from other circumstances says nothing about these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Circumstances {
    /// The index's storage (its relfilenode), another one after each rebuild.
    pub storage: u64,
    /// The settings of the search, spelt out: `hnsw.ef_search=40`.
    pub search: String,
    /// Neighbours asked for.
    pub k: u32,
    /// Where queries come from: those captured, or sampled rows.
    pub source: String,
    /// The recall to be kept, 0 … 1.
    pub target: f64,
}

/// Why a watch begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// There was none.
    First,
    /// The index was rebuilt.
    Rebuilt,
    /// It is searched with other settings.
    SettingsChanged,
    /// Another number of neighbours is asked for, or other queries are.
    QueriesChanged,
    /// The target changed.
    TargetChanged,
}

/// A watch on the recall of one index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    circumstances: Circumstances,
    queries: u64,
    gambler: Gambler,
}

impl Heartbeat {
    /// A new watch.
    pub fn new(circumstances: Circumstances) -> Self {
        Self {
            circumstances,
            queries: 0,
            gambler: Gambler::default(),
        }
    }

    /// The watch that was kept, if it is of the same circumstances; else a new one, and why.
    pub fn resume(kept: Option<Self>, now: Circumstances) -> (Self, Option<Restart>) {
        match kept {
            None => (Self::new(now), Some(Restart::First)),
            Some(kept) => match kept.must_restart(&now) {
                None => (kept, None),
                restart => (Self::new(now), restart),
            },
        }
    }

    /// Why its evidence would not count under other circumstances.
    pub fn must_restart(&self, now: &Circumstances) -> Option<Restart> {
        let was = &self.circumstances;
        if was.storage != now.storage {
            Some(Restart::Rebuilt)
        } else if was.search != now.search {
            Some(Restart::SettingsChanged)
        } else if was.k != now.k || was.source != now.source {
            Some(Restart::QueriesChanged)
        } else if was.target != now.target {
            Some(Restart::TargetChanged)
        } else {
            None
        }
    }

    /// Takes in what queries found, in the order they were asked. Queries must be drawn
    /// independently of what earlier ones found.
    pub fn observe(&mut self, results: &[QueryHits]) {
        let strategy = self.strategy();
        for recall in results.iter().filter_map(|result| result.recall()) {
            self.queries += 1;
            self.gambler
                .bet(&strategy, self.circumstances.target - recall);
        }
    }

    /// Whether recall has been shown to be below the target. Stays so until the watch restarts.
    pub fn is_alarmed(&self) -> bool {
        self.gambler.has_won(FALSE_ALARMS)
    }

    /// The evidence as a p-value, however often it is looked at.
    pub fn p_value(&self) -> f64 {
        self.gambler.p_value()
    }

    /// Queries taken in.
    pub fn queries(&self) -> u64 {
        self.queries
    }

    /// Mean recall of the last hundred queries or so.
    pub fn recent_recall(&self) -> Option<f64> {
        Some(self.circumstances.target - self.gambler.mean()?)
    }

    /// What it was begun for.
    pub fn circumstances(&self) -> &Circumstances {
        &self.circumstances
    }

    /// A gain is target − recall, at least −(1 − target). The watch expects, until it knows
    /// better, that four tenths more than the target allows is missed, in queries that vary as hits
    /// with a correlation of 0.2 do.
    fn strategy(&self) -> Strategy {
        let room = (1.0 - self.circumstances.target).max(LEAST_ROOM);
        let expected = 0.4 * room;
        Strategy {
            most_stake: 0.5 / room,
            half_life: HALF_LIFE,
            expected: (expected, expected * expected + 0.2 * room),
            expected_weight: 20.0,
            caution: 0.25,
        }
    }
}
