//! The command line: everything but `up` and `bench` is a client of the running node over HTTP.
//!
//! [`Cli`] says what can be asked for; [`run`] asks the node for it and prints the answer. People get compact
//! coloured text, scripts get the API's own JSON with `--json`, pipes get neither colour nor progress.
//! What goes wrong is told on stderr with what to do next, and by the exit code ([`error::ExitCode`]).

pub mod args;
mod client;
mod commands;
pub mod error;
mod fields;
mod locate;
mod model;
mod moment;
mod progress;
mod reference;
mod screen;
mod sse;
#[cfg(test)]
mod tests;
mod view;

use std::io::Write;
use std::process::ExitCode;

use self::args::{ClientCommand, Global};
use self::client::Client;
use self::error::CliError;
use self::screen::Screen;

pub use self::args::{BenchArgs, Cli, Command, FollowArgs, PromoteArgs, UpArgs};
pub use self::commands::follow::run as follow;

/// Carries out a command against the running node and prints what it answers.
///
/// # Errors
/// See [`CliError`]; the caller hands it to [`report`].
pub async fn run(global: &Global, command: ClientCommand) -> Result<(), CliError> {
    let screen = Screen::of(global);
    if let ClientCommand::Completions(args) = &command {
        return commands::completions::run(&screen, args);
    }
    let client = match (Client::connect(global), &command) {
        // The log of a node that does not start can be verified all the same.
        (Err(CliError::NoNode { folder }), ClientCommand::Verify) => {
            return commands::status::verify_files(&screen, &folder).await;
        }
        (client, _) => client?,
    };
    let client = &client;
    let screen = &screen;
    match command {
        ClientCommand::Completions(_) => Ok(()),
        ClientCommand::Search(args) => commands::search::run(client, screen, &args).await,
        ClientCommand::Show(args) => commands::show::run(client, screen, &args).await,
        ClientCommand::List(args) => commands::list::run(client, screen, &args).await,
        ClientCommand::Tags(args) => commands::list::tags(client, screen, &args).await,
        ClientCommand::Timeline(args) => commands::history::timeline(client, screen, &args).await,
        ClientCommand::Add(args) => commands::write::add(client, screen, args).await,
        ClientCommand::Set(args) => commands::write::set_memory(client, screen, args).await,
        ClientCommand::Link(args) => commands::write::link(client, screen, &args).await,
        ClientCommand::Undo(args) => commands::write::undo(client, screen, &args).await,
        ClientCommand::Forget(args) => commands::forget::forget(client, screen, &args).await,
        ClientCommand::Erase(args) => commands::forget::erase(client, screen, &args).await,
        ClientCommand::Restore(args) => commands::forget::restore(client, screen, &args).await,
        ClientCommand::History(args) => commands::history::history(client, screen, &args).await,
        ClientCommand::Diff(args) => commands::history::diff(client, screen, &args).await,
        ClientCommand::Suggest(args) => commands::write::suggest(client, screen, args).await,
        ClientCommand::Suggestions(args) => commands::review::suggestions(client, screen, &args).await,
        ClientCommand::Accept(args) => commands::review::accept(client, screen, &args).await,
        ClientCommand::Reject(args) => commands::review::reject(client, screen, &args).await,
        ClientCommand::Conflicts => commands::review::conflicts(client, screen).await,
        ClientCommand::Import(args) => commands::import::run(client, screen, &args).await,
        ClientCommand::Export(args) => commands::export::run(client, screen, &args).await,
        ClientCommand::Replay(args) => commands::replay::run(client, screen, &args).await,
        ClientCommand::Peer(args) => commands::sharing::peer(client, screen, &args.command).await,
        ClientCommand::Device(args) => commands::device::device(client, screen, &args.command).await,
        ClientCommand::Key(args) => commands::key::key(client, screen, &args.command).await,
        ClientCommand::Peers => commands::sharing::peers(client, screen).await,
        ClientCommand::Space(args) => commands::sharing::space(client, screen, &args.command).await,
        ClientCommand::Share(args) => commands::sharing::share(client, screen, &args).await,
        ClientCommand::Shares => commands::sharing::shares(client, screen).await,
        ClientCommand::Relay => commands::relay::run(client, screen).await,
        ClientCommand::Receipts => commands::sharing::receipts(client, screen).await,
        ClientCommand::Token(args) => commands::token::run(client, screen, &args.command).await,
        ClientCommand::Projections(args) => commands::projections::run(client, screen, args.command).await,
        ClientCommand::Status => commands::status::status(client, screen).await,
        ClientCommand::Verify => commands::status::verify(client, screen).await,
    }
}

/// Tells on stderr what went wrong, and gives the code to exit with.
pub fn report(global: &Global, error: &CliError) -> ExitCode {
    if !error.is_silent() {
        let mut text = if global.json { error.to_json() } else { error.to_text(screen::stderr_paint(global)) };
        text.push('\n');
        // When stderr is gone there is nobody left to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    error.exit_code().into()
}
