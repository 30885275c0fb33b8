//! Recall measured on real indexes: searches in the snapshot in which their table is read.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use pgrx::pg_sys;
use ruvector_dag_healing_engine::detection::recall_watch::RecallSample;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::recall::blocks::Budget;
use ruvector_dag_healing_engine::recall::measure::{
    Answer, Answers, Asked, Pause, QuerySource, Searching, Truth,
};
use ruvector_dag_healing_engine::recall::queries::{SampledRow, mirrored, mirrors, sample_rows};
use ruvector_dag_healing_engine::recall::tune::{EfRequest, Measurement, Tuning, tune_ef};
use ruvector_dag_healing_engine::repair::parameter_tuning;
use ruvector_dag_healing_engine::vector_index::ReadError;
use ruvector_dag_healing_engine::vector_index::ivfflat::{chains_end, directory};
use ruvector_dag_healing_engine::vector_index::shape::IndexShape;
use ruvector_dag_healing_engine::vector_index::table::RowSource;
use ruvector_dag_healing_engine::workload::sample::{enough, fits};

use super::guc::{self, Nested};
use super::heap::{Table, with_table};
use super::pages::{BackgroundPages, OpenIndex};
use super::privilege::as_owner;
use super::search::Searcher;
use super::throttle::Throttle;
use super::uncounted::Uncounted;
use super::xact::{Snapshot, transaction};
use super::{compat, lifecycle, query_sample};

/// An index whose recall can be measured.
pub struct Target {
    /// What the catalog says of it.
    pub info: IndexInfo,
    /// How it compares values.
    pub shape: IndexShape,
}

impl Target {
    /// An index, if it is known how it compares.
    pub fn of(index: &IndexInfo) -> Result<Self, PortError> {
        let unknown = || PortError::Failed("how the index compares is not known".into());
        Ok(Self {
            info: index.clone(),
            shape: index.shape.clone().ok_or_else(unknown)?,
        })
    }
}

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Neighbours.
    pub k: u32,
    /// Queries.
    pub queries: u32,
    /// Whether rows drawn as queries are mirrored, where their type can be: what is found for
    /// them is then found for queries that are no rows.
    pub mirrored: bool,
    /// Whether to ask for rows even where captured queries are enough, for no value twice.
    pub rows_only: bool,
    /// Bytes of values that may be read for the exact answers, about.
    pub budget: u64,
    /// What the draw of queries begins with.
    pub seed: u64,
}

/// What a measurement may read of a table where nobody has set another limit: 10 million rows of 100
/// dimensions.
pub const BUDGET: u64 = 4_000_000_000;
/// How long a measurement in the background may read at its throttle, in seconds.
const BACKGROUND_SECONDS: u64 = 30;

impl Wanted {
    /// A few queries in the background, by no more reading than takes half a minute at the limit.
    pub fn in_background(queries: u32, k: u32, limit_mb: u64, seed: u64) -> Self {
        Self {
            k,
            queries,
            mirrored: false,
            rows_only: false,
            budget: match limit_mb {
                0 => BUDGET,
                limit_mb => limit_mb * 1_000_000 * BACKGROUND_SECONDS,
            },
            seed,
        }
    }

    /// What a setting is chosen by.
    fn to_tune(seed: u64) -> Self {
        Self {
            k: parameter_tuning::NEIGHBORS,
            queries: parameter_tuning::QUERIES,
            mirrored: true,
            rows_only: false,
            // Settings are made by it, and where a neighbour is counts as well.
            budget: u64::MAX,
            seed,
        }
    }
}

/// Settings of `hnsw.ef_search` that are tried: always enough.
const MOST_CALLS: u32 = 20;

/// What was measured.
pub struct Measured {
    /// The answers of the index.
    pub answers: Answers,
    /// Where the queries came from.
    pub source: QuerySource,
    /// Of how many blocks of the table one was read.
    pub every: u32,
}

/// Measures the recall of an index at the settings in force.
pub fn recall(target: &Target, wanted: &Wanted) -> Result<Measured, PortError> {
    with_truth(target, wanted, |truth, source, table, index| {
        let effort = index.effort();
        let answers = truth.ask(index, table, effort)?;
        Ok(Measured {
            answers,
            source,
            every: truth.every(),
        })
    })
}

/// How measurements in the background spare everybody else.
pub struct Sparing<'a> {
    /// The table is read at most so fast, in megabytes a second; 0 means no limit.
    pub limit_mb: u64,
    /// Ends it.
    pub stop: &'a dyn Fn() -> bool,
}

