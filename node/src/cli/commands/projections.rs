//! `cairn projections`

use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::cli::args::{ProjectionsCommand, RebuildArgs};
use crate::cli::client::{Client, RawPage};
use crate::cli::error::{Candidate, CliError};
use crate::cli::model::Projection;
use crate::cli::progress::{POLL_EVERY, Progress, until_interrupted};
use crate::cli::screen::Screen;
use crate::cli::view;
use crate::cli::view::text::{duration, number};

/// Whether a read model is what a fresh fold of the log gives.
#[derive(Deserialize)]
struct Verified {
    ok: bool,
    position: u64,
}

/// Where a read model stands.
#[derive(Deserialize)]
struct Standing {
    position: u64,
}

/// Looks after the read models.
///
/// # Errors
/// When there is no such read model, the token in use is not the owner's, or the node cannot be asked.
pub async fn run(client: &Client, screen: &Screen, command: Option<ProjectionsCommand>) -> Result<(), CliError> {
    match command.unwrap_or(ProjectionsCommand::List) {
        ProjectionsCommand::List => list(client, screen).await,
        ProjectionsCommand::Rebuild(args) => rebuild(client, screen, &args).await,
        ProjectionsCommand::Cancel(args) => cancel(client, screen, &args.name).await,
        ProjectionsCommand::Back(args) => back(client, screen, &args.name).await,
        ProjectionsCommand::DropPrevious(args) => drop_previous(client, screen, &args.name).await,
        ProjectionsCommand::Pause(args) => pause(client, screen, &args.name).await,
        ProjectionsCommand::Resume(args) => resume(client, screen, &args.name).await,
        ProjectionsCommand::Verify(args) => verify(client, screen, &args.name).await,
    }
}

async fn list(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let page: RawPage = client.get(&["projections"]).send().await?.read()?;
    screen.list(&page, "There are no read models.", |projections: &[Projection]| {
        if screen.quiet {
            return projections.iter().map(|projection| format!("{}\n", projection.name)).collect();
        }
        view::node::projections(screen, projections)
    })
}

async fn rebuild(client: &Client, screen: &Screen, args: &RebuildArgs) -> Result<(), CliError> {
    let name = args.name.as_str();
    let request = json!({ "from_scratch": args.from_scratch, "verify": args.verify, "parallel": args.parallel });
    client.post(&["projections", name, "rebuild"]).json(request).send().await?;
    let result =
        until_interrupted(built(client, screen, name, "Rebuilding"), || interrupted(name, args.cancel)).await;
    if args.cancel && matches!(result, Err(CliError::Interrupted { .. })) {
        client.delete(&["projections", name, "rebuild"]).send().await?;
    }
    let (done, raw) = result?;
    if screen.json {
        return screen.print_json(&raw);
    }
    let (generation, position) = (done.generation.unwrap_or_default(), number(done.position));
    screen.note(&format!("{name} is rebuilt: build {generation} serves, at position {position}."));
    Ok(())
}

/// Waits until the new build serves.
async fn built(
    client: &Client,
    screen: &Screen,
    name: &str,
    what: &str,
) -> Result<(Projection, Box<serde_json::value::RawValue>), CliError> {
    let progress = Progress::new(screen, what);
    loop {
        let page: RawPage = client.get(&["projections"]).send().await?.read()?;
        let projections: Vec<Projection> = page.read()?;
        let found = projections.into_iter().zip(page.items).find(|(projection, _)| projection.name == name);
        let Some((projection, raw)) = found else {
            return Err(CliError::NotFound {
                what: "read model",
                name: name.to_owned(),
                near: Vec::<Candidate>::new(),
            });
        };
        let Some(build) = projection.building() else {
            return finished(name, projection, raw);
        };
        let left = build.eta_seconds.map(|left| format!("  {} left", duration(left))).unwrap_or_default();
        let doing = match (projection.state.as_str(), build.phase.as_str()) {
            ("paused", _) => "  paused",
            (_, "verifying") => "  verifying",
            _ => "",
        };
        let speed = number(build.events_per_second as u64);
        progress.at(build.position, build.target, &format!("{speed}/s{left}{doing}"));
        sleep(POLL_EVERY).await;
    }
}

