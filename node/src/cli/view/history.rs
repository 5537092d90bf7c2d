//! What happened: to a memory, to all of them, to one field.

use super::table::Table;
use super::text::{cut, field, line, short_id, title, value};
use crate::cli::model::{Entry, FieldHistory};
use crate::cli::screen::Screen;

/// How much of a value in a chain is shown: one line of most terminals.
const VALUE_WIDTH: usize = 60;

/// What happened to one memory, the newest first.
pub fn of_memory(screen: &Screen, entries: &[Entry]) -> String {
    let paint = screen.paint;
    let mut table = Table::new(3).right(&[0]);
    let mut last = "";
    for entry in entries {
        // Events of one command belong together: its id stands once.
        let command = if entry.command == last { String::new() } else { paint.dim(short_id(&entry.command)) };
        last = &entry.command;
        table.row([
            paint.dim(&entry.position.to_string()),
            paint.dim(&screen.when(entry.at)),
            paint.truth(entry.truth),
            what(screen, entry),
            paint.dim(&line(&entry.origin)),
            command,
        ]);
    }
    table.render(screen.width)
}

/// What happened to all memories, the newest first.
pub fn of_all(screen: &Screen, entries: &[Entry]) -> String {
    let paint = screen.paint;
    let mut table = Table::new(4).right(&[0]);
    for entry in entries {
        table.row([
            paint.dim(&entry.position.to_string()),
            paint.dim(&screen.when(entry.at)),
            paint.truth(entry.truth),
            cut(&title(entry.title.as_deref().unwrap_or_default()), 36),
            what(screen, entry),
            paint.dim(short_id(&entry.memory)),
        ]);
    }
    table.render(screen.width)
}

fn what(screen: &Screen, entry: &Entry) -> String {
    let summary = line(&entry.summary);
    match entry.outcome.as_deref() {
        Some("suggested") => screen.paint.warning(&summary),
        _ => summary,
    }
}

/// How a field came to its value, the newest step first.
pub fn of_field(screen: &Screen, history: &FieldHistory) -> String {
    let paint = screen.paint;
    let now = cut(&value(&history.value), screen.width.saturating_sub(history.name.len() + 2).max(20));
    let mut out = format!("{}: {now}\n", paint.bold(&field(&history.name)));
    let mut table = Table::new(2);
    for step in &history.chain {
        let mut stated = match history.name.as_str() {
            "body" => paint.dim("edited the text"),
            _ => cut(&value(&step.value), VALUE_WIDTH),
        };
        if let Some(suggestion) = &step.accepted {
            stated.push_str(&paint.dim(&format!(" accepts {}", short_id(suggestion))));
        }
        table.row([
            format!("  {}", paint.truth(step.truth)),
            paint.dim(&screen.when(step.at())),
            stated,
            paint.dim(&line(&step.origin)),
            paint.dim(short_id(&step.event)),
        ]);
    }
    out.push_str(&table.render(screen.width));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_chain_shows_who_said_what() {
        let history: FieldHistory = serde_json::from_value(json!({
            "name": "due_date", "value": "2026-12-05",
            "chain": [
                { "event": "0192a3f2-77ac-7000-8000-000000000001", "principal": "p", "truth": 1, "origin": "user:owner",
                  "hlc": "1795262400000.0", "command": "c", "value": "2026-12-05",
                  "accepted": "0192a3f2-77ab-7000-8000-000000000001" },
                { "event": "0192a3f2-77ab-7000-8000-000000000001", "principal": "p", "truth": 5, "origin": "ai-cloud:claude",
                  "hlc": "1795258800000.0", "command": "c", "value": "2026-12-05", "accepted": null },
            ],
            "claims": [],
        }))
        .expect("a history");
        let now = chrono::DateTime::from_timestamp(1_795_262_460, 0).expect("valid");
        let expected = "\
due_date: 2026-12-05
  U1  1m ago  2026-12-05 accepts 0192a3f2-77ab  user:owner       0192a3f2-77ac
  C5  1h ago  2026-12-05                        ai-cloud:claude  0192a3f2-77ab
";
        assert_eq!(of_field(&Screen::fixed(100, now), &history), expected);
    }
}
