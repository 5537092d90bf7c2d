//! What an export writes reads back to the same memories.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_domain::value::Value;
use cairn_interchange::export::{
    ExportError, ExportHead, ExportReport, ExportedLink, ExportedMemory, MARKER_FILE, MarkdownExport,
    write_json_line,
};
use cairn_interchange::ids::Ids;
use cairn_interchange::import;
use cairn_interchange::plan::{Plan, PlannedMemory};
use cairn_interchange::vault::ScanOptions;
use proptest::prelude::*;
use uuid::Uuid;

fn export(folder: &Path, memories: &[ExportedMemory]) -> Result<ExportReport, ExportError> {
    let heads =
        memories.iter().map(|memory| ExportHead { id: memory.id, kind: memory.kind, title: memory.title.clone() });
    let mut export = MarkdownExport::begin(folder, heads)?;
    for memory in memories {
        export.write(memory)?;
    }
    export.finish()
}

fn plan_of(folder: &Path) -> Plan {
    let ids = Ids { brain: Uuid::from_u128(1), vault: Uuid::from_u128(2) };
    import(folder, &ScanOptions::default(), &ids, &mut |_, _| ()).unwrap()
}

/// What two memories are compared by. The order of fields, tags and links means nothing.
type Essence = (
    MemoryId,
    Kind,
    String,
    String,
    BTreeMap<String, String>,
    BTreeSet<String>,
    BTreeSet<(String, MemoryId)>,
    bool,
    (String, String),
);

fn of_exported(memory: &ExportedMemory) -> Essence {
    (
        memory.id,
        memory.kind,
        memory.title.clone(),
        memory.body.clone(),
        memory.fields.iter().map(|(name, value)| (name.clone(), format!("{value:?}"))).collect(),
        memory.tags.iter().cloned().collect(),
        memory.links.iter().map(|link| (link.relation.clone(), link.target)).collect(),
        memory.archived,
        (memory.created_at.clone(), memory.updated_at.clone()),
    )
}

fn of_planned(memory: &PlannedMemory) -> Essence {
    (
        memory.id,
        memory.kind,
        memory.title.clone(),
        memory.body.clone(),
        memory.fields.iter().map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect(),
        memory.tags.iter().cloned().collect(),
        memory.links.iter().cloned().collect(),
        memory.archived,
        memory.times.clone().unwrap(),
    )
}

fn assert_round_trip(memories: &[ExportedMemory]) {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), memories).unwrap();
    let plan = plan_of(folder.path());
    assert_eq!(plan.problems, [], "nothing is odd about an export");
    let expected: BTreeMap<_, _> = memories.iter().map(|memory| (memory.id, of_exported(memory))).collect();
    let found: BTreeMap<_, _> = plan.memories.iter().map(|memory| (memory.id, of_planned(memory))).collect();
    assert_eq!(plan.memories.len(), memories.len(), "nothing comes twice");
    assert_eq!(found, expected);
}

fn memory(id: u128, kind: Kind, title: &str, body: &str) -> ExportedMemory {
    ExportedMemory {
        id: MemoryId::new(Uuid::from_u128(id)),
        kind,
        title: title.into(),
        body: body.into(),
        fields: Vec::new(),
        tags: Vec::new(),
        links: Vec::new(),
        created_at: "2026-11-20T09:30:00Z".into(),
        updated_at: "2026-11-21T09:30:00.123Z".into(),
        archived: false,
        provenance: BTreeMap::new(),
    }
}

#[test]
fn odd_bodies_come_back_byte_for_byte() {
    let bodies = [
        "",
        "\n",
        "---\n",
        "---\na: b\n---\n",
        "--- ",
        "...",
        "\r\nx\r\n",
        "x  \n\n",
        "\u{feff}x",
        "a:: b\n",
        "- [ ] task 📅 2026-11-21\n",
        "#tag [[Nobody]] [[m1]]",
        "---",
        "\n---\n",
        "x\u{0}y",
        "\u{2028}",
        "- TODO x",
    ];
    let memories: Vec<_> =
        bodies.iter().zip(1..).map(|(body, id)| memory(id, Kind::Note, &format!("m{id}"), body)).collect();
    assert_round_trip(&memories);
}

#[test]
fn odd_titles_come_back_and_never_leave_the_folder() {
    let titles = [
        "",
        " ",
        "../../x",
        "/etc/passwd",
        "a\\b",
        "CON",
        "nul",
        ".hidden",
        "x.md",
        "Same",
        "same",
        "SAME",
        "[[x]]|y#z^w",
        "yes",
        "12",
        "null",
        "- a",
        "# b",
        "\u{202e}gnp",
        "tab\there",
        "line\nbreak",
        "é",
        "e\u{301}",
        "𝔘",
        "\u{fffe}",
        "\u{85}",
        "💩",
    ];
    let memories: Vec<_> =
        titles.iter().zip(1..).map(|(title, id)| memory(id, Kind::Person, title, "x")).collect();
    assert_round_trip(&memories);
}