/// Measures recall in the background.
pub fn background_recall(
    target: &Target,
    wanted: &Wanted,
    sparing: &Sparing<'_>,
) -> Result<RecallSample, PortError> {
    let started = Instant::now();
    let setting = effort_setting(&target.info.access_method);
    let sample = measured_in_background(target, wanted, sparing, |truth, source, table, index| {
        let effort = index.effort();
        let answers = truth.ask(index, table, effort)?;
        Ok(RecallSample {
            search: format!("{setting} = {effort}"),
            source: match truth.every() {
                1 => source.name().into(),
                every => format!("{}, one block of {every} read", source.name()),
            },
            buffers: answers.buffers as f64 / truth.len().max(1) as f64,
            hits: answers.hits,
            took_ms: 0.0,
        })
    })?;
    Ok(RecallSample {
        took_ms: started.elapsed().as_secs_f64() * 1000.0,
        ..sample.unwrap_or_default()
    })
}

/// Finds a setting in the background; see [`tune`].
pub fn background_tune(
    target: &Target,
    goal: &Goal,
    seed: u64,
    sparing: &Sparing<'_>,
) -> Result<Tuned, PortError> {
    let tuned = measured_in_background(
        target,
        &Wanted::to_tune(seed),
        sparing,
        |truth, source, table, index| choose(target, goal, &truth, source, table, index),
    )?;
    tuned.ok_or_else(|| not_our_pages(&target.info))
}

/// Runs `work` with the exact answers to some queries. Nobody is waited for. Nothing where the
/// table's pages are not PostgreSQL's own.
fn measured_in_background<T>(
    target: &Target,
    wanted: &Wanted,
    sparing: &Sparing<'_>,
    work: impl FnOnce(Truth, QuerySource, &mut Table, &mut Searches) -> Result<T, ReadError>,
) -> Result<Option<T>, PortError> {
    in_background(&target.info, sparing, |table, pause| {
        measure(target, wanted, table, pause, work)
    })
}

