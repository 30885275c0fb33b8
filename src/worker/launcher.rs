//! The launcher: one for the cluster, connected to no database.
//!
//! It starts a healer for each database that has the extension, rotates them where worker slots
//! are few, starts queued repairs, and watches running ones for people waiting behind them.
//!
//! ```text
//!   due ──worker slot──▶ healer runs ──┬─ no extension ─────▶ due in an hour, or when rung
//!    ▲                                 ├─ its turn is over ─▶ due at its next cycle
//!    │                                 ├─ gone briefly ─────▶ due at once, unless held
//!    └─────────────────────────────────┴─ died ─────────────▶ due after a rest
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pgrx::log;
use ruvector_dag_healing_engine::ports::PortError;

use crate::pg::shmem::{self, Cancel, Departure, Healer, HealerState, RepairState};
use crate::pg::{databases, guc, lifecycle, locks, registration};

/// Longest sleep: databases are looked up this often even if nobody rings.
const NAP: Duration = Duration::from_secs(60);
/// How often waiting healers and repairs are looked at while they want a worker slot.
const RETRY: Duration = Duration::from_secs(1);
/// Longest pause between tries where no slot is to be had.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Rest after a healer died.
const REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// A database without the extension is looked at again after this, should a ring be missed.
const PROBE_AGAIN: Duration = Duration::from_secs(3_600);
/// A worker that has not come up after this will not.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What the launcher knows of a database.
#[derive(Debug)]
struct Database {
    /// No healer before this.
    not_before: Instant,
    /// Healers that died in a row.
    deaths: u32,
    /// When its last healer was started; the longest ago goes first.
    last_start: Option<Instant>,
    /// When somebody last asked for a healer.
    last_wish: Option<Instant>,
}

impl Database {
    /// Its healer died: the next one waits, longer each time.
    fn died(&mut self) {
        // One that lived for long did not die of what it does.
        if self
            .last_start
            .is_some_and(|at| at.elapsed() > 2 * LONGEST_REST)
        {
            self.deaths = 0;
        }
        let rest = (REST * 2u32.pow(self.deaths.min(6))).min(LONGEST_REST);
        self.deaths += 1;
        self.not_before = Instant::now() + rest;
    }
}

#[derive(Default)]
struct Launcher {
    databases: BTreeMap<u32, Database>,
    /// When healers and repairs that found no slot were registered, by place.
    starting: BTreeMap<(bool, usize), Instant>,
    /// No slot was to be had: try again then.
    slots_full: Option<(Instant, Duration)>,
    /// Since when there have been more databases than places for healers.
    crowded_since: Option<Instant>,
    told_of_rotation: bool,
    looked_up: Option<Instant>,
}

/// The launcher's life. It ends only with the server, or when it is told to.
pub fn run() -> ! {
    lifecycle::take_signals();
    lifecycle::connect(None);
    lifecycle::on_exit(lifecycle::launcher_farewell, 0);
    let me = lifecycle::my_pid();
    shmem::write(|board| {
        board.launcher = me;
        board.databases_changed = true;
    });
    lifecycle::report(None);
    let mut launcher = Launcher::default();
    launcher.take_over();
    loop {
        let nap = launcher.round();
        lifecycle::wait(nap);
        lifecycle::take_up_settings();
    }
}

impl Launcher {
    /// Does what is to be done; tells how long to sleep.
    fn round(&mut self) -> Duration {
        let rung = shmem::write(|board| std::mem::take(&mut board.databases_changed));
        let rung = rung == Some(true);
        if rung || self.looked_up.is_none_or(|at| at.elapsed() >= NAP) {
            if let Err(error) = self.look_up_databases() {
                log!("ruvector_dag_healing launcher: {error}");
            }
            self.looked_up = Some(Instant::now());
        }
        self.note_departures();
        self.note_wishes();
        self.give_up_on_stillborn();
        let mut nap = NAP;
        if self
            .slots_full
            .is_none_or(|(until, _)| Instant::now() >= until)
        {
            let mut full = self.start_repairs();
            full |= self.start_healers(&mut nap);
            self.note_slots(full);
        }
        if let Some((until, _)) = self.slots_full {
            nap = nap.min(until.saturating_duration_since(Instant::now()));
        }
        if !self.starting.is_empty() {
            nap = nap.min(START_TIMEOUT);
        }
        nap.min(self.watch_repairs()).max(Duration::from_millis(1))
    }

