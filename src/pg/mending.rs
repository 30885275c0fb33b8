//! The steps of a repair in place, taken on a real index: what is to be changed is written down,
//! then changed, batch by batch.

use std::time::{Duration, Instant};

use ruvector_dag_healing_engine::detection::index_health::is_decayed_by_dead_rows;
use ruvector_dag_healing_engine::model::{IndexInfo, RepairId};
use ruvector_dag_healing_engine::ports::{AskedTwice, PortError};
use ruvector_dag_healing_engine::repair::in_place::QUERIES;
use ruvector_dag_healing_engine::vector_index::HeapTid;
use ruvector_dag_healing_engine::vector_index::edit::{PageEdit, Write};
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{Edit, Rung, SELF_QUERY_EF, Survey};
use ruvector_dag_healing_engine::vector_index::hnsw::links_per_layer;
use ruvector_dag_healing_engine::vector_index::inspection::InspectError;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::ListSurvey;
use ruvector_dag_healing_engine::verification::comparison::NEIGHBORS;
use ruvector_dag_healing_engine::verification::forecast::Forecast;
use ruvector_dag_healing_engine::verification::probe::SelfQuery;
use serde::Serialize;
use serde_json::Value;

use super::baseline::Baseline;
use super::edit;
use super::graveyard::BackgroundTable;
use super::lists_mending::take_back_changes;
use super::measuring::{Sparing, Target, Wanted};
use super::pages::BackgroundPages;
use super::probe::{self, Side};
use super::throttle::Throttle;
use super::xact::{Snapshot, transaction};
use super::{edit_log, guc, history, lifecycle, world};

/// Rounds of a rung: what was lost to somebody else's writes is judged again in the next.
pub(super) const ROUNDS: u32 = 4;
/// The same where every list of links is to be another, so that any insert takes some away.
const DETOUR_ROUNDS: u32 = 12;
/// The same where a vacuum follows, which sees to what is left.
const RELINK_ROUNDS: u32 = 2;
/// How long a table may be in use by others before the repair is given up for now.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Edits written down before they are made.
const BATCH: usize = 256;
/// The same, about, where nothing is written down: the next are planned when these are made.
const RELINK_BATCH: usize = 4096;

/// What was done, for the history.
#[derive(Debug, Default, Serialize)]
struct Tally {
    rounds: u32,
    planned: usize,
    made: usize,
    lost: usize,
    /// Elements with rows that no search could reach, and those nothing could be done for.
    orphans: u64,
    left: u64,
    /// Elements that the next vacuum deletes.
    #[serde(skip_serializing_if = "is_zero")]
    doomed: u64,
    survey_ms: f64,
    plan_ms: f64,
    write_ms: f64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An index being mended in place.
#[derive(Default)]
pub struct Mending {
    /// The graph as it is, as long as nothing was changed since.
    pub(super) survey: Option<Survey>,
    pub(super) baseline: Option<Baseline>,
    /// The lists as they are, as long as no centre was moved, and what moving them is expected to do.
    pub(super) lists: Option<ListSurvey>,
    pub(super) expected: Option<Forecast>,
    /// Lists that are searched afterwards, where that is more than are now.
    pub(super) probes: Option<u32>,
    patients: Vec<HeapTid>,
    /// Rows to be put back into the index.
    pub(super) detached: Vec<HeapTid>,
    /// Batches written down so far.
    batches: i32,
}

/// Whom to ask whether to give up: cancellation arrives by itself.
pub(super) const NEVER: &dyn Fn() -> bool = &|| false;

pub(super) fn ms(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e4).round() / 10.0
}

/// How measurements spare everybody else.
pub(super) fn sparing() -> Sparing<'static> {
    Sparing {
        limit_mb: guc::config().io_limit_mb,
        stop: NEVER,
    }
}

