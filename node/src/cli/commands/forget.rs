//! `cairn forget` and `cairn restore`

use crate::cli::args::{ForgetArgs, RestoreArgs};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::model::{Memory, Outcome, Written};
use crate::cli::reference::{self, Prefer};
use crate::cli::screen::Screen;
use crate::cli::view::text::{short_id, title};

use super::write::written;

/// Puts memories away, or destroys them for good.
///
/// # Errors
/// When there is no such memory, the answer is no, or the node cannot be asked.
pub async fn forget(client: &Client, screen: &Screen, args: &ForgetArgs) -> Result<(), CliError> {
    // All names are looked up first: a mistake in the last one leaves the others alone.
    let mut ids = Vec::new();
    for name in &args.memories {
        ids.push(reference::memory(client, name).await?);
    }
    let mut put_away = false;
    for id in &ids {
        if args.erase && !args.yes {
            confirm_erasing(client, screen, id).await?;
        }
        let request = client.delete(&["memories", id]);
        let answer =
            if args.erase { request.query("erase", "true").send().await? } else { request.send().await? };
        put_away |= answer.read::<Written>()?.outcome == Outcome::Applied;
        written(client, screen, &answer, if args.erase { "erased" } else { "put away" }).await?;
    }
    if put_away && !args.erase {
        screen.note("`cairn restore` brings it back; `cairn list --archived only` shows what was put away.");
    }
    Ok(())
}

/// Asks for the title, so that nobody destroys the wrong memory by a habit of pressing y.
async fn confirm_erasing(client: &Client, screen: &Screen, id: &str) -> Result<(), CliError> {
    let memory: Memory = client.get(&["memories", id]).send().await?.read()?;
    let name = title(&memory.title);
    let wanted = if memory.title.trim().is_empty() { short_id(id).to_owned() } else { name.clone() };
    let question = format!("This destroys `{name}` for good; nothing brings it back.\nType {wanted} to go on:");
    let typed = screen.ask(&question, "add --yes to destroy without being asked")?;
    if typed == wanted {
        return Ok(());
    }
    Err(CliError::Interrupted { message: "Nothing was destroyed.".to_owned(), hint: String::new() })
}

/// Brings memories back that were put away.
///
/// # Errors
/// When there is no such memory, or the node cannot be asked.
pub async fn restore(client: &Client, screen: &Screen, args: &RestoreArgs) -> Result<(), CliError> {
    for name in &args.memories {
        let id = reference::memory_preferring(client, name, Prefer::PutAway).await?;
        let answer = client.post(&["memories", &id, "restore"]).send().await?;
        written(client, screen, &answer, "restored").await?;
    }
    Ok(())
}
