//! Which package may know which: the shape of the code, checked against cargo's own view of it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const DOMAIN: &str = "cairn-domain";
const EVENT_STORE: &str = "cairn-event-store";
const READ_MODEL: &str = "cairn-read-model";
const SEARCH: &str = "cairn-search";
const TELEMETRY: &str = "cairn-telemetry";

/// Packages that may know any other: they compose, or they only run beside the program.
const FREE: [&str; 2] = ["cairn-node", "cairn-tests"];

/// What each package may depend on, among those of this workspace. A new package gets a line here first.
fn allowed(package: &str) -> Option<&'static [&'static str]> {
    Some(match package {
        DOMAIN | EVENT_STORE | TELEMETRY | "cairn-proto" => &[],
        "cairn-xtask" => &["cairn-testkit"],
        "cairn-gateway" => &[EVENT_STORE, "cairn-proto"],
        "cairn-kafka" => &[DOMAIN, EVENT_STORE],
        "cairn-command" => &[DOMAIN, EVENT_STORE, TELEMETRY],
        READ_MODEL | SEARCH | "cairn-interchange" => &[DOMAIN],
        "cairn-sync" => &[DOMAIN, "cairn-proto"],
        "cairn-sharing" => &[DOMAIN, EVENT_STORE, "cairn-command", "cairn-sync"],
        "cairn-federation" => &[],
        "cairn-follower" => &[EVENT_STORE],
        "cairn-projector" => &[DOMAIN, EVENT_STORE, READ_MODEL, SEARCH, TELEMETRY],
        "cairn-testkit" => &[DOMAIN, EVENT_STORE],
        _ => return None,
    })
}

struct Package {
    name: String,
    has_program: bool,
    /// Local packages it is built from; what only its tests use is left out.
    uses: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages.iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let local = |dependency: &&Value| dependency["path"].is_string() && dependency["kind"] != "dev";
    Package {
        name: text(&package["name"]),
        has_program: list(&package["targets"]).iter().any(|target| list(&target["kind"]).contains(&"bin".into())),
        uses: list(&package["dependencies"]).iter().filter(local).map(|used| text(&used["name"])).collect(),
    }
}

#[test]
fn packages_know_only_those_below_them() {
    for package in packages() {
        if FREE.contains(&package.name.as_str()) {
            continue;
        }
        let name = &package.name;
        let allowed = allowed(name).unwrap_or_else(|| panic!("{name} has no line in the table of this test"));
        for used in &package.uses {
            assert!(allowed.contains(&used.as_str()), "{name} must not depend on {used}");
        }
    }
}

#[test]
fn no_program_depends_on_another() {
    let programs: BTreeMap<String, bool> = packages().into_iter().map(|p| (p.name, p.has_program)).collect();
    for package in packages().into_iter().filter(|package| package.has_program) {
        for used in &package.uses {
            // The projector and federation are libraries first: the node runs them in process. Their own programs come beside it.
            assert!(
                !programs[used] || used == "cairn-projector",
                "{} depends on the program {used}",
                package.name
            );
        }
    }
}

#[test]
fn the_packages_of_the_design_are_all_there() {
    let names: BTreeSet<String> = packages().into_iter().map(|package| package.name).collect();
    for name in [DOMAIN, EVENT_STORE, "cairn-command", READ_MODEL, SEARCH, "cairn-interchange", "cairn-node"] {
        assert!(names.contains(name), "{name} is missing");
    }
}
