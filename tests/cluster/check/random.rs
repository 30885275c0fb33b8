//! Indexes of all kinds, built, changed and vacuumed at random: no row, nothing broken. `RANDOM_INDEXES` says how
//! many (40), `RANDOM_SEED` which is the first: each is made of its own seed, which a failure names.

use std::fmt::Debug;
use std::str::FromStr;

use postgres::Client;
use serde_json::Value;

use crate::harness::{Busy, Dice, Server, skip, vacuum};
use crate::values::{VALUE_TYPES, ValueType, copy};

use super::{faults, sound};

/// Issues that no healthy index has, however it is built and whatever becomes of its rows.
const BROKEN: [&str; 4] = [
    "dangling_edges",
    "dead_entry_point",
    "invalid_index",
    "wrong_level",
];
/// What a healthy index may have for a moment: a vacuum passes the entry point on before it deletes what is higher, an
/// insert writes an element before it makes it the entry point, and finds none to link to where a vacuum has taken
/// the rows of all that are near.
const MOMENTARY: [&str; 4] = [
    "dead_entry_point",
    "entry_missing",
    "no_links",
    "wrong_level",
];

const VACUUM: &str = "VACUUM (INDEX_CLEANUP ON) docs";

/// How an index comes about and what becomes of it.
#[derive(Debug)]
struct Recipe {
    seed: u64,
    kind: &'static ValueType,
    dimensions: usize,
    /// Rows there are values for, and those that the table begins with.
    pool: usize,
    rows: usize,
    /// Different values, and the share of rows that have none.
    values: usize,
    nulls: f64,
    /// Settings and `CREATE INDEX`; before the rows come or after.
    index: String,
    built_empty: bool,
    /// Statements in turn.
    steps: Vec<String>,
}

impl Recipe {
    fn roll(seed: u64, client: &mut Client) -> Self {
        let mut dice = Dice::new(seed);
        let known = VALUE_TYPES
            .iter()
            .filter(|kind| !kind.classes(client, "hnsw").is_empty());
        let kind = dice.pick(&known.collect::<Vec<_>>());
        let method = match kind.name {
            "sparsevec" => "hnsw",
            _ => dice.pick(&["hnsw", "hnsw", "ivfflat"]),
        };
        let class = dice.pick(&kind.classes(client, method));
        let dimensions = dice.pick(&[2, 3, 5, 8, 17, 40, 100, 800, 1_900]);
        // What is wide comes in small numbers; a graph of many links takes long to build.
        let pool = 2_000.min(60_000 / dimensions);
        let rows = dice.pick(&[0, 1, 12, pool / 10, pool / 3, pool / 2, pool]);
        let steps = 0..dice.below(8);
        Self {
            seed,
            kind,
            dimensions,
            pool,
            rows,
            values: dice.pick(&[pool, pool, pool / 2, pool / 10, 10, 1]),
            nulls: dice.pick(&[0.0, 0.0, 0.1, 0.6]),
            index: create(&mut dice, method, class),
            built_empty: dice.happens(0.2),
            steps: steps.map(|_| statement(&mut dice, pool)).collect(),
        }
    }

    /// Makes the tables and the index.
    fn build(&self, client: &mut Client) {
        let column = format!(
            "id int, kept bool, v {}({})",
            self.kind.name, self.dimensions
        );
        let tables = format!(
            "DROP TABLE IF EXISTS docs, pool;
             CREATE TABLE docs ({column});
             CREATE TABLE pool ({column})"
        );
        self.run(client, &tables);
        copy(client, "pool", self.lines());
        let fill = format!(
            "INSERT INTO docs SELECT * FROM pool WHERE id < {}",
            self.rows
        );
        let (first, second) = if self.built_empty {
            (&self.index, &fill)
        } else {
            (&fill, &self.index)
        };
        self.run(client, first);
        self.run(client, second);
    }

    /// The pool, row by row.
    fn lines(&self) -> Vec<String> {
        let mut dice = Dice::new(!self.seed);
        let values = (0..self.values).map(|_| dice.point(self.dimensions));
        let values: Vec<_> = values.map(|point| self.kind.literal(&point)).collect();
        let line = |id: usize| {
            let value = match dice.happens(self.nulls) {
                true => "\\N",
                false => &values[id % values.len()],
            };
            format!("{id}\t{}\t{value}", dice.happens(0.7))
        };
        (0..self.pool).map(line).collect()
    }

    fn run(&self, client: &mut Client, statements: &str) {
        // One by one: a vacuum has to be alone.
        for statement in statements.split(';') {
            client
                .batch_execute(statement)
                .unwrap_or_else(|error| panic!("{statement}: {error:?}\n{self:#?}"));
        }
    }

