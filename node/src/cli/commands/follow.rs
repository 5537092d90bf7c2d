//! `cairn follow invite`, `cairn follow status`, `cairn follow forget`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cairn_follower::{Folder, Kept, PrimaryView, Role, StandbyStatus, Synchrony, kept_aside};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::args::{FollowCommand, FollowInviteArgs, Global};
use crate::cli::client::Client;
use crate::cli::error::{Candidate, CliError};
use crate::cli::screen::Screen;
use crate::cli::view::text::{line, number};
use crate::config::default_data_folder;

/// When a standby has not written for so long, in milliseconds, it does not run.
const SILENT_MS: u64 = 3_000;
/// How many digits of a key are shown to people.
const SHORT: usize = 12;

/// What is known here of being followed or following.
#[derive(Serialize)]
struct Local {
    role: &'static str,
    epoch: u64,
    /// Whether `cairn follow` is at work.
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    standby: Option<StandbyStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<String>,
    kept_aside: Vec<Kept>,
}

/// What a node answers.
#[derive(Deserialize)]
struct Asked {
    #[serde(flatten)]
    view: PrimaryView,
    #[serde(default)]
    standby: Option<StandbyStatus>,
}

#[derive(Deserialize)]
struct Invitation {
    link: String,
}

/// Carries the command out.
///
/// # Errors
/// When the node, or what the folder says, cannot be asked.
pub async fn run(global: &Global, command: FollowCommand) -> Result<(), CliError> {
    let screen = Screen::of(global);
    match command {
        FollowCommand::Invite(args) => invite(&Client::connect(global)?, &screen, &args).await,
        FollowCommand::Forget(args) => forget(&Client::connect(global)?, &screen, &args.follower).await,
        FollowCommand::Status => status(global, &screen).await,
        FollowCommand::Aside => aside_all(global, &screen),
    }
}

/// What is kept aside in the folder: looked up there, because it concerns that machine alone.
fn aside_all(global: &Global, screen: &Screen) -> Result<(), CliError> {
    let folder = folder(global)?;
    let kept = kept_aside(&Folder::of(&folder)).map_err(|error| unreadable(&folder, &error))?;
    if screen.json {
        let json = serde_json::value::to_raw_value(&kept).expect("plain fields");
        return screen.print_json(&json);
    }
    if kept.is_empty() {
        return screen.print("nothing is kept aside");
    }
    screen.print(&format!(
        "{}They are in plain text, an event a line. What is still wanted of them can be written again; delete a file when it is done with.",
        aside(&kept)
    ))
}

fn unreadable(folder: &Path, error: &cairn_follower::FollowError) -> CliError {
    let hint = format!("look at {}", folder.join("replication").display());
    CliError::Failed { message: error.to_string(), hint }
}

async fn invite(client: &Client, screen: &Screen, args: &FollowInviteArgs) -> Result<(), CliError> {
    let request = client.post(&["followers", "invitations"]).json(json!({ "minutes": args.minutes }));
    let answer = request.send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let Invitation { link } = answer.read()?;
    // The link alone goes to standard output, so that it can be caught in a variable.
    screen.print(&link)?;
    screen.note(&format!(
        "On the other machine: cairn --data <folder> follow <link>, within {} minutes. It works once, and gives the whole brain away: \
         pass it on over a channel you trust.",
        args.minutes
    ));
    Ok(())
}

async fn status(global: &Global, screen: &Screen) -> Result<(), CliError> {
    let folder = folder(global)?;
    let control = Folder::of(&folder);
    let local = local(&control).map_err(|error| unreadable(&folder, &error))?;
    match Client::connect(global) {
        Ok(client) => {
            let answer = client.get(&["followers"]).send().await?;
            let kept = local.kept_aside;
            screen.answer(&answer, |asked: &Asked| match &asked.standby {
                Some(standby) => standby_text(standby, true),
                None => format!("{}{}", primary(&asked.view), aside(&kept)),
            })
        }
        Err(CliError::NoNode { .. }) if control.is_used() => print_local(screen, &local),
        Err(error) => Err(error),
    }
}

fn folder(global: &Global) -> Result<PathBuf, CliError> {
    match &global.data {
        Some(data) => Ok(data.clone()),
        None => default_data_folder()
            .map_err(|error| CliError::usage(error.to_string(), "name the data folder with --data")),
    }
}

