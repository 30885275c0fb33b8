//! The steps of a repair in place of lists, taken on a real index.

use std::collections::BTreeSet;
use std::time::Instant;

use ruvector_dag_healing_engine::model::{IndexInfo, RepairId};
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::repair::in_place::QUERIES;
use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::relocation::{Chains, Spare};
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::{
    ListChange, ListSurvey, Move, Regrouping, moves,
};
use ruvector_dag_healing_engine::verification::comparison::NEIGHBORS;
use ruvector_dag_healing_engine::verification::forecast::{Forecast, Regrouped};
use serde::Serialize;
use serde_json::json;

use super::baseline::Baseline;
use super::measuring::{Target, Wanted};
use super::mending::{Mending, NEVER, ROUNDS, make_back, ms, sparing, unread};
use super::moving::{self, Moving, unwritten};
use super::pages::BackgroundPages;
use super::xact::{Snapshot, transaction};
use super::{edit_log, guc, history};

impl Mending {
    /// Has inserts into every list begin on one of its own pages, and again where an insert moved
    /// meanwhile where they begin.
    pub fn insert_pages(&mut self, id: RepairId, index: &IndexInfo) -> Result<(), PortError> {
        let (mut made, mut rounds) = (0, 0);
        loop {
            let edits = survey(id, index, &BTreeSet::new())?.insert_pages();
            if edits.is_empty() || rounds == ROUNDS {
                break;
            }
            rounds += 1;
            made += edits.len() - self.make(id, index, (), &edits)?;
        }
        let done = json!({"rounds": rounds, "made": made});
        transaction(Snapshot::Active, || {
            history::note(id, "insert_pages", &done)
        })
    }

