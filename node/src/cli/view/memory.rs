//! A memory, and lists of memories.

use super::table::Table;
use super::text::{count, cut, line, lines, number, short_id, title, value};
use crate::cli::model::{Field, Link, Memory, Summary, TagCount};
use crate::cli::screen::Screen;

/// Memories, one a line.
pub fn list(screen: &Screen, memories: &[Summary]) -> String {
    let paint = screen.paint;
    let mut table = Table::new(3);
    for memory in memories {
        let mut name = shown_title(memory);
        if memory.archived {
            name = format!("{} {}", paint.dim(&name), paint.dim("(put away)"));
        }
        table.row([
            paint.dim(short_id(&memory.id)),
            line(&memory.kind),
            memory.truth.map(|truth| paint.truth(truth)).unwrap_or_default(),
            name,
            paint.dim(&screen.when(memory.updated_at)),
        ]);
    }
    table.render(screen.width)
}

/// The title, or the first words of what has none.
fn shown_title(memory: &Summary) -> String {
    if memory.title.trim().is_empty() && !memory.excerpt.trim().is_empty() {
        return cut(&line(&memory.excerpt), 60);
    }
    title(&memory.title)
}

/// Tags with how many memories have them.
pub fn tags(screen: &Screen, tags: &[TagCount]) -> String {
    let mut table = Table::new(1).right(&[0]);
    for tag in tags {
        table.row([number(tag.memories), screen.paint.tag(&format!("#{}", line(&tag.tag)))]);
    }
    table.render(screen.width)
}

/// A memory with everything that matters about it.
pub fn one(screen: &Screen, memory: &Memory) -> String {
    let paint = screen.paint;
    let mut out = format!("{}\n", paint.bold(&cut(&title(&memory.title), screen.width)));
    out.push_str(&head(screen, memory));
    if !memory.tags.is_empty() {
        let tags: Vec<String> = memory.tags.iter().map(|tag| format!("#{}", line(tag))).collect();
        out.push_str(&format!("{}\n", paint.tag(&tags.join(" "))));
    }
    let fields = fields(screen, memory);
    if !fields.is_empty() {
        out.push_str(&format!("\n{fields}"));
    }
    let body = lines(&memory.body);
    if !body.trim().is_empty() {
        out.push_str(&format!("\n{}\n", body.trim_end()));
    }
    out.push_str(&links(screen, "Links to", &memory.links));
    out.push_str(&links(screen, "Linked from", &memory.backlinks));
    out.push_str(&waiting(screen, memory));
    out
}

fn head(screen: &Screen, memory: &Memory) -> String {
    let paint = screen.paint;
    let origin = memory.source.as_ref().map(|source| line(&source.origin)).unwrap_or_default();
    let archived = if memory.archived { format!("  {}", paint.warning("put away")) } else { String::new() };
    let changed = format!(
        "{}  {}  changed {}  r{}",
        line(&memory.kind),
        origin,
        screen.when(memory.updated_at),
        memory.revision
    );
    let mut out = format!("{} {}{archived}\n", paint.truth(memory.truth), paint.dim(&changed));
    out.push_str(&format!("{}\n", paint.dim(&memory.id)));
    if let Some(file) = &memory.file {
        out.push_str(&format!("{}\n", paint.dim(&format!("from {}", line(file)))));
    }
    out
}

fn fields(screen: &Screen, memory: &Memory) -> String {
    let paint = screen.paint;
    let mut table = Table::new(1);
    let shown = |field: &&Field| !matches!(field.name.as_str(), "title" | "body" | "kind" | "archived");
    for field in memory.fields.iter().filter(shown) {
        let conflict = if field.conflict { paint.warning("  conflict") } else { String::new() };
        let source = format!("{}  {}", line(&field.origin), screen.when(field.at));
        table.row([
            line(&field.name),
            value(&field.value),
            paint.truth(field.truth),
            format!("{}{conflict}", paint.dim(&source)),
        ]);
    }
    // The defaults of the kind have no provenance: nobody said them.
    let stated = |name: &str| memory.fields.iter().any(|field| field.name == name);
    for (name, default) in memory.values.iter().filter(|(name, _)| !stated(name)) {
        table.row([line(name), paint.dim(&value(default)), String::new(), paint.dim("by default")]);
    }
    table.render(screen.width)
}

fn links(screen: &Screen, heading: &str, links: &[Link]) -> String {
    if links.is_empty() {
        return String::new();
    }
    let paint = screen.paint;
    let mut table = Table::new(1);
    for link in links {
        let name = link.title.as_deref().map_or_else(|| "(no such memory)".to_owned(), title);
        table.row([
            format!("  {}", line(&link.relation)),
            name,
            paint.truth(link.truth),
            paint.dim(short_id(&link.memory)),
        ]);
    }
    format!("\n{}\n{}", paint.bold(heading), table.render(screen.width))
}

fn waiting(screen: &Screen, memory: &Memory) -> String {
    if memory.suggestions.is_empty() {
        return String::new();
    }
    let how_many = count(memory.suggestions.len() as u64, "suggestion waits", "suggestions wait");
    let command = format!("`cairn suggestions {}`", short_id(&memory.id));
    format!("\n{}: see {command}\n", screen.paint.warning(&how_many))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use serde_json::json;

    fn now() -> DateTime<Utc> {
        "2026-11-21T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_memory_says_where_each_value_came_from() {
        let memory: Memory = serde_json::from_value(json!({
            "id": "0192a3f2-77aa-7000-8000-000000000001", "kind": "task", "title": "Buy a regulator",
            "body": "The \u{1b}[31mblue one.\n", "archived": false, "truth": 1,
            "source": { "event": "x", "truth": 1, "origin": "user:owner" },
            "created_at": "2026-11-20T12:00:00Z", "updated_at": "2026-11-21T11:00:00Z", "revision": 4, "position": 9,
            "values": { "due_date": "2026-12-01", "status": "todo" }, "tags": ["garden"],
            "fields": [{ "name": "due_date", "value": "2026-12-01", "truth": 5, "origin": "ai-cloud:claude",
                "principal": "p", "event": "e", "at": "2026-11-21T10:00:00Z", "conflict": false }],
            "links": [{ "relation": "mentions", "memory": "0192a3f2-77ab-7000-8000-000000000001",
                "title": "Garden plan", "kind": "note", "truth": 1, "event": "e" }],
            "suggestions": [],
        }))
        .expect("a memory");
        let expected = "\
Buy a regulator
U1 task  user:owner  changed 1h ago  r4
0192a3f2-77aa-7000-8000-000000000001
#garden

due_date  2026-12-01  C5  ai-cloud:claude  2h ago
status    todo            by default

The [31mblue one.

Links to
  mentions  Garden plan  U1  0192a3f2-77ab
";
        assert_eq!(one(&Screen::fixed(80, now()), &memory), expected);
    }

    #[test]
    fn a_list_is_one_line_each_and_gives_way_in_the_title() {
        let memory: Summary = serde_json::from_value(json!({
            "id": "0192a3f2-77aa-7000-8000-000000000001", "kind": "note", "truth": 2,
            "title": "A title that is much too long for the terminal", "updated_at": "2026-11-21T11:00:00Z",
        }))
        .expect("a memory");
        let text = list(&Screen::fixed(60, now()), &[memory]);
        assert_eq!(text, "0192a3f2-77aa  note  A2  A title that is much too l…  1h ago\n");
    }
}
