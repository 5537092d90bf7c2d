//! `cairn add`, `set`, `suggest`, `link` and `undo`, and what every write says of its outcome.

use std::io::Read;
use std::path::Path;

use cairn_domain::truth::Truth;
use serde_json::{Map, Value as Json, json};

use crate::cli::args::Changes;
use crate::cli::args::{AddArgs, LinkArgs, ProvenanceArgs, SetArgs, SuggestArgs, UndoArgs};
use crate::cli::client::{Answer, Client};
use crate::cli::error::CliError;
use crate::cli::fields::Assignment;
use crate::cli::model::{Entry, Memory, Outcome, Written};
use crate::cli::reference;
use crate::cli::screen::Screen;
use crate::cli::view::text::{field, short_id, title};

/// Where standard input is meant instead of a file.
const STDIN: &str = "-";

/// The longest title that is made of a text's first line, in characters.
const TITLE_CHARS: usize = 80;

/// How far back `undo --command` looks for a command by the start of its id.
const UNDO_LOOKS_BACK: usize = 1_000;

/// Writes a memory down.
///
/// # Errors
/// When there is nothing to write, a value does not fit, or the node cannot be asked.
pub async fn add(client: &Client, screen: &Screen, args: AddArgs) -> Result<(), CliError> {
    let body = match args.text.as_deref() {
        Some(STDIN) => read_stdin()?,
        Some(text) => text.to_owned(),
        None => String::new(),
    };
    let title = args.title.or_else(|| first_line(&body));
    if title.is_none() && args.fields.is_empty() {
        return Err(CliError::usage(
            "there is nothing to write",
            "give a text, --title or --field; see `cairn add --help`",
        ));
    }
    let mut links = Vec::new();
    for name in &args.link {
        links.push(json!({ "target": reference::memory(client, name).await? }));
    }
    let mut request =
        json!({ "kind": args.kind.name(), "fields": fields(args.fields)?, "tags": args.tag, "links": links });
    set(&mut request, "title", title);
    set(&mut request, "body", Some(body).filter(|body| !body.is_empty()));
    provenance(&mut request, &args.provenance);
    let answer = client.post(&["memories"]).json(request).send().await?;
    written(client, screen, &answer, "added").await
}

/// The first line of a text as its title, without the marks of a Markdown heading.
fn first_line(body: &str) -> Option<String> {
    let line = body.lines().map(str::trim).find(|line| !line.is_empty())?;
    let line = line.trim_start_matches('#').trim();
    if line.chars().count() <= TITLE_CHARS {
        return Some(line.to_owned()).filter(|line| !line.is_empty());
    }
    let cut: String = line.chars().take(TITLE_CHARS).collect();
    // A cut inside a word reads badly; one very long word is cut all the same.
    let end = cut.rfind(' ').filter(|end| *end > TITLE_CHARS / 2).unwrap_or(cut.len());
    Some(format!("{}…", &cut[..end]))
}

/// Changes a memory.
///
/// # Errors
/// When there is no such memory, nothing to change, a value does not fit, or the node cannot be asked.
pub async fn set_memory(client: &Client, screen: &Screen, args: SetArgs) -> Result<(), CliError> {
    let request = change(args.fields, args.changes, &args.provenance, "set")?;
    let id = reference::memory(client, &args.memory).await?;
    let answer = client.patch(&["memories", &id]).expecting(args.if_revision).json(request).send().await?;
    written(client, screen, &answer, "changed").await
}

/// Suggests a change without making it.
///
/// # Errors
/// When there is no such memory, nothing to change, a value does not fit, or the node cannot be asked.
pub async fn suggest(client: &Client, screen: &Screen, args: SuggestArgs) -> Result<(), CliError> {
    // Level 2 keeps the owner's suggestion below the owner's word. For tokens with a lower ceiling it changes
    // nothing: no write rises above its ceiling (rule T1).
    let truth = args.provenance.truth.unwrap_or(Truth::Automation);
    let provenance = ProvenanceArgs { truth: Some(truth), ..args.provenance };
    let request = change(args.fields, args.changes, &provenance, "suggest")?;
    let id = reference::memory(client, &args.memory).await?;
    let answer = client.patch(&["memories", &id]).json(request).send().await?;
    written(client, screen, &answer, "applied").await
}

