//! The steps of a repair, taken on a real index.

use std::time::{Duration, Instant};

use ruvector_dag_healing_engine::detection::damage::Damage;
use ruvector_dag_healing_engine::model::{IndexHealthCheck, IndexInfo, RepairId};
use ruvector_dag_healing_engine::ports::{AskedTwice, PortError, Searched, Workbench};
use ruvector_dag_healing_engine::repair::plan::{Measured, StepKind};
use ruvector_dag_healing_engine::vector_index::finding::Breach;
use ruvector_dag_healing_engine::vector_index::hnsw::heal::Rung;
use ruvector_dag_healing_engine::vector_index::inspection::{InspectError, InspectOptions};
use ruvector_dag_healing_engine::vector_index::{HeapTid, ReadError};
use ruvector_dag_healing_engine::verification::comparison::MAX_QUERIES;
use serde_json::{Map, Value};

use super::build::{self, Target};
use super::careful::CarefulPages;
use super::locks::SessionLocks;
use super::mending::{self, Mending};
use super::pages::{BackgroundPages, OpenIndex};
use super::probe::Side;
use super::tuning::Proposal;
use super::xact::{Snapshot, transaction};
use super::{catalog, comparing, guc, history, lifecycle, toplevel, tuning, world};

/// One repair of one index.
pub struct RepairBench {
    id: RepairId,
    index: IndexInfo,
    /// The index that is not in place.
    spare: Option<u32>,
    /// The search setting that was found, where that is what the repair is about.
    proposal: Option<Proposal>,
    /// Share of the rows that a search can reach, where that is known.
    reachable: Option<f64>,
    /// Rows of the index in place, in random order; of its replacement where that is not valid.
    sample: Vec<HeapTid>,
    /// How many of them were searched for.
    searched: usize,
    /// Whether the index in place can be searched, as far as it was.
    answers: bool,
    locks: SessionLocks,
    /// The role that asked for the undo, where there is one.
    pub undone_by: u32,
    /// Tells whoever watches that a lock on the table is held now.
    announce: Box<dyn Fn(u32)>,
    started: Instant,
    mending: Mending,
    /// Whether the structure is checked and the index compared with its table whenever figures are
    /// taken, and what is wrong with it.
    thorough: bool,
    breaches: Vec<Breach>,
    /// The last look at the index in place.
    look: Option<IndexHealthCheck>,
}

impl RepairBench {
    /// A bench for a repair whose row is committed. `announce` is called with the table before
    /// it is locked.
    pub fn new(id: RepairId, index: IndexInfo, announce: Box<dyn Fn(u32)>) -> Self {
        Self {
            id,
            index,
            spare: None,
            proposal: None,
            reachable: None,
            sample: Vec::new(),
            searched: 0,
            answers: true,
            locks: SessionLocks::default(),
            undone_by: 0,
            announce,
            started: Instant::now(),
            mending: Mending::default(),
            thorough: false,
            breaches: Vec::new(),
            look: None,
        }
    }

    /// Has the structure checked, and the index compared with its table, whenever figures are
    /// taken.
    pub fn be_thorough(&mut self) {
        self.thorough = true;
    }

    /// Puts rows back that repairs of the index have taken out of it, or where they belong.
    pub fn put_back(&mut self) -> Result<(), PortError> {
        if self.index.access_method == "ivfflat" {
            return self.mending.end_regrouping(self.id, &self.index);
        }
        (self.announce)(self.index.table_oid);
        let (id, index) = (self.id, &self.index);
        self.mending.detach(id, index, &[], &mut self.locks)?;
        self.mending.reinsert(id, index, &mut self.locks)
    }

    /// Lets go of the locks on the table and its indexes.
    pub fn release(&mut self) {
        self.locks = SessionLocks::default();
    }

    /// Removes the index that is not in place, if there is one, without a word in the history.
    pub fn discard(&mut self) -> Result<(), PortError> {
        let Some(spare) = self.spare.take() else {
            return Ok(());
        };
        let (limit, table) = (world::lock_timeout(), self.index.table_oid);
        let target = Target {
            table,
            index: spare,
        };
        transaction(Snapshot::Active, || {
            build::lock(target, limit, &mut self.locks)
        })?;
        build::drop_spare(table, spare, limit, || Ok(()))
    }

    fn target(&self) -> Target {
        Target {
            table: self.index.table_oid,
            index: self.index.index_oid,
        }
    }

