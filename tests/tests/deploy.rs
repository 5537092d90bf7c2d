//! What stands in `deploy/` and `docs/operations.md` is held against schemas, against what it promises, and against the
//! program it is for.
//!
//! Helm and the schemas come from Python packages, in an environment of their own below `target/`. Where they cannot
//! be had, what was not tested is said; everything else is checked all the same.

#[path = "deploy/chart.rs"]
mod chart;
#[path = "deploy/reading.rs"]
mod reading;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use cairn_testkit::{cairn, not_tested, postgres};
use cairn_tests::{files, root};
use serde_json::Value;

use reading::{
    compose, environment, is_source, list, python, read, run, services, sources, succeeded, words, yaml,
};

/// The user of the image. Kubernetes and the compose file name it too.
const USER: &str = "10001";

/// Services of the compose file that are the program itself.
const OWN_IMAGE: &str = "cairn:";

/// Secrets that a program may be told of by file alone.
const SECRETS: [&str; 3] = ["DATABASE_URL", "QDRANT_API_KEY", "KURRENTDB_URL"];

/// Metrics in alerts and dashboards that others measure: Prometheus itself, node_exporter and the kubelet.
const FOREIGN_METRICS: [&str; 5] = [
    "up",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
];

/// Metrics of the process, which the package `metrics-process` names.
const PROCESS_METRICS: [&str; 3] = ["process_resident_memory_bytes", "process_open_fds", "process_max_fds"];

// ---- The container file

#[test]
fn the_image_is_small_and_runs_without_rights() {
    let text = read("deploy/Containerfile");
    let stages: Vec<&str> = text.split("\nFROM ").skip(1).collect();
    assert_eq!(stages.len(), 2, "one stage builds, one runs");
    let last = stages[1];
    assert!(last.starts_with("debian:") && last.lines().next().is_some_and(|from| from.ends_with("-slim")));
    for line in last.lines().filter(|line| line.starts_with("COPY ")) {
        assert!(line.starts_with("COPY --from=builder "), "only what was built is copied: {line}");
        let copied: Vec<&str> = line.split_whitespace().skip(2).collect();
        let (target, sources) = copied.split_last().expect("a target");
        assert!(matches!(*target, "/usr/local/bin/" | "/etc/ssl/certs/ca-certificates.crt"), "{line}");
        for source in sources {
            assert!(source.starts_with("/programs/") || source.ends_with("/ca-certificates.crt"), "{line}");
        }
    }
    let instruction = |name: &str| last.lines().rev().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(
        instruction("USER "),
        Some(format!("{USER}:{USER}").as_str()),
        "a number, so that Kubernetes can tell"
    );
    assert_eq!(instruction("ENTRYPOINT "), Some("[\"cairn\"]"));
    assert!(last.contains("\nHEALTHCHECK "));
    let before_user = last.split("\nUSER ").next().expect("a part before");
    assert!(before_user.contains("--uid 10001"), "the user exists");
    assert!(!text.contains("ADD ") && !text.contains(":latest"));
}

#[test]
fn the_image_is_not_built_from_secrets_or_old_output() {
    let ignored = read("deploy/Containerfile.dockerignore");
    for entry in [".git", "**/target", "deploy"] {
        assert!(ignored.lines().any(|line| line == entry), "{entry}");
    }
    assert!(read("deploy/.gitignore").contains("/secrets/"), "secrets are not committed");
    assert!(!root().join("deploy/.env").exists() || read("deploy/.gitignore").contains("/.env"));
}

#[test]
fn the_image_is_built_with_the_rust_of_the_workspace() {
    let manifest = read("Cargo.toml");
    let wanted =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("the workspace says");
    assert!(read("deploy/Containerfile").contains(&format!("ARG RUST_VERSION={}", wanted.trim_matches('"'))));
}

// ---- The compose file

#[test]
fn the_compose_file_fits_the_specification() {
    let Some(python) = python("the compose file against its schema") else { return };
    succeeded(&run(&python, &["deploy/check/check.py", "compose", "deploy/compose.yaml"]));
}