impl Mending {
    /// Plans a rung and makes its edits, and again where some were lost.
    pub fn climb(&mut self, id: RepairId, index: &IndexInfo, rung: Rung) -> Result<(), PortError> {
        let shape = Target::of(index)?.shape;
        let rounds = match rung {
            Rung::Detour { .. } => DETOUR_ROUNDS,
            _ => ROUNDS,
        };
        let mut tally = Tally::default();
        loop {
            let survey = self.survey(index, &mut tally.survey_ms)?;
            if let Some(megabytes) = survey.lacks_memory(rung) {
                return Err(PortError::Failed(format!(
                    "what is planned does not fit into maintenance_work_mem; raise it to \
                     {megabytes} MB"
                )));
            }
            let started = Instant::now();
            let mut pages = BackgroundPages::new(index, guc::config().io_limit_mb, NEVER);
            let treatment = survey.plan(rung, &shape, &mut pages)?;
            tally.plan_ms += ms(started);
            if tally.rounds == 0 {
                tally.orphans = treatment.orphans;
            }
            if self.patients.is_empty() {
                self.patients.clone_from(&treatment.patients);
            }
            tally.left = treatment.left;
            if treatment.edits.is_empty() {
                self.survey = Some(survey);
                break;
            }
            tally.rounds += 1;
            tally.planned += treatment.edits.len();
            let started = Instant::now();
            let lost = self.make(id, index, survey.meta().m, &treatment.edits)?;
            tally.write_ms += ms(started);
            tally.lost += lost;
            tally.made += treatment.edits.len() - lost;
            if (lost == 0 && !treatment.more) || tally.rounds == rounds {
                break;
            }
        }
        let tally = serde_json::json!(tally);
        transaction(Snapshot::Active, || {
            history::note(id, step_name(rung), &tally)
        })
    }

    /// Brings the rows of a value together, unless searches go on all the time: nothing else needs it.
    pub fn merge(&mut self, id: RepairId, index: &IndexInfo, key: u64) -> Result<(), PortError> {
        match self.climb(id, index, Rung::Merge { key }) {
            Err(PortError::Busy(reason)) => transaction(Snapshot::Active, || {
                let left = serde_json::json!({"left": reason});
                history::note(id, step_name(Rung::Merge { key }), &left)
            }),
            done => done,
        }
    }

    /// Leads links past what the next vacuum deletes, run by run, and again where some edits were
    /// lost; tells what was done.
    pub fn relink(&mut self, id: RepairId, index: &IndexInfo) -> Result<Value, PortError> {
        let shape = Target::of(index)?.shape;
        let limit = guc::config().io_limit_mb;
        let mut tally = Tally::default();
        while tally.rounds < RELINK_ROUNDS {
            let survey = self.survey(index, &mut tally.survey_ms)?;
            let started = Instant::now();
            let mut pages = BackgroundPages::new(index, limit, NEVER);
            let mut table = BackgroundTable::new(index, limit, NEVER);
            let relinking = survey.relink(&shape, &mut pages, &mut table)?;
            let mut relinking = relinking.ok_or_else(no_room)?;
            tally.survey_ms += ms(started);
            tally.doomed = relinking.doomed();
            let (dead, all) = relinking.rows();
            if 2 * dead < index.dead_rows.min(all.saturating_sub(index.live_rows)) {
                return Err(PortError::Busy(format!(
                    "some transaction may still see dead rows of {}",
                    index.table_name
                )));
            }
            tally.rounds += 1;
            let mut lost = 0;
            loop {
                let started = Instant::now();
                let edits = relinking.next(&mut pages, RELINK_BATCH)?;
                tally.plan_ms += ms(started);
                if edits.is_empty() {
                    break;
                }
                let started = Instant::now();
                lost += self.make_unrecorded(index, survey.meta().m, &edits)?;
                tally.write_ms += ms(started);
                tally.planned += edits.len();
                let (done, total) = relinking.progress();
                let progress = serde_json::json!({"done": done, "total": total});
                transaction(Snapshot::Active, || {
                    history::note(id, "progress", &progress)
                })?;
            }
            tally.lost += lost;
            if lost == 0 {
                break;
            }
        }
        tally.made = tally.planned - tally.lost;
        Ok(serde_json::json!(tally))
    }