fn finished(
    name: &str,
    projection: Projection,
    raw: Box<serde_json::value::RawValue>,
) -> Result<(Projection, Box<serde_json::value::RawValue>), CliError> {
    let build = projection.rebuild.as_ref();
    match build.map(|build| build.phase.as_str()) {
        Some("failed") => Err(CliError::Failed {
            message: format!(
                "the rebuild of {name} failed: {}",
                build.and_then(|build| build.problem.as_deref()).unwrap_or("the node's log says why")
            ),
            hint: "the build that served before still does".to_owned(),
        }),
        Some("stopped") => Err(CliError::Failed {
            message: format!("the rebuild of {name} was cancelled"),
            hint: format!("`cairn projections rebuild {name}` goes on with it"),
        }),
        _ => Ok((projection, raw)),
    }
}

fn interrupted(name: &str, cancel: bool) -> CliError {
    if cancel {
        return CliError::Interrupted {
            message: format!("The rebuild of {name} is cancelled."),
            hint: format!("`cairn projections rebuild {name}` goes on with it"),
        };
    }
    CliError::Interrupted {
        message: format!("The rebuild of {name} goes on in the node."),
        hint: format!("`cairn projections` shows how far it is, `cairn projections cancel {name}` ends it"),
    }
}

async fn cancel(client: &Client, screen: &Screen, name: &str) -> Result<(), CliError> {
    let answer = client.delete(&["projections", name, "rebuild"]).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    screen
        .note(&format!("The rebuild of {name} is cancelled; `cairn projections rebuild {name}` goes on with it."));
    Ok(())
}

async fn back(client: &Client, screen: &Screen, name: &str) -> Result<(), CliError> {
    client.post(&["projections", name, "back"]).json(json!({})).send().await?;
    let interrupted = || CliError::Interrupted {
        message: format!("The build before of {name} goes on catching up in the node, and serves then."),
        hint: format!("`cairn projections cancel {name}` leaves it as it was"),
    };
    let (done, raw) = until_interrupted(built(client, screen, name, "Catching up"), interrupted).await?;
    if screen.json {
        return screen.print_json(&raw);
    }
    let (generation, position) = (done.generation.unwrap_or_default(), number(done.position));
    screen.note(&format!("{name} is back on build {generation}, at position {position}."));
    Ok(())
}

async fn drop_previous(client: &Client, screen: &Screen, name: &str) -> Result<(), CliError> {
    let answer = client.delete(&["projections", name, "previous"]).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    screen.note(&format!("The build of {name} before the one that serves is deleted."));
    Ok(())
}

async fn pause(client: &Client, screen: &Screen, name: &str) -> Result<(), CliError> {
    let answer = client.post(&["projections", name, "pause"]).json(json!({})).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let Standing { position } = answer.read()?;
    let position = number(position);
    screen.note(&format!(
        "{name} stands still at position {position}, also after a restart, until `cairn projections resume {name}`."
    ));
    Ok(())
}

async fn resume(client: &Client, screen: &Screen, name: &str) -> Result<(), CliError> {
    let answer = client.post(&["projections", name, "resume"]).json(json!({})).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let Standing { position } = answer.read()?;
    screen.note(&format!("{name} goes on from position {}.", number(position)));
    Ok(())
}

async fn verify(client: &Client, screen: &Screen, name: &str) -> Result<(), CliError> {
    let answer = client.post(&["projections", name, "verify"]).json(json!({})).without_limit().send().await?;
    let verified: Verified = answer.read()?;
    if screen.json {
        screen.print_json(&answer.data)?;
    }
    let position = number(verified.position);
    if !verified.ok {
        return Err(CliError::Failed {
            message: format!("{name} is not what the log gives at position {position}"),
            hint: format!("`cairn projections rebuild {name} --from-scratch` makes it anew"),
        });
    }
    if screen.json {
        return Ok(());
    }
    screen.print(&format!("{}  {name} is what the log gives at position {position}", screen.paint.good("ok")))
}
