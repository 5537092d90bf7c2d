//! A private node for one test.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::postgres::{Database, database};
use crate::program::{Ran, launched, run};

/// How long a node may take until it is ready. Far more than it needs: the machine may be busy with other tests.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a node may take to stop after it was asked to.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks at whether a node is ready.
const POLL: Duration = Duration::from_millis(5);

/// How many lines of the node's log a failed test shows.
const SHOWN_LOG_LINES: usize = 60;

/// Says that nodes keep everything in PostgreSQL, each in a database of its own, so that the same tests run over both.
pub const DATABASE_VARIABLE: &str = "TEST_CAIRN_DATABASE";

/// Whether the nodes of this run keep everything in PostgreSQL.
pub fn on_postgres() -> bool {
    std::env::var(DATABASE_VARIABLE).is_ok_and(|database| database == "postgres")
}

/// What a node is started with.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// The data folder; a new one, removed with the node, when `None`.
    pub data: Option<PathBuf>,
    /// The link to follow another node by: then it is `cairn follow` that runs.
    pub follow: Option<String>,
    /// More arguments of `cairn up`.
    pub arguments: Vec<String>,
    /// More environment variables.
    pub environment: Vec<(String, String)>,
    /// The database to keep everything in; otherwise it is as the run says ([`DATABASE_VARIABLE`]).
    pub database: Option<String>,
    /// The address to serve the API at; a free port on loopback when `None`.
    pub listen: Option<String>,
    /// A program, with arguments, that becomes the node: `ip netns exec NAME`. It must not leave a process between.
    pub launcher: Vec<String>,
}

/// A running node. Dropping it kills the process and removes the data folder it made.
pub struct Node {
    folder: TempDir,
    data: PathBuf,
    options: NodeOptions,
    child: Option<Child>,
    client: Client,
    url: String,
    token: String,
    /// The database that it keeps everything in, where the run asks for one.
    database: Option<Database>,
}

/// A node that did not become ready.
#[derive(Debug)]
pub struct StartError {
    /// How the process ended. `None` when it was still running.
    pub status: Option<ExitStatus>,
    /// What it wrote to its log.
    pub log: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => writeln!(f, "the node ended at start with {status}; its log:")?,
            None => writeln!(f, "the node was not ready in {READY_WITHIN:?}; its log:")?,
        }
        f.write_str(&self.log)
    }
}

impl std::error::Error for StartError {}

impl Node {
    /// Starts a node and waits until it is ready.
    ///
    /// # Errors
    /// When the process ends instead, or does not become ready in time.
    ///
    /// # Panics
    /// When no process or folder can be made at all.
    pub async fn start(options: NodeOptions) -> Result<Self, StartError> {
        let folder = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a temporary folder");
        let data = options.data.clone().unwrap_or_else(|| folder.path().join("data"));
        let mut node = Self {
            client: Client::new("", None),
            folder,
            data,
            options,
            child: None,
            url: String::new(),
            token: String::new(),
            database: None,
        };
        if node.options.database.is_none() && on_postgres() {
            node.database = Some(database().await);
        }
        node.launch().await?;
        Ok(node)
    }

    /// Starts a node with nothing but the defaults.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn fresh() -> Self {
        Self::start(NodeOptions::default()).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Its base URL. Another one after each start.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The owner's token.
    pub fn owner_token(&self) -> &str {
        &self.token
    }

    /// The process's id.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the node is running")
    }

    /// A client with the owner's token.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A client of a new principal with this ceiling (`ai-cloud`, `automation`, ...).
    ///
    /// # Panics
    /// When the node makes no token.
    pub async fn agent(&self, name: &str, ceiling: &str) -> Client {
        let answer = self.client.post("/tokens", serde_json::json!({ "name": name, "ceiling": ceiling })).await;
        let token = answer.ok()["token"].as_str().expect("a new token shows its secret").to_owned();
        self.client.with_token(&token)
    }

    /// Runs a command of the program against this node.
    pub async fn cli(&self, arguments: &[&str]) -> Ran {
        run(&self.data, arguments).await
    }

    /// Kills the process at once (SIGKILL), as a power cut would.
    pub async fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }

    /// Has the process stand still (SIGSTOP), as a machine that hangs, until [`Node::thaw`].
    ///
    /// # Panics
    /// When it is not running.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a process go on that was frozen.
    ///
    /// # Panics
    /// When it is not running.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a process has an id");
        kill_process(pid, signal).expect("one's own child can be signalled");
    }

    /// Asks the process to stop (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not stop in time, or fails.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id as i32)) {
            kill_process(pid, Signal::TERM).expect("one's own child can be signalled");
        }
        let status = timeout(STOP_WITHIN, child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("the node did not stop; its log:\n{}", self.log()));
        let status = status.expect("one's own child can be waited for");
        assert!(status.success(), "the node stopped with {status}; its log:\n{}", self.log());
    }

    /// Starts the process again on the same data folder, after [`Node::kill9`] or [`Node::stop`].
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn launch(&mut self) -> Result<(), StartError> {
        self.spawn();
        let deadline = Instant::now() + READY_WITHIN;
        while !self.look().await {
            let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if status.is_some() || Instant::now() > deadline {
                return Err(StartError { status, log: self.log() });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Sets an environment variable of the processes that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.options.environment.retain(|(known, _)| known != name);
        self.options.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Has the processes that are started from now on follow another node.
    pub fn follow(&mut self, link: &str) {
        self.options.follow = Some(link.to_owned());
    }

    /// Starts the process again and kills it while it is still starting, or shortly after.
    pub async fn launch_and_kill(&mut self, after: Duration) {
        self.spawn();
        sleep(after).await;
        self.kill9().await;
    }

    fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut command = launched(&self.options.launcher, &self.data);
        let listen = self.options.listen.as_deref().unwrap_or("127.0.0.1:0");
        match &self.options.follow {
            Some(link) => command.args(["follow", link]),
            None => command.arg("up"),
        };
        command.args(["--listen", listen, "--data"]).arg(&self.data).args(&self.options.arguments);
        if let Some(database) = self.options.database.as_deref().or(self.database.as_ref().map(Database::url)) {
            command.env("DATABASE_URL", database);
        }
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let child = command.kill_on_drop(true).spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("the node cannot be started: {error}")));
    }

    /// What the process wrote to standard output and standard error, over all its starts.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// One look at whether the node answers. The announcement of an earlier process counts for nothing.
    async fn look(&mut self) -> bool {
        let Some(running) = self.announced() else { return false };
        let (Some(url), Some(pid)) = (running["url"].as_str(), running["pid"].as_u64()) else { return false };
        if self.child.as_ref().and_then(Child::id).map(u64::from) != Some(pid) {
            return false;
        }
        let Ok(token) = fs::read_to_string(self.data.join("owner.token")) else { return false };
        let client = Client::new(url, Some(token.trim()));
        let ready = client.try_get(self.readiness()).await.is_ok_and(|answer| answer.status == 200);
        if ready {
            url.clone_into(&mut self.url);
            token.trim().clone_into(&mut self.token);
            self.client = client;
        }
        ready
    }

    /// Where it is asked whether the node is ready. One whose read models others fold is ready only with them, and whether a
    /// test starts them is its own affair.
    fn readiness(&self) -> &'static str {
        let external = |(name, value): &(String, String)| name == "CAIRN_PROJECTIONS" && value == "external";
        if self.options.environment.iter().any(external) { "/health/live" } else { "/health/ready" }
    }

    fn announced(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.data.join("node.json")).ok()?).ok()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("node.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
            eprintln!("the node's last log lines:\n{}", shown.join("\n"));
        }
    }
}
