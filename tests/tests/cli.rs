//! The commands that the README shows, run as they stand there, against a node that has the example vault.

use std::process::Stdio;

use cairn_testkit::{Node, NodeOptions, Ran, cairn};
use cairn_tests::root;
use serde_json::Value;
use tokio::process::Command;

/// The lines of the README's shell blocks that run `cairn`, in order, without their comments.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let mut commands = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside && matches!(language.trim(), "sh" | "console" | "bash");
            continue;
        }
        let line = line.split(" # ").next().unwrap_or_default().trim();
        if inside && (line.starts_with("cairn ") || line.contains(" cairn ") || line.contains("$(cairn ")) {
            commands.push(line.to_owned());
        }
    }
    commands
}

/// What a line such as `CLAUDE=$(cairn ...)` calls what the command prints.
fn assigned(line: &str) -> Option<&str> {
    let (name, _) = line.split_once("=$(cairn ")?;
    name.chars().all(|c| c.is_ascii_uppercase() || c == '_').then_some(name)
}

/// A terminal: a home folder of its own, and the variables that were set in it.
struct Terminal {
    home: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Terminal {
    fn open() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary folder"), variables: Vec::new() }
    }

    /// Types a line.
    async fn run(&mut self, node: &Node, line: &str) -> Ran {
        let Some(name) = assigned(line) else { return self.shell(node, line).await };
        let ran = self.shell(node, &format!("{line}; printf %s \"${name}\"")).await;
        self.variables.push((name.to_owned(), ran.stdout.clone()));
        ran
    }

    /// Runs a line in a shell that finds the program under test as `cairn`, and the node by its data folder.
    async fn shell(&self, node: &Node, line: &str) -> Ran {
        let program = cairn();
        let folder = program.parent().expect("a program lies in a folder").display().to_string();
        let path = format!("{folder}:{}", std::env::var("PATH").expect("a PATH"));
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", line]).current_dir(root()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CAIRN_")) {
            command.env_remove(name);
        }
        command.env("PATH", path).env("HOME", self.home.path()).env("CAIRN_DATA", node.data());
        let output = command.envs(self.variables.clone()).output().await.expect("bash can be run");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

async fn node() -> Node {
    let vault = root().join("examples/vault");
    let options = NodeOptions {
        arguments: vec!["--import".into(), vault.to_str().expect("a plain path").into()],
        ..NodeOptions::default()
    };
    let node = Node::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !node.log().contains("cairn search") {
        assert!(std::time::Instant::now() < deadline, "it does not say what to try:\n{}", node.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    node
}

/// Commands that start a node or measure for minutes; other tests do that.
fn is_long(line: &str) -> bool {
    line.contains("cairn up") || line.contains("cairn bench") || line.contains("--follow")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works_as_typed() {
    let node = node().await;
    let mut terminal = Terminal::open();
    let commands = commands();
    let named = [
        "search",
        "show",
        "history",
        "diff",
        "undo",
        "suggest",
        "suggestions",
        "accept",
        "reject",
        "link",
        "forget",
        "export",
        "replay",
        "token",
        "status",
        "verify",
        "bench",
        "projections",
    ];
    for name in named {
        let shown = commands.iter().any(|line| line.contains(&format!("cairn {name}")));
        assert!(shown, "the README does not show `cairn {name}`");
    }
    for line in commands.iter().filter(|line| !is_long(line)) {
        let ran = terminal.run(&node, line).await;
        assert_eq!(ran.code, Some(0), "{line}\nstdout:\n{}\nstderr:\n{}", ran.stdout, ran.stderr);
        assert!(!ran.stdout.contains('\u{1b}'), "a pipe gets no colours: {line}\n{}", ran.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_speaks_json() {
    let node = node().await;
    let mut terminal = Terminal::open();
    for line in commands().iter().filter(|line| !is_long(line) && !line.contains('|')) {
        if assigned(line).is_some() {
            assert_eq!(terminal.run(&node, line).await.code, Some(0), "{line}");
            continue;
        }
        // Only the first command of a line: what stands in brackets prints ids for it.
        let json = line.replacen("cairn ", "cairn --json ", 1);
        let ran = terminal.run(&node, &json).await;
        assert_eq!(ran.code, Some(0), "{line}\nstdout:\n{}\nstderr:\n{}", ran.stdout, ran.stderr);
        let text = ran.stdout.trim();
        let sound = serde_json::from_str::<Value>(text).is_ok()
            || (!text.is_empty() && text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()))
            || line.contains("--out ");
        assert!(sound, "no JSON from: {line}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_to_do_next() {
    let node = Node::fresh().await;
    let failing: [(&[&str], i32); 7] = [
        (&["show", "No such memory"], 4),
        (&["show", "01920b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f"], 4),
        (&["accept", "01920b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f"], 4),
        (&["--token", "cairn_nonsense", "status"], 5),
        (&["projections", "rebuild", "nothing"], 4),
        (&["import", "/no/such/folder"], 1),
        (&["frobnicate"], 2),
    ];
    for (arguments, code) in failing {
        let ran = node.cli(arguments).await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        assert!(ran.stdout.is_empty(), "errors go to stderr: {arguments:?}: {ran:?}");
        assert!(ran.failed().len() > 20, "{arguments:?}: {ran:?}");
        if code != 2 {
            let ran = node.cli(&[&["--json"], arguments].concat()).await;
            let error: Value = serde_json::from_str(ran.failed()).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
            assert!(error["error"]["code"].is_string(), "{arguments:?}: {error}");
        }
    }
    let nowhere = tempfile::tempdir().expect("a temporary folder");
    let ran = cairn_testkit::run(nowhere.path(), &["status"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.failed().contains("cairn up"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_a_position_and_a_time_are_told_apart() {
    let node = Node::fresh().await;
    for number in 0..5 {
        node.cli(&["add", "padding", "--title", &format!("Padding {number}")]).await.ok();
    }
    node.cli(&["add", "One line.", "--title", "Plan"]).await.ok();
    let made = node.cli(&["--json", "show", "Plan"]).await.json();
    let (revision, position) = (made["revision"].as_u64().expect("one"), made["position"].as_u64().expect("one"));
    assert!(position > revision + 2, "the log is longer than the stream");
    node.cli(&["set", "Plan", "--title", "Plan B"]).await.ok();
    for from in [revision.to_string(), format!("position:{position}")] {
        let diff = node.cli(&["--json", "diff", "Plan B", "--from", &from]).await.json();
        let title =
            diff["fields"].as_array().and_then(|fields| fields.iter().find(|field| field["name"] == "title"));
        let title = title.unwrap_or_else(|| panic!("--from {from}: {diff:#}"));
        assert_eq!(
            (title["before"].as_str(), title["after"].as_str()),
            (Some("Plan"), Some("Plan B")),
            "--from {from}"
        );
    }
    let then = node.cli(&["--json", "show", "Plan B", "--as-of", &position.to_string()]).await.json();
    assert_eq!(then["title"], "Plan", "{then:#}");
}
