//! Reading real vaults: small parts of two public ones, which are under `fixtures` with their licences.
//!
//! `TEST_CAIRN_VAULT=<folder>` runs the check of links over another vault as well.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use cairn_domain::kind::Kind;
use cairn_interchange::ids::{Ids, daily_id, vault_id};
use cairn_interchange::import;
use cairn_interchange::plan::{Plan, PlannedMemory};
use cairn_interchange::problem::ProblemCode;
use cairn_interchange::reading::{self, LinkTarget};
use cairn_interchange::resolve::{self, Target};
use cairn_interchange::vault::{Flavour, ScanOptions, Vault};
use uuid::Uuid;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn ids() -> Ids {
    let brain = Uuid::from_u128(1);
    Ids { brain, vault: vault_id(brain, "test") }
}

fn plan_of(root: &Path) -> Plan {
    import(root, &ScanOptions::default(), &ids(), &mut |_, _| ()).unwrap()
}

fn memory<'a>(plan: &'a Plan, key: &str) -> &'a PlannedMemory {
    plan.memories.iter().find(|memory| memory.key == key).unwrap_or_else(|| panic!("no {key}"))
}

fn fields(memory: &PlannedMemory) -> BTreeMap<&str, String> {
    memory.fields.iter().map(|(name, value)| (name.as_str(), value.display())).collect()
}

fn linked(plan: &Plan, from: &str) -> Vec<(String, String)> {
    let keys: HashMap<_, _> = plan.memories.iter().map(|memory| (memory.id, memory.key.clone())).collect();
    memory(plan, from).links.iter().map(|(relation, id)| (relation.clone(), keys[id].clone())).collect()
}

fn link(relation: &str, key: &str) -> (String, String) {
    (relation.into(), key.into())
}

#[test]
fn an_obsidian_vault_becomes_typed_memories() {
    let plan = plan_of(&fixture("kepano"));
    let meeting = memory(&plan, "Notes/2023-09-12 Meeting with Steph");
    assert_eq!(meeting.kind, Kind::Event);
    let stated = fields(meeting);
    assert_eq!(stated["start_time"], "2023-09-12T00:00:00Z");
    assert_eq!((stated["location"].as_str(), stated["attendees"].as_str()), ("Remote", "Steph Ango"));
    assert_eq!(stated["org"], "Obsidian", "a free field keeps its name");
    assert!(!stated.contains_key("type"), "a blank property says nothing");
    let links = linked(&plan, &meeting.key);
    for expected in [
        link("people", "References/Steph Ango"),
        link("org", "References/Obsidian"),
        link("mentions", "References/Out of Control"),
    ] {
        assert!(links.contains(&expected), "{expected:?} in {links:?}");
    }

    let kyoto = memory(&plan, "References/Kyoto");
    let stated = fields(kyoto);
    assert_eq!(kyoto.kind, Kind::Place);
    assert_eq!((stated["latitude"].as_str(), stated["longitude"].as_str()), ("35.021041", "135.7556075"));
    assert_eq!(stated["place_type"], "Cities");

    let person = memory(&plan, "References/Steph Ango");
    assert_eq!((person.kind, fields(person)["organization"].as_str()), (Kind::Person, "Obsidian"));
    let project = memory(&plan, "Notes/Minimal Theme");
    assert_eq!((project.kind, fields(project)["status"].as_str()), (Kind::Project, "active"));
    let game = memory(&plan, "References/The Legend of Zelda Breath of the Wild");
    assert_eq!(fields(game)["aliases"], "BOTW");

    let day = memory(&plan, "Daily/2023-09-12");
    assert_eq!(day.kind, Kind::Daily);
    assert_eq!(day.id, daily_id(ids().brain, "2023-09-12".parse().unwrap()));
}

#[test]
fn templates_and_views_are_no_memories() {
    let plan = plan_of(&fixture("kepano"));
    assert!(plan.memories.iter().all(|memory| !memory.path.starts_with("Templates/")));
    assert!(plan.problems.iter().any(|problem| problem.code == ProblemCode::TemplatesSkipped));
    assert!(plan.counts.links_to_attachments >= 2, "`![[Daily.base]]` points to a file of the vault");
}

#[test]
fn tasks_belong_to_their_notes() {
    let plan = plan_of(&fixture("kepano"));
    let tasks: Vec<_> = plan.memories.iter().filter(|memory| memory.kind == Kind::Task).collect();
    assert_eq!(tasks.len(), 3);
    let project = memory(&plan, "Notes/Minimal Theme").id;
    for task in tasks {
        assert_eq!(fields(task)["status"], "completed");
        assert_eq!(task.links, [("part_of".to_owned(), project)]);
    }
}

