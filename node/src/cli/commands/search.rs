//! `cairn search`

use crate::cli::args::SearchArgs;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::model::Found;
use crate::cli::moment::DayEnd;
use crate::cli::screen::Screen;
use crate::cli::{reference, view};

use super::list::{joined, time};

/// Finds memories by meaning and by words.
///
/// # Errors
/// When the node cannot be asked.
pub async fn run(client: &Client, screen: &Screen, args: &SearchArgs) -> Result<(), CliError> {
    let mut request = client
        .get(&["search"])
        .query("q", args.words.join(" "))
        .query("limit", args.limit.to_string())
        .maybe("kind", joined(args.kind.iter().map(|kind| kind.name())))
        .maybe("tag", joined(args.tag.iter().map(String::as_str)))
        .maybe("truth", args.truth.map(|truth| truth.name()))
        .maybe("updated_after", time(args.updated_after, DayEnd::Start, screen)?)
        .maybe("updated_before", time(args.updated_before, DayEnd::End, screen)?);
    if let Some(name) = &args.linked_to {
        request = request.query("linked_to", reference::memory(client, name).await?);
    }
    let answer = request.send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let found: Found = answer.read()?;
    if screen.quiet {
        return screen.print(&found.hits.iter().map(|hit| format!("{}\n", hit.memory)).collect::<String>());
    }
    if let Some(reason) = &found.degraded {
        screen.note(&format!("Only words were compared, not meaning: {reason}"));
    }
    if found.hits.is_empty() {
        screen.note("Nothing was found.");
    }
    screen.print(&view::search::found(screen, &found))
}
