//! The `cairn` program as a user runs it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What a run of the program left behind.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit code. `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// The program under test: `TEST_CAIRN_BIN`, else the one built beside the test.
///
/// # Panics
/// When there is none.
pub fn cairn() -> PathBuf {
    if let Some(path) = std::env::var_os("TEST_CAIRN_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a running program has a path");
    let beside = test.ancestors().skip(1).take(2).map(|folder| folder.join("cairn")).find(|path| path.is_file());
    beside.unwrap_or_else(|| {
        panic!("no cairn program stands near {}; run `cargo build -p cairn-node` first", test.display())
    })
}

/// Runs the program with a data folder to find the node by.
///
/// The variables that configure a user's own node are taken away, so that no test reaches it.
///
/// # Panics
/// When the program cannot be started.
pub async fn run(data: &Path, arguments: &[&str]) -> Ran {
    run_with(data, arguments, "").await
}

/// Runs the program as [`run`] does, with something on its standard input.
///
/// # Panics
/// When the program cannot be started.
pub async fn run_with(data: &Path, arguments: &[&str], input: &str) -> Ran {
    let mut command = command(data);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{} cannot be run: {error}", cairn().display()));
    let mut stdin = child.stdin.take().expect("it is piped");
    // One that does not ask has gone, perhaps.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.expect("its output can be read");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("the program prints UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("the program complains in UTF-8"),
    }
}

fn command(data: &Path) -> Command {
    launched(&[], data)
}

/// The program, started by another one where there is a launcher.
pub(crate) fn launched(launcher: &[String], data: &Path) -> Command {
    let mut command = match launcher.split_first() {
        Some((launcher, arguments)) => {
            let mut command = cleared(PathBuf::from(launcher));
            command.args(arguments).arg(cairn());
            command
        }
        None => cleared(cairn()),
    };
    command.env("CAIRN_DATA", data);
    command
}

/// A program without the variables that configure a user's own.
pub(crate) fn cleared(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    let own = ["CAIRN_", "DATABASE_URL", "QDRANT_", "KAFKA_", "KURRENTDB_", "OTEL_"];
    for (name, _) in std::env::vars_os() {
        if own.iter().any(|own| name.to_string_lossy().starts_with(own)) {
            command.env_remove(name);
        }
    }
    command
}

impl Ran {
    /// What it printed, after making sure that it succeeded.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        &self.stdout
    }

    /// What it printed, read as JSON, after making sure that it succeeded.
    ///
    /// # Panics
    /// When it failed or printed anything else.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }

    /// What it printed, read as JSON lines, after making sure that it succeeded.
    ///
    /// # Panics
    /// When it failed or printed anything else.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {line}"));
        self.ok().lines().map(parse).collect()
    }

    /// What it complained of, after making sure that it failed.
    ///
    /// # Panics
    /// When it succeeded, was ended by a signal, or said nothing.
    #[track_caller]
    pub fn failed(&self) -> &str {
        assert!(self.code.is_some_and(|code| code != 0), "exit code {:?}, stdout:\n{}", self.code, self.stdout);
        assert!(!self.stderr.trim().is_empty(), "it failed without a word");
        &self.stderr
    }
}
