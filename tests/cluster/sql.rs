//! Runs every script of `tests/sql` in a fresh database `regress` that has `vector` and the extension, and
//! compares all that psql prints with `tests/sql/expected`. `expected/NAME.pg16.out` takes precedence on
//! PostgreSQL 16, and so on. `UPDATE_EXPECTED=1` writes what came out in place of what was expected.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Options, Server, skip, workspace};

#[test]
fn scripts_print_what_is_expected() {
    let folder = workspace().join("tests/sql");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    scripts.sort();
    if scripts.is_empty() {
        return skip("scripts_print_what_is_expected", "no scripts in tests/sql");
    }

    let server = Server::start(Options::new());
    let (major, minor) = server.version();
    let results = workspace().join(format!("target/sql-results/{major}.{minor}"));
    std::fs::create_dir_all(&results).expect("a folder below target");
    let failed: Vec<_> = scripts
        .iter()
        .filter(|script| {
            let name = script
                .file_stem()
                .expect("a script has a name")
                .to_string_lossy();
            let printed = results.join(format!("{name}.out"));
            run_script(&server, script, &printed);
            !same_as_expected(&folder.join("expected"), &name, major, &printed)
        })
        .map(|script| {
            script
                .file_name()
                .expect("a script has a name")
                .to_string_lossy()
        })
        .collect();
    assert!(failed.is_empty(), "not as expected: {}", failed.join(", "));
}

fn run_script(server: &Server, script: &Path, printed: &Path) {
    server.execute("postgres", "DROP DATABASE IF EXISTS regress WITH (FORCE)");
    server.create_database("regress", &["vector", "ruvector_dag_healing"]);
    server.psql_script("regress", script, printed);
}

/// Compares, prints the difference; or writes what is expected, when asked to.
fn same_as_expected(folder: &Path, name: &str, major: u32, printed: &Path) -> bool {
    let own = folder.join(format!("{name}.pg{major}.out"));
    let expected = if own.exists() {
        own
    } else {
        folder.join(format!("{name}.out"))
    };
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::create_dir_all(folder).expect("a folder for what is expected");
        std::fs::copy(printed, &expected).expect("what is expected can be written");
        return true;
    }
    let expected = if expected.exists() {
        expected
    } else {
        PathBuf::from("/dev/null")
    };
    let difference = Command::new("diff")
        .arg("-u")
        .arg(expected)
        .arg(printed)
        .output()
        .expect("diff runs");
    print!("{}", String::from_utf8_lossy(&difference.stdout));
    difference.status.success()
}
