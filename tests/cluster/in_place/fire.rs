//! A table under fire: clients that insert, update, delete and search, each of which knows what it
//! wrote, a vacuum now and then, and damage planted in between.
#![allow(
    dead_code,
    reason = "each target that includes this module uses a part of it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use postgres::Client;

use super::harness::{Dice, Mode, Server, literal};
use super::pages::File;

/// Rows that the clients find.
pub const ROWS: usize = 10_000;
pub const DIMENSIONS: usize = 32;
/// Dimensions that they vary in.
const LATENT: usize = 12;

/// Fills a table `fire (id, v)`.
pub fn fill(client: &mut Client, rows: usize) {
    client
        .batch_execute(&format!(
            "CREATE TABLE fire (id bigint PRIMARY KEY, v vector({DIMENSIONS}))"
        ))
        .expect("a table");
    let mut vectors = Vectors::new(0);
    let mut writer = client.copy_in("COPY fire FROM STDIN").expect("COPY starts");
    for id in 0..rows {
        use std::io::Write;
        writeln!(writer, "{id}\t{}", vectors.next()).expect("COPY takes a row");
    }
    writer.finish().expect("COPY ends");
    client
        .batch_execute("CREATE INDEX fire_hnsw ON fire USING hnsw (v vector_l2_ops)")
        .expect("an index");
}

/// Vectors, no two of them the same.
struct Vectors {
    dice: Dice,
    spread: Vec<Vec<f64>>,
}

impl Vectors {
    fn new(seed: u64) -> Self {
        let mut same = Dice::new(1);
        Self {
            dice: Dice::new(seed + 2),
            spread: (0..DIMENSIONS).map(|_| same.point(LATENT)).collect(),
        }
    }

    fn next(&mut self) -> String {
        let point = self.dice.point(LATENT);
        let dice = &mut self.dice;
        let along = |axis: &Vec<f64>| axis.iter().zip(&point).map(|(a, x)| a * x).sum::<f64>();
        let vector: Vec<f32> = self
            .spread
            .iter()
            .map(|axis| (along(axis) + 0.3 * dice.normal()) as f32)
            .collect();
        literal(&vector)
    }
}

/// What holds the clients back while the server is stopped, and ends them.
#[derive(Default)]
pub struct Field {
    gate: RwLock<()>,
    over: AtomicBool,
    /// Times that the server was started anew.
    starts: AtomicU32,
}

impl Field {
    fn pass(&self) -> RwLockReadGuard<'_, ()> {
        // A writer in line goes first, so that damage is planted soon.
        self.gate.read().expect("nobody panicked at the gate")
    }

    /// Ends all clients after their statement.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Stops the server while nobody is in a statement, damages the file of an index, and starts it again.
    pub fn damage(
        &self,
        server: &Server,
        database: &str,
        index: &str,
        plant: impl FnOnce(&mut File),
    ) {
        let file = server.index_file(database, index);
        let closed = self.gate.write().expect("nobody panicked at the gate");
        server.stop(Mode::Fast);
        // Fails where they are not enabled, which is as well.
        let checksums = Command::new(server.installation().bin("pg_checksums"))
            .args(["--disable", "--pgdata"])
            .arg(server.data_dir())
            .output();
        checksums.expect("pg_checksums runs");
        plant(&mut File::open(&file));
        server.start_again();
        self.starts.fetch_add(1, Ordering::Relaxed);
        drop(closed);
    }
}

/// A connection, made anew where the server was started since.
struct Connection<'a> {
    server: &'a Server,
    database: &'a str,
    field: &'a Field,
    client: Option<(u32, Client)>,
}

impl<'a> Connection<'a> {
    fn new(server: &'a Server, database: &'a str, field: &'a Field) -> Self {
        Self {
            server,
            database,
            field,
            client: None,
        }
    }

    fn get(&mut self) -> &mut Client {
        let starts = self.field.starts.load(Ordering::Relaxed);
        if self.client.as_ref().is_none_or(|(then, _)| *then != starts) {
            let mut client = self.server.client(self.database);
            client
                .batch_execute("SET enable_seqscan = off; SET hnsw.ef_search = 60")
                .expect("settings");
            self.client = Some((starts, client));
        }
        &mut self.client.as_mut().expect("made above").1
    }
}

