//! `cairn forget`, `cairn erase` and `cairn restore`

use serde::Deserialize;
use serde_json::json;

use crate::cli::args::{EraseArgs, ForgetArgs, RestoreArgs};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::model::{Memory, Outcome, Written};
use crate::cli::reference::{self, Prefer};
use crate::cli::screen::Screen;
use crate::cli::view::text::{line, short_id, title};

use super::write::written;

/// Puts memories away, or destroys them for good.
///
/// # Errors
/// When there is no such memory, the answer is no, or the node cannot be asked.
pub async fn forget(client: &Client, screen: &Screen, args: &ForgetArgs) -> Result<(), CliError> {
    if args.erase {
        let (memories, yes) = (args.memories.clone(), args.yes);
        return erase(client, screen, &EraseArgs { memories, everywhere: false, yes }).await;
    }
    let mut put_away = false;
    for id in &ids(client, &args.memories).await? {
        let answer = client.delete(&["memories", id]).send().await?;
        put_away |= answer.read::<Written>()?.outcome == Outcome::Applied;
        written(client, screen, &answer, "put away").await?;
    }
    if put_away {
        screen.note("`cairn restore` brings it back; `cairn list --archived only` shows what was put away.");
    }
    Ok(())
}

/// Destroys memories for good: here, or also where they are shared.
///
/// # Errors
/// When there is no such memory, it is not shared or others', the answer is no, or the node cannot be asked.
pub async fn erase(client: &Client, screen: &Screen, args: &EraseArgs) -> Result<(), CliError> {
    for id in &ids(client, &args.memories).await? {
        let memory: Memory = client.get(&["memories", id]).send().await?.read()?;
        if !args.yes {
            confirm_erasing(screen, id, &memory, args.everywhere)?;
        }
        if args.everywhere {
            let answer = client.post(&["sharing", "erasures"]).json(json!({ "memory": id })).send().await?;
            screen.answer(&answer, |erased: &Everywhere| everywhere(screen, &memory, erased))?;
        } else {
            let answer = client.delete(&["memories", id]).query("erase", "true").send().await?;
            written(client, screen, &answer, "erased").await?;
        }
    }
    Ok(())
}

/// All names are looked up before anything is done: a mistake in the last one leaves the others alone.
async fn ids(client: &Client, names: &[String]) -> Result<Vec<String>, CliError> {
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        ids.push(reference::memory(client, name).await?);
    }
    Ok(ids)
}

#[derive(Debug, Deserialize)]
struct Everywhere {
    memory: String,
    space: Named,
    erasure: Option<Erasure>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Erasure {
    members: Vec<Asked>,
}

#[derive(Debug, Deserialize)]
struct Asked {
    blocked: bool,
}

fn everywhere(screen: &Screen, memory: &Memory, erased: &Everywhere) -> String {
    if screen.quiet {
        return erased.memory.clone();
    }
    let (title, space) = (title(&memory.title), line(&erased.space.name));
    let told = match &erased.erasure {
        Some(Erasure { members }) => {
            let blocked = members.iter().filter(|asked| asked.blocked).count();
            let blocked = match blocked {
                0 => String::new(),
                blocked => format!(", {blocked} of whom are blocked and hear nothing"),
            };
            let all = members.len();
            format!("{all} who have {space} are told{blocked}; `cairn receipts` shows who knows")
        }
        None => format!("the owner of {space} is asked to have it destroyed by all others"),
    };
    format!("{}  {title}  {}; {told}", screen.paint.good("erased"), screen.paint.dim(short_id(&erased.memory)))
}

/// Asks for the title, so that nobody destroys the wrong memory by a habit of pressing y.
fn confirm_erasing(screen: &Screen, id: &str, memory: &Memory, everywhere: bool) -> Result<(), CliError> {
    let name = title(&memory.title);
    let wanted = if memory.title.trim().is_empty() { short_id(id).to_owned() } else { name.clone() };
    let whose = if everywhere { ", with everybody who has it" } else { "" };
    let question =
        format!("This destroys `{name}` for good{whose}; nothing brings it back.\nType {wanted} to go on:");
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
