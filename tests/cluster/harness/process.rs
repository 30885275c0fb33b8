//! The operating system's side of a server: whose account it runs under, the process and its folder, and
//! that neither outlives the test process. It knows no SQL.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use super::wait::holds_within;

/// Folders of servers are named so in the folder for temporary files.
const FOLDER_PREFIX: &str = "ruvector.";
/// Held locked in a server's folder by the test process that owns it.
const OWNER_LOCK: &str = "owner.lock";
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The account that servers run under: root's tests use another, since PostgreSQL refuses root.
pub struct Account {
    pub uid: u32,
    pub gid: u32,
    /// Whether that is another account than that of the tests.
    pub other: bool,
}

pub fn account() -> &'static Account {
    static ACCOUNT: OnceLock<Account> = OnceLock::new();
    ACCOUNT.get_or_init(|| {
        if !geteuid().is_root() {
            return Account {
                uid: geteuid().as_raw(),
                gid: nix::unistd::getegid().as_raw(),
                other: false,
            };
        }
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Account {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
                other: true,
            })
            .expect("tests run by root need a user postgres or nobody for their servers")
    })
}

/// `program` under the servers' account, interrupted when the test process dies, in a process group of its own
/// (Ctrl-C must reach the tests only, which then stop it in order), with no PG… variable of the environment.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    let account = account();
    if account.other {
        command.arg("--reuid").arg(account.uid.to_string());
        command.arg("--regid").arg(account.gid.to_string());
        command.arg("--clear-groups");
    }
    command
        .arg("--")
        .arg(program)
        .process_group(0)
        .stdin(Stdio::null())
        .current_dir("/");
    clean_environment(&mut command);
    command
}

/// Takes away what would make a server or a client depend on who runs the tests: where libpq connects to, the
/// locale, and backtraces, of which every error would leave one in the log.
pub fn clean_environment(command: &mut Command) {
    let alters = |name: &str| {
        ["PG", "LC_", "LANG", "RUST_"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    for (name, _) in std::env::vars_os() {
        if alters(&name.to_string_lossy()) {
            command.env_remove(&name);
        }
    }
    command.env("LC_ALL", "C");
}

/// Runs a command to its end; panics with all it printed when it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let result = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        result.status.success(),
        "{command:?}: {}\n{}{}",
        result.status,
        text(&result.stdout),
        text(&result.stderr)
    );
    text(&result.stdout)
}

/// Copies a folder with owners and modes.
pub fn copy_folder(from: &Path, to: &Path) {
    run(Command::new("cp")
        .args(["-a", "--reflink=auto", "--"])
        .arg(from)
        .arg(to));
}

/// Sends a signal; a process that is gone already is not an error.
pub fn signal(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(error) => panic!("{signal} to process {pid}: {error}"),
    }
}

/// The process of a server and the folder of all its files, ended and removed with this handle.
pub struct Tenant(Arc<Process>);

impl Deref for Tenant {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.tear_down();
    }
}

/// What a [`Tenant`] holds; the handler of signals reaches it too.
pub struct Process {
    pub folder: PathBuf,
    child: Mutex<Option<Child>>,
    id: u64,
    _owner: File,
}

impl Tenant {
    /// A fresh folder, its account's alone, and no process yet; registered, so that both go with the test process.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        clean_up_at_signals();
        sweep_abandoned_folders();
        wait_if_ending();
        let folder = tempfile::Builder::new()
            .prefix(FOLDER_PREFIX)
            .rand_bytes(8)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(temporary_files())
            .expect("a folder for the server")
            .keep();
        // Locked before it has its name: under that name, an unlocked file means that the owner is gone.
        let unnamed = folder.join("owner.new");
        let owner = File::create(&unnamed).expect("a file in the server's folder");
        owner.lock().expect("a lock on a new file");
        std::fs::rename(unnamed, folder.join(OWNER_LOCK))
            .expect("a new name in the server's folder");
        let account = account();
        if account.other {
            std::os::unix::fs::chown(&folder, Some(account.uid), Some(account.gid))
                .expect("root may chown");
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = Arc::new(Process {
            folder,
            child: Mutex::new(None),
            id,
            _owner: owner,
        });
        lock(&ALIVE).insert(id, Arc::clone(&process));
        Self(process)
    }
}

