//! `cairn status` and `cairn verify`

use std::path::Path;
use std::time::Duration;

use cairn_event_store::SqliteStore;
use futures::StreamExt;
use serde::Deserialize;

use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::model::Status;
use crate::cli::progress::Progress;
use crate::cli::screen::Screen;
use crate::cli::view;
use crate::cli::view::text::{count, number};
use crate::data_folder::{EVENTS, KURRENTDB_COPY};

/// How often the progress of a check without a node is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A line of a verification: how far it is, or its verdict.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    checked: u64,
    #[serde(default)]
    events: u64,
    #[serde(default)]
    ok: Option<bool>,
    #[serde(default)]
    signed_events: u64,
    #[serde(default)]
    signed_late: u64,
    #[serde(default)]
    error: Option<String>,
}

/// Shows how the node is doing.
///
/// # Errors
/// When the node cannot be asked.
pub async fn status(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let answer = client.get(&["status"]).send().await?;
    screen.answer(&answer, |status: &Status| view::node::status(screen, status))
}

/// Checks the log of a node that does not run: what can be told from the file without its keys.
///
/// # Errors
/// When the log is damaged or cannot be read.
pub async fn verify_files(screen: &Screen, folder: &Path) -> Result<(), CliError> {
    let (log, copy) = (folder.join(EVENTS), folder.join(KURRENTDB_COPY));
    let path = match (log.exists(), copy.exists()) {
        (true, _) => {
            screen.note("No node is running: the file of the log is checked, its signatures are not.");
            log
        }
        (false, true) => {
            screen.note(
                "No node is running: the copy of the log is checked, neither its signatures nor KurrentDB is.",
            );
            copy
        }
        (false, false) => return Err(CliError::NoNode { folder: folder.to_owned() }),
    };
    let progress = Progress::new(screen, "Verifying");
    let failed = |message: String| CliError::Failed {
        message,
        hint: "restore the data folder from a backup, or start the node if it only was stopped".to_owned(),
    };
    let file = path.clone();
    let (told, seen) = std::sync::mpsc::channel();
    let verifying = tokio::task::spawn_blocking(move || {
        // Whoever waits for the verdict may have stopped waiting for progress.
        SqliteStore::verify_file(&file, |at| {
            let _ = told.send((at.events, at.total));
        })
    });
    while !verifying.is_finished() {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some((events, total)) = seen.try_iter().last() {
            progress.at(events, total, "events");
        }
    }
    drop(progress);
    let verified = verifying.await.map_err(|error| failed(error.to_string()))?;
    let verified = verified.map_err(|error| failed(format!("{} cannot be checked: {error}", path.display())))?;
    if screen.json {
        let first_bad = verified.damage.as_ref().and_then(|damage| damage.position).map(|position| position.0);
        let error = verified.damage.as_ref().map(|damage| &damage.reason);
        let line = serde_json::json!({
            "ok": error.is_none(), "events": verified.events, "first_bad": first_bad, "error": error,
        });
        screen.print(&line.to_string())?;
    }
    match verified.damage {
        Some(damage) => Err(failed(format!("the log is damaged: {}", damage.reason))),
        None if screen.json || screen.quiet => Ok(()),
        None => {
            let checked = count(verified.events, "event is as it was written", "events are as they were written");
            screen.print(&format!("{}  {checked}", screen.paint.good("ok")))
        }
    }
}

/// Checks the whole log.
///
/// # Errors
/// When the log is damaged, or the node cannot be asked.
pub async fn verify(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let mut lines = client.post(&["verify"]).lines().await?;
    let progress = Progress::new(screen, "Verifying");
    let mut verdict = None;
    while let Some(line) = lines.next().await {
        let text = line?;
        let line: Line = serde_json::from_slice(&text)
            .map_err(|error| CliError::Protocol { url: "/verify".to_owned(), reason: error.to_string() })?;
        if screen.json {
            screen.print(&String::from_utf8_lossy(&text))?;
        }
        progress.at(line.checked, line.events, "events");
        if line.ok.is_some() {
            verdict = Some(line);
        }
    }
    drop(progress);
    match verdict {
        Some(Line { ok: Some(true), .. }) if screen.json || screen.quiet => Ok(()),
        Some(Line { ok: Some(true), events, signed_events, signed_late, .. }) => {
            let checked = count(events, "event is as it was written", "events are as they were written");
            let ok = screen.paint.good("ok");
            let late = match signed_late {
                0 => String::new(),
                late => format!(" ({} only later than a minute after they were written)", number(late)),
            };
            screen.print(&format!("{ok}  {checked}, {} of them signed{late}", number(signed_events)))
        }
        Some(line) => Err(CliError::Failed {
            message: format!("the log is damaged: {}", line.error.unwrap_or_default()),
            hint: "stop the node and restore the data folder from a backup".to_owned(),
        }),
        None => Err(CliError::Protocol { url: "/verify".to_owned(), reason: "there was no verdict".to_owned() }),
    }
}