#[test]
fn services_are_pinned_watched_bounded_and_without_rights() {
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap_or_default();
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{name} has no tag"));
        assert!(tag.contains('.') && tag != "latest", "{name} is pinned to a version: {image}");
        let watched = service["healthcheck"]["test"].is_array() || service["x-no-healthcheck"].is_string();
        assert!(watched, "{name} has a health check, or a reason for none");
        assert!(service["deploy"]["resources"]["limits"]["memory"].is_string(), "{name} has a limit");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        let user = service["user"].as_str().unwrap_or_else(|| panic!("{name} says who runs it"));
        assert!(!user.starts_with('0') && !user.starts_with("root"), "{name} runs as {user}");
        for forbidden in ["privileged", "cap_add", "network_mode", "pid"] {
            assert!(service[forbidden].is_null(), "{name}: {forbidden}");
        }
        assert!(service["restart"].is_string(), "{name} comes back");
    }
}

#[test]
fn ports_are_published_on_loopback_and_databases_have_none() {
    let compose = compose();
    assert_eq!(compose["networks"]["inside"]["internal"], true);
    for (name, service) in services() {
        for port in list(&service["ports"]) {
            let port = port.as_str().expect("the short form");
            // Where other brains are met may be elsewhere, once somebody says so.
            let unless_told =
                port.starts_with("${CAIRN_PEERS_ADDRESS_ON_HOST:-127.0.0.1}:") && port.contains(":7412/");
            assert!(
                port.starts_with("127.0.0.1:") || name == "federation" && unless_told,
                "{name} publishes {port}"
            );
        }
        if !["node", "grafana", "federation"].contains(&name.as_str()) {
            assert!(service["ports"].is_null(), "{name} is reached from the inside alone");
            assert_eq!(service["networks"], serde_json::json!(["inside"]), "{name}");
        }
    }
}

#[test]
fn what_is_set_for_other_brains_names_the_service_that_meets_them() {
    let (example, services) = (read("deploy/.env.example"), services());
    let url = example.lines().find_map(|line| line.strip_prefix("#CAIRN_FEDERATION__ANSWERED_AT=http://"));
    let (name, port) = url.and_then(|url| url.split_once(':')).expect("the example says where");
    assert_eq!(environment(&services[name])["CAIRN_LISTEN"], format!("0.0.0.0:{port}"));
    assert_eq!(services[name]["entrypoint"], serde_json::json!(["cairn-federation"]));
    assert!(services[name]["healthcheck"]["test"].to_string().contains(&format!("/127.0.0.1/{port} ")));
    assert!(
        list(&services[name]["networks"])
            .iter()
            .all(|network| list(&services["node"]["networks"]).contains(network))
    );
    // Docker hands on what has no value here.
    for variable in ["CAIRN_FEDERATION__ENABLED", "CAIRN_FEDERATION__ANSWERED_AT"] {
        assert_eq!(environment(&services["node"]).get(variable), Some(&Value::Null), "{variable}");
        assert!(!environment(&services[name]).contains_key(variable), "{variable} is for nodes");
    }
}

#[test]
fn secrets_come_from_files_that_the_script_makes() {
    let compose = compose();
    let script = read("deploy/secrets.sh");
    let made: BTreeSet<&str> =
        script.lines().filter_map(|line| line.strip_prefix("put ")?.split_whitespace().next()).collect();
    let declared: BTreeSet<&str> =
        compose["secrets"].as_object().expect("secrets").keys().map(String::as_str).collect();
    assert_eq!(made, declared);
    for (name, secret) in compose["secrets"].as_object().expect("secrets") {
        assert_eq!(secret["file"], format!("./secrets/{name}"));
    }
    for (name, service) in services() {
        for (variable, value) in environment(&service) {
            let secret = ["PASSWORD", "TOKEN", "API_KEY", "SECRET"].iter().any(|word| variable.contains(word))
                || SECRETS.contains(&variable.as_str());
            let by_file = variable.ends_with("_FILE") || variable.ends_with("__FILE") || value.is_null();
            assert!(!secret || by_file, "{name} has {variable} in the open");
        }
        for used in list(&service["secrets"]) {
            let used = used["source"].as_str().or(used.as_str()).expect("a name");
            assert!(declared.contains(used), "{name} uses {used}");
        }
    }
}

