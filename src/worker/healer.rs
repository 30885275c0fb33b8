//! The healer: one for each database that has the extension.
//!
//! It runs the engine's check cycle at the interval, files what sessions saw, and sends repair
//! workers after what unfinished repairs left. It leaves when the extension is dropped, when the
//! database's DDL wants to be alone, or to make room.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pgrx::log;
use ruvector_dag_healing_engine::cycle::SelfHealingEngine;
use ruvector_dag_healing_engine::model::{IndexHealthCheck, RepairId};
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::repair::recovery::{Disposal, Recovery};

use crate::pg::history::RepairRow;
use crate::pg::shmem::{self, Departure, HealerState, Request, Task};
use crate::pg::world::HealerWorld;
use crate::pg::xact::{Snapshot, transaction};
use crate::pg::{captures, catalog, compat, detached, executor, guc, history, journal, lifecycle};

/// Rest after a cycle that failed, doubled by each further one.
const REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(600);
/// Pause after a try to clear up after a repair, doubled by each further one.
const CLEAR_AGAIN: Duration = Duration::from_secs(5);

struct Healer {
    place: usize,
    engine: SelfHealingEngine,
    world: HealerWorld,
    /// Settings of this database when it was connected to.
    database_settings: String,
    /// End of the last cycle, 0 before the first.
    last_cycle: i64,
    /// No cycle before this, because the last ones failed.
    rest_until: i64,
    failures: u32,
    /// When each unfinished repair was last attended to.
    attended: BTreeMap<RepairId, Attempt>,
}

/// The last try to remove a spare index, and the pause after it.
struct Attempt {
    last: Instant,
    pause: Duration,
}

impl Attempt {
    fn at_once() -> Self {
        Self {
            last: Instant::now(),
            pause: Duration::ZERO,
        }
    }

    /// Whoever keeps us from removing it keeps us from locking the table for long, too.
    fn made(&mut self) {
        self.last = Instant::now();
        self.pause = (self.pause * 2).clamp(CLEAR_AGAIN, LONGEST_REST);
    }
}

/// A healer's life, at a place of the board.
pub fn run(place: usize) {
    lifecycle::take_signals();
    let me = lifecycle::my_pid();
    let database = shmem::write(|board| {
        let healer = board.healers.get_mut(place)?;
        if healer.state != HealerState::Starting {
            return None;
        }
        // From here on its place is given back when it ends, however soon.
        healer.pid = me;
        let (database, leave) = (healer.database, healer.leave);
        (!leave && !board.held(database)).then_some(database)
    });
    lifecycle::on_exit(lifecycle::healer_farewell, place as u32);
    let Some(Some(database)) = database else {
        shmem::depart(place, Departure::Briefly);
        return;
    };
    lifecycle::connect(Some(database));
    let settings = transaction(Snapshot::Active, settings_in_force);
    let last = transaction(Snapshot::Active, journal_of_this_database);
    let (Ok(settings), Ok(Some(last_cycle))) = (settings, last) else {
        captures::listen_no_more(database);
        shmem::depart(place, Departure::NoExtension);
        return;
    };
    captures::listen(database);
    let config = guc::config();
    let mut healer = Healer {
        place,
        world: HealerWorld {
            io_limit_mb: config.io_limit_mb,
            stop: Box::new(move || shmem::read(|board| board.healers[place].leave) != Some(false)),
        },
        last_cycle,
        rest_until: 0,
        engine: SelfHealingEngine::new(config),
        database_settings: settings,
        failures: 0,
        attended: BTreeMap::new(),
    };
    healer.live();
}

/// The request that has a worker clear up after a repair.
fn clear_up_request(task: Task, row: &RepairRow) -> Request {
    Request {
        task,
        database: lifecycle::my_database(),
        repair_id: row.repair_id,
        index_oid: row.index_oid,
        table_oid: row.table_oid,
        ..Request::default()
    }
}

fn interval(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / 1000) * 1000
}

/// The settings of this database, which are in force then: what was set since this process connected
/// would not be told from what it has, and recall be measured with another setting than sessions have.
fn settings_in_force() -> Result<String, PortError> {
    let settings = catalog::database_settings()?;
    compat::apply_database_settings();
    Ok(settings)
}

/// The end of the last cycle, or nothing where the extension is not installed.
fn journal_of_this_database() -> Result<Option<i64>, PortError> {
    match catalog::extension_version()? {
        Some(_) => journal::last_cycle_end().map(Some),
        None => Ok(None),
    }
}

impl Healer {
    fn live(&mut self) {
        loop {
            self.file_mail();
            let due = lifecycle::now() >= self.next_cycle();
            if due || self.asked_to_check() {
                self.cycle();
            }
            self.clear_up();
            if self.shall_leave() {
                return;
            }
            self.settle_down();
        }
    }

    /// When the next cycle is due, by the interval as it is set now.
    fn next_cycle(&self) -> i64 {
        let due = self.last_cycle + interval(guc::config().check_interval_ms);
        due.max(self.rest_until)
    }

    /// Waits for the next thing to do.
    fn settle_down(&self) {
        let (place, next_cycle) = (self.place, self.next_cycle());
        shmem::write(|board| {
            board.healers[place].state = HealerState::Idle;
            board.healers[place].next_cycle = next_cycle;
        });
        lifecycle::report(None);
        let until = u64::try_from(next_cycle - lifecycle::now()).unwrap_or_default();
        let mut nap = Duration::from_micros(until);
        if !self.attended.is_empty() {
            nap = nap.min(CLEAR_AGAIN);
        }
        lifecycle::wait(nap.max(Duration::from_millis(1)));
        lifecycle::take_up_settings();
    }