#[test]
fn tasks_in_a_text_are_not_made_twice() {
    let note = memory(1, Kind::Project, "Boat", "- [ ] tar the keel\n");
    let mut task = memory(2, Kind::Task, "tar the keel", "");
    task.fields.push(("status".into(), Value::Text("todo".into())));
    task.links.push(ExportedLink { relation: "part_of".into(), target: note.id, target_title: "Boat".into() });
    assert_round_trip(&[note, task]);
}

#[test]
fn a_link_to_what_was_not_exported_is_kept() {
    let mut note = memory(1, Kind::Note, "a", "");
    let away = MemoryId::new(Uuid::from_u128(99));
    note.links.push(ExportedLink { relation: "mentions".into(), target: away, target_title: "gone".into() });
    assert_round_trip(&[note]);
}

#[test]
fn many_links_and_long_values_are_read_in_bounds() {
    let mut hub = memory(1, Kind::Note, "hub", "");
    let others: Vec<_> = (2..5_000).map(|id| memory(id, Kind::Note, &format!("Note [{id}]"), "")).collect();
    hub.links = others
        .iter()
        .map(|other| ExportedLink { relation: "mentions".into(), target: other.id, target_title: String::new() })
        .collect();
    hub.fields.push(("long".into(), Value::Text("[{".repeat(20_000))));
    let mut all = vec![hub];
    all.extend(others);
    assert_round_trip(&all);
}

#[test]
fn an_edit_in_another_program_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let oak = memory(1, Kind::Note, "Oak", "A tree.\n");
    let tar = memory(2, Kind::Note, "Tar", "Black.\n");
    export(folder.path(), &[oak.clone(), tar.clone()]).unwrap();
    let path = folder.path().join("Notes/Oak.md");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}Goes with [[Tar]]. #wood\n")).unwrap();
    let plan = plan_of(folder.path());
    let read = plan.memories.iter().find(|memory| memory.id == oak.id).unwrap();
    assert_eq!(read.body, "A tree.\nGoes with [[Tar]]. #wood\n");
    assert_eq!(
        (read.tags.as_slice(), read.links.as_slice()),
        (["wood".to_owned()].as_slice(), [("mentions".to_owned(), tar.id)].as_slice())
    );
}

#[test]
fn exporting_again_replaces_what_the_last_export_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (oak, tar) = (memory(1, Kind::Note, "Oak", "x"), memory(2, Kind::Note, "Tar", "y"));
    export(folder.path(), &[oak.clone(), tar]).unwrap();
    let before = fs::read(folder.path().join("Notes/Oak.md")).unwrap();
    fs::write(folder.path().join("Notes/mine.md"), "not the export's").unwrap();
    let renamed = memory(2, Kind::Note, "Pine tar", "y");
    let report = export(folder.path(), &[oak, renamed]).unwrap();
    assert_eq!(report, ExportReport { written: 2, removed: 1 });
    assert!(!folder.path().join("Notes/Tar.md").exists());
    assert!(folder.path().join("Notes/mine.md").exists());
    assert_eq!(
        fs::read(folder.path().join("Notes/Oak.md")).unwrap(),
        before,
        "the same memory gives the same bytes"
    );
}

#[test]
fn a_folder_with_other_things_in_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.md"), "years of work").unwrap();
    let error = export(folder.path(), &[memory(1, Kind::Note, "x", "")]).unwrap_err();
    assert!(matches!(error, ExportError::NotEmpty(_)));
    fs::write(folder.path().join(MARKER_FILE), "{").unwrap();
    assert!(matches!(export(folder.path(), &[]).unwrap_err(), ExportError::NotEmpty(_)));
}

#[cfg(unix)]
#[test]
fn a_link_in_the_folders_place_is_refused() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let note = memory(1, Kind::Note, "x", "");
    export(folder.path(), std::slice::from_ref(&note)).unwrap();
    fs::remove_dir_all(folder.path().join("Notes")).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("Notes")).unwrap();
    assert!(matches!(export(folder.path(), &[note]).unwrap_err(), ExportError::InTheWay(_)));
    // Nor is what a marker lists removed through a link.
    fs::write(outside.path().join("x.md"), "mine").unwrap();
    export(folder.path(), &[]).unwrap();
    assert!(outside.path().join("x.md").exists());
}