    /// Makes edits of which each is whole by itself and none is taken back; tells how many were lost.
    fn make_unrecorded(
        &mut self,
        index: &IndexInfo,
        m: u16,
        edits: &[Edit],
    ) -> Result<usize, PortError> {
        let mut throttle = Throttle::new(guc::config().io_limit_mb);
        let (mut done, mut lost) = (0, 0);
        while done < edits.len() {
            let made = patiently(index, m, &edits[done..])?;
            throttle.read(made.pages, NEVER)?;
            done += made.done;
            lost += made.lost.len();
        }
        Ok(lost)
    }

    /// The graph as it is: the one kept, or read now.
    fn survey(&mut self, index: &IndexInfo, took_ms: &mut f64) -> Result<Survey, PortError> {
        if let Some(survey) = self.survey.take() {
            return Ok(survey);
        }
        let started = Instant::now();
        let mut pages = BackgroundPages::new(index, guc::config().io_limit_mb, NEVER);
        let survey = Survey::take(&mut pages, guc::maintenance_work_mem());
        *took_ms += ms(started);
        match survey {
            Ok(Some(survey)) => Ok(survey),
            Ok(None) => Err(no_room()),
            Err(error) => Err(unread(error)),
        }
    }

    /// Makes edits in batches, each written down before; tells how many were lost.
    pub(super) fn make<E: PageEdit + Write>(
        &mut self,
        id: RepairId,
        index: &IndexInfo,
        of: E::Of,
        edits: &[E],
    ) -> Result<usize, PortError> {
        let at_once = |left: &[E]| left.len().min(BATCH);
        self.make_written(id, edits, at_once, &mut |batch| patiently(index, of, batch))
    }

    /// The same of any changes, with how many of those that are left go together, and what makes them.
    pub(super) fn make_written<E: Write>(
        &mut self,
        id: RepairId,
        changes: &[E],
        at_once: impl Fn(&[E]) -> usize,
        make: &mut dyn FnMut(&[E]) -> Result<edit::Batch, PortError>,
    ) -> Result<usize, PortError> {
        let mut throttle = Throttle::new(guc::config().io_limit_mb);
        let (mut done, mut lost) = (0, 0);
        while done < changes.len() {
            let batch = &changes[done..done + at_once(&changes[done..])];
            self.batches += 1;
            transaction(Snapshot::Active, || {
                edit_log::intend(id, self.batches, batch, done, changes.len())
            })?;
            let made = make(batch)?;
            transaction(Snapshot::Active, || {
                edit_log::settle_batch(id, self.batches, made.done, &made.lost)
            })?;
            throttle.read(made.pages, NEVER)?;
            done += made.done;
            lost += made.lost.len();
        }
        Ok(lost)
    }

    /// Forgets what the graph was like: somebody else has changed it.
    pub fn forget(&mut self) {
        self.survey = None;
    }