#[test]
fn services_wait_for_what_answers_and_stands_in_no_other_profile() {
    let services = services();
    let profiles = |service: &Value| -> BTreeSet<String> {
        list(&service["profiles"]).iter().map(|profile| profile.as_str().expect("a name").to_owned()).collect()
    };
    for (name, service) in &services {
        for (needed, how) in service["depends_on"].as_object().into_iter().flatten() {
            assert_eq!(how["condition"], "service_healthy", "{name} waits for {needed}");
            let needed = &services[needed];
            assert!(profiles(needed).is_empty() || profiles(needed) == profiles(service), "{name}");
        }
    }
    let all: BTreeSet<String> = services.values().flat_map(profiles).collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["federation", "kurrentdb", "observability", "scale-out"]);
    let started: Vec<&String> =
        services.iter().filter(|(_, service)| profiles(service).is_empty()).map(|(name, _)| name).collect();
    assert_eq!(started, ["node", "postgres", "qdrant"]);
}

#[test]
fn files_that_are_mounted_exist() {
    for (name, service) in services() {
        for volume in list(&service["volumes"]) {
            let volume = volume.as_str().expect("the short form");
            let source = volume.split(':').next().expect("a source");
            if source.starts_with('.') {
                assert!(root().join("deploy").join(source).exists(), "{name} mounts {source}");
            } else {
                assert!(compose()["volumes"].get(source).is_some(), "{name} uses the volume {source}");
            }
        }
    }
}

// ---- What the program is told

#[test]
fn the_programs_know_every_setting_they_are_given() {
    let mut given: BTreeSet<String> = BTreeSet::new();
    for (_, service) in services() {
        if service["image"].as_str().is_some_and(|image| image.starts_with(OWN_IMAGE)) {
            given.extend(environment(&service).into_keys());
        }
    }
    for path in ["deploy/.env.example", "deploy/helm/cairn/values.yaml", "deploy/Containerfile"] {
        given.extend(words(&read(path)).into_iter().filter(|word| word.starts_with("CAIRN_")));
    }
    for file in files::all(&root().join("deploy/helm/cairn/templates")) {
        let text = fs::read_to_string(&file).expect("a template is text");
        given.extend(words(&text).into_iter().filter(|word| is_setting(word)));
    }
    // These are for the compose file itself.
    given.retain(|name| !name.ends_with("_ON_HOST"));
    // A comment tells of it: the variable that Kubernetes would set.
    given.remove("CAIRN_PORT");
    let (settings, sources) = (fields_of_settings(), sources());
    let unknown: Vec<&String> = given.iter().filter(|name| !knows(&settings, &sources, name)).collect();
    assert!(unknown.is_empty(), "the programs do not know {unknown:?}");
}

fn is_setting(word: &str) -> bool {
    let from_elsewhere = ["DATABASE_URL", "QDRANT_", "KAFKA_", "KURRENTDB_", "OTEL_"];
    word.starts_with("CAIRN_") || from_elsewhere.iter().any(|start| word.starts_with(start))
}

/// The program reads `CAIRN_A__B` as the field `b` of `a`, and finds every other variable by its name.
fn knows(settings: &BTreeSet<String>, sources: &str, variable: &str) -> bool {
    let name = variable.strip_suffix("_FILE").filter(|name| SECRETS.contains(name)).unwrap_or(variable);
    match name.strip_prefix("CAIRN_") {
        // What the client takes is an argument of the command line.
        Some(_) if sources.contains(&format!("env = \"{name}\"")) => true,
        Some(path) => path.to_lowercase().split("__").all(|field| settings.contains(field)),
        None => sources.contains(&format!("\"{name}\"")),
    }
}

