//! The steps of a repair in place of lists, taken on a real index.

use std::collections::BTreeSet;
use std::time::Instant;

use ruvector_dag_healing_engine::model::{IndexInfo, RepairId};
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::repair::in_place::QUERIES;
use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::ListSurvey;
use ruvector_dag_healing_engine::verification::comparison::NEIGHBORS;
use ruvector_dag_healing_engine::verification::forecast::Forecast;
use serde_json::json;

use super::baseline::Baseline;
use super::measuring::{Target, Wanted};
use super::mending::{Mending, NEVER, ROUNDS, ms, sparing, unread};
use super::pages::BackgroundPages;
use super::xact::{Snapshot, transaction};
use super::{guc, history};

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
