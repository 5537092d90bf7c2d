//! `cairn token`

use serde_json::json;

use crate::cli::args::{TokenCommand, TokenCreateArgs, TokenRevokeArgs};
use crate::cli::client::{Client, RawPage};
use crate::cli::error::CliError;
use crate::cli::model::Token;
use crate::cli::screen::Screen;
use crate::cli::view::text::{line, short_id};
use crate::cli::{reference, view};

/// Makes, lists and revokes tokens.
///
/// # Errors
/// When the token in use is not the owner's, or the node cannot be asked.
pub async fn run(client: &Client, screen: &Screen, command: &TokenCommand) -> Result<(), CliError> {
    match command {
        TokenCommand::Create(args) => create(client, screen, args).await,
        TokenCommand::List => list(client, screen).await,
        TokenCommand::Revoke(args) => revoke(client, screen, args).await,
    }
}

async fn create(client: &Client, screen: &Screen, args: &TokenCreateArgs) -> Result<(), CliError> {
    let mut request = json!({ "name": args.name, "ceiling": args.ceiling.name() });
    if let Some(origin) = &args.origin {
        request["origin"] = origin.as_str().into();
    }
    if let Some(days) = args.expires_in_days {
        request["expires_in_days"] = days.into();
    }
    let answer = client.post(&["tokens"]).json(request).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let token: Token = answer.read()?;
    // The secret alone goes to standard output, so that it can be caught in a variable.
    screen.print(token.token.as_deref().unwrap_or_default())?;
    screen.note(&format!(
        "This is the token `{}`. It is shown once; give it to its program as CAIRN_TOKEN.",
        line(&token.name)
    ));
    Ok(())
}

async fn list(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let page: RawPage = client.get(&["tokens"]).send().await?.read()?;
    screen.list(&page, "There are no tokens.", |tokens: &[Token]| {
        if screen.quiet {
            return tokens.iter().map(|token| format!("{}\n", token.id)).collect();
        }
        view::node::tokens(screen, tokens)
    })
}

async fn revoke(client: &Client, screen: &Screen, args: &TokenRevokeArgs) -> Result<(), CliError> {
    let id = reference::token(client, &args.name).await?;
    let answer = client.delete(&["tokens", &id]).send().await?;
    screen.answer(&answer, |token: &Token| {
        if screen.quiet {
            return token.id.clone();
        }
        format!(
            "{}  {}  {}",
            screen.paint.good("revoked"),
            line(&token.name),
            screen.paint.dim(short_id(&token.id))
        )
    })
}
