//! A real vault: how long its import takes, what of its links resolves, and how well searches rank in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, PrincipalId};
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_interchange::ids::{Ids, vault_id};
use cairn_interchange::vault::ScanOptions;
use cairn_search::document::Document;
use cairn_search::embedder::StaticEmbedder;
use cairn_search::eval::{self, BM25_ALONE, DENSE_ALONE, QUESTIONS, SHIPPED};
use chrono::DateTime;
use uuid::Uuid;

use super::Plan;
use super::figures::{Demand, Report};
use super::http::Served;
use crate::importer::{self, ImportRequest, ImportState};

/// Measures the import of a vault, and the ranking where the questions know it.
pub async fn measure(plan: &Plan, vault: &Path, report: &mut Report) -> Result<()> {
    let vault = vault.canonicalize().with_context(|| format!("{} cannot be read", vault.display()))?;
    import(plan, &vault, report).await?;
    rank(plan, &vault, report).await
}

async fn import(plan: &Plan, vault: &Path, report: &mut Report) -> Result<()> {
    report.doing("the vault is imported");
    let node = Served::start(plan, "vault").await?;
    let owner = node.brain.tokens.known()?.list().into_iter().next().context("no owner")?;
    let principal = Principal {
        id: PrincipalId::new(owner.id),
        ceiling: Truth::User,
        origin: Origin::of(Truth::User, "bench"),
    };
    for (name, demand) in [("import", Some(Demand::AtMost(5.0))), ("import again, unchanged", None)] {
        let request = ImportRequest { path: vault.to_owned(), prune: false, dry_run: false };
        let id = importer::start(&node.brain, principal.clone(), request)?;
        let done = loop {
            let Some(state) = node.brain.imports.report(id) else { bail!("the import was forgotten") };
            match state.state {
                ImportState::Done => break state,
                ImportState::Failed => bail!("the import failed: {}", state.error.unwrap_or_default()),
                ImportState::Reading | ImportState::Writing => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        };
        report.add("vault", format!("{name} of {} files", done.files), done.elapsed_ms as f64 / 1e3, "s", demand);
        report.add(
            "vault",
            format!("{name}: memories written"),
            (done.created + done.changed) as f64,
            "memories",
            None,
        );
    }
    node.stop().await
}

/// The words in the fields of a memory, as the search index is told of them.
fn words(fields: &[(FieldName, Value)]) -> String {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        list @ Value::List(_) => Some(list.display()),
        _ => None,
    };
    fields.iter().filter_map(|(_, value)| text(value)).collect::<Vec<_>>().join("\n")
}

async fn rank(plan: &Plan, vault: &Path, report: &mut Report) -> Result<()> {
    let name = vault.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let questions: Vec<_> =
        eval::read_questions(QUESTIONS)?.into_iter().filter(|question| question.vault == name).collect();
    if questions.is_empty() {
        report.skip("ranking", "there are questions about logseq-docs and kepano-vault alone");
        return Ok(());
    }
    report.doing("questions are asked");
    let brain = Uuid::from_u128(1);
    let ids = Ids { brain, vault: vault_id(brain, &name) };
    let read = cairn_interchange::import(vault, &ScanOptions::default(), &ids, &mut |_, _| {})?;
    let documents = read.memories.into_iter().map(|memory| Document {
        memory: memory.id,
        kind: memory.kind,
        title: memory.title,
        body: memory.body,
        extra: words(&memory.fields),
        tags: memory.tags,
        links: memory.links.into_iter().map(|(_, target)| target).collect(),
        truth: Truth::User,
        origin: Origin::of(Truth::User, "import"),
        event: EventId::new(Uuid::nil()),
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
        when: None,
        archived: false,
    });
    let folder = plan.folder.path().join("ranking");
    std::fs::create_dir(&folder)?;
    let ranked = eval::run(&folder, Arc::new(StaticEmbedder::new()), documents.collect(), &questions).await?;
    let row = |name: &str| ranked.rows.iter().find(|row| row.name == name).cloned();
    let (Some(hybrid), Some(bm25), Some(dense)) = (row(SHIPPED), row(BM25_ALONE), row(DENSE_ALONE)) else {
        bail!("the evaluation lacks a row");
    };
    let asked = format!("{} questions", ranked.questions);
    for (at, hybrid, bm25, dense) in [
        ("recall@5", hybrid.recall_at_5, bm25.recall_at_5, dense.recall_at_5),
        ("recall@10", hybrid.recall_at_10, bm25.recall_at_10, dense.recall_at_10),
    ] {
        let share = Some(Demand::ShareAtLeast(1.0));
        report.beside("vault", format!("{asked}: {at}"), hybrid * 100.0, "%", ("BM25 alone", bm25 * 100.0), share);
        report.beside(
            "vault",
            format!("{asked}: {at}"),
            hybrid * 100.0,
            "%",
            ("dense alone", dense * 100.0),
            None,
        );
    }
    Ok(())
}
