//! `cairn suggestions`, `accept`, `reject` and `conflicts`

use serde_json::{Value as Json, json};

use crate::cli::args::{AcceptArgs, RejectArgs, SuggestionsArgs};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::fields::typed;
use crate::cli::model::{Conflict, Suggestion};
use crate::cli::screen::Screen;
use crate::cli::view::text::count;
use crate::cli::{reference, view};

use super::write::{read_stdin, written};

/// Lists suggestions that wait for a decision.
///
/// # Errors
/// When the node cannot be asked.
pub async fn suggestions(client: &Client, screen: &Screen, args: &SuggestionsArgs) -> Result<(), CliError> {
    let memory = match &args.memory {
        Some(name) => Some(reference::memory(client, name).await?),
        None => None,
    };
    let request = client.get(&["suggestions"]).maybe("memory", memory);
    let page = request.pages(args.page.limit as usize, args.page.cursor.as_deref()).await?;
    screen.list(&page, "No suggestions wait.", |suggestions: &[Suggestion]| {
        if screen.quiet {
            return suggestions.iter().map(|suggestion| format!("{}\n", suggestion.id)).collect();
        }
        view::review::suggestions(screen, suggestions)
    })?;
    if !page.items.is_empty() && screen.terminal {
        screen.note("`cairn accept ID` makes one your own, `cairn reject ID` turns it down for good.");
    }
    Ok(())
}

/// Accepts suggestions, or one side of a conflict.
///
/// # Errors
/// When nothing like that waits, the token is not the owner's, or the node cannot be asked.
pub async fn accept(client: &Client, screen: &Screen, args: &AcceptArgs) -> Result<(), CliError> {
    let ids = chosen(client, screen, &args.ids, args.all, args.yes, "Accept").await?;
    if args.edit.is_some() && ids.len() != 1 {
        return Err(CliError::usage("one value cannot be that of several suggestions", "accept them one by one"));
    }
    for id in &ids {
        let request = match &args.edit {
            Some(value) => json!({ "value": edited(client, id, value).await? }),
            None => json!({}),
        };
        let answer = client.post(&["suggestions", id, "accept"]).json(request).send().await?;
        written(client, screen, &answer, "accepted").await?;
    }
    Ok(())
}

/// The value to accept instead, of the type that the suggestion's field has.
async fn edited(client: &Client, id: &str, value: &str) -> Result<Json, CliError> {
    let text = if value == "-" { read_stdin()? } else { value.to_owned() };
    let suggestion = client.get(&["suggestions", id]).send().await.and_then(|answer| answer.read::<Suggestion>());
    let field = suggestion.map(|suggestion| suggestion.field).unwrap_or_default();
    if field == "body" {
        return Ok(text.into());
    }
    typed(&field, text.trim_end_matches('\n'))
        .map_err(|error| CliError::usage(error.to_string(), "`cairn suggestions` shows what was suggested"))
}

/// Turns suggestions down, for good.
///
/// # Errors
/// When nothing like that waits, the token is not the owner's, or the node cannot be asked.
pub async fn reject(client: &Client, screen: &Screen, args: &RejectArgs) -> Result<(), CliError> {
    for id in &chosen(client, screen, &args.ids, args.all, args.yes, "Reject").await? {
        let answer = client.post(&["suggestions", id, "reject"]).json(json!({})).send().await?;
        written(client, screen, &answer, "rejected").await?;
    }
    Ok(())
}

/// The suggestions to decide on: those named, or all that wait.
async fn chosen(
    client: &Client,
    screen: &Screen,
    names: &[String],
    all: bool,
    yes: bool,
    verb: &str,
) -> Result<Vec<String>, CliError> {
    if !all {
        let mut ids = Vec::new();
        for name in names {
            ids.push(reference::suggestion(client, name).await?);
        }
        return Ok(ids);
    }
    let waiting: Vec<Suggestion> = client.get(&["suggestions"]).pages(usize::MAX, None).await?.read()?;
    if waiting.is_empty() {
        screen.note("No suggestions wait.");
    } else if !yes {
        let how_many = count(waiting.len() as u64, "suggestion", "suggestions");
        screen.confirm(&format!("{verb} {how_many}?"))?;
    }
    // The oldest first, as they were made.
    Ok(waiting.into_iter().rev().map(|suggestion| suggestion.id).collect())
}

/// Lists fields on which equally true values disagree.
///
/// # Errors
/// When the node cannot be asked.
pub async fn conflicts(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let page = client.get(&["conflicts"]).pages(usize::MAX, None).await?;
    screen.list(&page, "There are no conflicts.", |conflicts: &[Conflict]| {
        if screen.quiet {
            return conflicts.iter().map(|conflict| format!("{}\n", conflict.memory)).collect();
        }
        view::review::conflicts(screen, conflicts)
    })?;
    if !page.items.is_empty() && screen.terminal {
        screen.note("`cairn accept ID` of a side settles it.");
    }
    Ok(())
}
