//! `cairn export`

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::Path;

use cairn_interchange::export::{ExportError, ExportHead, ExportedMemory, MarkdownExport};
use futures::StreamExt;
use serde::Deserialize;

use crate::cli::args::{ExportArgs, ExportFormat};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::progress::{Progress, until_interrupted};
use crate::cli::screen::Screen;
use crate::cli::view::text::count;

/// The last line of an export that could not be finished.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Broken {
    error: String,
}

/// Writes everything out.
///
/// # Errors
/// When the node cannot be asked, or the output cannot be written.
pub async fn run(client: &Client, screen: &Screen, args: &ExportArgs) -> Result<(), CliError> {
    match (&args.out, args.format) {
        (None, _) => {
            let mut out = BufWriter::new(io::stdout());
            memories(client, screen, &mut out, CliError::Output).await?;
            Ok(())
        }
        (Some(path), ExportFormat::Jsonl) => to_file(client, screen, path).await,
        (Some(path), ExportFormat::Markdown) => to_vault(client, screen, path).await,
    }
}

/// Writes JSON lines beside the file and moves them there: there is never half an export.
async fn to_file(client: &Client, screen: &Screen, path: &Path) -> Result<(), CliError> {
    let failed = |error| CliError::file(path.display().to_string(), error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut out = BufWriter::new(file.as_file_mut());
    // Without this, Ctrl-C would leave the unfinished file behind.
    let how_many = until_interrupted(memories(client, screen, &mut out, failed), || CliError::Interrupted {
        message: "Nothing was exported.".to_owned(),
        hint: String::new(),
    });
    let how_many = how_many.await?;
    drop(out);
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    if screen.json {
        let report = serde_json::json!({ "memories": how_many, "out": path });
        return screen.print_json(&serde_json::value::to_raw_value(&report).expect("plain JSON"));
    }
    screen.note(&format!("{} written to {}", count(how_many, "memory", "memories"), path.display()));
    Ok(())
}

/// Writes a Markdown vault. Places are found for all memories before the first is written, so that links between
/// them can name files; the lines wait in a temporary file meanwhile, however many there are.
async fn to_vault(client: &Client, screen: &Screen, folder: &Path) -> Result<(), CliError> {
    let temporary = |error| CliError::file("a temporary file", error);
    let mut spool = tempfile::tempfile().map_err(temporary)?;
    let how_many = memories(client, screen, &mut BufWriter::new(&mut spool), temporary).await?;
    let mut heads = Vec::new();
    each(&mut spool, |memory| {
        heads.push(ExportHead { id: memory.id, kind: memory.kind, title: memory.title });
        Ok(())
    })?;
    let mut vault = MarkdownExport::begin(folder, heads).map_err(refused)?;
    let progress = Progress::new(screen, "Writing");
    let mut done = 0;
    each(&mut spool, |memory| {
        vault.write(&memory).map_err(refused)?;
        done += 1;
        progress.at(done, how_many, "");
        Ok(())
    })?;
    let report = vault.finish().map_err(refused)?;
    drop(progress);
    if screen.json {
        let report = serde_json::value::to_raw_value(&report).expect("plain numbers");
        return screen.print_json(&report);
    }
    let removed = match report.removed {
        0 => String::new(),
        removed => format!(", {} of an earlier export removed", count(removed as u64, "file", "files")),
    };
    screen.note(&format!("{} written to {}{removed}", count(how_many, "memory", "memories"), folder.display()));
    Ok(())
}

/// Copies the node's export, one memory a line, and counts them.
async fn memories(
    client: &Client,
    screen: &Screen,
    out: &mut impl Write,
    failed: impl Fn(io::Error) -> CliError,
) -> Result<u64, CliError> {
    let mut lines = client.get(&["export"]).lines().await?;
    let progress = Progress::new(screen, "Reading");
    let mut how_many = 0;
    while let Some(line) = lines.next().await {
        let line = line?;
        if let Ok(Broken { error }) = serde_json::from_slice(&line) {
            return Err(CliError::Failed {
                message: format!("the export broke off after {how_many} memories: {error}"),
                hint: "`cairn status` shows how the node is; then export again".to_owned(),
            });
        }
        out.write_all(&line).and_then(|()| out.write_all(b"\n")).map_err(&failed)?;
        how_many += 1;
        progress.at(how_many, how_many, "memories");
    }
    out.flush().map_err(&failed)?;
    Ok(how_many)
}

fn each(spool: &mut File, mut visit: impl FnMut(ExportedMemory) -> Result<(), CliError>) -> Result<(), CliError> {
    let temporary = |error| CliError::file("a temporary file", error);
    spool.rewind().map_err(temporary)?;
    for line in BufReader::new(spool).lines() {
        let memory = serde_json::from_str(&line.map_err(temporary)?)
            .map_err(|error| CliError::Protocol { url: "/export".to_owned(), reason: error.to_string() })?;
        visit(memory)?;
    }
    Ok(())
}

fn refused(error: ExportError) -> CliError {
    match error {
        ExportError::Io { path, source } => CliError::file(path.display().to_string(), source),
        ExportError::NotEmpty(_) | ExportError::InTheWay(_) => {
            CliError::usage(error.to_string(), "an export writes into a folder of its own")
        }
        ExportError::Unannounced(_) => {
            CliError::Failed { message: error.to_string(), hint: "export again".to_owned() }
        }
    }
}
