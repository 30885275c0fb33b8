//! What these tests share: a server with a quick healer, tables to damage, a way to hold a repair at a
//! step, and questions about what came of it.

use std::time::Duration;

use postgres::Client;
use postgres::types::FromSqlOwned;

use crate::harness::{Options, Server, vacuum};

pub const DATABASE: &str = "shop";
/// Longer than anything waited for takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(90);

/// A server whose healer looks twice a second, and which vacuums only when a test says so.
pub fn options() -> Options {
    Options::new()
        .undemanding()
        .setting("ruvector.dag_healing_interval_ms", 500)
        .setting("autovacuum", "off")
}

pub struct Stage {
    pub server: Server,
}

/// A repair as the journal has it.
#[derive(Debug)]
pub struct Repair {
    pub status: String,
    pub error: String,
}

impl Stage {
    pub fn start(options: Options) -> Self {
        let server = Server::start(options);
        server.create_database(DATABASE, &["vector", "ruvector_dag_healing"]);
        Self { server }
    }

    pub fn client(&self) -> Client {
        self.server.client(DATABASE)
    }

    pub fn execute(&self, statements: &str) {
        self.server.execute(DATABASE, statements);
    }

    pub fn value<T: FromSqlOwned>(&self, query: &str) -> T {
        self.server.value(DATABASE, query)
    }

    /// Waits until a query answers true.
    #[track_caller]
    pub fn wait_for(&self, query: &str) {
        let mut client = self.client();
        let holds = || {
            client
                .query_one(query, &[])
                .unwrap_or_else(|error| panic!("{query}\n{error:?}"))
                .get(0)
        };
        self.server.wait_until(query, LONG, holds);
    }

    /// Waits until so many more check cycles have ended.
    #[track_caller]
    pub fn wait_for_cycles(&self, count: i64) {
        let done: i64 = self.value("SELECT checks_performed FROM ruvector_dag_healing.metrics");
        self.wait_for(&format!(
            "SELECT checks_performed >= {} FROM ruvector_dag_healing.metrics",
            done + count
        ));
    }

    /// A table `(id, body, embedding)` of `rows` random vectors of 16 dimensions, with an HNSW index
    /// named after it.
    pub fn items(&self, table: &str, rows: u32) {
        self.execute(&format!(
            "CREATE TABLE {table} (id int, body text, embedding vector(16));
             {}
             CREATE INDEX {table}_embedding ON {table} USING hnsw (embedding vector_l2_ops)",
            fill(table, rows)
        ));
    }

    /// Deletes 80 % of a table's rows and vacuums it. Repairs do not start by themselves meanwhile.
    pub fn damage(&self, table: &str) {
        self.server.set("ruvector.dag_healing_enabled", "off");
        self.decay(table);
        self.server.reset("ruvector.dag_healing_enabled");
    }

    /// Deletes 80 % of a table's rows and vacuums it.
    pub fn decay(&self, table: &str) {
        self.execute(&format!("DELETE FROM {table} WHERE id % 5 <> 0"));
        vacuum(&mut self.server.client(DATABASE), table);
    }

    /// As if an hour had passed: failed repairs may be tried again, replaced indexes are kept no longer.
    pub fn let_an_hour_pass(&self) {
        self.execute(
            "UPDATE ruvector_dag_healing.issue SET last_repair = last_repair - interval '1 hour';
             UPDATE ruvector_dag_healing.repair SET keep_until = keep_until - interval '1 hour'",
        );
    }

    /// The last repair of a table, if it had any.
    pub fn last_repair(&self, table: &str) -> Option<Repair> {
        let query = format!(
            "SELECT status, coalesce(error, '') FROM ruvector_dag_healing.repair
             WHERE table_oid = '{table}'::regclass ORDER BY repair_id DESC LIMIT 1"
        );
        let row = self.client().query_opt(&query, &[]).expect("the journal")?;
        Some(Repair {
            status: row.get(0),
            error: row.get(1),
        })
    }

    /// Waits until the last repair of a table has ended.
    #[track_caller]
    pub fn ended_repair(&self, table: &str) -> Repair {
        self.wait_for(&format!(
            "SELECT count(*) > 0 AND bool_and(status <> 'running') FROM ruvector_dag_healing.repair
             WHERE table_oid = '{table}'::regclass"
        ));
        self.last_repair(table).expect("it was there just now")
    }