    /// Has the index answer fresh queries, if there is anything to be linked, or to be passed by.
    pub fn take_baseline(
        &mut self,
        id: RepairId,
        index: &IndexInfo,
        passes_by: bool,
    ) -> Result<(), PortError> {
        if index.access_method == "ivfflat" {
            return self.take_baseline_of_lists(id, index);
        }
        let survey = self.survey(index, &mut 0.0)?;
        let orphans = survey.orphan_count();
        self.survey = Some(survey);
        let decayed = is_decayed_by_dead_rows(true, index.dead_rows, index.live_rows);
        if orphans == 0 && !passes_by && !decayed {
            return Ok(());
        }
        let sparing = sparing();
        let wanted = Wanted {
            // Captured queries are too few to tell half a point.
            rows_only: true,
            ..Wanted::in_background(QUERIES, NEIGHBORS, sparing.limit_mb, id as u64)
        };
        let taken = Baseline::take(&Target::of(index)?, &wanted, &sparing);
        self.baseline = match taken {
            Ok(baseline) => baseline,
            // A damaged index may raise an error when it is searched: then it answers nothing.
            Err(PortError::Failed(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Has the index answer the queries of the baseline again.
    pub fn ask_again(&mut self, index: &IndexInfo) -> Result<Option<AskedTwice>, PortError> {
        match self.baseline.take() {
            Some(baseline) => baseline.again(&Target::of(index)?, self.probes, &sparing()),
            None => Ok(None),
        }
    }

    /// Searches for rows that no search could reach before.
    pub fn ask_for_patients(&self, index: &IndexInfo) -> Result<Option<SelfQuery>, PortError> {
        if self.patients.is_empty() {
            return Ok(None);
        }
        let probes = transaction(Snapshot::Active, || {
            let side = Side {
                index: index.index_oid,
                setting: Some(("hnsw.ef_search", SELF_QUERY_EF as u32)),
            };
            let k = NEIGHBORS as usize;
            probe::compare(index.table_oid, None, side, &self.patients, k)
        })?;
        Ok(Some(SelfQuery::of(&probes, NEIGHBORS)))
    }
}

/// Takes back what a repair changed in place, as far as it still is as it was made.
pub fn take_back(id: RepairId, index: &IndexInfo) -> Result<(), PortError> {
    let (edits, lost) = match index.access_method.as_str() {
        "ivfflat" => take_back_changes(id, index)?,
        _ => {
            let mut pages = BackgroundPages::new(index, guc::config().io_limit_mb, NEVER);
            let m = links_per_layer(&mut pages).map_err(unread)?;
            let edits: Vec<Edit> =
                transaction(Snapshot::Active, || edit_log::edits_to_take_back(id))?;
            (edits.len(), make_back(index, m, &edits)?)
        }
    };
    let undone = serde_json::json!({"edits": edits, "no_longer_as_made": lost});
    transaction(Snapshot::Active, || {
        history::note(id, "taken_back", &undone)?;
        edit_log::forget_edits(id)
    })
}

/// Makes edits that take others back; tells how many were lost.
pub(super) fn make_back<E: PageEdit>(
    index: &IndexInfo,
    of: E::Of,
    edits: &[E],
) -> Result<usize, PortError> {
    let (mut done, mut lost) = (0, 0);
    while done < edits.len() {
        let batch = &edits[done..edits.len().min(done + BATCH)];
        let made = patiently(index, of, batch)?;
        done += made.done;
        lost += made.lost.len();
    }
    Ok(lost)
}

/// Makes a batch as soon as the table is free, if that is soon enough.
fn patiently<E: PageEdit>(
    index: &IndexInfo,
    of: E::Of,
    edits: &[E],
) -> Result<edit::Batch, PortError> {
    until_free(&mut || edit::make(index, of, edits, world::lock_timeout()))
}

/// Tries until nobody is in the way, if that is soon enough.
pub(super) fn until_free<T>(
    make: &mut dyn FnMut() -> Result<T, PortError>,
) -> Result<T, PortError> {
    let started = Instant::now();
    loop {
        match make() {
            Err(PortError::Busy(_)) if started.elapsed() < PATIENCE => {
                lifecycle::wait(Duration::from_millis(100));
            }
            made => return made,
        }
    }
}

fn no_room() -> PortError {
    PortError::Failed("the graph does not fit into maintenance_work_mem".into())
}

pub(super) fn unread(error: InspectError) -> PortError {
    match error {
        InspectError::Read(error) => error.into(),
        InspectError::NotSuch { reason } => PortError::Failed(reason),
    }
}

fn step_name(rung: Rung) -> &'static str {
    match rung {
        Rung::Tuples => "tuples",
        Rung::Entry => "entry",
        Rung::Prune => "prune",
        Rung::Link => "link",
        Rung::Merge { .. } => "merge",
        Rung::Detour { .. } => "detour",
    }
}
