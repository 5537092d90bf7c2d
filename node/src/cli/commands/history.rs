//! `cairn history`, `cairn diff` and `cairn timeline`

use crate::cli::args::{DiffArgs, HistoryArgs, TimelineArgs};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::model::{Diff, Entry, FieldHistory, Memory};
use crate::cli::moment::DayEnd;
use crate::cli::screen::Screen;
use crate::cli::view::text::title;
use crate::cli::{reference, view};

use super::list::time;

/// Shows what happened to a memory, or where a field's value came from.
///
/// # Errors
/// When there is no such memory or field, or the node cannot be asked.
pub async fn history(client: &Client, screen: &Screen, args: &HistoryArgs) -> Result<(), CliError> {
    let id = reference::memory(client, &args.memory).await?;
    if let Some(field) = &args.field {
        let field = field.strip_prefix('#').map_or_else(|| field.clone(), |tag| format!("tag/{tag}"));
        let answer = client.get(&["memories", &id, "fields", &field]).send().await?;
        return screen.answer(&answer, |history: &FieldHistory| view::history::of_field(screen, history));
    }
    let request = client.get(&["memories", &id, "history"]);
    let page = request.pages(args.page.limit as usize, args.page.cursor.as_deref()).await?;
    screen.list(&page, "Nothing happened to it.", |entries: &[Entry]| {
        if screen.quiet { commands(entries) } else { view::history::of_memory(screen, entries) }
    })
}

/// The ids of the commands, each once.
fn commands(entries: &[Entry]) -> String {
    let mut commands: Vec<&str> = entries.iter().map(|entry| entry.command.as_str()).collect();
    commands.dedup();
    commands.iter().map(|command| format!("{command}\n")).collect()
}

/// Shows how a memory changed between two points.
///
/// # Errors
/// When there is no such memory or point, or the node cannot be asked.
pub async fn diff(client: &Client, screen: &Screen, args: &DiffArgs) -> Result<(), CliError> {
    let id = reference::memory(client, &args.memory).await?;
    let point = |moment: Option<crate::cli::moment::Moment>| moment.map(|moment| moment.to_diff_point(screen.now));
    let request = client.get(&["memories", &id, "diff"]);
    let answer = request.maybe("from", point(args.from)).maybe("to", point(args.to)).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let diff: Diff = answer.read()?;
    let memory = client.get(&["memories", &id]).send().await.and_then(|answer| answer.read::<Memory>());
    let name = memory.map_or_else(|_| id.clone(), |memory| title(&memory.title));
    screen.print(&view::diff::between(screen, &name, &diff))
}

/// Shows what happened, the latest first.
///
/// # Errors
/// When the node cannot be asked.
pub async fn timeline(client: &Client, screen: &Screen, args: &TimelineArgs) -> Result<(), CliError> {
    let request = client
        .get(&["timeline"])
        .maybe("from", time(args.from, DayEnd::Start, screen)?)
        .maybe("to", time(args.to, DayEnd::End, screen)?)
        .maybe("principal", args.principal.as_deref())
        .maybe("truth", args.truth.map(|truth| truth.name()));
    let page = request.pages(args.page.limit as usize, args.page.cursor.as_deref()).await?;
    screen.list(&page, "Nothing happened.", |entries: &[Entry]| {
        if screen.quiet {
            return entries.iter().map(|entry| format!("{}\n", entry.memory)).collect();
        }
        view::history::of_all(screen, entries)
    })
}