    /// Waits until the issues of a table are resolved by a repair that succeeded.
    #[track_caller]
    pub fn wait_until_healed(&self, table: &str) {
        self.wait_for(&format!(
            "SELECT coalesce((SELECT status = 'succeeded' FROM ruvector_dag_healing.repair
                              WHERE table_oid = '{table}'::regclass
                              ORDER BY repair_id DESC LIMIT 1), false)
                AND NOT EXISTS (SELECT FROM ruvector_dag_healing.issue
                                WHERE table_oid = '{table}'::regclass AND status <> 'resolved')"
        ));
    }

    /// Waits until a table has one HNSW index, and checks that it is the valid one of that name and
    /// answers queries. Returns its OID.
    #[track_caller]
    pub fn one_index(&self, table: &str, index: &str) -> u32 {
        self.wait_for(&format!(
            "SELECT count(*) = 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
             JOIN pg_am a ON a.oid = c.relam
             WHERE i.indrelid = '{table}'::regclass AND a.amname = 'hnsw'"
        ));
        let sound: bool = self.value(&format!(
            "SELECT indisvalid AND indisready AND indislive FROM pg_index
             WHERE indrelid = '{table}'::regclass AND indexrelid = '{index}'::regclass"
        ));
        assert!(sound, "{index} is not valid, ready and live");
        assert!(self.uses(table, index), "{index} is not used");
        self.value(&format!("SELECT '{index}'::regclass::oid"))
    }

    /// Whether a search for a row of the table goes through the index and finds ten rows, that row first.
    pub fn uses(&self, table: &str, index: &str) -> bool {
        let mut client = self.client();
        client
            .batch_execute(
                "SET enable_seqscan = off; SET enable_sort = off; SET hnsw.ef_search = 200",
            )
            .expect("settings");
        let search = format!(
            "SELECT id FROM {table} ORDER BY embedding <-> (SELECT embedding FROM {table} WHERE id = 0 LIMIT 1)
             LIMIT 10"
        );
        let plan = client
            .query(&format!("EXPLAIN {search}"), &[])
            .expect("a plan");
        let name = index.rsplit('.').next().expect("a name").trim_matches('"');
        let through = plan.iter().any(|row| {
            let line: &str = row.get(0);
            line.contains("Index Scan using") && line.contains(name)
        });
        let found = client.query(&search, &[]).expect("a search");
        through && found.len() == 10 && found[0].get::<_, i32>(0) == 0
    }

    /// Makes it possible to [`Self::hold`] repairs.
    pub fn put_up_gates(&self) {
        self.execute(
            "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.status <> OLD.status THEN
                     PERFORM pg_advisory_xact_lock_shared(hashtext('ended'));
                 ELSIF NEW.step IS DISTINCT FROM OLD.step THEN
                     PERFORM pg_advisory_xact_lock_shared(hashtext(NEW.step));
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER gate BEFORE UPDATE ON ruvector_dag_healing.repair
                 FOR EACH ROW EXECUTE FUNCTION gate()",
        );
    }

    /// From now on repairs stop where they mark this step (or `ended`), until the gate is dropped.
    pub fn hold(&self, step: &str) -> Gate {
        let mut client = self.client();
        client
            .execute("SELECT pg_advisory_lock(hashtext($1))", &[&step])
            .expect("a lock");
        Gate { _client: client }
    }

    /// Waits until a repair worker waits for a lock of this kind (`advisory`: at a gate; `virtualxid`:
    /// for somebody's transaction). Returns its process.
    #[track_caller]
    pub fn waiting_worker(&self, kind: &str) -> i32 {
        let worker = format!(
            "FROM pg_stat_activity WHERE backend_type = 'ruvector_dag_healing repair worker'
             AND wait_event_type = 'Lock' AND wait_event = '{kind}'"
        );
        self.wait_for(&format!("SELECT count(*) = 1 {worker}"));
        self.value(&format!("SELECT pid {worker}"))
    }

    /// Opens a transaction with these statements, which lasts until the client is dropped.
    pub fn open_transaction(&self, statements: &str) -> Client {
        let mut client = self.client();
        client
            .batch_execute(&format!("BEGIN; {statements}"))
            .expect("an open transaction");
        client
    }

    /// Has the repair of a damaged table wait in its build for an open transaction: the worker and the transaction.
    /// Needs gates.
    #[track_caller]
    pub fn stuck_build(&self, table: &str) -> (i32, Client) {
        let gate = self.hold("build");
        self.damage(table);
        self.waiting_worker("advisory");
        let obstacle = self.open_transaction(&format!("LOCK TABLE {table} IN ROW EXCLUSIVE MODE"));
        drop(gate);
        (self.waiting_worker("virtualxid"), obstacle)
    }
}

/// While it is there, repairs wait at a step.
pub struct Gate {
    _client: Client,
}

/// Rows 0 to `rows` - 1 of random vectors, the same in every run.
pub fn fill(table: &str, rows: u32) -> String {
    format!(
        "SELECT setseed(0.5);
         INSERT INTO {table} (id, body, embedding)
         SELECT i, 'item ' || i, (SELECT array_agg(random()) FROM generate_series(1, 16) WHERE i >= 0)::vector
         FROM generate_series(0, {rows} - 1) i;"
    )
}
