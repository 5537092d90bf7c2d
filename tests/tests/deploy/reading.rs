//! Reading what is there, and running what checks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cairn_testkit::not_tested;
use cairn_tests::{files, root};
use serde_json::Value;

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML text, with `<<` carried out.
pub fn documents(text: &str) -> Vec<Value> {
    let text = format!("\n{text}");
    let parsed = text.split("\n---").map(|document| {
        let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(document).expect("YAML");
        value.apply_merge().expect("merges of mappings");
        serde_json::to_value(value).expect("keys are text")
    });
    parsed.filter(|document| !document.is_null()).collect()
}

pub fn yaml(path: &str) -> Value {
    documents(&read(path)).pop().unwrap_or_else(|| panic!("{path} is empty"))
}

pub fn compose() -> Value {
    yaml("deploy/compose.yaml")
}

pub fn services() -> BTreeMap<String, Value> {
    let compose = compose();
    let services = compose["services"].as_object().expect("services");
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

pub fn environment(service: &Value) -> BTreeMap<String, Value> {
    let variables = service["environment"].as_object().cloned().unwrap_or_default();
    variables.into_iter().collect()
}

pub fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

pub fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.chars().any(|letter| letter.is_ascii_alphabetic())).map(str::to_owned).collect()
}

pub fn is_source(file: &Path) -> bool {
    let outside = ["target", ".git", "tests", "fuzz", "examples"];
    let path = file.strip_prefix(root()).unwrap_or(file);
    let top = path.components().next().map(|top| top.as_os_str().to_string_lossy().into_owned());
    path.extension().is_some_and(|kind| kind == "rs") && top.is_some_and(|top| !outside.contains(&top.as_str()))
}

/// The text of every Rust source that is no test of its own.
pub fn sources() -> String {
    let folders = ["crates", "node", "projector", "federation"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| files::all(folder)).filter(|file| is_source(file));
    files.map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
}

pub fn run(program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

pub fn succeeded(ran: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}\n{out}\n{error}", ran.status);
    out.into_owned()
}

/// A Python with what `deploy/check/` needs, made once; or nothing, and then that is said.
pub fn python(what: &str) -> Option<PathBuf> {
    let how = "install Python with venv, and let pip reach its packages; deploy/check/check.py says how by hand";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy-check");
    fs::create_dir_all(&folder).expect("a folder below target/");
    // Tests run beside each other, and only one of them makes it.
    let lock = fs::File::create(folder.join("lock")).expect("a file below target/");
    lock.lock().expect("a lock on a local file");
    let (requirements, renderer) = ("deploy/check/requirements.txt", "deploy/check/renderer.txt");
    let (python, made) = (folder.join("bin/python"), folder.join("made-for"));
    let wanted = read(requirements) + &read(renderer);
    if fs::read_to_string(&made).is_ok_and(|made| made == wanted) && python.exists() {
        return Some(python);
    }
    let try_to = |program: &Path, arguments: &[&str]| -> bool {
        let ran = Command::new(program).args(arguments).current_dir(root()).stdin(Stdio::null()).output();
        // Why not is told, because a file that is not the one that was pinned must not pass for a missing network.
        ran.is_ok_and(|ran| {
            eprint!("{}", String::from_utf8_lossy(&ran.stderr));
            ran.status.success()
        })
    };
    let pip = |more: &[&str]| {
        let quick = ["-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "30"];
        try_to(&python, &[&quick[..], more].concat())
    };
    let folder = folder.to_str().expect("a path in UTF-8");
    if !try_to(Path::new("python3"), &["-m", "venv", folder]) || !pip(&["--requirement", requirements]) {
        not_tested(what, how);
        return None;
    }
    // Not needed where helm is, and not to be had on every machine.
    if pip(&["--no-deps", "--require-hashes", "--requirement", renderer]) {
        fs::write(&made, wanted).expect("a file below target/");
    }
    Some(python)
}
