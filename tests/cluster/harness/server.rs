//! A throw-away server and what tests ask of it.

use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use postgres::types::FromSqlOwned;
use postgres::{Client, Config, NoTls};

use super::locate::{Installation, workspace};
use super::process::{Tenant, account, command, copy_folder, run, signal};
use super::wait::holds_within;

const EXTENSION: &str = "ruvector_dag_healing";
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Every data directory is a copy of one made with these.
const INITDB: [&str; 6] = [
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
    "--no-instructions",
];

/// Quick and quiet: no fsync (a stop or crash of the server without one of the machine loses nothing).
const SETTINGS: [(&str, &str); 6] = [
    ("listen_addresses", ""),
    ("fsync", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] %b %d "),
    ("lc_messages", "C"),
];

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Options {
    installation: Option<String>,
    preload: bool,
    settings: Vec<(String, String)>,
}

/// How a server is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Waits for clients to leave.
    Smart,
    /// Ends clients, writes a checkpoint.
    Fast,
    /// A crash: no checkpoint, the next start recovers from the WAL.
    Immediate,
}

impl Options {
    /// The chosen PostgreSQL (see [`Installation::chosen`]), the extension preloaded.
    pub fn new() -> Self {
        Self {
            installation: None,
            preload: true,
            settings: Vec::new(),
        }
    }

    /// The prefix `target/pg/NAME` whatever `RUVECTOR_TEST_PG` says; ask [`Installation::named`] before.
    pub fn major(mut self, name: &str) -> Self {
        self.installation = Some(name.to_owned());
        self
    }

    /// Whether the extension stands in `shared_preload_libraries` (it does by default).
    pub fn preload(mut self, preload: bool) -> Self {
        self.preload = preload;
        self
    }

    /// A line of `postgresql.conf`; the last one of a name holds.
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// A server that asks little of recall: random rows in few dimensions are hard to search, and low recall is
    /// an issue of its own.
    pub fn undemanding(self) -> Self {
        self.setting("ruvector.dag_healing_target_recall", 0.5)
    }

    fn installation(&self) -> Installation {
        match &self.installation {
            None => Installation::chosen(),
            Some(name) => Installation::named(name).unwrap_or_else(|| {
                panic!("no PostgreSQL in target/pg/{name}: tools/setup.sh {name} puts one there")
            }),
        }
    }

    fn lines(&self) -> String {
        let preloaded = if self.preload { EXTENSION } else { "" };
        let fixed = SETTINGS
            .iter()
            .copied()
            .chain([("shared_preload_libraries", preloaded)]);
        let own = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        fixed
            .chain(own)
            .fold(String::new(), |mut lines, (name, value)| {
                let _ = writeln!(lines, "{name} = '{}'", value.replace('\'', "''"));
                lines
            })
    }
}

/// A running server of its own; dropped, it is stopped and all its files are removed (after the end of its log
/// has been shown, in a test that fails).
pub struct Server {
    process: Tenant,
    /// The PostgreSQL asked for, and where it runs from: the same, or a copy that its account can read.
    origin: Installation,
    installation: Installation,
}

impl Server {
    /// Starts a server on a fresh data directory; ready for connections when it returns.
    pub fn start(options: Options) -> Self {
        let server = Self::prepare(options.installation());
        copy_folder(&template(&server.installation), &server.data_dir());
        server.configure(&options);
        server.launch();
        server
    }

    /// A streaming standby of this server, of the same PostgreSQL, far enough to answer queries.
    pub fn standby(&self, options: Options) -> Self {
        let server = Self::prepare(self.origin.clone());
        let mut backup = command(server.installation.bin("pg_basebackup"));
        backup
            .arg("--pgdata")
            .arg(server.data_dir())
            .arg("--host")
            .arg(self.socket_folder());
        backup.args([
            "--username=postgres",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        ]);
        run(&mut backup);
        server.configure(&options);
        server.launch();
        server
    }

    /// Its own folder and, where its account cannot read the prefix, a copy of that.
    fn prepare(origin: Installation) -> Self {
        let mut installation = origin.clone();
        let process = Tenant::new();
        let readable = || {
            let mut test = command("sh");
            test.args([
                "-c",
                "test -x \"$0/bin/postgres\" && test -r \"$1/plpgsql.so\"",
            ]);
            test.arg(&installation.prefix).arg(&installation.libraries);
            test.status().is_ok_and(|status| status.success())
        };
        if account().other && !readable() {
            let copy = process.folder.join("postgresql");
            copy_folder(&installation.prefix, &copy);
            run(Command::new("chmod").args(["-R", "go+rX", "--"]).arg(&copy));
            installation = Installation::at(&copy).expect("a copy of a PostgreSQL is one");
        }
        Self {
            process,
            origin,
            installation,
        }
    }

    fn configure(&self, options: &Options) {
        let mut lines = options.lines();
        let _ = writeln!(
            lines,
            "unix_socket_directories = '{}'",
            self.socket_folder().display()
        );
        let file = self.data_dir().join("postgresql.conf");
        let mut file = File::options()
            .append(true)
            .open(file)
            .expect("initdb writes a postgresql.conf");
        file.write_all(lines.as_bytes())
            .expect("a postgresql.conf can be written");
    }