    fn spare(&self) -> Result<u32, PortError> {
        self.spare
            .ok_or_else(|| PortError::Failed("there is no second index".into()))
    }

    /// The last look at the index in place, where it was valid.
    pub fn last_look(&self) -> Option<&IndexHealthCheck> {
        self.look.as_ref()
    }

    /// The index in place.
    pub fn index(&self) -> &IndexInfo {
        &self.index
    }

    /// Figures of one index, a sample of the rows in it, and the whole look.
    fn look(
        &self,
        index: &IndexInfo,
    ) -> Result<(Measured, Vec<HeapTid>, IndexHealthCheck, Vec<Breach>), PortError> {
        let mut measured = Measured {
            valid: index.valid,
            dead_rows: Some(index.dead_rows),
            live_rows: Some(index.live_rows),
            ..Measured::default()
        };
        let never = || false;
        let mut pages = BackgroundPages::new(index, guc::config().io_limit_mb, &never);
        let options = InspectOptions {
            memory_limit: guc::maintenance_work_mem(),
            anatomy: false,
            sample_rows: MAX_QUERIES as usize,
            seed: self.id as u64,
        };
        let mut look = IndexHealthCheck::new(index.clone(), lifecycle::now());
        let rows = match look.inspect(&mut pages, &options) {
            Ok(rows) => rows,
            Err(InspectError::Read(ReadError::Unreadable { .. })) if self.thorough => Vec::new(),
            Err(InspectError::Read(error)) => return Err(error.into()),
            Err(InspectError::NotSuch { .. }) => Vec::new(),
        };
        let mut breaches = Vec::new();
        if self.thorough {
            examine(&mut look, &mut pages, &mut breaches)?;
        }
        measured.damage.clone_from(&look.damage);
        look.checked_at = lifecycle::now();
        (measured.hnsw, measured.ivfflat) = (look.hnsw.clone(), look.ivfflat.clone());
        Ok((measured, rows, look, breaches))
    }

    /// Exchanges the two indexes, and records that and what `also` records in the same transaction.
    fn exchange(
        &mut self,
        swapped: bool,
        also: impl FnOnce() -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let (id, table, leaving) = (self.id, self.index.table_oid, self.index.index_oid);
        let entering = self.spare()?;
        build::swap(table, entering, leaving, world::lock_timeout(), |name| {
            history::set_swapped(id, entering, leaving, name, swapped)?;
            also()
        })?;
        (self.index.index_oid, self.spare) = (entering, Some(leaving));
        Ok(())
    }

    /// Leads links past dead rows in every graph of the table: one vacuum goes through all of them.
    fn relink_all(&mut self) -> Result<(), PortError> {
        let id = self.id;
        let done = self.mending.relink(id, &self.index)?;
        self.note("relink", &done)?;
        let table = self.index.table_oid;
        let all = transaction(Snapshot::Active, || catalog::indexes_of(table))?;
        let is_other = |other: &&IndexInfo| {
            other.access_method == "hnsw" && other.index_oid != self.index.index_oid
        };
        let mut of_others = Map::new();
        for other in all.iter().filter(is_other) {
            let done = Mending::default().relink(id, other)?;
            of_others.insert(other.index_name.clone(), done);
        }
        match of_others.is_empty() {
            true => Ok(()),
            false => self.note("relink_of_others", &Value::Object(of_others)),
        }
    }

    /// What stands for the value that searches end at, if the last look found one.
    fn sink(&self) -> Option<u64> {
        let figures = self.look.as_ref()?.hnsw.as_ref()?;
        Some(figures.duplicate_sink.as_ref()?.key)
    }

    fn reread(&self, oid: u32) -> Result<IndexInfo, PortError> {
        transaction(Snapshot::Active, || catalog::index(oid))?
            .ok_or_else(|| PortError::Gone(self.index.index_name.clone()))
    }
}

impl Workbench for RepairBench {
    fn begin(&mut self, step: StepKind) -> Result<(), PortError> {
        transaction(Snapshot::Active, || {
            history::mark_step(self.id, step.code())
        })
    }

