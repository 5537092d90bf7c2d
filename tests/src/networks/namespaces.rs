//! Network namespaces, made and removed.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip` keeps namespaces.
const FOLDER: &str = "/run/netns";
/// How the names of ours begin; the id of the process that made them follows.
const PREFIX: &str = "cairn-lab-";

static MADE: AtomicUsize = AtomicUsize::new(0);

/// Why this machine does not do it.
#[derive(Debug, Clone)]
pub struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One namespace. Dropping it removes it, and with it all devices in it.
pub(super) struct Namespace {
    name: String,
}

/// Whether this machine can have such networks.
pub(super) fn possible() -> Result<(), Refused> {
    if !rustix::process::geteuid().is_root() {
        return Err(Refused("network namespaces need root".to_owned()));
    }
    let probe = format!("{PREFIX}{}-probe", std::process::id());
    let tried = run("ip", &["netns", "add", &probe]).and_then(|()| {
        run("ip", &["-n", &probe, "link", "add", "name", "one", "type", "veth", "peer", "name", "two"])?;
        let vxlan = "link add name wire type vxlan id 1 remote 10.0.0.1 local 10.0.0.2 dstport 4789 dev one";
        let words: Vec<&str> = ["-n", &probe].into_iter().chain(vxlan.split(' ')).collect();
        run("ip", &words)
    });
    // Another test of the same process may be the one that removed it.
    let _ = run("ip", &["netns", "del", &probe]);
    tried
}

/// Removes what tests left behind that were killed.
pub(super) fn sweep() {
    let Ok(entries) = fs::read_dir(FOLDER) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let is_gone = rest.split('-').next().is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if is_gone {
            // Another test may be doing the same.
            let _ = run("ip", &["netns", "del", &name]);
        }
    }
}

/// Runs `ip` with these words, which must work.
pub(super) fn ip(words: &str) {
    run("ip", &words.split(' ').collect::<Vec<_>>()).unwrap_or_else(|refused| panic!("{refused}"));
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Refused> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| Refused(format!("{program} cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Refused(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

impl Namespace {
    pub(super) fn make(name: &str) -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{name}", std::process::id());
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set dev lo up");
        namespace
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread, and the processes it will start, into this namespace.
    pub(super) fn enter(&self) {
        let file = File::open(PathBuf::from(FOLDER).join(&self.name)).expect("the namespace is there");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
    }

    pub(super) fn ip(&self, words: &str) {
        ip(&format!("-n {} {words}", self.name));
    }

    /// Runs a program in it.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Refused> {
        let words = ["netns", "exec", &self.name, program];
        run("ip", &words.into_iter().chain(arguments.iter().copied()).collect::<Vec<_>>())
    }

    pub(super) fn bytes(&self, device: &str) -> (u64, u64) {
        let output =
            Command::new("ip").args(["-n", &self.name, "-s", "-j", "link", "show", "dev", device]).output();
        let output = output.expect("ip can be run");
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("ip prints JSON");
        let count = |way: &str| shown[0]["stats64"][way]["bytes"].as_u64().expect("a device counts its bytes");
        (count("rx"), count("tx"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(refused) = run("ip", &["netns", "del", &self.name]) {
            eprintln!("a namespace stays behind: {refused}");
        }
    }
}