    fn launch(&self) {
        let mut postgres = command(self.installation.bin("postgres"));
        postgres.arg("-D").arg(self.data_dir());
        self.process.start(postgres, &self.log_file());
        self.wait_for_connections();
    }

    fn wait_for_connections(&self) {
        let ready = holds_within(START_LIMIT, || {
            if let Some(status) = self.process.ended() {
                panic!("the server ended while starting: {status}");
            }
            self.try_client("postgres").is_ok()
        });
        assert!(ready, "the server takes no connections");
    }

    /// Stops the server and says how long that took; [`Self::start_again`] starts it again.
    pub fn stop(&self, mode: Mode) -> Duration {
        let started = Instant::now();
        let ending = match mode {
            Mode::Smart => Signal::SIGTERM,
            Mode::Fast => Signal::SIGINT,
            Mode::Immediate => Signal::SIGQUIT,
        };
        assert!(
            self.process.end(ending, STOP_LIMIT),
            "{mode:?} stop: still running"
        );
        started.elapsed()
    }

    /// Starts a stopped server.
    pub fn start_again(&self) {
        self.launch();
    }

    /// A fast stop and a start.
    pub fn restart(&self) {
        self.stop(Mode::Fast);
        self.start_again();
    }

    /// Kills a client's backend, as a crash in it would end it, and waits until the server, which then ends all
    /// its processes and recovers, takes connections again.
    pub fn crash_and_wait(&self) {
        let mut victim = self.client("postgres");
        let pid: i32 = value(&mut victim, "SELECT pg_backend_pid()");
        self.crash_by_killing(pid);
    }

    /// Kills one of the server's processes (not the postmaster) and waits until the server has recovered.
    pub fn crash_by_killing(&self, pid: i32) {
        let mut witness = self.client("postgres");
        self.kill9(pid);
        // The postmaster ends every other backend before it recovers: once ours is gone, it has seen the crash.
        self.wait_until("the server notices the crash", START_LIMIT, || {
            witness.batch_execute("SELECT").is_err()
        });
        self.wait_for_connections();
    }

    /// Has the server read its configuration again; new connections see it when this returns.
    pub fn reload(&self) {
        let loaded =
            || -> std::time::SystemTime { self.value("postgres", "SELECT pg_conf_load_time()") };
        let before = loaded();
        self.client("postgres")
            .batch_execute("SELECT pg_reload_conf()")
            .expect("a reload");
        self.wait_until("the configuration is read again", START_LIMIT, || {
            loaded() > before
        });
    }