fn local(control: &Folder) -> Result<Local, cairn_follower::FollowError> {
    let state = control.state()?;
    let kept_aside = kept_aside(control)?;
    let bare =
        |role| Local { role, epoch: state.epoch, running: false, standby: None, replaced_by: None, kept_aside };
    Ok(match &state.role {
        Role::Primary(_) => bare("primary"),
        Role::Replaced(replaced) => Local { replaced_by: Some(replaced.by.clone()), ..bare("replaced") },
        Role::Standby(of) => {
            let status: StandbyStatus = control.status()?.unwrap_or_default();
            let now = Utc::now().timestamp_millis().unsigned_abs();
            let running = now.saturating_sub(status.at) < SILENT_MS;
            let connected = status.connected && running;
            let standby = StandbyStatus { primary: of.name.clone(), connected, whole: of.whole, ..status };
            Local { running, standby: Some(standby), ..bare("standby") }
        }
    })
}

fn print_local(screen: &Screen, local: &Local) -> Result<(), CliError> {
    if screen.json {
        let json = serde_json::value::to_raw_value(local).expect("plain fields");
        return screen.print_json(&json);
    }
    let mut text = String::new();
    match (&local.standby, &local.replaced_by) {
        (Some(standby), _) => text.push_str(&standby_text(standby, local.running)),
        (None, Some(by)) => text.push_str(&replaced_text(by, local.epoch)),
        (None, None) => text.push_str("primary, not running\n"),
    }
    text.push_str(&aside(&local.kept_aside));
    screen.print(&text)
}

fn standby_text(status: &StandbyStatus, running: bool) -> String {
    let mut text = format!("standby of {}, epoch {}\n", line(&status.primary), status.epoch);
    let state = match (running, status.connected) {
        (true, true) => "connected",
        (true, false) => "the primary is not there; it is called again and again",
        (false, _) => "not running; `cairn follow` goes on",
    };
    let _ = writeln!(text, "  {state}");
    let _ = writeln!(
        text,
        "  has {} of {} events, lag {} events, {} ms",
        number(status.has.position),
        number(status.primary_head),
        number(status.lag_events),
        number(status.lag_ms)
    );
    if !status.whole {
        text.push_str("  it has never had the whole log, and can stand in for nobody yet\n");
    }
    if let Some(problem) = &status.problem {
        let _ = writeln!(text, "  {}", line(problem));
    }
    text
}

fn replaced_text(by: &str, epoch: u64) -> String {
    format!(
        "replaced by {} (epoch {epoch}): takes no writes; `cairn follow <link>`, with a link made there, rejoins it as a follower\n",
        line(by)
    )
}

fn primary(view: &PrimaryView) -> String {
    let mut text = match &view.replaced_by {
        Some(by) => replaced_text(by, view.epoch),
        None => format!("primary, epoch {}, {} events\n", view.epoch, number(view.head)),
    };
    match view.synchrony {
        Synchrony::Asynchronous => {}
        Synchrony::Synchronous => text.push_str("  synchronous: what is acknowledged is on a follower's disk\n"),
        Synchrony::Alone { .. } => {
            text.push_str("  NOT synchronous now, because no follower is in step: what is acknowledged is on this disk alone\n");
        }
    }
    if view.followers.is_empty() {
        text.push_str("  no followers; `cairn follow invite` invites one\n");
    }
    for follower in &view.followers {
        let state = if follower.connected { "connected" } else { "away" };
        let _ = writeln!(
            text,
            "  {}  {}  {state}  has {}, lag {} events, {} ms",
            follower.key.get(..SHORT).unwrap_or(&follower.key),
            line(&follower.name),
            number(follower.position),
            number(follower.lag_events),
            number(follower.lag_ms)
        );
    }
    text
}

fn aside(kept: &[Kept]) -> String {
    let each = |kept: &Kept| {
        format!(
            "  kept aside: {} events after position {} that only this machine had, in {}\n",
            number(kept.events),
            number(kept.after),
            shown(&kept.file)
        )
    };
    kept.iter().map(each).collect()
}

fn shown(file: &Path) -> String {
    line(&file.display().to_string())
}

async fn forget(client: &Client, screen: &Screen, name: &str) -> Result<(), CliError> {
    let view: PrimaryView = client.get(&["followers"]).send().await?.read()?;
    let candidate = |f: &cairn_follower::FollowerView| Candidate { id: f.key.clone(), label: f.name.clone() };
    let fits: Vec<_> =
        view.followers.iter().filter(|follower| follower.name == name || follower.key.starts_with(name)).collect();
    let follower = match fits.as_slice() {
        [one] => one,
        [] => {
            let near = view.followers.iter().map(candidate).collect();
            return Err(CliError::NotFound { what: "follower", name: name.to_owned(), near });
        }
        several => {
            let candidates = several.iter().map(|follower| candidate(follower)).collect();
            return Err(CliError::Ambiguous { what: "follower", name: name.to_owned(), candidates });
        }
    };
    let answer = client.delete(&["followers", &follower.key]).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    screen.print(&format!("{} gets nothing more. It keeps what it has.", line(&follower.name)))
}