    fn execute(&mut self, step: StepKind) -> Result<(), PortError> {
        let (id, target) = (self.id, self.target());
        let limit = world::lock_timeout();
        match step {
            StepKind::CreateCopy => {
                (self.announce)(target.table);
                transaction(Snapshot::Active, || {
                    build::lock(target, limit, &mut self.locks)
                })?;
                let record = |copy, name: &str| history::set_spare(id, copy, name);
                self.spare = Some(build::create_copy(target, &mut self.locks, record)?);
                Ok(())
            }
            StepKind::Build => {
                let started = Instant::now();
                build::build(target.table, self.spare()?)?;
                let ms = started.elapsed().as_secs_f64() * 1000.0;
                transaction(Snapshot::Active, || {
                    history::note(id, "build_ms", &serde_json::json!(ms.round()))
                })
            }
            StepKind::Validate => build::validate(target.table, self.spare()?),
            StepKind::Swap => self.exchange(true, || Ok(())),
            StepKind::SwapBack => {
                let asked_by = self.undone_by;
                // Index and history say the same, whatever ends the process.
                self.exchange(false, || history::roll_back_ended(id, asked_by))
            }
            StepKind::Drop => {
                let spare = self.spare()?;
                build::drop_spare(target.table, spare, limit, || history::clear_spare(id))?;
                self.spare = None;
                Ok(())
            }
            StepKind::Vacuum => {
                (self.announce)(target.table);
                let started = Instant::now();
                toplevel::vacuum(&self.index.table_name)?;
                self.mending.forget();
                let ms = started.elapsed().as_secs_f64() * 1000.0;
                transaction(Snapshot::Active, || {
                    history::note(id, "vacuum_ms", &serde_json::json!(ms.round()))
                })
            }
            StepKind::Tune => {
                self.proposal = Some(tuning::propose(id, &self.index, self.reachable)?);
                Ok(())
            }
            StepKind::SetParameter => match &self.proposal {
                Some(proposal) => tuning::set(id, &self.index, proposal),
                None => Err(PortError::Failed("no setting was proposed".into())),
            },
            StepKind::ResetParameter => {
                let kept = transaction(Snapshot::Active, || history::repair(id))?;
                let kept = kept.and_then(|row| row.setting);
                let kept = kept.ok_or_else(|| PortError::Gone("the setting".into()))?;
                tuning::reset(id, &kept, self.undone_by)
            }
            StepKind::Tuples => self.mending.climb(id, &self.index, Rung::Tuples),
            StepKind::Detach => {
                (self.announce)(target.table);
                let (index, locks) = (&self.index, &mut self.locks);
                self.mending.detach(id, index, &self.breaches, locks)
            }
            StepKind::Reinsert => {
                let done = self.mending.reinsert(id, &self.index, &mut self.locks);
                // Nobody waits behind us any more.
                (self.announce)(0);
                done
            }
            StepKind::Entry => self.mending.climb(id, &self.index, Rung::Entry),
            StepKind::Prune => self.mending.climb(id, &self.index, Rung::Prune),
            StepKind::Link => self.mending.climb(id, &self.index, Rung::Link),
            StepKind::Relink => self.relink_all(),
            StepKind::Merge => match self.sink() {
                Some(key) => self.mending.merge(id, &self.index, key),
                None => Ok(()),
            },
            StepKind::Detour => match self.sink() {
                Some(key) => self.mending.climb(id, &self.index, Rung::Detour { key }),
                None => Ok(()),
            },
            StepKind::InsertPages => self.mending.insert_pages(id, &self.index),
            StepKind::Forecast => self.mending.forecast(id, &self.index),
            StepKind::Recenter => self.mending.recenter(id, &self.index),
            StepKind::Regroup => self.mending.regroup(id, &self.index),
            StepKind::Baseline => {
                let passes_by = self.sink().is_some();
                self.mending.take_baseline(id, &self.index, passes_by)
            }
            StepKind::TakeBack => {
                // What was seen since is not what is there any more.
                self.look = None;
                mending::take_back(id, &self.index)
            }
            StepKind::Check | StepKind::Verify => {
                Err(PortError::Failed("what is compared is not executed".into()))
            }
        }
    }

    fn measure(&mut self) -> Result<Measured, PortError> {
        let index = self.reread(self.index.index_oid)?;
        // An invalid index may be half built: its graph says nothing.
        let (mut measured, sample, look) = match index.valid {
            true => {
                let (measured, sample, look, breaches) = self.look(&index)?;
                self.breaches = breaches;
                let damage = look.damage.as_ref();
                self.answers &= damage.is_none_or(Damage::may_be_searched);
                (measured, sample, Some(look))
            }
            false => (Measured::default(), Vec::new(), None),
        };
        let figures = measured.hnsw.as_ref();
        self.reachable = figures.map(|figures| f64::from(figures.reachable()));
        (self.index, self.sample, self.look) = (index, sample, look);
        measured.former_orphans = self.mending.ask_for_patients(&self.index)?;
        measured.forecast = self.mending.expected;
        Ok(measured)
    }