/// Links two memories, or takes a link away.
///
/// # Errors
/// When there is no such memory, or the node cannot be asked.
pub async fn link(client: &Client, screen: &Screen, args: &LinkArgs) -> Result<(), CliError> {
    let from = reference::memory(client, &args.from).await?;
    let to = reference::memory(client, &args.to).await?;
    let answer = if args.remove {
        client.delete(&["memories", &from, "links", &args.relation, &to]).send().await?
    } else {
        let link = json!({ "relation": args.relation, "target": to });
        client.post(&["memories", &from, "links"]).json(link).send().await?
    };
    written(client, screen, &answer, if args.remove { "unlinked" } else { "linked" }).await
}

/// Undoes the last command on a memory, or the one named.
///
/// # Errors
/// When there is nothing to undo, or the node cannot be asked.
pub async fn undo(client: &Client, screen: &Screen, args: &UndoArgs) -> Result<(), CliError> {
    let id = reference::memory(client, &args.memory).await?;
    let mut request = json!({});
    if let Some(name) = &args.command {
        request["command"] = command(client, &id, name).await?.into();
    }
    let answer = client.post(&["memories", &id, "undo"]).json(request).send().await?;
    written(client, screen, &answer, "undone").await?;
    let undone: Written = answer.read()?;
    let touched =
        |name: &str| undone.fields.iter().any(|one| one.field == name && one.outcome == Outcome::Applied);
    if touched("archived") {
        let memory: Memory = client.get(&["memories", &id]).send().await?.read()?;
        if memory.archived {
            screen.note(
                "That was the command that made the memory, so it is put away; `cairn restore` brings it back.",
            );
        }
    }
    Ok(())
}

/// The id of a command on a memory, by the start of it.
async fn command(client: &Client, memory: &str, name: &str) -> Result<String, CliError> {
    if uuid::Uuid::try_parse(name).is_ok() {
        return Ok(name.to_owned());
    }
    let entries: Vec<Entry> =
        client.get(&["memories", memory, "history"]).pages(UNDO_LOOKS_BACK, None).await?.read()?;
    let prefix = name.to_ascii_lowercase();
    let mut fitting: Vec<&str> = entries
        .iter()
        .map(|entry| entry.command.as_str())
        .filter(|command| command.starts_with(&prefix))
        .collect();
    fitting.sort_unstable();
    fitting.dedup();
    match fitting.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(CliError::NotFound { what: "command", name: name.to_owned(), near: Vec::new() }),
        several => Err(CliError::Ambiguous {
            what: "command",
            name: name.to_owned(),
            candidates: several
                .iter()
                .map(|id| crate::cli::error::Candidate { id: (*id).to_owned(), label: String::new() })
                .collect(),
        }),
    }
}

/// The body of a request that changes a memory.
fn change(
    assignments: Vec<Assignment>,
    changes: Changes,
    from: &ProvenanceArgs,
    command: &str,
) -> Result<Json, CliError> {
    let mut request = json!({});
    let assigned = fields(assignments)?;
    set(&mut request, "fields", Some(assigned).filter(|fields| !fields.is_empty()));
    set(&mut request, "title", changes.title);
    set(&mut request, "kind", changes.kind.map(|kind| kind.name()));
    set(&mut request, "add_tags", Some(changes.tag).filter(|tags| !tags.is_empty()));
    set(&mut request, "remove_tags", Some(changes.untag).filter(|tags| !tags.is_empty()));
    set(&mut request, "body", changes.body.as_deref().map(read_text).transpose()?);
    if request.as_object().is_none_or(Map::is_empty) {
        return Err(CliError::usage(
            "there is nothing to change",
            format!("give a field or an option; see `cairn {command} --help`"),
        ));
    }
    provenance(&mut request, from);
    Ok(request)
}

/// Fields as a request states them. The title is one to people, an entry of its own to the API.
fn fields(assignments: Vec<Assignment>) -> Result<Map<String, Json>, CliError> {
    let mut fields = Map::new();
    for Assignment { name, value } in assignments {
        if let "title" | "body" | "kind" | "tags" = name.as_str() {
            let option = if name == "tags" { "tag" } else { &name };
            return Err(CliError::usage(format!("`{name}` is not a field"), format!("use --{option}")));
        }
        fields.insert(name, value);
    }
    Ok(fields)
}

fn provenance(request: &mut Json, from: &ProvenanceArgs) {
    set(request, "truth", from.truth.map(Truth::name));
    set(request, "origin", from.origin.as_deref());
}

