//! From what a person types to the id it means: an id, the start of one, or a title.

use serde::Deserialize;

use super::client::{Client, MAX_PAGE};
use super::error::{ApiFailure, Candidate, CliError};
use super::model::{Conflict, Found, Memory, Suggestion, Summary, Token};
use super::view::text::title;

/// The fewest characters that count as the start of an id.
const LEAST_PREFIX: usize = 4;

/// How many memories an ambiguous name lists.
const MAX_CANDIDATES: usize = 20;

/// How many close titles an unknown name lists.
const NEAR: usize = 3;

/// What a typed name can be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reference {
    /// A whole id.
    Id(String),
    /// Hexadecimal digits that an id may start with, hyphenated as an id is. It may still be a title.
    Prefix(String),
    /// Nothing but a title.
    Title,
}

/// Which memory is meant when two have the same title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// The one that was not put away.
    Present,
    /// The one that was.
    PutAway,
}

#[derive(Deserialize)]
struct StreamName {
    stream: String,
}

impl Reference {
    fn of(text: &str) -> Self {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let plain = digits.chars().all(|c| c.is_ascii_hexdigit()) && !text.starts_with('-');
        match digits.len() {
            32 if plain => Self::Id(hyphenated(&digits)),
            LEAST_PREFIX..32 if plain => Self::Prefix(hyphenated(&digits)),
            _ => Self::Title,
        }
    }
}

/// Digits with the hyphens of an id: 8, 4, 4, 4 and 12.
fn hyphenated(digits: &str) -> String {
    let mut out = String::with_capacity(36);
    for (at, digit) in digits.to_ascii_lowercase().chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(digit);
    }
    out
}

/// The id of the memory that a name means.
///
/// # Errors
/// When nothing has that name, or more than one memory.
pub async fn memory(client: &Client, name: &str) -> Result<String, CliError> {
    memory_preferring(client, name, Prefer::Present).await
}

/// The id of the memory that a name means, where of two with one title one kind comes first.
///
/// # Errors
/// When nothing has that name, or more than one memory.
pub async fn memory_preferring(client: &Client, name: &str, prefer: Prefer) -> Result<String, CliError> {
    let name = name.trim();
    let mut candidates = match Reference::of(name) {
        Reference::Id(id) => return Ok(id),
        Reference::Prefix(prefix) => by_prefix(client, &prefix).await?,
        Reference::Title => Vec::new(),
    };
    if candidates.is_empty() {
        candidates = by_title(client, name, prefer).await?;
    }
    match candidates.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => {
            let near = if name.is_empty() { Vec::new() } else { near(client, name).await };
            Err(CliError::NotFound { what: "memory", name: name.to_owned(), near })
        }
        _ => Err(CliError::Ambiguous { what: "memory", name: name.to_owned(), candidates }),
    }
}

/// Memories whose id starts with this: the log knows the streams of all of them.
async fn by_prefix(client: &Client, prefix: &str) -> Result<Vec<Candidate>, CliError> {
    use futures::StreamExt;
    let request = client
        .get(&["log"])
        .query("stream", format!("{}{prefix}", cairn_domain::id::MEMORY_STREAM_PREFIX))
        .query("type", "memory.created")
        .query("limit", (MAX_CANDIDATES + 1).to_string());
    let mut lines = request.lines().await?;
    let mut ids = Vec::new();
    while let Some(line) = lines.next().await {
        let event: StreamName = serde_json::from_slice(&line?)
            .map_err(|error| CliError::Protocol { url: "/log".to_owned(), reason: error.to_string() })?;
        ids.extend(cairn_domain::id::memory_of_stream(&event.stream).map(|id| id.to_string()));
    }
    if let [one] = ids.as_slice() {
        return Ok(vec![Candidate { id: one.clone(), label: String::new() }]);
    }
    let mut candidates = Vec::with_capacity(ids.len());
    for id in ids {
        let label = label_of(client, &id).await?;
        candidates.push(Candidate { id, label });
    }
    Ok(candidates)
}

async fn label_of(client: &Client, id: &str) -> Result<String, CliError> {
    match client.get(&["memories", id]).send().await {
        Ok(answer) => Ok(title(&answer.read::<Memory>()?.title)),
        Err(CliError::Api(ApiFailure { status: 404 | 410, .. })) => Ok("(erased)".to_owned()),
        Err(error) => Err(error),
    }
}

/// Memories with exactly this title, whatever the case of its letters.
async fn by_title(client: &Client, name: &str, prefer: Prefer) -> Result<Vec<Candidate>, CliError> {
    let wanted = name.to_lowercase();
    let mut exact: Vec<Summary> = Vec::new();
    let mut cursor = None;
    loop {
        let request =
            client.get(&["memories"]).query("title_prefix", name).query("archived", "any").query("sort", "title");
        let page = request.pages(MAX_PAGE, cursor.as_deref()).await?;
        let found: Vec<Summary> = page.read()?;
        exact.extend(found.into_iter().filter(|memory| memory.title.trim().to_lowercase() == wanted));
        cursor = page.next_cursor;
        if cursor.is_none() || exact.len() > MAX_CANDIDATES {
            break;
        }
    }
    let put_away = prefer == Prefer::PutAway;
    let preferred = |memory: &&Summary| memory.archived == put_away;
    if exact.iter().any(|memory| preferred(&memory)) {
        exact.retain(|memory| preferred(&memory));
    }
    Ok(exact.into_iter().map(candidate).collect())
}

