//! A private PostgreSQL for tests: never a shared server, gone when the test is.
//!
//! `cargo xtask test` starts one cluster for a whole run and names it in `TEST_CAIRN_POSTGRES`; where the variable is
//! not set, a test starts one of its own. Either way each test has databases of its own.

#[cfg(feature = "clients")]
mod database;

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

#[cfg(feature = "clients")]
pub use database::{Database, database};

/// Names the superuser's URL of the cluster that a whole run shares.
pub const CLUSTER_VARIABLE: &str = "TEST_CAIRN_POSTGRES";
/// The role that a test's program connects as: it owns its database, and cannot pass by row-level security.
pub const ROLE: &str = "cairn";

/// How long a server may take to start.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// How a private server is run.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Whether commits wait for the disk. Tests that kill the server, not the machine, do not need it.
    pub durable: bool,
    /// More settings, as `name=value`.
    pub more: Vec<String>,
}

/// A private server. Dropping it stops it and removes everything it wrote.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    settings: Settings,
    server: Mutex<Option<Child>>,
}

/// Whether this machine has PostgreSQL's server programs.
pub fn is_installed() -> bool {
    programs().is_some()
}

impl Cluster {
    /// Makes a cluster in a temporary folder and starts it on a free port of the loopback interface.
    ///
    /// # Errors
    /// What could not be done, for a person.
    pub fn start(settings: &Settings) -> Result<Self, String> {
        let programs = programs().ok_or("no PostgreSQL is installed; try: apt-get install postgresql")?;
        let folder = tempfile::Builder::new().prefix("cairn-postgres-").tempdir().map_err(text)?;
        let cluster =
            Self { port: free_port()?, folder, programs, settings: settings.clone(), server: Mutex::default() };
        let data = cluster.data();
        fs::create_dir(&data).map_err(text)?;
        if let Some((user, group)) = server_user() {
            fs::set_permissions(cluster.folder.path(), fs::Permissions::from_mode(0o755)).map_err(text)?;
            chown(&data, Some(user), Some(group)).map_err(text)?;
        }
        let mut initdb = cluster.command("initdb");
        initdb.args(["--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]);
        let made = initdb.arg("--pgdata").arg(&data).output().map_err(text)?;
        if !made.status.success() {
            return Err(format!("initdb failed: {}", String::from_utf8_lossy(&made.stderr)));
        }
        cluster.resume()?;
        cluster.make_role()?;
        Ok(cluster)
    }

    /// The superuser's URL.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The folder of the cluster's files.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the server again after [`stop`](Self::stop) or [`kill`](Self::kill).
    ///
    /// # Errors
    /// What went wrong, for a person.
    pub fn resume(&self) -> Result<(), String> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log()).map_err(text)?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string()).arg("-k").arg(self.data());
        let sync = if self.settings.durable { "on" } else { "off" };
        let fixed = ["listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=256MB"];
        for setting in fixed.map(str::to_owned).into_iter().chain([format!("fsync={sync}")]) {
            command.arg("-c").arg(setting);
        }
        for setting in &self.settings.more {
            command.arg("-c").arg(setting);
        }
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(text)?;
        *self.server() = Some(server);
        self.await_ready()
    }

    fn await_ready(&self) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < READY_WITHIN {
            let ended = match self.server().as_mut() {
                Some(server) => server.try_wait().map_err(text)?,
                None => return Err("the server was stopped".into()),
            };
            if let Some(status) = ended {
                return Err(format!("the server ended with {status}: {}", self.last_log()));
            }
            let mut ready = self.command("pg_isready");
            ready.args(["-q", "-h", "127.0.0.1", "-p"]).arg(self.port.to_string());
            if ready.status().is_ok_and(|status| status.success()) {
                return Ok(());
            }
            sleep(POLL);
        }
        Err(format!("the server is not ready after {READY_WITHIN:?}: {}", self.last_log()))
    }

    fn make_role(&self) -> Result<(), String> {
        let mut psql = self.command("psql");
        psql.args(["-q", "-d"]).arg(self.url());
        let made = psql.args(["-c", &format!("CREATE ROLE {ROLE} LOGIN")]).output().map_err(text)?;
        let failed = || format!("the role could not be made: {}", String::from_utf8_lossy(&made.stderr));
        if made.status.success() { Ok(()) } else { Err(failed()) }
    }

    /// Stops the server in order: connections are cut, what was committed is kept.
    pub fn stop(&self) {
        self.end(Signal::INT);
    }

    /// Kills the server and everything it started, as the system would when it has no memory left.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    fn end(&self, signal: Signal) {
        let Some(mut server) = self.server().take() else { return };
        let children = if signal == Signal::KILL { children(server.id()) } else { Vec::new() };
        for process in std::iter::once(server.id()).chain(children) {
            if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
                // One that is gone already needs no signal.
                let _ = kill_process(process, signal);
            }
        }
        let began = Instant::now();
        while !matches!(server.try_wait(), Ok(Some(ExitStatus { .. }))) {
            if began.elapsed() > STOP_WITHIN {
                let _ = server.kill();
            }
            sleep(POLL);
        }
    }

    /// A program of PostgreSQL's, as the user that its server runs as: the server refuses to run as root. It ends with
    /// whoever started it.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match server_user() {
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "INT", "--clear-groups"]);
                command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env("LC_ALL", "C.UTF-8").current_dir("/");
        command
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn last_log(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].iter().fold(String::new(), |mut text, line| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{line}");
            text
        })
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end(Signal::QUIT);
    }
}

/// Where the newest installed version's programs are.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let versions = versions.flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let programs = entry.path().join("bin");
        programs.join("initdb").exists().then_some((version, programs))
    });
    versions.max().map(|(_, programs)| programs)
}

/// The user and group to run the server as; none where this process is not root's.
fn server_user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody"))
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let listed = fs::read_to_string(Path::new(&path)).unwrap_or_default();
    listed.split_whitespace().filter_map(|process| process.parse().ok()).collect()
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(text)?;
    Ok(listener.local_addr().map_err(text)?.port())
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}