#[test]
fn a_logseq_graph_becomes_pages_and_journals() {
    let plan = plan_of(&fixture("logseq"));
    let page = memory(&plan, "pages/New to Logseq%3F");
    assert_eq!(page.title, "New to Logseq?");
    let tasks = memory(&plan, "pages/Tasks");
    assert!(!tasks.body.starts_with("type::"), "page properties are fields and not text");
    assert!(linked(&plan, "pages/Tasks").contains(&link("platforms", "pages/All Platforms")));
    let day = memory(&plan, "journals/2020_12_05");
    assert_eq!((day.kind, day.title.as_str()), (Kind::Daily, "Dec 5th, 2020"));
    let urgent = plan.memories.iter().find(|memory| memory.title == "big important and urgent thing").unwrap();
    assert_eq!(fields(urgent)["priority"], "high");
    assert_eq!(memory(&plan, "journals/2020_05_20").kind, Kind::Daily, "Org files go in");
}

#[test]
fn the_example_vault_is_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/vault");
    let plan = plan_of(&root);
    check_links(&root);
    assert_eq!(plan.problems, []);
    let missing: Vec<_> = plan.unresolved.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(missing, ["Trip to Skagen", "Gudrun Aas"], "two notes are still to be written");
    assert_eq!(plan.counts.memories.len(), Kind::ALL.len(), "every kind is there");
    let meeting = fields(memory(&plan, "Meetings/2026-11-17 Planning the class with Bea"));
    assert_eq!(meeting["start_time"], "2026-11-17T15:00:00Z");
    assert_eq!(meeting["end_time"], "2026-11-17T15:25:00Z");
    assert!(!meeting.contains_key("date"), "the day went into the start");
}

#[test]
fn importing_again_gives_the_same_plan() {
    let (one, other) = (plan_of(&fixture("logseq")), plan_of(&fixture("logseq")));
    assert_eq!(one.memories, other.memories);
    let different: HashSet<_> = one.memories.iter().map(|memory| memory.id).collect();
    assert_eq!(different.len(), one.memories.len());
}

#[test]
fn every_link_that_has_a_target_is_resolved() {
    check_links(&fixture("logseq"));
    check_links(&fixture("kepano"));
    if let Some(vault) = std::env::var_os("TEST_CAIRN_VAULT") {
        check_links(Path::new(&vault));
    }
}

/// Finds links and targets the crude way, with none of the crate's parsers, and compares.
fn check_links(root: &Path) {
    let scan = Vault::scan(root, &ScanOptions::default()).unwrap();
    let logseq = scan.settings.flavour == Flavour::Logseq;
    let read = reading::read_all(&scan, &mut |_, _| ());
    let resolution = resolve::resolve(&read);
    let texts: Vec<String> =
        scan.files.iter().map(|file| std::fs::read_to_string(root.join(&file.path)).unwrap()).collect();
    let mut names = HashSet::new();
    for (file, text) in scan.files.iter().zip(&texts) {
        crude_names(&file.path, text, logseq, &mut names);
    }
    let mut checked = 0;
    for ((file, text), targets) in read.files.iter().zip(&texts).zip(&resolution.files) {
        let found: HashSet<String> = file
            .memory
            .links
            .iter()
            .zip(&targets.memory)
            .filter(|(_, target)| !matches!(target, Target::Unresolved | Target::Attachment))
            .filter_map(|(link, _)| match &link.target {
                LinkTarget::Name(name) => Some(name.to_lowercase()),
                LinkTarget::Block(_) | LinkTarget::Memory(_) => None,
            })
            .collect();
        for link in crude_links(text) {
            let name = if logseq { link.as_str() } else { link.split(['|', '#']).next().unwrap_or_default() };
            let name = name.trim_end_matches('\\').trim().to_lowercase();
            if names.contains(&name) {
                checked += 1;
                assert!(found.contains(&name), "{} does not link to `{name}`", file.path);
            }
        }
    }
    assert!(checked > 5, "{checked} links checked");
    println!("{}: {checked} links checked", root.display());
}

fn crude_names(path: &str, text: &str, logseq: bool, names: &mut HashSet<String>) {
    let file = path.rsplit('/').next().unwrap().rsplit_once('.').unwrap().0;
    names.insert(file.to_lowercase());
    if logseq {
        names.insert(file.replace("___", "/").replace("%3F", "?").to_lowercase());
    }
    for line in text.lines() {
        let value = |key: &str| line.strip_prefix(key).map(|value| value.trim().to_lowercase());
        names.extend(value("title::").or_else(|| value("title:")).filter(|name| !name.is_empty()));
        for alias in value("alias::").unwrap_or_default().split(',').filter(|alias| !alias.trim().is_empty()) {
            names.insert(alias.trim().trim_matches(['[', ']']).to_owned());
        }
    }
}

/// What stands between double brackets outside fences and backticks; not in lines that name the page itself.
fn crude_links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start_matches([' ', '\t', '-']).starts_with("```") {
            fenced = !fenced;
        }
        if fenced || line.to_lowercase().starts_with("alias") || line.trim_start().starts_with("title:") {
            continue;
        }
        for prose in line.split('`').step_by(2) {
            for part in prose.split("[[").skip(1) {
                let inner = part.split("]]").next().filter(|inner| inner.len() < part.len());
                links.extend(
                    inner.filter(|inner| !inner.contains('[') && !inner.contains("://")).map(str::to_owned),
                );
            }
        }
    }
    links
}