fn candidate(memory: Summary) -> Candidate {
    Candidate { label: format!("{}  {}", memory.kind, title(&memory.title)), id: memory.id }
}

/// What a person may have meant. Finding nothing, or failing to look, only makes the error shorter.
async fn near(client: &Client, name: &str) -> Vec<Candidate> {
    let request = client.get(&["search"]).query("q", name).query("limit", NEAR.to_string());
    let found = match request.send().await {
        Ok(answer) => answer.read::<Found>().map(|found| found.hits).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    found.into_iter().map(|hit| Candidate { label: title(&hit.title), id: hit.memory }).collect()
}

/// The event of a suggestion, or of one side of a conflict, by its id or the start of it.
///
/// # Errors
/// When nothing that waits has that id, or more than one thing.
pub async fn suggestion(client: &Client, name: &str) -> Result<String, CliError> {
    let prefix = match Reference::of(name) {
        Reference::Id(id) => return Ok(id),
        Reference::Prefix(prefix) => prefix,
        Reference::Title => {
            return Err(CliError::usage(
                format!("`{name}` is not the id of a suggestion"),
                "`cairn suggestions` lists them with their ids",
            ));
        }
    };
    let waiting: Vec<Suggestion> = client.get(&["suggestions"]).pages(usize::MAX, None).await?.read()?;
    let label = |title_of: Option<&str>, field: &str| format!("{}  {field}", title(title_of.unwrap_or_default()));
    let mut all: Vec<Candidate> = waiting
        .iter()
        .map(|one| Candidate { id: one.id.clone(), label: label(one.memory_title.as_deref(), &one.field) })
        .collect();
    if !all.iter().any(|one| one.id.starts_with(&prefix)) {
        let conflicts: Vec<Conflict> = client.get(&["conflicts"]).pages(usize::MAX, None).await?.read()?;
        all.extend(conflicts.iter().flat_map(|conflict| {
            let label = label(conflict.memory_title.as_deref(), &conflict.field);
            conflict.sides.iter().map(move |side| Candidate { id: side.event.clone(), label: label.clone() })
        }));
    }
    one_of(all, |one| one.id.starts_with(&prefix), "suggestion", name)
}

/// The token that a name or the start of an id means; of two with one name, the one still in force.
///
/// # Errors
/// When no token fits, or more than one.
pub async fn token(client: &Client, name: &str) -> Result<String, CliError> {
    let mut tokens: Vec<Token> = client.get(&["tokens"]).send().await?.read::<Tokens>()?.items;
    if tokens.iter().any(|token| token.name == name && token.revoked_at.is_none()) {
        tokens.retain(|token| token.revoked_at.is_none());
    }
    let named = tokens.iter().any(|token| token.name == name);
    let prefix = match Reference::of(name) {
        Reference::Id(prefix) | Reference::Prefix(prefix) if !named => Some(prefix),
        _ => None,
    };
    let fits = |one: &Candidate| match &prefix {
        Some(prefix) => one.id.starts_with(prefix),
        None => one.label == name,
    };
    let all = tokens.into_iter().map(|token| Candidate { id: token.id, label: token.name });
    one_of(all.collect(), fits, "token", name)
}

#[derive(Deserialize)]
struct Tokens {
    items: Vec<Token>,
}

fn one_of(
    all: Vec<Candidate>,
    fits: impl Fn(&Candidate) -> bool,
    what: &'static str,
    name: &str,
) -> Result<String, CliError> {
    let mut candidates: Vec<Candidate> = all.into_iter().filter(|one| fits(one)).collect();
    match candidates.len() {
        1 => Ok(candidates.remove(0).id),
        0 => Err(CliError::NotFound { what, name: name.to_owned(), near: Vec::new() }),
        _ => Err(CliError::Ambiguous { what, name: name.to_owned(), candidates }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_their_starts_and_titles_are_told_apart() {
        let id = "0192a3f2-77aa-7000-8000-000000000001";
        assert_eq!(Reference::of(id), Reference::Id(id.into()));
        assert_eq!(Reference::of("0192A3F277AA70008000000000000001"), Reference::Id(id.into()));
        assert_eq!(Reference::of("0192a3f277aa7"), Reference::Prefix("0192a3f2-77aa-7".into()));
        assert_eq!(Reference::of("0192a3f2-"), Reference::Prefix("0192a3f2".into()));
        // Three characters are too few, and `decade` could be both: titles are tried when no id fits.
        assert_eq!(Reference::of("019"), Reference::Title);
        assert_eq!(Reference::of("decade"), Reference::Prefix("decade".into()));
        assert_eq!(Reference::of("Garden plan"), Reference::Title);
        assert_eq!(Reference::of("2026-11-21"), Reference::Prefix("20261121".into()));
    }
}