#[test]
fn a_marker_that_lies_removes_nothing_outside() {
    let folder = tempfile::tempdir().unwrap();
    let vault = folder.path().join("vault");
    fs::create_dir(&vault).unwrap();
    fs::write(folder.path().join("victim.md"), "x").unwrap();
    let lies = r#"{"version":1,"files":["../victim.md","Notes/../../victim.md","/etc/hostname"]}"#;
    fs::write(vault.join(MARKER_FILE), lies).unwrap();
    assert_eq!(export(&vault, &[]).unwrap().removed, 0);
    assert!(folder.path().join("victim.md").exists());
}

#[test]
fn imported_vaults_come_back() {
    for fixture in ["kepano", "logseq"] {
        let plan = plan_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture));
        let memories: Vec<_> = plan.memories.iter().map(as_exported).collect();
        assert!(memories.len() > 10);
        assert_round_trip(&memories);
    }
}

fn as_exported(planned: &PlannedMemory) -> ExportedMemory {
    let mut memory = memory(0, planned.kind, &planned.title, &planned.body);
    memory.id = planned.id;
    memory.fields = planned.fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    memory.tags.clone_from(&planned.tags);
    memory.links = planned
        .links
        .iter()
        .map(|(relation, target)| ExportedLink {
            relation: relation.clone(),
            target: *target,
            target_title: String::new(),
        })
        .collect();
    memory.archived = planned.archived;
    memory
}

#[test]
fn json_lines_hold_everything() {
    let mut note = memory(1, Kind::Note, "line\nbreak", "x\n");
    note.fields.push(("rating".into(), Value::Integer(5)));
    let mut bytes = Vec::new();
    write_json_line(&mut bytes, &note).unwrap();
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_eq!(serde_json::from_slice::<ExportedMemory>(&bytes).unwrap(), note);
}

fn odd_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "---", "\n", "\r\n", "[[", "]]", "#tag", "- [ ] x", ": ", "key:: v", "\"", "'", "\\", "true", "null",
            "~", "1", " ", "\t", "|", ">", "&a", "*a", "!x", "%", "@", "é", "🌲", "\u{feff}", "\u{2028}",
            "\u{85}", "\u{0}", "cairn", "{", "}", ", ", "# ", "- ",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Empty),
        any::<bool>().prop_map(Value::Flag),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Decimal),
        odd_text().prop_map(Value::Text),
    ]
}

fn field() -> impl Strategy<Value = (String, Value)> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "tags",
            "links",
            "cairn",
            "cairn_body",
            "field.x",
            "aliases",
            "created",
            "true",
            "12",
            "a: b",
            "[x]",
            "- y",
            "#z"
        ])
        .prop_map(str::to_owned),
        odd_text(),
    ];
    let name = name.prop_filter("a field's name", |name| {
        !matches!(name.as_str(), "title" | "body" | "kind" | "archived")
            && name.parse::<cairn_domain::field::FieldName>().is_ok()
    });
    (name, prop_oneof![3 => scalar(), 1 => prop::collection::vec(scalar(), 0..4).prop_map(Value::List)])
}

fn arbitrary_memory(id: u128) -> impl Strategy<Value = ExportedMemory> {
    let tag = odd_text().prop_map(|tag| tag.to_lowercase()).prop_filter("a tag", |tag| !tag.is_empty());
    (
        prop::sample::select(Kind::ALL.to_vec()),
        odd_text(),
        odd_text(),
        prop::collection::vec(field(), 0..5),
        prop::collection::btree_set(tag, 0..4),
        prop::collection::vec((prop_oneof![Just("mentions".to_owned()), odd_text()], 1_u128..8), 0..5),
        any::<bool>(),
    )
        .prop_map(move |(kind, title, body, fields, tags, links, archived)| {
            let mut memory = memory(id, kind, &title, &body);
            let mut names = BTreeSet::new();
            memory.fields = fields
                .into_iter()
                .filter(|(name, value)| {
                    kind.check(&name.parse().unwrap(), value).is_ok() && names.insert(name.clone())
                })
                .collect();
            memory.tags = tags.into_iter().collect();
            memory.links = links
                .into_iter()
                .filter(|(relation, _)| {
                    !relation.trim().is_empty()
                        && relation.trim() == relation
                        && !relation.contains('/')
                        && !relation.chars().any(char::is_control)
                })
                .map(|(relation, target)| ExportedLink {
                    relation,
                    target: MemoryId::new(Uuid::from_u128(target)),
                    target_title: String::new(),
                })
                .collect();
            memory.archived = archived;
            memory
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_memories_come_back(
        one in arbitrary_memory(1),
        two in arbitrary_memory(2),
        three in arbitrary_memory(3),
        four in arbitrary_memory(4),
    ) {
        assert_round_trip(&[one, two, three, four]);
    }
}