/// Opens the table of an index in the background: nobody is waited for, and the pauses make for
/// reading at most so fast. None where its pages are not PostgreSQL's own.
pub(super) fn in_background<T>(
    info: &IndexInfo,
    sparing: &Sparing<'_>,
    work: impl FnOnce(&mut Table, &mut Pause<'_>) -> Result<T, ReadError>,
) -> Result<Option<T>, PortError> {
    let &Sparing { limit_mb, stop } = sparing;
    if info.access_method == "ivfflat" {
        // A search could go on for ever, and take all memory.
        chains_end(&mut BackgroundPages::new(info, limit_mb, stop))?;
    }
    transaction(Snapshot::None, || {
        let mode = pg_sys::AccessShareLock as i32;
        for oid in [info.table_oid, info.index_oid] {
            // SAFETY: inside a transaction, at whose end the lock goes. Never queues.
            if !unsafe { pg_sys::ConditionalLockRelationOid(oid.into(), mode) } {
                return Err(PortError::Busy(format!("{} is in use", info.table_name)));
            }
        }
        // What the locks were taken on may have been dropped or rebuilt before.
        let open = OpenIndex::open(info.index_oid, true);
        if open.is_none_or(|index| index.relfilenode() != info.relfilenode) {
            return Err(PortError::Gone(info.index_name.clone()));
        }
        let mut throttle = Throttle::new(limit_mb);
        let mut pause = |blocks: u32| throttle.read(u64::from(blocks), stop);
        let done = with_table(info.table_oid, info.index_oid, |table| {
            work(table, &mut pause)
        });
        Ok(done.transpose()?)
    })
}

/// Runs `work` with the exact answers to some queries, their source, the table and the index.
fn with_truth<T>(
    target: &Target,
    wanted: &Wanted,
    work: impl FnOnce(Truth, QuerySource, &mut Table, &mut Searches) -> Result<T, ReadError>,
) -> Result<T, PortError> {
    let info = &target.info;
    let done = with_table(info.table_oid, info.index_oid, |table| {
        if info.access_method == "ivfflat" {
            let mut pages = OpenIndex::open(info.index_oid, true).ok_or(ReadError::Gone)?;
            chains_end(&mut pages)?;
        }
        measure(target, wanted, table, &mut |_| Ok(()), work)
    });
    match done {
        Some(done) => Ok(done?),
        None => Err(not_our_pages(info)),
    }
}

fn not_our_pages(info: &IndexInfo) -> PortError {
    PortError::Failed(format!(
        "the pages of {} are not PostgreSQL's own",
        info.table_name
    ))
}

/// Measures an index whose searches end.
pub(super) fn measure<T>(
    target: &Target,
    wanted: &Wanted,
    table: &mut Table,
    pause: &mut Pause<'_>,
    work: impl FnOnce(Truth, QuerySource, &mut Table, &mut Searches) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    with_searches(target, table, |table, index| {
        let (asked, source) = queries(target, wanted, table, index, pause)?;
        let budget = Budget {
            bytes: wanted.budget,
            seed: wanted.seed,
        };
        let truth = Truth::seek(table, &target.shape, asked, wanted.k, budget, pause)?;
        work(truth, source, table, index)
    })
}

/// Opens an index for searches that no statistics count.
pub(super) fn with_searches<T>(
    target: &Target,
    table: &mut Table,
    work: impl FnOnce(&mut Table, &mut Searches) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let info = &target.info;
    let mut index = Searches::open(table, info.index_oid, &info.access_method)?;
    // SAFETY: both are open until `close` below, or until the transaction aborts.
    let uncounted =
        unsafe { [table.relation(), index.searcher.rows.index].map(|one| Uncounted::new(one)) };
    let done = work(table, &mut index);
    drop(uncounted);
    index.close();
    done
}

/// The queries to measure with.
fn queries(
    target: &Target,
    wanted: &Wanted,
    table: &mut Table,
    index: &mut Searches,
    pause: &mut Pause<'_>,
) -> Result<(Vec<Asked>, QuerySource), ReadError> {
    let captured = match wanted.rows_only {
        true => Vec::new(),
        false => captured(target, wanted)?,
    };
    if !wanted.rows_only && captured.len() >= enough(wanted.queries) as usize {
        return Ok((captured, QuerySource::Captured));
    }
    let count = wanted.queries as usize;
    let mut rows = sample_rows(table, &target.shape, count, wanted.seed, pause)?;
    if wanted.rows_only {
        // Of a value that many rows share one answer tells as much as many.
        let mut asked = HashSet::new();
        rows.retain(|row| asked.insert(row.value.clone()));
    }
    if wanted.mirrored && mirrors(target.shape.value_type) {
        let mut asked = Vec::with_capacity(rows.len());
        for SampledRow { row, value } in &rows {
            let near = index.search(value, 2)?.rows;
            let Some(other) = near.into_iter().find(|near| near != row) else {
                continue;
            };
            let other = table.value(other)?.unwrap_or_default();
            let mirrored = mirrored(target.shape.value_type, value, other);
            asked.extend(mirrored.map(|value| Asked {
                value,
                own_row: None,
            }));
        }
        return Ok((asked, QuerySource::MirroredRows));
    }
    let asked = rows.into_iter().map(|sampled| Asked {
        value: sampled.value,
        own_row: Some(sampled.row),
    });
    Ok((asked.collect(), QuerySource::SampledRows))
}

/// Queries that statements asked of the index, as far as they still fit it.
fn captured(target: &Target, wanted: &Wanted) -> Result<Vec<Asked>, ReadError> {
    let drawn = as_owner(|| query_sample::draw(&target.info, wanted.queries, wanted.seed));
    let mut queries = drawn.map_err(broken)?;
    queries.retain(|query| fits(&target.shape, query));
    let asked = queries.into_iter().map(|value| Asked {
        value,
        own_row: None,
    });
    Ok(asked.collect())
}

/// What failed around the index, as a failure to read it.
fn broken(error: PortError) -> ReadError {
    ReadError::Unreadable {
        block: 0,
        reason: error.to_string(),
    }
}

/// A choice of a search parameter.
pub struct Tuned {
    /// The setting's name.
    pub parameter: &'static str,
    /// Its value in force.
    pub current: u32,
    /// What was found.
    pub tuning: Tuning,
    /// Median time of a search at what is recommended, in milliseconds.
    pub p50_ms: Option<f64>,
    /// Buffers that it looks at, on average.
    pub buffers: Option<f64>,
    /// Where the queries came from.
    pub source: QuerySource,
}

/// What is to be reached.
pub struct Goal {
    /// The recall, 0.5 … 1.
    pub recall: f64,
    /// The share of the rows that a search can reach, where that is known.
    pub reachable: Option<f64>,
}

/// Finds the smallest setting whose recall meets a goal.
pub fn tune(target: &Target, goal: &Goal, seed: u64) -> Result<Tuned, PortError> {
    let wanted = Wanted::to_tune(seed);
    with_truth(target, &wanted, |truth, source, table, index| {
        choose(target, goal, &truth, source, table, index)
    })
}

fn choose(
    target: &Target,
    goal: &Goal,
    truth: &Truth,
    source: QuerySource,
    table: &mut Table,
    index: &mut Searches,
) -> Result<Tuned, ReadError> {
    let current = index.effort();
    let mut measured = BTreeMap::new();
    let mut ask = |effort: u32| -> Result<Measurement, ReadError> {
        let answers = truth.ask(index, table, effort)?;
        let cost = answers.buffers as f64 / truth.len().max(1) as f64;
        measured.insert(effort, (answers.ms_quantile(0.5), cost));
        Ok(Measurement {
            cost,
            results: answers.hits,
        })
    };
    let tuning = if target.info.access_method == "hnsw" {
        let request = EfRequest {
            target: goal.recall,
            k: parameter_tuning::NEIGHBORS,
            current,
            calls: MOST_CALLS,
            reachable: goal.reachable,
        };
        tune_ef(&request, ask)?
    } else {
        let open = OpenIndex::open(target.info.index_oid, true);
        let mut pages = open.ok_or(ReadError::Gone)?;
        let directory = directory(&mut pages, &truth.rows())?;
        let tuning = truth.tally(&directory).tune(goal.recall);
        if let Some(probes) = tuning.recommended {
            ask(probes)?;
        }
        tuning
    };
    let at = tuning.recommended.and_then(|at| measured.get(&at).copied());
    Ok(Tuned {
        parameter: effort_setting(&target.info.access_method),
        current,
        tuning,
        p50_ms: at.map(|(ms, _)| ms),
        buffers: at.map(|(_, buffers)| buffers),
        source,
    })
}

/// The breadth of a search.
const HNSW_EFFORT: &str = "hnsw.ef_search";

/// The setting that says how much of an index a search looks at.
fn effort_setting(access_method: &str) -> &'static str {
    match access_method {
        "hnsw" => HNSW_EFFORT,
        _ => "ivfflat.probes",
    }
}