    /// Keeps an eye on workers that a launcher before this one has registered.
    fn take_over(&mut self) {
        let now = Instant::now();
        let starting = shmem::read(|board| {
            let healers = board.healers.iter().enumerate();
            let healers = healers.filter(|(_, h)| h.state == HealerState::Starting);
            let repairs = board.repairs.iter().enumerate();
            let repairs = repairs.filter(|(_, r)| r.state == RepairState::Starting);
            let healers = healers.map(|(place, _)| (true, place));
            healers
                .chain(repairs.map(|(place, _)| (false, place)))
                .collect::<Vec<_>>()
        });
        let starting = starting.unwrap_or_default();
        self.starting = starting.into_iter().map(|place| (place, now)).collect();
    }

    /// Learns of new databases and forgets dropped ones.
    fn look_up_databases(&mut self) -> Result<(), PortError> {
        let connectable = databases::connectable()?;
        self.databases.retain(|oid, _| connectable.contains(oid));
        let now = Instant::now();
        for oid in connectable {
            self.databases.entry(oid).or_insert(Database {
                not_before: now,
                deaths: 0,
                last_start: None,
                last_wish: None,
            });
        }
        Ok(())
    }

    /// Takes note of healers that have left, and frees their places.
    fn note_departures(&mut self) {
        let departed = shmem::write(|board| {
            let mut departed = [(0, 0, Departure::Unknown); shmem::MAX_HEALERS];
            for (note, healer) in departed.iter_mut().zip(&mut board.healers) {
                if healer.state == HealerState::Gone {
                    *note = (healer.database, healer.next_cycle, healer.departure);
                    *healer = Healer::default();
                }
            }
            departed
        });
        let now = Instant::now();
        for (oid, next_cycle, departure) in departed.into_iter().flatten() {
            let Some(database) = self.databases.get_mut(&oid) else {
                continue;
            };
            if departure == Departure::Unknown {
                database.died();
                continue;
            }
            database.deaths = 0;
            database.not_before = match departure {
                // It may have looked before the extension was there.
                Departure::NoExtension if database.last_wish > database.last_start => now,
                Departure::NoExtension => now + PROBE_AGAIN,
                Departure::TurnOver => {
                    let wait = u64::try_from(next_cycle - lifecycle::now());
                    now + Duration::from_micros(wait.unwrap_or_default())
                }
                _ => now,
            };
        }
    }

    /// Databases that want a healer now get one when they have not just lost one.
    fn note_wishes(&mut self) {
        let wanted = shmem::write(|board| {
            (
                std::mem::take(&mut board.wanted),
                std::mem::take(&mut board.all_wanted),
            )
        });
        let Some((wanted, all)) = wanted else {
            return;
        };
        let now = Instant::now();
        for (oid, database) in &mut self.databases {
            if all || wanted.contains(oid) {
                database.last_wish = Some(now);
                if database.deaths == 0 {
                    database.not_before = now;
                }
            }
        }
    }

