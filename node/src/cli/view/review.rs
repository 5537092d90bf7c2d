//! What waits for a decision: suggestions and conflicts, each beside what stands now.

use super::diff;
use super::text::{cut, field, line, short_id, title, value};
use crate::cli::model::{Conflict, Suggestion};
use crate::cli::screen::Screen;

/// Suggestions, the value suggested under the one that stands.
pub fn suggestions(screen: &Screen, suggestions: &[Suggestion]) -> String {
    suggestions.iter().map(|suggestion| one(screen, suggestion)).collect::<Vec<_>>().join("\n")
}

fn one(screen: &Screen, suggestion: &Suggestion) -> String {
    let paint = screen.paint;
    let about = format!("{}  {}", line(&suggestion.origin), screen.when(suggestion.at));
    let name = title(suggestion.memory_title.as_deref().unwrap_or_default());
    let mut out = format!(
        "{}  {}  {}  {} {}\n",
        paint.bold(short_id(&suggestion.id)),
        name,
        field(&suggestion.field),
        paint.truth(suggestion.truth),
        paint.dim(&about)
    );
    match &suggestion.diff {
        Some(diff) => out.push_str(&diff::unified(paint, diff, "    ")),
        None => out.push_str(&change(screen, suggestion)),
    }
    out
}

fn change(screen: &Screen, suggestion: &Suggestion) -> String {
    let paint = screen.paint;
    let room = screen.width.saturating_sub(6);
    if suggestion.field.contains('/') {
        let (sign, text) = if suggestion.value == serde_json::Value::Bool(true) {
            ('+', "add it")
        } else {
            ('-', "take it away")
        };
        return format!("    {sign} {text}\n");
    }
    let (now, then) = (cut(&value(&suggestion.current), room), cut(&value(&suggestion.value), room));
    format!("    {}\n    {}\n", paint.removed(&format!("- {now}")), paint.added(&format!("+ {then}")))
}

/// Conflicts, with the id that accepts each side.
pub fn conflicts(screen: &Screen, conflicts: &[Conflict]) -> String {
    let paint = screen.paint;
    let mut parts = Vec::new();
    for conflict in conflicts {
        let name = title(conflict.memory_title.as_deref().unwrap_or_default());
        let mut out = format!(
            "{}  {}  {}\n",
            paint.bold(&name),
            field(&conflict.field),
            paint.dim(short_id(&conflict.memory))
        );
        for side in &conflict.sides {
            let about = format!("{}  {}", line(&side.origin), screen.when(side.at));
            out.push_str(&format!(
                "    {}  {}  {} {}\n",
                paint.bold(short_id(&side.event)),
                cut(&value(&side.value), 60),
                paint.truth(side.truth),
                paint.dim(&about)
            ));
        }
        parts.push(out);
    }
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_suggestion_stands_beside_the_current_value() {
        let now = "2026-11-21T12:00:00Z".parse().expect("a time");
        let suggestion: Suggestion = serde_json::from_value(json!({
            "id": "0192b7c1-77aa-7000-8000-000000000001", "memory": "m", "memory_title": "Buy a regulator",
            "field": "due_date", "value": "2026-12-05", "current": "2026-12-01", "truth": 5,
            "origin": "ai-cloud:claude", "principal": "p", "at": "2026-11-21T11:58:00Z",
        }))
        .expect("a suggestion");
        let expected = "\
0192b7c1-77aa  Buy a regulator  due_date  C5 ai-cloud:claude  2m ago
    - 2026-12-01
    + 2026-12-05
";
        assert_eq!(suggestions(&Screen::fixed(80, now), &[suggestion]), expected);
    }
}
