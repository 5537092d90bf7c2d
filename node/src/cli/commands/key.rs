//! `cairn key`

use std::io::{self, IsTerminal};

use cairn_sharing::next_key;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::sharing::short;
use super::write::read_stdin;
use crate::cli::args::{KeyCommand, KeyPrepareArgs};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::screen::Screen;

/// How many words are shown in a line.
const WORDS_A_LINE: usize = 6;

#[derive(Debug, Deserialize)]
struct Key {
    key: String,
    before: usize,
    prepared: bool,
    here: bool,
}

/// Shows, prepares and changes the key that signs for this brain.
///
/// # Errors
/// When the token in use is not the owner's, the words are not the right ones, or the node cannot be asked.
pub async fn key(client: &Client, screen: &Screen, command: &KeyCommand) -> Result<(), CliError> {
    match command {
        KeyCommand::Show => show(client, screen).await,
        KeyCommand::Prepare(args) => prepare(client, screen, args).await,
        KeyCommand::Change => change(client, screen).await,
    }
}

async fn show(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let answer = client.get(&["sharing", "key"]).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let key: Key = answer.read()?;
    let which = match key.before {
        0 => "the brain's first".to_owned(),
        before => format!("{before} before it"),
    };
    let here = if key.here { "here" } else { "on another device" };
    let next = match key.prepared {
        true => screen.paint.good("the next one is prepared"),
        false => screen.paint.dim("the next one is not prepared; see `cairn key prepare`"),
    };
    screen.print(&format!("{}  {which}, {here}\n{next}\n", short(&key.key)))
}

async fn prepare(client: &Client, screen: &Screen, args: &KeyPrepareArgs) -> Result<(), CliError> {
    let known: Key = client.get(&["sharing", "key"]).send().await?.read()?;
    if !known.prepared && known.here {
        let (words, next) = next_key().map_err(|error| CliError::usage(error.to_string(), "try again"))?;
        // They are shown before the key is named: should the answer be lost, they are not.
        if screen.json {
            let made = json!({ "words": words.as_str(), "key": next });
            screen.print_json(&serde_json::value::to_raw_value(&made).expect("plain fields"))?;
        } else {
            screen.print(&lines(&words))?;
            screen.note(
                "Write them down, in their order, and keep them away from this machine: nothing shows them again.",
            );
        }
        if !args.yes {
            screen.confirm("Have you written them down?")?;
        }
        let answer = client.put(&["sharing", "key", "next"]).json(json!({ "key": next })).send().await?;
        answer.read::<Key>()?;
        screen.note(
            "The next key is named. `cairn key change` puts it in place, with these words, when you need it.",
        );
        return Ok(());
    }
    // The node says why not.
    let answer = client.put(&["sharing", "key", "next"]).json(json!({ "key": known.key })).send().await?;
    screen.print_json(&answer.data)
}

/// Words as people write them down: numbered, some in a line.
fn lines(words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    let numbered = |(at, word): (usize, &&str)| format!("{:>2} {word:<9}", at + 1);
    let numbered: Vec<String> = words.iter().enumerate().map(numbered).collect();
    numbered.chunks(WORDS_A_LINE).map(|line| format!("{}\n", line.join(" ").trim_end())).collect()
}

async fn change(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let words = match io::stdin().is_terminal() {
        true => screen.ask("The 24 words of the prepared key:", "pass the words on standard input")?,
        false => read_stdin()?,
    };
    let words = Zeroizing::new(words);
    let answer = client.put(&["sharing", "key"]).json(json!({ "words": words.trim() })).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let key: Key = answer.read()?;
    screen.print(&format!("{}  signs for your brain from now on", short(&key.key)))?;
    screen.note(
        "Peers hear of it when they meet this node. If a device is lost, remove it now (`cairn device remove`), and prepare the next key (`cairn key prepare`).",
    );
    Ok(())
}