/// The names of public fields in the configuration of the programs.
fn fields_of_settings() -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for file in files::all(&root()).into_iter().filter(|file| is_source(file)) {
        if file.strip_prefix(root()).is_ok_and(|path| path.to_string_lossy().contains("config")) {
            let text = fs::read_to_string(&file).expect("sources are text");
            let named = text.lines().filter_map(|line| line.trim_start().strip_prefix("pub ")?.split_once(':'));
            fields.extend(named.map(|(field, _)| field.to_owned()));
        }
    }
    fields
}

// ---- PostgreSQL

#[test]
fn the_script_makes_a_role_that_row_level_security_holds_for() {
    if !postgres::is_installed() {
        not_tested("deploy/postgres/init.sh", "no PostgreSQL is installed; apt-get install postgresql");
        return;
    }
    let cluster = postgres::Cluster::start(&postgres::Settings::default()).expect("a private PostgreSQL starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let password = folder.path().join("password");
    fs::write(&password, "it's a 'secret' \"one\"").expect("a file can be written");
    let url = cluster.url();
    let (host, port) =
        url.split('@').nth(1).and_then(|rest| rest.split('/').next()?.split_once(':')).expect("a URL");
    let psql = |command: &mut Command| {
        let ran = command.env("PGHOST", host).env("PGPORT", port).env("PGUSER", "postgres").output();
        succeeded(&ran.expect("it can be run"))
    };
    // Twice, because a person may run it again.
    for _ in 0..2 {
        let script = root().join("deploy/postgres/init.sh");
        psql(Command::new("sh").arg(script).env("CAIRN_DATABASE_PASSWORD_FILE", &password));
    }
    let ask = |sql: &str| psql(Command::new("psql").args(["-AtX", "-d", "postgres", "-c", sql]));
    let role = "SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication, \
                starts_with(rolpassword, 'SCRAM-SHA-256') FROM pg_authid WHERE rolname = 'cairn'";
    assert_eq!(ask(role).trim(), "t|f|f|f|f|f|t");
    let database = "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, \
                    has_database_privilege('public', oid, 'CONNECT') FROM pg_database WHERE datname = 'cairn'";
    assert_eq!(ask(database).trim(), "cairn|UTF8|C.UTF-8|f");
}

#[test]
fn the_script_that_makes_secrets_keeps_those_there_are() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = folder.path().join("secrets.sh");
    fs::copy(root().join("deploy/secrets.sh"), &script).expect("it can be copied");
    let make = || succeeded(&Command::new("sh").arg(&script).output().expect("it can be run"));
    make();
    let secrets = || -> Vec<String> {
        let files = files::all(&folder.path().join("secrets"));
        files.iter().map(|file| fs::read_to_string(file).expect("secrets are text")).collect()
    };
    let first = secrets();
    assert_eq!(first.len(), 6);
    assert!(first.iter().all(|secret| secret.len() >= 24 && !secret.contains(char::is_whitespace)));
    make();
    assert_eq!(secrets(), first);
    let key = fs::read_to_string(folder.path().join("secrets/brain_key")).expect("the key");
    assert!(
        key.len() == 64 && key.chars().all(|digit| digit.is_ascii_hexdigit()),
        "what a node takes as brain.key"
    );
}

// ---- Observability

#[test]
fn alerts_and_dashboards_use_metrics_that_exist() {
    let alerts = yaml("deploy/prometheus/alerts.yaml");
    let rules = list(&alerts["groups"]).into_iter().flat_map(|group| list(&group["rules"]));
    let mut expressions: Vec<String> =
        rules.map(|rule| rule["expr"].as_str().expect("an expression").into()).collect();
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/dashboard.json")).expect("JSON");
    for panel in list(&dashboard["panels"]) {
        let targets = list(&panel["targets"]);
        assert!(!targets.is_empty(), "{} shows something", panel["title"]);
        expressions.extend(targets.iter().map(|target| target["expr"].as_str().expect("an expression").into()));
    }
    let sources = sources();
    let mut used = BTreeSet::new();
    for expression in &expressions {
        let metrics = metrics(expression);
        assert!(!metrics.is_empty(), "{expression} uses a metric");
        used.extend(metrics);
    }
    for metric in used {
        let base =
            ["_bucket", "_count", "_sum"].iter().find_map(|part| metric.strip_suffix(part)).unwrap_or(&metric);
        let known = FOREIGN_METRICS.contains(&base)
            || PROCESS_METRICS.contains(&base)
            || sources.contains(&format!("\"{base}\""));
        assert!(known, "nothing measures {metric}");
    }
}

