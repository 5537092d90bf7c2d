//! Differences: coloured lines, and values before and after.

use super::text::{field, lines, value};
use crate::cli::model::{Diff, FieldDiff};
use crate::cli::screen::Screen;
use crate::cli::screen::paint::Paint;

/// The difference between two points of a memory.
pub fn between(screen: &Screen, title: &str, diff: &Diff) -> String {
    let paint = screen.paint;
    let point =
        |revision: Option<u64>| revision.map_or_else(|| "nothing".to_owned(), |revision| format!("r{revision}"));
    let mut out =
        format!("{}  {}\n", paint.bold(title), paint.dim(&format!("{} → {}", point(diff.from), point(diff.to))));
    for change in &diff.fields {
        out.push_str(&field_line(paint, change));
    }
    if !diff.body.is_empty() {
        out.push_str(&unified(paint, &diff.body, ""));
    }
    if diff.fields.is_empty() && diff.body.is_empty() {
        out.push_str("no difference\n");
    }
    out
}

fn field_line(paint: Paint, change: &FieldDiff) -> String {
    let name = field(&change.name);
    let gone = |value: &serde_json::Value| value.is_null() || value == &serde_json::Value::Bool(false);
    if change.name.contains('/') {
        let line = if gone(&change.after) {
            paint.removed(&format!("- {name}"))
        } else {
            paint.added(&format!("+ {name}"))
        };
        return format!("{line}\n");
    }
    let (before, after) = (value(&change.before), value(&change.after));
    format!("{}: {} → {}\n", name, paint.removed(&before), paint.added(&after))
}

/// A unified diff with coloured lines, each after an indent.
pub fn unified(paint: Paint, diff: &str, indent: &str) -> String {
    let mut out = String::new();
    for line in lines(diff).lines() {
        let painted = match line.as_bytes().first() {
            _ if line.starts_with("--- ") || line.starts_with("+++ ") => continue,
            Some(b'+') => paint.added(line),
            Some(b'-') => paint.removed(line),
            Some(b'@') => paint.place(line),
            _ => line.to_owned(),
        };
        out.push_str(indent);
        out.push_str(&painted);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_tags_and_text_are_shown_each_in_its_way() {
        let screen = Screen::fixed(80, chrono::DateTime::UNIX_EPOCH);
        let diff: Diff = serde_json::from_value(json!({
            "from": 1, "to": 4,
            "fields": [
                { "name": "due_date", "before": null, "after": "2026-12-01" },
                { "name": "tag/garden", "before": true, "after": false },
            ],
            "body": "@@ -1 +1 @@\n-May\n+June\n",
        }))
        .expect("a diff");
        assert_eq!(
            between(&screen, "Plan", &diff),
            "Plan  r1 → r4\ndue_date: — → 2026-12-01\n- #garden\n@@ -1 +1 @@\n-May\n+June\n"
        );
    }

    #[test]
    fn lines_are_coloured_by_what_became_of_them() {
        assert_eq!(unified(Paint::coloured(), "+a\n-b\n c\n", ""), "\x1b[32m+a\x1b[0m\n\x1b[31m-b\x1b[0m\n c\n");
    }
}
