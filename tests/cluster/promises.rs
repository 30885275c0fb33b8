//! What the other tests rely on in the harness: it crashes, reloads, copies and cleans up as it says.

use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Mode, Options, Server, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn settings_come_with_the_start_and_with_a_reload() {
    let server = Server::start(Options::new().preload(false).setting("work_mem", "5MB"));
    let shown = || server.value::<String>("postgres", "SHOW work_mem");
    assert_eq!(shown(), "5MB");
    server.set("work_mem", "7MB");
    assert_eq!(shown(), "7MB");
    server.reset("work_mem");
    assert_eq!(shown(), "5MB");
}

#[test]
fn data_survive_a_crash_of_a_backend_and_an_immediate_stop() {
    let server = Server::start(Options::new().preload(false));
    server.execute(
        "postgres",
        "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n",
    );
    server.crash_and_wait();
    server.stop(Mode::Immediate);
    server.start_again();
    assert_eq!(
        server.value::<i64>("postgres", "SELECT count(*) FROM kept"),
        1000
    );
    assert!(
        server.log().contains("was terminated by signal 9"),
        "{}",
        server.log_tail()
    );
    assert!(server.index_file("postgres", "kept").is_file());
    assert!(server.pid_of_worker("checkpointer", None).is_some());
    assert_eq!(
        server.pid_of_worker("no such worker", Some("postgres")),
        None
    );
}

#[test]
fn a_standby_follows_and_takes_over() {
    let primary = Server::start(Options::new().preload(false));
    let standby = primary.standby(Options::new().preload(false));
    primary.execute("postgres", "CREATE TABLE kept AS SELECT 1 AS n");
    standby.wait_for_replay(&primary);
    assert_eq!(
        standby.value::<i64>("postgres", "SELECT count(*) FROM kept"),
        1
    );
    drop(primary);
    standby.promote();
    standby.execute("postgres", "INSERT INTO kept VALUES (2)");
}

#[test]
fn psql_goes_on_past_errors() {
    let server = Server::start(Options::new().preload(false));
    let output = server.psql("postgres", "SELECT 1/0;\n\\echo went on\n");
    assert_eq!(output.stdout, "went on\n");
    assert!(output.stderr.contains("division by zero"), "{output:?}");
    assert!(output.status.success());
    assert!(!server.psql("no_such_database", "SELECT 1").status.success());
}

#[test]
fn a_failing_test_leaves_nothing() {
    let server = Server::start(Options::new().preload(false));
    let (pid, folder) = (
        server.pid().expect("it runs"),
        server.socket_folder().to_owned(),
    );
    let fails = AssertUnwindSafe(move || {
        server.execute("postgres", "SELECT no_such_function()");
    });
    assert!(catch_unwind(fails).is_err());
    assert!(!runs(pid) && !folder.exists());
}

/// Not a test: what the next two start as a process of their own, and end.
#[test]
#[ignore = "waits for ever with a server"]
fn a_process_with_a_server() {
    let server = Server::start(Options::new().preload(false));
    println!(
        "\nready {} {}",
        server.pid().expect("it runs"),
        server.socket_folder().display()
    );
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn an_interrupted_test_process_leaves_nothing() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (mut process, server, folder) = process_with_a_server();
        end(&process, signal);
        process.wait().expect("the process ends");
        assert!(!runs(server) && !Path::new(&folder).exists(), "{signal}");
    }
}

#[test]
fn a_killed_test_process_leaves_no_server_and_its_folder_to_the_next() {
    let (mut process, server, folder) = process_with_a_server();
    end(&process, Signal::SIGKILL);
    process.wait().expect("the process ends");
    wait_until("the server stops by itself", LIMIT, || !runs(server));

    let (mut process, _, _) = process_with_a_server();
    assert!(!Path::new(&folder).exists(), "the next test process sweeps");
    end(&process, Signal::SIGINT);
    process.wait().expect("the process ends");
}

/// This program again, with [`a_process_with_a_server`] alone: the process, its server's pid and folder.
fn process_with_a_server() -> (Child, i32, String) {
    let mut process = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "promises::a_process_with_a_server",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program starts");
    let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    for line in lines.map_while(Result::ok) {
        if let Some((pid, folder)) = line
            .strip_prefix("ready ")
            .and_then(|rest| rest.split_once(' '))
        {
            return (process, pid.parse().expect("a pid"), folder.to_owned());
        }
    }
    panic!("no server in {:?}", process.wait());
}

fn end(process: &Child, signal: Signal) {
    kill(
        Pid::from_raw(i32::try_from(process.id()).expect("a pid")),
        signal,
    )
    .expect("our own child");
}

/// Whether a process runs: one that has ended and that nobody has asked about yet does not.
fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'))
    })
}