/// Ends the clients also where the test fails: it would wait for them for ever.
pub struct Ends<'a>(pub &'a Field);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What a client did and saw.
#[derive(Default)]
pub struct Log {
    /// Durations of its statements.
    pub took: Vec<Duration>,
    /// Its rows as they are: id and vector.
    pub rows: BTreeMap<i64, String>,
    /// Rows that it had just written, and how many of them a search did not find.
    pub sought: u32,
    pub missed: u32,
}

/// Time a client takes to think between statements: without it a few of them outrun any vacuum.
const THINKS: Duration = Duration::from_millis(4);

/// Uses the table until the field is over.
pub fn client(server: &Server, database: &str, number: i64, field: &Field) -> Log {
    let mut vectors = Vectors::new(number as u64 * 7_919 + 1);
    let mut dice = Dice::new(number as u64 + 99);
    let mut log = Log::default();
    let mut next = 1_000_000 * (number + 1);
    let mut connection = Connection::new(server, database, field);
    while !field.is_over() {
        let passed = field.pass();
        let client = connection.get();
        let started = Instant::now();
        match dice.below(20) {
            0..=11 => search(client, &vectors.next()),
            12..=14 => {
                let vector = vectors.next();
                client
                    .execute(
                        "INSERT INTO fire VALUES ($1, $2::text::vector)",
                        &[&next, &vector],
                    )
                    .expect("an insert");
                log.rows.insert(next, vector);
                next += 1;
            }
            15..=17 => {
                if let Some(id) = pick(&log.rows, &mut dice) {
                    let vector = vectors.next();
                    let changed = client.execute(
                        "UPDATE fire SET v = $2::text::vector WHERE id = $1",
                        &[&id, &vector],
                    );
                    assert_eq!(changed.expect("an update"), 1, "row {id} is there");
                    log.rows.insert(id, vector);
                }
            }
            18 => {
                if let Some(id) = pick(&log.rows, &mut dice) {
                    let gone = client.execute("DELETE FROM fire WHERE id = $1", &[&id]);
                    assert_eq!(gone.expect("a delete"), 1, "row {id} was there");
                    log.rows.remove(&id);
                }
            }
            _ => {
                if let Some(id) = pick(&log.rows, &mut dice) {
                    log.sought += 1;
                    log.missed += u32::from(!finds(client, id, &log.rows[&id]));
                }
            }
        }
        log.took.push(started.elapsed());
        drop(passed);
        std::thread::sleep(THINKS);
    }
    log
}

fn pick(rows: &BTreeMap<i64, String>, dice: &mut Dice) -> Option<i64> {
    let count = rows.len().max(1);
    rows.keys().nth(dice.below(count)).copied()
}

/// Searches; no row may come twice.
fn search(client: &mut Client, vector: &str) {
    let found = nearest(client, vector);
    let distinct: BTreeSet<i64> = found.iter().copied().collect();
    assert_eq!(distinct.len(), found.len(), "a row came twice: {found:?}");
    assert_eq!(found.len(), 10, "there are rows enough");
}

/// Whether a search for a row's own value finds it.
pub fn finds(client: &mut Client, id: i64, vector: &str) -> bool {
    nearest(client, vector).contains(&id)
}

fn nearest(client: &mut Client, vector: &str) -> Vec<i64> {
    client
        .query(
            "SELECT id FROM fire ORDER BY v <-> $1::text::vector LIMIT 10",
            &[&vector],
        )
        .expect("a search")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Vacuums the table again and again until the field is over, with pauses: while one runs nothing is
/// repaired.
pub fn vacuum(server: &Server, database: &str, field: &Field, pause: Duration) {
    let mut connection = Connection::new(server, database, field);
    while !field.is_over() {
        {
            let _passed = field.pass();
            let client = connection.get();
            client.batch_execute("VACUUM fire").expect("a vacuum");
        }
        let began = Instant::now();
        while !field.is_over() && began.elapsed() < pause {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Every row that the clients wrote is there, in the table and in its index; how many searches for
/// them do not find them.
pub fn account(client: &mut Client, logs: &[Log]) -> (usize, usize) {
    client
        .batch_execute("SET enable_seqscan = off; SET hnsw.ef_search = 100")
        .expect("settings");
    let (mut all, mut missed) = (0, 0);
    for log in logs {
        for (id, vector) in &log.rows {
            let row = client.query_opt("SELECT v::text FROM fire WHERE id = $1", &[id]);
            assert!(row.expect("a look").is_some(), "row {id} is lost");
            all += 1;
            missed += usize::from(!finds(client, *id, vector));
        }
    }
    (all, missed)
}
