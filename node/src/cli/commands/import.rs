//! `cairn import`

use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::cli::args::ImportArgs;
use crate::cli::client::{Answer, Client};
use crate::cli::error::CliError;
use crate::cli::model::ImportReport;
use crate::cli::progress::{POLL_EVERY, Progress, until_interrupted};
use crate::cli::screen::Screen;
use crate::cli::view;

#[derive(Deserialize)]
struct Started {
    id: String,
}

/// Has the node import a folder, and waits until it is done.
///
/// # Errors
/// When the folder cannot be imported, or the node cannot be asked.
pub async fn run(client: &Client, screen: &Screen, args: &ImportArgs) -> Result<(), CliError> {
    // The node reads the folder itself, and its working folder is another one.
    let path =
        std::path::absolute(&args.path).map_err(|error| CliError::file(args.path.display().to_string(), error))?;
    let path = path.canonicalize().unwrap_or(path);
    let path = path.to_str().ok_or_else(|| {
        CliError::usage(format!("{} has a name that is not UTF-8", path.display()), "rename the folder")
    })?;
    let request = json!({ "path": path, "prune": args.prune, "dry_run": args.dry_run });
    let started: Started = client.post(&["imports"]).json(request).send().await?.read()?;
    let answer = until_interrupted(finished(client, screen, &started.id), || interrupted(&started.id)).await?;
    let report: ImportReport = answer.read()?;
    // What comes next should see what was imported.
    let position = report.position.to_string();
    let _ = client.get(&["memories"]).query("limit", "1").query("min_position", position).send().await;
    if screen.json {
        screen.print_json(&answer.data)?;
    } else if screen.quiet {
        screen.print(&started.id)?;
    } else if report.state != "failed" {
        screen.print(&view::node::import(screen, &report))?;
    }
    match report.error {
        Some(message) => Err(CliError::Failed {
            message: format!("the import failed: {message}"),
            hint: "what went in stays; import again to go on".to_owned(),
        }),
        None => Ok(()),
    }
}

async fn finished(client: &Client, screen: &Screen, id: &str) -> Result<Answer, CliError> {
    let progress = Progress::new(screen, "Reading");
    loop {
        let answer = client.get(&["imports", id]).send().await?;
        let report: ImportReport = answer.read()?;
        match report.state.as_str() {
            "done" | "failed" => return Ok(answer),
            "writing" => progress.doing("Writing"),
            _ => {}
        }
        progress.at(report.done, report.total, "");
        sleep(POLL_EVERY).await;
    }
}

fn interrupted(id: &str) -> CliError {
    CliError::Interrupted {
        message: format!("The import {id} goes on in the node."),
        hint: "`cairn timeline` shows what has gone in, `cairn status` how many memories there are".to_owned(),
    }
}