impl Process {
    /// Starts `command` as this process, its output appended to `log`.
    pub fn start(&self, mut command: Command, log: &Path) {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .expect("the server's log")
        };
        command.stdout(open()).stderr(open());
        let mut child = lock(&self.child);
        assert!(child.is_none(), "the server runs already");
        *child = Some(spawn(command).expect("setpriv starts the server"));
    }

    pub fn pid(&self) -> Option<i32> {
        lock(&self.child)
            .as_ref()
            .map(|child| i32::try_from(child.id()).expect("a pid is an i32"))
    }

    /// How the process ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut child = lock(&self.child);
        let status = child
            .as_mut()?
            .try_wait()
            .expect("a child can be waited for");
        if status.is_some() {
            *child = None;
        }
        status
    }

    /// Sends `ending` and waits; says whether the process ended within `limit`.
    pub fn end(&self, ending: Signal, limit: Duration) -> bool {
        if let Some(pid) = self.pid() {
            signal(pid, ending);
        }
        holds_within(limit, || self.ended().is_some() || self.pid().is_none())
    }

    /// Ends the process by whatever it takes and removes its folder.
    pub fn tear_down(&self) {
        let _ = self.end(Signal::SIGINT, STOP_LIMIT)
            || self.end(Signal::SIGQUIT, STOP_LIMIT)
            || self.end(Signal::SIGKILL, STOP_LIMIT);
        let removed = || match std::fs::remove_dir_all(&self.folder) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        // The last backends of a killed server may still be writing.
        holds_within(STOP_LIMIT, removed);
        lock(&ALIVE).remove(&self.id);
    }
}

static ALIVE: Mutex<BTreeMap<u64, Arc<Process>>> = Mutex::new(BTreeMap::new());
static ENDING: AtomicBool = AtomicBool::new(false);

/// A mutex that a panicking test has left is as good as any: nothing is left half-changed under these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// At SIGINT, SIGTERM and SIGHUP: stops and removes every server, then ends the test process.
fn clean_up_at_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ctrlc::set_handler(|| {
            ENDING.store(true, Ordering::SeqCst);
            let alive: Vec<_> = lock(&ALIVE).values().cloned().collect();
            for process in &alive {
                if let Some(pid) = process.pid() {
                    signal(pid, Signal::SIGINT);
                }
            }
            for process in &alive {
                process.tear_down();
            }
            std::process::exit(130);
        })
        .expect("no other signal handler in a test process");
    });
}

/// Once a signal has come nothing may be started any more.
fn wait_if_ending() {
    while ENDING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Starts a child from a thread that lives as long as the process: the kernel sends the signal of
/// `setpriv --pdeathsig` when the *thread* that started the child ends, and test threads end early.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static KEEPER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        let keep = move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        };
        std::thread::Builder::new()
            .name("keeper of servers".into())
            .spawn(keep)
            .expect("a thread");
        Mutex::new(orders)
    });
    let (answer, result) = channel();
    lock(keeper)
        .send((command, answer))
        .expect("the keeper lives as long as the process");
    result.recv().expect("the keeper answers every order")
}

/// The folder for temporary files, or /tmp where its name is too long for a socket's path.
fn temporary_files() -> PathBuf {
    let folder = std::env::temp_dir();
    if folder.as_os_str().len() > 60 {
        PathBuf::from("/tmp")
    } else {
        folder
    }
}

/// Removes what test processes that were killed have left: folders whose owner's lock is free.
fn sweep_abandoned_folders() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Ok(entries) = std::fs::read_dir(temporary_files()) else {
            return;
        };
        for entry in entries.flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(FOLDER_PREFIX)
                && entry
                    .metadata()
                    .is_ok_and(|folder| folder.is_dir() && folder.uid() == account().uid)
                && let Ok(owner) = File::open(entry.path().join(OWNER_LOCK))
                && owner.try_lock().is_ok()
            {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    });
}
