//! `cairn show`

use crate::cli::args::ShowArgs;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::model::Memory;
use crate::cli::reference::{self, Prefer};
use crate::cli::screen::Screen;
use crate::cli::view;

/// Shows a memory, now or as it was.
///
/// # Errors
/// When there is no such memory, or the node cannot be asked.
pub async fn run(client: &Client, screen: &Screen, args: &ShowArgs) -> Result<(), CliError> {
    let id = reference::memory_preferring(client, &args.memory, Prefer::Present).await?;
    let as_of = args.as_of.map(|moment| moment.to_point(screen.now));
    let answer = client.get(&["memories", &id]).maybe("as_of", as_of).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let memory: Memory = answer.read()?;
    match (args.body, screen.quiet) {
        (true, _) => screen.print(&memory.body),
        (false, true) => screen.print(&memory.id),
        (false, false) => screen.print(&view::memory::one(screen, &memory)),
    }
}
