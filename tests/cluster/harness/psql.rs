//! psql as a user types it, for what a client library cannot show.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::process::clean_environment;
use super::server::Server;

/// What a psql printed and how it ended.
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub status: ExitStatus,
}

impl Server {
    /// Runs SQL text or backslash commands, on past errors.
    pub fn psql(&self, database: &str, script: &str) -> Output {
        self.psql_as("postgres", database, script)
    }

    /// The same as another role.
    pub fn psql_as(&self, role: &str, database: &str, script: &str) -> Output {
        let mut psql = self.psql_command(role, database);
        psql.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = psql.spawn().expect("psql starts");
        let mut input = running.stdin.take().expect("its input is a pipe");
        let script = script.to_owned();
        let writer = std::thread::spawn(move || {
            // A psql that quits early closes the pipe: its status says why.
            let _ = input.write_all(script.as_bytes());
        });
        let result = running.wait_with_output().expect("psql ends");
        writer.join().expect("writing does not panic");
        Output {
            stdout: String::from_utf8_lossy(&result.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&result.stderr).into_owned(),
            status: result.status,
        }
    }

    /// Runs a script the way PostgreSQL's own regression tests do: each statement echoed, its output and its
    /// errors after it, all into `output`.
    pub fn psql_script(&self, database: &str, script: &Path, output: &Path) {
        let merged =
            File::create(output).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
        let script =
            File::open(script).unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let mut psql = self.psql_command("postgres", database);
        psql.args(["--echo-all", "--quiet"]).stdin(script);
        psql.stdout(merged.try_clone().expect("a second handle"))
            .stderr(merged);
        psql.status().expect("psql starts");
    }

    /// A psql connected to `database`, to be completed and started.
    pub fn psql_command(&self, role: &str, database: &str) -> Command {
        let mut psql = Command::new(self.installation().bin("psql"));
        clean_environment(&mut psql);
        psql.env("PAGER", "cat").env("PGCLIENTENCODING", "UTF8");
        psql.args([
            "--no-psqlrc",
            "--set",
            "ON_ERROR_STOP=0",
            "--username",
            role,
            "--dbname",
            database,
        ]);
        psql.arg("--host").arg(self.socket_folder());
        psql
    }
}
