//! `cairn replay`

use std::io::{self, Write};
use std::time::Duration;

use futures::StreamExt;
use serde::Deserialize;
use tokio::time::sleep;

use crate::cli::args::{ReplayArgs, ReplayStart};
use crate::cli::client::{Client, Request};
use crate::cli::error::CliError;
use crate::cli::model::Status;
use crate::cli::screen::Screen;
use crate::cli::sse::SseParser;

/// How long to wait before a broken feed is taken up again; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Prints events as JSON lines, each with its whole envelope.
///
/// # Errors
/// When the node cannot be asked, or the output cannot be written.
pub async fn run(client: &Client, screen: &Screen, args: &ReplayArgs) -> Result<(), CliError> {
    let from = match args.from {
        None => None,
        Some(ReplayStart::Position(position)) => Some(position),
        Some(ReplayStart::Now) => {
            let status: Status = client.get(&["status"]).send().await?.read()?;
            Some(status.position + 1)
        }
    };
    let mut out = io::stdout();
    match args.follow {
        true => follow(client, screen, args, from.unwrap_or(1), &mut out).await,
        false => range(client, args, from, &mut out).await,
    }
}

fn filtered<'a>(request: Request<'a>, args: &ReplayArgs) -> Request<'a> {
    request.maybe("stream", args.stream.as_deref()).maybe("type", args.event_type.as_deref())
}

async fn range(
    client: &Client,
    args: &ReplayArgs,
    from: Option<u64>,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let text = |number: Option<u64>| number.map(|number| number.to_string());
    let request = filtered(client.get(&["log"]), args)
        .maybe("from", text(from))
        .maybe("to", text(args.to))
        .maybe("limit", text(args.limit));
    // The lines are the API's own: they are passed on as they come, without a look at them.
    let mut chunks = request.stream().await?.bytes_stream();
    let mut held: Vec<u8> = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|source| CliError::Broken { source })?;
        // The last line is held back: it may say that the log could not be read on.
        let last = match chunk[..chunk.len().saturating_sub(1)].iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                out.write_all(&std::mem::take(&mut held)).map_err(CliError::Output)?;
                out.write_all(&chunk[..=end]).map_err(CliError::Output)?;
                end + 1
            }
            None if held.ends_with(b"\n") => {
                out.write_all(&std::mem::take(&mut held)).map_err(CliError::Output)?;
                0
            }
            None => 0,
        };
        held.extend_from_slice(&chunk[last..]);
    }
    if let Ok(Unreadable { error }) = serde_json::from_slice(&held) {
        out.flush().map_err(CliError::Output)?;
        return Err(CliError::Failed {
            message: error.message,
            hint: "`cairn verify` looks through the whole log".to_owned(),
        });
    }
    out.write_all(&held).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// The last line of a replay that could not go on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unreadable {
    error: Reason,
}

#[derive(Deserialize)]
struct Reason {
    message: String,
}

/// What was printed of a feed so far.
struct Followed {
    /// The last position seen.
    last: u64,
    /// How many events are still wanted.
    left: u64,
    /// The last position wanted.
    to: u64,
}

/// Why a feed came to its end.
enum Ended {
    /// All that was asked for is there.
    Complete,
    /// It broke; there may be more.
    Broke,
}

/// Prints events as they come, and takes the feed up again whenever it breaks.
///
/// # Errors
/// When the node was never there, refuses, or the output cannot be written.
pub async fn follow(
    client: &Client,
    screen: &Screen,
    args: &ReplayArgs,
    from: u64,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let mut followed = Followed {
        last: from.saturating_sub(1),
        left: args.limit.unwrap_or(u64::MAX),
        to: args.to.unwrap_or(u64::MAX),
    };
    let (mut wait, mut told, mut first) = (FIRST_WAIT, false, true);
    loop {
        let before = followed.last;
        match feed(client, args, &mut followed, out).await {
            Ok(Ended::Complete) => return Ok(()),
            Ok(Ended::Broke) | Err(CliError::Broken { .. }) => {}
            // A node that was never there is an error; one that went away may come back.
            Err(CliError::Unreachable { .. }) if !first => {}
            Err(error) => return Err(error),
        }
        first = false;
        if followed.last > before {
            (wait, told) = (FIRST_WAIT, false);
        }
        if !std::mem::replace(&mut told, true) {
            screen.note("The feed broke off; trying again until it is back. Ctrl-C ends this.");
        }
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Prints one feed until it ends, taking it up after the last event seen.
async fn feed(
    client: &Client,
    args: &ReplayArgs,
    followed: &mut Followed,
    out: &mut impl Write,
) -> Result<Ended, CliError> {
    let request = filtered(client.get(&["log", "stream"]), args).resume_after(followed.last);
    let mut chunks = request.stream().await?.bytes_stream();
    let mut parser = SseParser::default();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|source| CliError::Broken { source })?;
        let events = parser
            .push(&chunk)
            .map_err(|error| CliError::Protocol { url: "/log/stream".to_owned(), reason: error.to_string() })?;
        for event in events {
            let position = event.id.as_deref().and_then(|id| id.parse().ok()).unwrap_or(followed.last);
            if position > followed.to {
                return Ok(Ended::Complete);
            }
            writeln!(out, "{}", event.data).and_then(|()| out.flush()).map_err(CliError::Output)?;
            followed.last = position;
            followed.left -= 1;
            if followed.left == 0 || position == followed.to {
                return Ok(Ended::Complete);
            }
        }
    }
    Ok(Ended::Broke)
}