    /// Starts healers where they are due and slots allow; `true`: a slot was wanted in vain.
    fn start_healers(&mut self, nap: &mut Duration) -> bool {
        let now = Instant::now();
        let Some((running, held)) = shmem::read(|board| {
            let running: Vec<Healer> = board.healers.to_vec();
            let held: Vec<u32> = board.holds.iter().map(|hold| hold.database).collect();
            (running, held)
        }) else {
            return false;
        };
        let taken = running.iter().filter(|healer| healer.is_there());
        let mut room = healer_budget().saturating_sub(taken.clone().count());
        let has_healer = |oid: u32| taken.clone().any(|h| h.database == oid);
        let mut due: Vec<(Option<Instant>, u32)> = Vec::new();
        for (oid, database) in &self.databases {
            if has_healer(*oid) || held.contains(oid) {
                continue;
            }
            match database.not_before.checked_duration_since(now) {
                Some(wait) if !wait.is_zero() => *nap = (*nap).min(wait),
                _ => due.push((database.last_start, *oid)),
            }
        }
        due.sort();
        let waiting = due.len() > room;
        // A look at a database without the extension is over in a moment: nobody need go for it.
        let crowded = self
            .crowded_since
            .is_some_and(|since| since.elapsed() >= RETRY);
        let mut in_vain = false;
        for (_, oid) in due {
            if room == 0 || in_vain {
                break;
            }
            room -= 1;
            in_vain = !self.start_healer(oid, crowded);
        }
        if !waiting && !in_vain {
            self.crowded_since = None;
            return false;
        }
        self.crowded_since.get_or_insert(now);
        if crowded {
            self.rotate();
        }
        *nap = (*nap).min(RETRY);
        in_vain
    }

    /// Starts a healer at a free place of the board; `false`: no worker slot.
    fn start_healer(&mut self, oid: u32, rotate: bool) -> bool {
        let place = shmem::write(|board| {
            let free = |healer: &Healer| healer.state == HealerState::Free;
            let place = board.healers.iter().position(free)?;
            board.healers[place] = Healer {
                state: HealerState::Starting,
                database: oid,
                rotate,
                ..Healer::default()
            };
            Some(place)
        });
        let Some(Some(place)) = place else {
            return true;
        };
        if !registration::start_healer(place as u32) {
            shmem::write(|board| board.healers[place] = Healer::default());
            return false;
        }
        let now = Instant::now();
        self.starting.insert((true, place), now);
        if let Some(database) = self.databases.get_mut(&oid) {
            database.last_start = Some(now);
        }
        true
    }

    /// Asks running healers to make room after their cycle.
    fn rotate(&mut self) {
        let pids = shmem::write(|board| {
            let mut pids = [0; shmem::MAX_HEALERS];
            for (pid, healer) in pids.iter_mut().zip(&mut board.healers) {
                if healer.is_there() && !healer.rotate {
                    healer.rotate = true;
                    *pid = healer.pid;
                }
            }
            pids
        });
        for pid in pids.into_iter().flatten() {
            shmem::wake(pid);
        }
        if !std::mem::replace(&mut self.told_of_rotation, true) {
            log!(
                "ruvector_dag_healing: more databases than worker slots for them; healers take \
                 turns (raise max_worker_processes to have them all at once)"
            );
        }
    }

    /// Starts queued repairs up to the limit; `true`: a slot was wanted in vain.
    fn start_repairs(&mut self) -> bool {
        let limit = guc::config().max_concurrent_repairs;
        loop {
            let next = shmem::write(|board| {
                let busy = |state| matches!(state, RepairState::Starting | RepairState::Running);
                let running = board.repairs.iter().filter(|r| busy(r.state)).count();
                if running >= limit {
                    return None;
                }
                let held = |database| board.holds.iter().any(|hold| hold.database == database);
                let (place, _) = board
                    .repairs
                    .iter()
                    .enumerate()
                    .filter(|(_, r)| r.state == RepairState::Queued && !held(r.request.database))
                    .min_by_key(|(_, r)| r.queued_at)?;
                board.repairs[place].state = RepairState::Starting;
                Some(place)
            });
            let Some(Some(place)) = next else {
                return false;
            };
            if !registration::start_repair(place as u32) {
                shmem::write(|board| board.repairs[place].state = RepairState::Queued);
                self.rotate_for_repair();
                return true;
            }
            self.starting.insert((false, place), Instant::now());
        }
    }