    /// Has the index answer queries: captured ones where there are enough, else rows. These do not
    /// flatter lists as they do a graph: a list leads to no row that it does not lead past.
    pub(super) fn take_baseline_of_lists(
        &mut self,
        id: RepairId,
        index: &IndexInfo,
    ) -> Result<(), PortError> {
        let sparing = sparing();
        let wanted = Wanted {
            // What is forecast depends on where every neighbour is.
            budget: u64::MAX,
            ..Wanted::in_background(QUERIES, NEIGHBORS, sparing.limit_mb, id as u64)
        };
        self.baseline = match Baseline::take(&Target::of(index)?, &wanted, &sparing) {
            Ok(baseline) => baseline,
            // Of a damaged index nothing is forecast, and nothing done.
            Err(PortError::Failed(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Tells what moving the centres, and what a rebuild, would do to recall.
    pub fn forecast(&mut self, id: RepairId, index: &IndexInfo) -> Result<(), PortError> {
        let Some(baseline) = &self.baseline else {
            return Ok(());
        };
        let started = Instant::now();
        let survey = survey(id, index, &baseline.truth().rows())?;
        let survey_ms = ms(started);
        let started = Instant::now();
        let forecast = Forecast::of(baseline.truth(), &survey, baseline.effort(), NEIGHBORS);
        let done = json!({
            "expected": forecast,
            "survey_ms": survey_ms,
            "forecast_ms": ms(started),
        });
        (self.lists, self.expected) = (Some(survey), Some(forecast));
        transaction(Snapshot::Active, || history::note(id, "forecast", &done))
    }

    /// Plans lists of even size, and adds to the forecast what that would do to recall and to what
    /// searches compare.
    fn plan_regrouping(&mut self, tally: &mut Moved) -> Option<Regrouping> {
        let (baseline, survey) = (self.baseline.as_ref()?, self.lists.take()?);
        let started = Instant::now();
        let regrouping = Regrouping::of(&survey)?;
        tally.plan_ms = ms(started);
        let expected = self.expected?.with(baseline.truth(), &survey, &regrouping);
        self.expected = Some(expected);
        tally.expected = expected.regrouped;
        tally.lists = regrouping.changed();
        Some(regrouping)
    }

    /// Splits the largest lists into the room of the smallest and moves every entry to where it then
    /// belongs, if that is expected to make searches cheaper that find as much.
    pub fn regroup(&mut self, id: RepairId, index: &IndexInfo) -> Result<(), PortError> {
        let mut tally = Moved::default();
        let regrouping = self.plan_regrouping(&mut tally);
        let pays = |_: &Regrouping| {
            let expected = self.expected;
            expected.is_some_and(|expected| expected.against_regrouping().is_none())
        };
        let Some(regrouping) = regrouping.filter(pays) else {
            return transaction(Snapshot::Active, || {
                history::note(id, "regroup", &json!(tally))
            });
        };
        // Where the index is never free nothing is begun.
        let spare = moving::spare(index)?;
        transaction(Snapshot::Active, || history::set_moving(id, true))?;
        let started = Instant::now();
        // First, so that what is inserted from now on goes where it belongs.
        self.make(id, index, (), regrouping.edits())?;
        let mut pages = BackgroundPages::new(index, guc::config().io_limit_mb, NEVER);
        self.make(id, index, (), &regrouping.insert_pages(&mut pages)?)?;
        loop {
            let (moves, chains) = tally.look(index, &regrouping, spare)?;
            tally.planned += moves.len();
            tally.rounds += 1;
            let mut moving = Moving::new(index, chains);
            let lost = moving.all(moves, &mut |moves, at_once, make| {
                self.make_written(id, moves, at_once, make)
            })?;
            tally.in_runs += moving.in_runs;
            tally.kept_waiting_ms += moving.kept_waiting.as_secs_f64() * 1000.0;
            tally.lost += lost;
            if lost == 0 || tally.rounds == ROUNDS {
                break;
            }
        }
        tally.move_ms = ms(started) - tally.look_ms;
        let as_good = tally.expected.and_then(|expected| expected.as_good);
        self.probes = as_good.map(|good| good.probes);
        transaction(Snapshot::Active, || {
            history::set_moving(id, false)?;
            history::note(id, "regroup", &json!(tally))
        })
    }

    /// Ends a regrouping, or the undo of one, that was begun and not ended: every entry goes to where
    /// it belongs.
    pub fn end_regrouping(&mut self, id: RepairId, index: &IndexInfo) -> Result<(), PortError> {
        let shape = Target::of(index)?.shape;
        let mut pages = BackgroundPages::new(index, guc::config().io_limit_mb, NEVER);
        let regrouping = Regrouping::as_is(&mut pages, &shape).map_err(unread)?;
        if let Some(regrouping) = regrouping {
            let spare = Spare {
                even_used: true,
                ..moving::spare(index)?
            };
            let (moves, chains) = regrouping.moves(&mut pages, spare)?;
            Moving::new(index, chains).all(moves, &mut unwritten)?;
        }
        transaction(Snapshot::Active, || history::set_moving(id, false))
    }

    /// Moves every centre to the mean of its members, if that is expected to help enough.
    pub fn recenter(&mut self, id: RepairId, index: &IndexInfo) -> Result<(), PortError> {
        let helps = self
            .expected
            .is_some_and(|expected| expected.against_moving().is_none());
        let survey = self.lists.take().filter(|_| helps);
        let edits = survey.map_or_else(Vec::new, |survey| survey.recentering());
        let started = Instant::now();
        let lost = self.make(id, index, (), &edits)?;
        let made = edits.len() - lost;
        let done = json!({"made": made, "lost": lost, "write_ms": ms(started)});
        transaction(Snapshot::Active, || history::note(id, "recenter", &done))
    }
}

/// What was moved, for the history.
#[derive(Debug, Default, Serialize)]
struct Moved {
    /// Lists whose centres were changed.
    lists: usize,
    /// What that was expected to do, and how many lists to search from now on to find as much.
    expected: Option<Regrouped>,
    plan_ms: f64,
    rounds: u32,
    planned: usize,
    in_runs: usize,
    lost: usize,
    look_ms: f64,
    move_ms: f64,
    kept_waiting_ms: f64,
}

impl Moved {
    /// The entries that are not where they belong.
    fn look(
        &mut self,
        index: &IndexInfo,
        regrouping: &Regrouping,
        spare: Spare,
    ) -> Result<(Vec<Move>, Chains), PortError> {
        let started = Instant::now();
        let mut pages = BackgroundPages::new(index, guc::config().io_limit_mb, NEVER);
        let found = regrouping.moves(&mut pages, spare)?;
        self.look_ms += ms(started);
        Ok(found)
    }
}

/// Takes back what was changed on lists: entries go back before centres do. Tells how many changes
/// there were, and how many were no longer as they were made.
pub fn take_back_changes(id: RepairId, index: &IndexInfo) -> Result<(usize, usize), PortError> {
    let changes: Vec<ListChange> =
        transaction(Snapshot::Active, || edit_log::edits_to_take_back(id))?;
    let count = changes.len();
    let (mut moves, mut edits) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            ListChange::Move(one) => moves.push(one),
            ListChange::Edit(edit) => edits.push(edit),
        }
    }
    if moves.is_empty() {
        return Ok((count, make_back(index, (), &edits)?));
    }
    transaction(Snapshot::Active, || history::set_moving(id, true))?;
    let mut pages = BackgroundPages::new(index, guc::config().io_limit_mb, NEVER);
    let chains = moves::locate(&mut pages, &mut moves, moving::spare(index)?)?;
    let lost = Moving::new(index, chains).all(moves, &mut unwritten)?;
    let lost = lost + make_back(index, (), &edits)?;
    transaction(Snapshot::Active, || history::set_moving(id, false))?;
    Ok((count, lost))
}

fn survey(
    id: RepairId,
    index: &IndexInfo,
    rows: &BTreeSet<HeapTid>,
) -> Result<ListSurvey, PortError> {
    let shape = Target::of(index)?.shape;
    let mut pages = BackgroundPages::new(index, guc::config().io_limit_mb, NEVER);
    let memory = guc::maintenance_work_mem();
    let survey = ListSurvey::take(&mut pages, &shape, rows, memory, id as u64);
    survey
        .map_err(unread)?
        .ok_or_else(|| PortError::Failed("the lists do not fit into maintenance_work_mem".into()))
}
