//! What benches have in common that compare ways to mend an index on one server in one run.
#![allow(
    dead_code,
    reason = "each bench that includes this module uses a part of it"
)]

use std::io::Write;
use std::ops::Range;

use postgres::Client;

use super::harness::{Dice, Options, Server, literal};

/// Dimensions that rows really vary in: embeddings have far more than they use.
const LATENT: usize = 24;

/// A server with room for everything, on which nothing happens by itself.
pub fn server() -> Server {
    Server::start(
        Options::new()
            .setting("shared_buffers", "2GB")
            .setting("max_wal_size", "16GB")
            .setting("checkpoint_timeout", "1h")
            .setting("maintenance_work_mem", "1GB")
            .setting("autovacuum", "off")
            .setting("ruvector.dag_healing_enabled", "off")
            .setting("ruvector.dag_healing_io_limit", 0)
            .setting("ruvector.dag_healing_repair_timeout", "1h")
            .setting("ruvector.dag_healing_interval_ms", 86_400_000),
    )
}

/// Rows that vary in few dimensions, as those of embeddings do.
pub struct Rows {
    dice: Dice,
    spread: Vec<Vec<f64>>,
}

impl Rows {
    pub fn new(dimensions: usize) -> Self {
        let mut dice = Dice::new(1);
        let spread = (0..dimensions).map(|_| dice.point(LATENT)).collect();
        Self { dice, spread }
    }

    /// Copies rows with these ids into a table `(id, v)`.
    pub fn copy(&mut self, client: &mut Client, table: &str, ids: Range<usize>) {
        let mut writer = client
            .copy_in(&format!("COPY {table} FROM STDIN"))
            .expect("COPY starts");
        for id in ids {
            let point = self.dice.point(LATENT);
            let along = |axis: &Vec<f64>| axis.iter().zip(&point).map(|(a, x)| a * x).sum::<f64>();
            let dice = &mut self.dice;
            let vector: Vec<f32> = self
                .spread
                .iter()
                .map(|axis| (along(axis) + 0.3 * dice.normal()) as f32)
                .collect();
            writeln!(writer, "{id}\t{}", literal(&vector)).expect("COPY takes a row");
        }
        writer.finish().expect("COPY ends");
    }
}

/// Bytes of log written so far.
pub fn log(client: &mut Client) -> i64 {
    value(
        client,
        "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint",
    )
}

pub fn value<T: postgres::types::FromSqlOwned>(client: &mut Client, query: &str) -> T {
    client.query_one(query, &[]).expect("an answer").get(0)
}

/// Numbers with commas between them.
pub fn numbers(name: &str, default: &str) -> Vec<usize> {
    let text = std::env::var(name).unwrap_or_else(|_| default.into());
    let numbers = text.split(',').map(|n| n.trim().parse().expect("a number"));
    numbers.collect()
}

pub fn number(name: &str, default: usize) -> usize {
    numbers(name, &default.to_string())[0]
}
