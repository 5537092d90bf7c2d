//! Measures ranking on folders of Markdown files:
//! `cargo run --release -p cairn-search --example eval -- VAULT...`, where the name of each folder is
//! the `vault` of its questions in `eval/questions.jsonl`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::kind::Kind;
use cairn_domain::truth::Truth;
use cairn_search::document::Document;
use cairn_search::embedder::StaticEmbedder;
use cairn_search::eval::{self, Report};
use chrono::DateTime;
use uuid::Uuid;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let questions = eval::read_questions(eval::QUESTIONS)?;
    let embedder = Arc::new(StaticEmbedder::new());
    let mut reports = Vec::new();
    for vault in std::env::args_os().skip(1).map(PathBuf::from) {
        let name = vault.file_name().and_then(|name| name.to_str()).context("a vault is a folder")?;
        let asked: Vec<_> = questions.iter().filter(|question| question.vault == name).cloned().collect();
        let folder = tempfile::tempdir()?;
        let report = eval::run(&folder.path().join("index"), embedder.clone(), documents(&vault)?, &asked).await?;
        println!("{name}: {} questions, {} memories", report.questions, report.memories);
        reports.push(report);
    }
    print(&reports);
    Ok(())
}

/// The rows of all vaults together, weighted by their questions.
fn print(reports: &[Report]) {
    let total: f64 = reports.iter().map(|report| report.questions as f64).sum();
    let mut rows: BTreeMap<usize, (String, [f64; 3])> = BTreeMap::new();
    for report in reports {
        for (at, row) in report.rows.iter().enumerate() {
            let sums = &mut rows.entry(at).or_insert_with(|| (row.name.clone(), [0.0; 3])).1;
            for (sum, figure) in sums.iter_mut().zip([row.recall_at_5, row.recall_at_10, row.mrr]) {
                *sum += figure * report.questions as f64 / total * 100.0;
            }
        }
    }
    println!("{:36} {:>6} {:>6} {:>6}", "", "r@5", "r@10", "mrr");
    for (name, [five, ten, mrr]) in rows.values() {
        println!("{name:36} {five:6.1} {ten:6.1} {mrr:6.1}");
    }
    for missed in reports.iter().flat_map(|report| &report.missed) {
        println!("missed: {missed}");
    }
}

fn documents(vault: &Path) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    let mut folders = vec![vault.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let number = documents.len() as u128 + 1;
                let stem = path.file_stem().and_then(|stem| stem.to_str()).context("a name in UTF-8")?;
                documents.push(document(number, &title(stem), &std::fs::read_to_string(&path)?));
            }
        }
    }
    Ok(documents)
}

/// What a file's name means: Logseq writes `/` as `___` and odd characters as `%XX`.
fn title(stem: &str) -> String {
    let stem = stem.replace("___", "/");
    let mut parts = stem.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => bytes.extend_from_slice(format!("%{part}").as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn document(number: u128, title: &str, text: &str) -> Document {
    let (extra, body) = front_matter(text);
    Document {
        memory: MemoryId::new(Uuid::from_u128(number)),
        kind: Kind::Note,
        title: title.to_owned(),
        body: body.to_owned(),
        extra: extra.to_owned(),
        tags: Vec::new(),
        links: Vec::new(),
        truth: Truth::User,
        origin: "user:import".parse().expect("an origin"),
        event: EventId::new(Uuid::from_u128(number)),
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
        when: None,
        archived: false,
    }
}

fn front_matter(text: &str) -> (&str, &str) {
    text.strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---"))
        .map_or(("", text), |(front, body)| (front, body.trim_start_matches('-')))
}
