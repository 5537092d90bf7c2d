//! An erased memory is gone from everywhere.

use std::path::Path;

use cairn_domain::kind::Kind;
use cairn_domain::memory::command::Command;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_read_model::memories::Found;
use cairn_read_model::timeline::TimelineFilter;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::stage::{Stage, digest_of, models};

/// Every table that mentions some bytes, asked of the file itself so that a new table cannot be forgotten.
fn mentions(file: &Path, needles: &[&[u8]]) -> Vec<String> {
    let connection = Connection::open(file).expect("opens");
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .expect("reads");
    let mut found = Vec::new();
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).expect("prepares");
        let columns = statement.column_count();
        let mut rows = statement.query([]).expect("reads");
        while let Some(row) = rows.next().expect("reads") {
            let hit = (0..columns).any(|column| match row.get_ref(column).expect("reads") {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                    needles.iter().any(|needle| bytes.windows(needle.len()).any(|part| part == *needle))
                }
                _ => false,
            });
            if hit {
                found.push(table.clone());
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

#[tokio::test]
async fn nothing_of_an_erased_memory_is_left_but_its_tombstone() {
    let mut stage = Stage::new().await;
    let other = stage.log.create(Kind::Note, "Other", "", &[]).await;
    let link = format!("link/mentions/{other}");
    let claims = [("tag/xylophone", Value::Flag(true)), (&link, Value::Flag(true)), ("mood", "xylophone".into())];
    let id = stage.log.create(Kind::Task, "My xylophone", "Where the xylophone is.", &claims).await;
    stage.log.set(id, Truth::CloudAi, &[("title", "A xylophone".into())]).await;
    stage.log.write(id, Truth::LocalAi, "No xylophone.").await;
    let rival = r#"{"field":"mood","value":"xylophone two"}"#;
    stage.log.raw(&cairn_domain::id::memory_stream(id), "memory.field_claimed", rival).await;
    stage.settle().await;
    let generation = |name: &str| stage.folder.path().join("read").join(name).join("1/model.db");
    let memory = id.uuid().into_bytes();
    let needles: [&[u8]; 2] = [b"xylophone", &memory];
    let before = mentions(&generation("memories"), &needles);
    for table in ["memories", "bodies", "fields", "suggestions", "conflicts", "tags", "links", "tasks"] {
        assert!(before.iter().any(|name| name == table), "{table} in {before:?}");
    }

    stage.log.skip_known(id, 1);
    stage.log.command(id, Truth::User, Command::EraseMemory).await;
    stage.settle().await;
    for name in ["memories", "timeline"] {
        assert_eq!(mentions(&generation(name), &needles), ["tombstones"], "{name}");
    }
    assert!(matches!(stage.memories.get(id).expect("reads"), Found::Erased { .. }));
    let filter = TimelineFilter { memory: Some(id), ..TimelineFilter::default() };
    assert_eq!(stage.timeline.list(&filter, None, None).expect("lists").items, []);
    assert_eq!(stage.memories.stats().expect("counts").erased, 1);

    // Not even in the free pages of the file, or in its write-ahead log.
    stage.projector.shutdown().await;
    for name in ["memories", "timeline"] {
        for ending in ["", "-wal"] {
            let mut file = generation(name).into_os_string();
            file.push(ending);
            let bytes = std::fs::read(&file).unwrap_or_default();
            let traces = bytes.windows(9).filter(|part| *part == b"xylophone").count();
            assert_eq!(traces, 0, "{name}{ending}");
        }
    }
}

#[tokio::test]
async fn a_fold_of_emptied_events_gives_the_same_as_one_that_saw_them() {
    let mut stage = Stage::new().await;
    let id = stage.log.create(Kind::Note, "Gone", "Soon.", &[("mood", "calm".into())]).await;
    stage.log.create(Kind::Note, "Stays", "", &[]).await;
    stage.log.set(id, Truth::CloudAi, &[("title", "Going".into())]).await;
    stage.log.command(id, Truth::User, Command::EraseMemory).await;
    stage.log.create(Kind::Note, "Later", "", &[]).await;
    let emptied = stage.log.emptied(id);
    for model in models() {
        for size in [1, 3, 100] {
            let seen = digest_of(&stage.log, &model, size, 1 << 20).await;
            let unseen = digest_of(&emptied, &model, size, 1 << 20).await;
            assert_eq!(seen, unseen);
        }
    }
}
