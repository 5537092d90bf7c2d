//! A private process beside a node for one test: a `cairn-projector`, or a `cairn-federation`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::sleep;

use crate::client::Client;
use crate::program::{cairn, cleared};

/// How long it may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// A running process. Dropping it kills it.
pub struct Beside {
    folder: TempDir,
    child: Child,
    client: Client,
    url: String,
}

impl Beside {
    /// Starts a projector for the brain of a node, in the database that holds it, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn projector(node: &Path, database: &str, environment: &[(&str, &str)]) -> Self {
        Self::start("cairn-projector", node, database, environment).await
    }

    /// Starts what meets other brains in a node's place, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn federation(node: &Path, database: &str, environment: &[(&str, &str)]) -> Self {
        Self::start("cairn-federation", node, database, environment).await
    }

    async fn start(program: &str, node: &Path, database: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("cairn-beside-").tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let log = File::create(folder.path().join("log")).expect("a log file");
        let mut command = cleared(cairn().with_file_name(program));
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(&data).env("DATABASE_URL", database);
        command.env("CAIRN_BRAIN_KEY", node.join("brain.key")).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let child = command.kill_on_drop(true).spawn().expect("the program can be started");
        let mut beside = Self { folder, child, client: Client::new("", None), url: String::new() };
        beside.await_answer(&data).await;
        beside
    }

    async fn await_answer(&mut self, data: &Path) {
        let began = Instant::now();
        loop {
            let running: Option<Value> =
                fs::read(data.join("node.json")).ok().and_then(|json| serde_json::from_slice(&json).ok());
            let token = fs::read_to_string(data.join("owner.token"));
            if let (Some(url), Ok(token)) = (running.as_ref().and_then(|running| running["url"].as_str()), token) {
                self.client = Client::new(url, Some(token.trim()));
                self.url = url.to_owned();
                if self.client.try_get("/health/live").await.is_ok_and(|answer| answer.status == 200) {
                    return;
                }
            }
            let ended = self.child.try_wait().ok().flatten();
            assert!(ended.is_none() && began.elapsed() < READY_WITHIN, "it does not answer: {}", self.log());
            sleep(POLL).await;
        }
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of its administration.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Kills it at once, as a power cut would.
    pub async fn kill9(mut self) {
        let _ = self.child.kill().await;
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// When it fails.
    pub async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            kill_process(pid, Signal::TERM).expect("one's own child can be signalled");
        }
        let status = self.child.wait().await.expect("one's own child can be waited for");
        assert!(status.success(), "it stopped with {status}; its log:\n{}", self.log());
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}