    /// Nothing is wrong with the index, by what the functions say.
    #[track_caller]
    fn assert_sound(&self, client: &mut Client, when: &str, forgiven: &[&str]) {
        let mut found = faults(client, "docs_idx", true);
        found.retain(|breach| !forgiven.contains(&breach.check.as_str()));
        assert_eq!(found, [], "{when}: {self:#?}");
        let look: Value = client
            .query_one(
                "SELECT ruvector_dag_health_check('docs_idx') -> 'indexes' -> 0",
                &[],
            )
            .unwrap_or_else(|error| panic!("{when}: {error:?}\n{self:#?}"))
            .get(0);
        let dangling = look["dangling_edges"].as_i64().unwrap_or_default();
        let issues = look["issues"].as_array().expect("a list").iter();
        let broken = BROKEN.iter().filter(|code| !forgiven.contains(code));
        let broken: Vec<_> = issues
            .filter_map(|issue| issue.as_str())
            .filter(|id| broken.clone().any(|code| id.starts_with(code)))
            .collect();
        assert_eq!((dangling, broken), (0, vec![]), "{when}: {look}\n{self:#?}");
    }

    /// Step by step, looked at after each.
    fn assert_sound_at_rest(&self, client: &mut Client) {
        self.assert_sound(client, "built", &[]);
        for step in &self.steps {
            self.run(client, step);
            self.assert_sound(client, step, &[]);
        }
    }

    /// While clients write, each to its half of the rows, and one vacuums.
    fn assert_sound_under_load(&self, server: &Server, client: &mut Client) {
        let mut dice = Dice::new(self.seed);
        let mut writer = |half: &str| {
            let writes = (0..8).map(|_| write(&mut dice, self.pool, half)).collect();
            Busy::start(server.client("app"), writes)
        };
        let writers = [
            writer("id % 2 = 0"),
            writer("id % 2 = 1"),
            Busy::start(server.client("app"), vec![VACUUM.into()]),
        ];
        let mut checks = 0;
        while checks < 10 || writers.iter().any(|writer| writer.rounds() < 2) {
            self.assert_sound(client, "under load", &MOMENTARY);
            checks += 1;
        }
        writers.into_iter().for_each(Busy::stop);
        // A vacuum mends what the load has left, where there is anything to vacuum.
        self.run(client, "DELETE FROM docs WHERE id % 5 = 0");
        vacuum(client, "docs");
        self.assert_sound(client, "after the load", &[]);
    }
}

/// Settings and `CREATE INDEX`.
fn create(dice: &mut Dice, method: &str, class: &str) -> String {
    let memory = match method {
        "hnsw" => dice.pick(&["1MB", "64MB"]),
        _ => "256MB",
    };
    let workers = dice.pick(&[0, 0, 2]);
    let options = match method {
        "hnsw" => {
            let m = dice.pick(&[2, 3, 5, 8, 16, 24, 40]);
            format!(
                "m = {m}, ef_construction = {}",
                2 * m + dice.below(60).max(4)
            )
        }
        _ => format!("lists = {}", dice.pick(&[1, 2, 7, 20, 60])),
    };
    let predicate = dice.pick(&["", "", " WHERE kept"]);
    format!(
        "SET maintenance_work_mem = '{memory}';
         SET max_parallel_maintenance_workers = {workers};
         ALTER TABLE docs SET (parallel_workers = 2);
         CREATE INDEX docs_idx ON docs USING {method} (v {class}) WITH ({options}){predicate}"
    )
}

/// Rows come, change or go: some of those of which `half` is true.
fn write(dice: &mut Dice, pool: usize, half: &str) -> String {
    let every = dice.pick(&[3, 10, 40]);
    let some = format!("{half} AND id % {every} = {}", dice.below(every));
    let shift = dice.below(pool);
    match dice.below(6) {
        0 => format!("INSERT INTO docs SELECT * FROM pool WHERE {some}"),
        1 => format!(
            "UPDATE docs SET v = (SELECT v FROM pool p WHERE p.id = (docs.id + {shift}) % {pool}) WHERE {some}"
        ),
        2 => format!("UPDATE docs SET kept = NOT kept WHERE {some}"),
        3 => format!("BEGIN; INSERT INTO docs SELECT * FROM pool WHERE {some}; ROLLBACK"),
        _ => format!("DELETE FROM docs WHERE {some}"),
    }
}

/// What may become of rows or of the index.
fn statement(dice: &mut Dice, pool: usize) -> String {
    match dice.below(10) {
        0 => "DELETE FROM docs".into(),
        1 => "REINDEX INDEX docs_idx".into(),
        2 => "VACUUM FULL docs".into(),
        3..6 => VACUUM.into(),
        _ => write(dice, pool, "true"),
    }
}

fn number<T: FromStr<Err: Debug>>(variable: &str, default: T) -> T {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    }
}

#[test]
fn random_indexes_are_sound() {
    let server = sound::server();
    let first = number("RANDOM_SEED", 1);
    let calm = server.pgvector_version() < Some((0, 8, 5));
    if calm {
        skip("half of the random indexes", "older pgvectors make faults");
    }
    let mut client = server.client("app");
    for seed in first..first + number("RANDOM_INDEXES", 40) {
        let recipe = Recipe::roll(seed, &mut client);
        recipe.build(&mut client);
        recipe.assert_sound_at_rest(&mut client);
        if !calm && seed % 2 == 0 {
            recipe.assert_sound_under_load(&server, &mut client);
        }
    }
}