    /// A repair that waits for a slot goes before idle healers of other databases.
    fn rotate_for_repair(&mut self) {
        let pid = shmem::write(|board| {
            let idle = |h: &&mut Healer| h.state == HealerState::Idle && !h.rotate;
            let healer = board.healers.iter_mut().find(idle)?;
            healer.rotate = true;
            Some(healer.pid)
        });
        if let Some(Some(pid)) = pid {
            shmem::wake(pid);
        }
    }

    /// Backs off while no slot is to be had, with one line in the log.
    fn note_slots(&mut self, full: bool) {
        self.slots_full = match (full, self.slots_full) {
            (false, _) => None,
            // The slot of a worker that has just left is free again in a moment.
            (true, None) => Some((Instant::now() + RETRY, RETRY)),
            (true, Some((_, pause))) => {
                if pause == RETRY {
                    log!(
                        "ruvector_dag_healing: no background worker slot free; trying again from \
                         time to time (see max_worker_processes)"
                    );
                }
                let pause = (pause * 2).min(LONGEST_RETRY);
                Some((Instant::now() + pause, pause))
            }
        };
    }

    /// Frees the places of workers that were registered and never came up.
    fn give_up_on_stillborn(&mut self) {
        let now = Instant::now();
        let mut died = Vec::new();
        self.starting.retain(|(healer, place), since| {
            let stillborn = shmem::write(|board| {
                if *healer {
                    let healer = &mut board.healers[*place];
                    match healer.state {
                        HealerState::Starting if now - *since > START_TIMEOUT => {
                            died.push(healer.database);
                            *healer = Healer::default();
                            false
                        }
                        state => state == HealerState::Starting,
                    }
                } else {
                    let repair = &mut board.repairs[*place];
                    match repair.state {
                        RepairState::Starting if now - *since > START_TIMEOUT => {
                            *repair = shmem::Repair::default();
                            false
                        }
                        state => state == RepairState::Starting,
                    }
                }
            });
            stillborn == Some(true)
        });
        for oid in died {
            if let Some(database) = self.databases.get_mut(&oid) {
                database.died();
            }
        }
    }

    /// Cancels repairs behind whose table lock somebody has waited too long. Tells when to look
    /// again.
    fn watch_repairs(&mut self) -> Duration {
        let Some(watched) = shmem::read(|board| {
            let held = board.repairs.iter().enumerate().filter(|(_, repair)| {
                repair.state == RepairState::Running
                    && repair.watched_table != 0
                    && repair.cancel == Cancel::No
            });
            held.map(|(place, repair)| (place, *repair))
                .collect::<Vec<_>>()
        }) else {
            return NAP;
        };
        if watched.is_empty() {
            return NAP;
        }
        let tables: Vec<(u32, u32)> = watched
            .iter()
            .map(|(_, repair)| (repair.request.database, repair.watched_table))
            .collect();
        let ours: Vec<i32> = watched.iter().map(|(_, repair)| repair.pid).collect();
        let waits = locks::longest_waits(&tables, &ours);
        let mut nap = NAP;
        for ((place, repair), wait) in watched.into_iter().zip(waits) {
            let limit = u64::from(repair.lock_timeout_ms);
            if wait.is_some_and(|waited| waited >= limit) {
                shmem::write(|board| {
                    let now = &mut board.repairs[place];
                    if now.pid == repair.pid {
                        now.cancel = Cancel::Yield;
                    }
                });
                lifecycle::cancel(repair.pid);
                continue;
            }
            // Half the limit, so that nobody waits much longer than it.
            nap = nap.min(Duration::from_millis((limit / 2).clamp(20, 1_000)));
        }
        nap
    }
}

/// Healers that run at once: half the cluster's worker slots, the rest is for repairs and others.
fn healer_budget() -> usize {
    (lifecycle::worker_slots() / 2).clamp(1, shmem::MAX_HEALERS)
}