fn set(request: &mut Json, name: &str, value: Option<impl Into<Json>>) {
    if let Some(value) = value {
        request[name] = value.into();
    }
}

fn read_text(path: &Path) -> Result<String, CliError> {
    if path == Path::new(STDIN) {
        return read_stdin();
    }
    std::fs::read_to_string(path).map_err(|error| CliError::file(path.display().to_string(), error))
}

/// Reads all of standard input as text.
///
/// # Errors
/// When it cannot be read or is not UTF-8.
pub fn read_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| CliError::file("standard input", error))?;
    Ok(text)
}

/// Says what became of a write: the API's answer with `--json`, the memory's id with `--quiet`.
/// Waits until reads see the write, so that the next command does.
///
/// # Errors
/// When the answer is not understood or cannot be written.
pub async fn written(client: &Client, screen: &Screen, answer: &Answer, verb: &str) -> Result<(), CliError> {
    let written: Written = answer.read()?;
    let seen =
        client.get(&["memories", &written.id]).query("min_position", written.position.to_string()).send().await;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    if screen.quiet {
        return screen.print(&written.id);
    }
    // Not to see it yet, or not to be allowed to, changes nothing about what was written.
    let name =
        seen.and_then(|answer| answer.read::<Memory>()).map_or(String::new(), |memory| title(&memory.title));
    screen.print(&outcome(screen, &written, &name, verb))
}

fn outcome(screen: &Screen, written: &Written, name: &str, verb: &str) -> String {
    let paint = screen.paint;
    let head = match written.outcome {
        Outcome::Applied => paint.good(verb),
        Outcome::Suggested => paint.warning("suggested"),
        Outcome::Unchanged => paint.dim("unchanged"),
        Outcome::RejectedBefore => paint.warning("turned down before"),
    };
    // What was erased has no title any more.
    let name = if name.is_empty() { String::new() } else { format!("  {}", paint.bold(name)) };
    let mut out = format!("{head}{name}  {}\n", paint.dim(short_id(&written.id)));
    // Which command an undo took back is not known beforehand.
    let several = verb == "undone" || written.fields.iter().any(|one| one.outcome != written.outcome);
    for one in written.fields.iter().filter(|_| several) {
        let became = match one.outcome {
            Outcome::Applied => paint.good("applied"),
            Outcome::Suggested => paint.warning("suggested"),
            Outcome::Unchanged => paint.dim("unchanged"),
            Outcome::RejectedBefore => paint.warning("turned down before"),
        };
        out.push_str(&format!("  {}  {became}\n", field(&one.field)));
    }
    if written.outcome == Outcome::Suggested {
        out.push_str(&paint.dim("It waits beside a value of higher truth; `cairn suggestions` shows both.\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_becomes_the_title() {
        assert_eq!(first_line("\n# Garden plan\n\nWater.").as_deref(), Some("Garden plan"));
        assert_eq!(first_line(" \n "), None);
        let long = first_line(&"word ".repeat(40)).expect("a title");
        assert!(long.chars().count() <= TITLE_CHARS + 1 && long.ends_with("word…"), "{long}");
        assert!(first_line(&"ü".repeat(200)).expect("a title").ends_with('…'));
    }

    #[test]
    fn a_change_holds_what_was_asked_for_and_nothing_else() {
        let assignments = vec!["due_date=2026-12-01".parse().expect("valid"), "note=".parse().expect("valid")];
        let changes = Changes { untag: vec!["2026".into()], ..Changes::default() };
        let from = ProvenanceArgs { truth: Some(Truth::CloudAi), origin: None };
        let request = change(assignments, changes, &from, "set").expect("a change");
        let expected = json!({
            "fields": { "due_date": "2026-12-01", "note": null }, "remove_tags": ["2026"], "truth": "ai-cloud",
        });
        assert_eq!(request, expected);
    }

    #[test]
    fn a_change_of_nothing_or_of_a_false_field_is_refused() {
        let from = ProvenanceArgs::default();
        assert!(change(Vec::new(), Changes::default(), &from, "set").is_err());
        let title = vec!["title=x".parse().expect("valid")];
        let error = change(title, Changes::default(), &from, "set").expect_err("not a field");
        assert_eq!(error.hint().as_deref(), Some("use --title"));
    }
}