    fn measure_replacement(&mut self) -> Result<Measured, PortError> {
        if self.proposal.is_some() {
            // The same index: only searching it may differ.
            return Ok(Measured::default());
        }
        let (measured, sample, ..) = self.look(&self.reread(self.spare()?)?)?;
        if !self.index.valid {
            self.sample = sample;
        }
        let graph = measured.hnsw.as_ref().map(|graph| graph.live_elements);
        let elements = graph.or(measured.ivfflat.as_ref().map(|lists| lists.vectors));
        if let Some(elements) = elements.filter(|&elements| elements > 0) {
            transaction(Snapshot::Active, || {
                history::note_build_rate(self.id, elements)
            })?;
        }
        Ok(measured)
    }

    fn search_both(&mut self, count: u32, k: u32) -> Result<Searched, PortError> {
        let side = |setting| Side {
            index: self.index.index_oid,
            setting,
        };
        let (in_place, replacement) = match &self.proposal {
            Some(one) => (
                side(Some((one.parameter, one.current))),
                side(Some((one.parameter, one.value))),
            ),
            None => (side(None), Side::of(self.spare()?)),
        };
        let end = self.sample.len().min(self.searched + count as usize);
        // Rows sampled from the index in place, so that what only one of them finds is seen.
        let rows = &self.sample[self.searched..end];
        let (table, k) = (self.index.table_oid, k as usize);
        let search = |old| {
            transaction(Snapshot::Active, || {
                super::probe::compare(table, old, replacement, rows, k)
            })
        };
        let old = (self.index.valid && self.answers).then_some(in_place);
        let probes = match search(old) {
            // A damaged index may raise an error when it is searched: then it answers nothing.
            Err(PortError::Failed(_)) if old.is_some() => {
                self.answers = false;
                search(None)?
            }
            probes => probes?,
        };
        self.searched = end;
        Ok(Searched {
            probes,
            in_place_answers: self.index.valid && self.answers,
            exhausted: end == self.sample.len(),
        })
    }

    fn ask_again(&mut self) -> Result<Option<AskedTwice>, PortError> {
        self.mending.ask_again(&self.index)
    }

    fn note(&mut self, key: &str, value: &Value) -> Result<(), PortError> {
        transaction(Snapshot::Active, || history::note(self.id, key, value))
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Checks the structure of an index and compares it with its table.
fn examine(
    look: &mut IndexHealthCheck,
    pages: &mut BackgroundPages<'_>,
    breaches: &mut Vec<Breach>,
) -> Result<(), PortError> {
    let limit = guc::maintenance_work_mem();
    match look.check(pages, limit, &mut |breach| breaches.push(breach)) {
        Err(InspectError::Read(error)) => return Err(error.into()),
        Ok(()) | Err(InspectError::NotSuch { .. }) => {}
    }
    let index = look.index.clone();
    let gone = || PortError::Gone(index.index_name.clone());
    let compared = transaction(Snapshot::Active, || {
        let open = OpenIndex::open(index.index_oid, false).ok_or_else(gone)?;
        let mut pages = CarefulPages::new(open);
        let mut of_table = Vec::new();
        let compared = comparing::compare(&index, &mut pages, &mut |b| of_table.push(b))?;
        Ok(compared.then_some(of_table))
    })?;
    if let (Some(damage), Some(of_table)) = (&mut look.damage, compared) {
        damage.compared = true;
        of_table.iter().for_each(|breach| damage.add(breach));
        breaches.extend(of_table);
    }
    Ok(())
}

/// Takes hold of an existing spare index of a repair that has ended.
pub fn resume(
    id: RepairId,
    index: IndexInfo,
    spare: u32,
    announce: Box<dyn Fn(u32)>,
) -> Result<RepairBench, PortError> {
    let mut bench = RepairBench::new(id, index, announce);
    (bench.announce)(bench.index.table_oid);
    let limit = world::lock_timeout();
    let target = Target {
        table: bench.index.table_oid,
        index: spare,
    };
    transaction(Snapshot::Active, || {
        build::lock(target, limit, &mut bench.locks)
    })?;
    bench.spare = Some(spare);
    Ok(bench)
}