    /// `ALTER SYSTEM SET` and a reload. A list is one value here: `set("search_path", "a, b")`.
    pub fn set(&self, name: &str, value: &str) {
        let value = value.replace('\'', "''");
        self.execute("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"));
        self.reload();
    }

    /// `ALTER SYSTEM RESET` and a reload.
    pub fn reset(&self, name: &str) {
        self.execute("postgres", &format!("ALTER SYSTEM RESET {name}"));
        self.reload();
    }

    /// A connection of the superuser.
    pub fn client(&self, database: &str) -> Client {
        self.client_as("postgres", database)
    }

    /// A connection of another role.
    pub fn client_as(&self, role: &str, database: &str) -> Client {
        self.connect(role, database)
            .unwrap_or_else(|error| panic!("{role} cannot connect to {database}: {error:?}"))
    }

    /// A connection of the superuser, or why there is none.
    pub fn try_client(&self, database: &str) -> Result<Client, postgres::Error> {
        self.connect("postgres", database)
    }

    fn connect(&self, role: &str, database: &str) -> Result<Client, postgres::Error> {
        Config::new()
            .host_path(self.socket_folder())
            .user(role)
            .dbname(database)
            .connect(NoTls)
    }

    /// Runs statements as the superuser on a connection of their own.
    pub fn execute(&self, database: &str, statements: &str) {
        if let Err(error) = self.client(database).batch_execute(statements) {
            panic!("{statements}\n{error:?}");
        }
    }

    /// The one value of a query, asked as the superuser on a connection of its own.
    pub fn value<T: FromSqlOwned>(&self, database: &str, query: &str) -> T {
        value(&mut self.client(database), query)
    }

    /// Creates a database with these extensions.
    pub fn create_database(&self, name: &str, extensions: &[&str]) {
        let quoted = name.replace('"', "\"\"");
        self.execute("postgres", &format!("CREATE DATABASE \"{quoted}\""));
        for extension in extensions {
            self.execute(name, &format!("CREATE EXTENSION \"{extension}\""));
        }
    }

    /// The pid of a process whose `backend_type` is LIKE `pattern`, among those of `database` where one is named.
    pub fn pid_of_worker(&self, pattern: &str, database: Option<&str>) -> Option<i32> {
        self.client("postgres")
            .query_opt(
                "SELECT pid FROM pg_stat_activity
                 WHERE backend_type LIKE $1 AND ($2::text IS NULL OR datname = $2) ORDER BY pid LIMIT 1",
                &[&pattern, &database],
            )
            .expect("pg_stat_activity")
            .map(|row| row.get(0))
    }

    /// SIGKILL; a process that is gone already is not an error.
    pub fn kill9(&self, pid: i32) {
        signal(pid, Signal::SIGKILL);
    }

    /// Has a process of the server stand still, or go on.
    pub fn stand_still(&self, pid: i32, still: bool) {
        let how = match still {
            true => Signal::SIGSTOP,
            false => Signal::SIGCONT,
        };
        signal(pid, how);
    }

    /// The postmaster's pid, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.process.pid()
    }

    /// Looks until `condition` holds; panics with `what` when it does not in time.
    #[track_caller]
    pub fn wait_until(&self, what: &str, limit: Duration, condition: impl FnMut() -> bool) {
        assert!(
            holds_within(limit, condition),
            "waited {limit:?} in vain: {what}"
        );
    }

    /// Waits until this standby has replayed all that `primary` has written so far.
    pub fn wait_for_replay(&self, primary: &Self) {
        let written: String = primary.value("postgres", "SELECT pg_current_wal_flush_lsn()::text");
        let reached =
            format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}'::pg_lsn, false)");
        let mut client = self.client("postgres");
        self.wait_until("the standby catches up", START_LIMIT, || {
            value(&mut client, &reached)
        });
    }

    /// Makes this standby a primary.
    pub fn promote(&self) {
        assert!(
            self.value::<bool>("postgres", "SELECT pg_promote()"),
            "not promoted"
        );
    }

    /// All that the server has logged.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of the log, for a message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(40)..];
        format!("--- the server's log ends ---\n{}\n---", tail.join("\n"))
    }

    /// What every process is at and what it waits for, for a message; why that cannot be told if so.
    fn activity(&self) -> String {
        let lines = self.try_client("postgres").and_then(|mut client| {
            client.query(
                "SELECT concat_ws(' ', pid, datname, backend_type, state, wait_event_type, wait_event,
                     'xmin=' || backend_xmin, now() - xact_start, left(query, 80)) FROM pg_stat_activity
                 UNION ALL
                 SELECT concat_ws(' ', pid, 'waits for', mode, locktype, relation::regclass, virtualxid,
                     transactionid) FROM pg_locks WHERE NOT granted",
                &[],
            )
        });
        let lines = match lines {
            Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
            Err(error) => vec![error.to_string()],
        };
        format!("--- the server's processes ---\n{}", lines.join("\n"))
    }

    fn log_file(&self) -> PathBuf {
        self.process.folder.join("log")
    }

    /// The folder of the server's files.
    pub fn data_dir(&self) -> PathBuf {
        self.process.folder.join("data")
    }

    /// The folder of its socket: `host` of a connection.
    pub fn socket_folder(&self) -> &Path {
        &self.process.folder
    }

    /// The first file of a relation, as after a checkpoint.
    pub fn index_file(&self, database: &str, relation: &str) -> PathBuf {
        let mut client = self.client(database);
        client.batch_execute("CHECKPOINT").expect("a checkpoint");
        let path: String = client
            .query_one(
                "SELECT pg_relation_filepath($1::text::regclass)",
                &[&relation],
            )
            .expect("a relation")
            .get(0);
        self.data_dir().join(path)
    }

    /// The PostgreSQL that it runs.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Major and minor version.
    pub fn version(&self) -> (u32, u32) {
        self.installation.version
    }

    /// The version of pgvector that it can create.
    pub fn pgvector_version(&self) -> Option<(u32, u32, u32)> {
        self.installation.pgvector
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.activity(), self.log_tail());
        }
    }
}

fn value<T: FromSqlOwned>(client: &mut Client, query: &str) -> T {
    client
        .query_one(query, &[])
        .unwrap_or_else(|error| panic!("{query}\n{error:?}"))
        .get(0)
}

/// A data directory to copy, made once for a PostgreSQL and an account and kept below `target`.
fn template(installation: &Installation) -> PathBuf {
    let folder = workspace().join("target/test-servers");
    let (major, minor) = installation.version;
    let template = folder.join(format!("template-{major}.{minor}-{}", account().uid));
    if template.join("PG_VERSION").exists() {
        return template;
    }
    std::fs::create_dir_all(&folder).expect("a folder below target");
    // Made where the servers' account may write, moved as a whole: two processes may both come here.
    let place = Tenant::new();
    let made = place.folder.join("data");
    run(command(installation.bin("initdb"))
        .args(INITDB)
        .arg("--pgdata")
        .arg(&made));
    let part = tempfile::tempdir_in(&folder).expect("a folder below target");
    let copy = part.path().join("data");
    copy_folder(&made, &copy);
    match std::fs::rename(&copy, &template) {
        Ok(()) => {}
        Err(_) if template.join("PG_VERSION").exists() => {}
        Err(error) => panic!("{}: {error}", template.display()),
    }
    template
}