/// An index open for searching, at the settings in force unless others are set.
pub struct Searches {
    searcher: Searcher,
    memory: pg_sys::MemoryContext,
    setting: &'static str,
    /// What the setting was set to here.
    nested: Option<Nested>,
}

impl Searches {
    /// Opens an index of an open table. Fails where it has no distance operator.
    pub fn open(table: &Table, index: u32, access_method: &str) -> Result<Self, ReadError> {
        // SAFETY: inside the transaction of the table, which stays open as long.
        let searcher = unsafe { Searcher::open(table.relation(), index) }.map_err(broken)?;
        Ok(Self {
            searcher,
            // SAFETY: deleted by `close`, or with the transaction.
            memory: unsafe { compat::new_memory_context(c"searches") },
            setting: effort_setting(access_method),
            nested: None,
        })
    }

    /// Closes what was opened.
    pub fn close(mut self) {
        if let Some(set_before) = self.nested.take() {
            set_before.end();
        }
        // SAFETY: opened by `open`, in the same transaction.
        unsafe {
            pg_sys::MemoryContextDelete(self.memory);
            self.searcher.close();
        }
    }
}

impl Searching for Searches {
    fn effort(&self) -> u32 {
        guc::number(self.setting)
    }

    fn has_beam(&self) -> bool {
        self.setting == HNSW_EFFORT
    }

    fn set_effort(&mut self, effort: u32) {
        if let Some(set_before) = self.nested.take() {
            set_before.end();
        }
        self.nested = Some(Nested::set(self.setting, &effort.to_string()));
    }

    fn search(&mut self, query: &[u8], k: usize) -> Result<Answer, ReadError> {
        lifecycle::interrupts();
        let mut rows = Vec::with_capacity(k);
        // SAFETY: the context is switched back and emptied; the query is of the indexed type, as
        // what the table's rows gave; the searcher's index and snapshot are open.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.memory);
            let datum = compat::varlena(query);
            let buffers = compat::buffers_touched();
            let started = Instant::now();
            self.searcher
                .nearest(datum, k, &mut |_, row| rows.push(row));
            let ms = started.elapsed().as_secs_f64() * 1000.0;
            let buffers = compat::buffers_touched() - buffers;
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.memory);
            Ok(Answer { rows, ms, buffers })
        }
    }
}