/// The names of metrics in an expression: words that are neither labels nor functions nor in quotes.
fn metrics(expression: &str) -> BTreeSet<String> {
    let mut bare = String::new();
    let (mut quoted, mut depth) = (false, 0_u32);
    for letter in expression.chars() {
        match letter {
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth = depth.saturating_sub(1),
            _ if !quoted && depth == 0 => bare.push(letter),
            _ => {}
        }
    }
    words(&bare)
        .into_iter()
        .filter(|word| word.contains('_') && word != "histogram_quantile" || word == "up")
        .collect()
}

#[test]
fn alerts_fire_when_they_should() {
    let present = Command::new("promtool").arg("--version").output().is_ok();
    if !present {
        not_tested("when alerts fire", "promtool is not installed; apt-get install prometheus");
        return;
    }
    let promtool = |arguments: &[&str]| {
        succeeded(&Command::new("promtool").args(arguments).current_dir(root()).output().expect("it can be run"))
    };
    promtool(&["check", "config", "deploy/prometheus/prometheus.yaml"]);
    promtool(&["test", "rules", "deploy/prometheus/alerts_test.yaml"]);
}

#[test]
fn the_manual_explains_every_alert() {
    let manual = read("docs/operations.md");
    let alerts = yaml("deploy/prometheus/alerts.yaml");
    for rule in list(&alerts["groups"]).into_iter().flat_map(|group| list(&group["rules"])) {
        let name = rule["alert"].as_str().expect("a name");
        assert!(manual.contains(&format!("`{name}`")), "docs/operations.md says what to do about {name}");
    }
}

// ---- The manual

#[test]
fn the_program_takes_the_commands_of_the_manual() {
    let manual = read("docs/operations.md");
    let mut commands: BTreeSet<Vec<String>> = BTreeSet::new();
    for block in manual.split("```sh\n").skip(1) {
        let block = block.split("```").next().expect("the block ends");
        for line in block.lines() {
            let line = line.split(" #").next().expect("a part before the comment");
            // The last one: before it stand the user of that name, and where the data folder is.
            let words: Vec<&str> = line.split_whitespace().filter(|_| !line.starts_with("alias ")).collect();
            let Some(program) = words.iter().rposition(|word| *word == "cairn") else { continue };
            let other = ["pg_dump", "pg_restore", "useradd", "createuser", "createdb", "systemctl", "tar"];
            if words.iter().any(|word| other.contains(word)) || words.len() == program + 1 {
                continue;
            }
            let below = ["rebuild", "cancel", "verify", "back", "drop-previous", "pause", "resume"];
            let more = words.get(program + 2).filter(|word| below.contains(word));
            commands
                .insert(words[program + 1..=program + 1].iter().chain(more).map(|w| (*w).to_owned()).collect());
        }
    }
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let asked = Command::new(cairn()).args(&command).arg("--help").stdin(Stdio::null()).output();
        let asked = asked.expect("the program can be run");
        assert!(asked.status.success(), "cairn {}: {}", command.join(" "), String::from_utf8_lossy(&asked.stderr));
    }
}

#[test]
fn files_that_the_manual_names_exist() {
    for word in
        read("docs/operations.md").split(|letter: char| letter.is_whitespace() || "()`[]\"".contains(letter))
    {
        let path = word.trim_end_matches(['.', ',', ':', ';']);
        if path.starts_with("deploy/") && !path.starts_with("deploy/secrets/") && path != "deploy/.env" {
            assert!(root().join(path).exists(), "docs/operations.md names {path}");
        }
    }
}