    fn cycle(&mut self) {
        let place = self.place;
        shmem::write(|board| board.healers[place].state = HealerState::Cycling);
        lifecycle::report(Some("checking vector indexes"));
        let config = guc::config();
        self.world.io_limit_mb = config.io_limit_mb;
        self.engine.configure(config);
        let outcome = self.engine.run_check_cycle(&mut self.world);
        self.last_cycle = lifecycle::now();
        match outcome {
            Ok(_) => self.failures = 0,
            Err(PortError::Stopped(_)) => {}
            Err(error) => {
                // What is dropped while it is looked at is not there the next time.
                let forgiven = u32::from(matches!(error, PortError::Gone(_)));
                if self.failures == forgiven && self.changed().is_none() {
                    log!("ruvector_dag_healing: check cycle failed, resting: {error}");
                }
                self.failures += 1;
                let rest = REST * 2u32.pow(self.failures.min(10));
                let rest = rest.min(LONGEST_REST).as_micros() as i64;
                self.rest_until = self.last_cycle + rest;
            }
        }
    }

    fn asked_to_check(&self) -> bool {
        let place = self.place;
        shmem::write(|board| std::mem::take(&mut board.healers[place].check_now)) == Some(true)
    }

    /// Files the looks that sessions took.
    fn file_mail(&mut self) {
        while let Some((place, payload)) = shmem::next_mail(lifecycle::my_database()) {
            let filed = serde_json::from_slice::<IndexHealthCheck>(&payload)
                .map_err(|error| PortError::Failed(error.to_string()))
                .and_then(|look| self.engine.file_look(look, &mut self.world));
            if let Err(error) = filed {
                log!("ruvector_dag_healing: a health check could not be filed: {error}");
            }
            shmem::wake(shmem::mail_filed(place));
        }
    }

    /// Closes repairs that nobody is working on and has spare indexes removed when they are due.
    fn clear_up(&mut self) {
        let unfinished = match transaction(Snapshot::Active, history::unfinished) {
            Ok(unfinished) => unfinished,
            Err(_) => return,
        };
        // Read after the rows: whoever was at work on one of them then is still on the board, or
        // has ended it since.
        let busy: Vec<RepairId> = executor::on_board()
            .iter()
            .map(|repair| repair.request.repair_id)
            .collect();
        let ids: Vec<RepairId> = unfinished.iter().map(|row| row.repair_id).collect();
        self.attended.retain(|id, _| ids.contains(id));
        let keep_ms = self.engine.config().grace_period().as_millis() as u64;
        for row in unfinished
            .iter()
            .filter(|row| !busy.contains(&row.repair_id))
        {
            let id = row.repair_id;
            if row.recovery() != Recovery::Nothing {
                let closed = transaction(Snapshot::Active, || history::recover(row, keep_ms));
                match closed {
                    Ok(()) => log!("ruvector_dag_healing: repair {id} was interrupted, closed"),
                    Err(PortError::Gone(_)) => {}
                    Err(error) => log!("ruvector_dag_healing: repair {id} not closed: {error}"),
                }
                self.attended.entry(id).or_insert_with(Attempt::at_once);
                continue;
            }
            let attempt = self.attended.entry(id).or_insert_with(Attempt::at_once);
            if attempt.last.elapsed() < attempt.pause {
                continue;
            }
            if row.owes_rows {
                attempt.made();
                if !row.ours {
                    let _ = transaction(Snapshot::Active, || detached::forget_repair(id));
                    continue;
                }
                executor::enqueue(clear_up_request(Task::PutBack, row));
                continue;
            }
            match row.disposal() {
                // Looked at again when the healer next wakes.
                Disposal::Keep => {}
                Disposal::Forget => {
                    let _ = transaction(Snapshot::Active, || history::clear_spare(row.repair_id));
                }
                Disposal::Drop => {
                    attempt.made();
                    executor::enqueue(clear_up_request(Task::Retire, row));
                }
            }
        }
    }

    /// Whether to go: asked to, or the extension is gone, or its settings changed.
    fn shall_leave(&self) -> bool {
        let place = self.place;
        let idle = self.next_cycle() > lifecycle::now();
        let departure = shmem::read(|board| {
            let healer = &board.healers[place];
            let mail = board
                .mail
                .iter()
                .any(|mail| mail.taken && !mail.filed && mail.database == healer.database);
            match healer {
                healer if healer.leave => Some(Departure::Briefly),
                healer if healer.rotate && idle && !mail => Some(Departure::TurnOver),
                _ => None,
            }
        });
        let departure = departure.flatten().or_else(|| self.changed());
        if let Some(departure) = departure {
            if departure == Departure::NoExtension {
                captures::listen_no_more(lifecycle::my_database());
            }
            shmem::depart(place, departure);
        }
        departure.is_some()
    }

    /// Whether the extension is gone, or the settings this database gives to new connections
    /// are others.
    fn changed(&self) -> Option<Departure> {
        let seen = transaction(Snapshot::Active, || {
            Ok((catalog::extension_version()?, catalog::database_settings()?))
        });
        match seen {
            Ok((None, _)) => Some(Departure::NoExtension),
            Ok((_, settings)) if settings != self.database_settings => Some(Departure::Briefly),
            _ => None,
        }
    }
}
