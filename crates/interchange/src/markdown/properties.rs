//! Properties in the text: `key:: value` lines, `[key:: value]`, and Org's `#+KEY: value`.

use std::ops::Range;

use super::code::CodeMask;
use super::yaml::Yaml;
use super::{Item, Line, Outline, Syntax, lines, list_item};

/// The longest name of an inline property, in bytes.
const MAX_KEY_BYTES: usize = 60;

/// The most words an inline property's name may have; more is a sentence with two colons in it.
const MAX_KEY_WORDS: usize = 4;

/// What a property belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyPlace {
    /// The whole file.
    Page,
    /// One block of a Logseq page.
    Block,
    /// A task, by its index in the outline.
    Task(usize),
}

/// A property in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineProperty {
    /// Its name as written, without emphasis.
    pub name: String,
    /// Its value as written; never empty.
    pub value: String,
    /// Where the value stands.
    pub span: Range<usize>,
    /// What it belongs to.
    pub place: PropertyPlace,
}

/// Adds a text's properties and block ids to its outline, whose tasks are already there.
pub(super) fn scan(text: &str, start: usize, mask: &CodeMask, syntax: Syntax, outline: &mut Outline) {
    let mut first_block = true;
    let mut leading = true;
    let mut tasks = 0;
    for line in lines(text, start..text.len(), 1) {
        let item = list_item(line.text, syntax);
        if item.is_some() && line.start > start {
            first_block = false;
        }
        if mask.covers(line.start + line.text.len() - line.text.trim_start().len()) {
            leading = false;
            continue;
        }
        while outline.tasks.get(tasks).is_some_and(|task| task.span.end <= line.start) {
            tasks += 1;
        }
        let task = outline.tasks.get(tasks).filter(|task| task.span.contains(&line.start)).map(|_| tasks);
        let place = match (task, syntax) {
            (Some(index), _) => PropertyPlace::Task(index),
            (None, Syntax::Obsidian) => PropertyPlace::Page,
            (None, Syntax::Logseq | Syntax::Org) if first_block => PropertyPlace::Page,
            (None, Syntax::Logseq | Syntax::Org) => PropertyPlace::Block,
        };
        let whole_line = read_line(line, item, place, syntax, outline);
        if !whole_line && syntax == Syntax::Obsidian {
            outline.properties.extend(bracketed(line, place));
        }
        // Code in a value's place means that the line is about properties and states none.
        while outline
            .properties
            .last()
            .is_some_and(|last| last.span.start >= line.start && mask.covers(last.span.start))
        {
            outline.properties.pop();
        }
        leading &= whole_line && item.is_none() && syntax == Syntax::Logseq;
        if leading {
            let end = line.start + line.text.len();
            outline.page_properties_end = end + text[end..].starts_with('\r') as usize;
            outline.page_properties_end += text[outline.page_properties_end..].starts_with('\n') as usize;
        }
    }
}

/// Reads a line that is a property as a whole; false if it is not.
fn read_line(
    line: Line<'_>,
    item: Option<Item>,
    place: PropertyPlace,
    syntax: Syntax,
    outline: &mut Outline,
) -> bool {
    let content_at = item.map_or_else(|| line.text.len() - line.text.trim_start().len(), |item| item.content);
    let content = &line.text[content_at..];
    let found = match syntax {
        Syntax::Org => org_property(content),
        Syntax::Logseq | Syntax::Obsidian => line_property(content, syntax),
    };
    let Some((name, value_at)) = found else { return false };
    let value = content[value_at..].trim();
    if name.eq_ignore_ascii_case("id") && syntax != Syntax::Obsidian {
        outline.block_ids.push(value.to_ascii_lowercase());
        return true;
    }
    if !value.is_empty() {
        let from = line.start
            + content_at
            + value_at
            + (content[value_at..].len() - content[value_at..].trim_start().len());
        outline.properties.push(InlineProperty {
            name: name.to_owned(),
            value: value.to_owned(),
            span: from..from + value.len(),
            place,
        });
    }
    true
}

/// The name of a `key:: value` line and where its value starts.
fn line_property(content: &str, syntax: Syntax) -> Option<(&str, usize)> {
    let limit = floor_boundary(content, MAX_KEY_BYTES + 8);
    let colons = content[..limit].find("::")?;
    let after = &content[colons + 2..];
    let ends = after.is_empty() || after.starts_with([' ', '\t']);
    let name = content[..colons].trim_matches(['*', '_', '`', ' ']);
    let name = if content.starts_with('`') { "" } else { name };
    (ends && is_key(name, syntax)).then_some((name, colons + 2))
}

fn is_key(name: &str, syntax: Syntax) -> bool {
    let inner = |char: char| {
        char.is_alphanumeric()
            || matches!(char, '_' | '-' | '/' | '.')
            || (syntax == Syntax::Obsidian && char == ' ')
            || (syntax == Syntax::Logseq
                && matches!(char, '+' | '!' | '?' | '$' | '%' | '&' | '=' | '<' | '>' | '*'))
    };
    name.len() <= MAX_KEY_BYTES
        && name.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && name.chars().all(inner)
        && name.split(' ').count() <= MAX_KEY_WORDS
}

/// `#+TITLE: value` and `:key: value`.
fn org_property(content: &str) -> Option<(&str, usize)> {
    let (name, start) = match content.strip_prefix("#+") {
        Some(rest) => (rest.split(':').next()?, 2),
        None => (content.strip_prefix(':')?.split(':').next()?, 1),
    };
    let after = start + name.len() + 1;
    let sound = is_key(name, Syntax::Org)
        && !["properties", "end", "logbook"].contains(&name.to_ascii_lowercase().as_str())
        && content.get(after..).is_some_and(|rest| rest.starts_with(' '));
    sound.then_some((name, after))
}

/// Every `[key:: value]` and `(key:: value)` of a line.
fn bracketed(line: Line<'_>, place: PropertyPlace) -> Vec<InlineProperty> {
    let mut found = Vec::new();
    for part in bracketed_parts(line.text) {
        let value = line.text[part.value.clone()].trim();
        if !value.is_empty() {
            let from = line.start + part.value.start;
            found.push(InlineProperty {
                name: line.text[part.name].trim_matches(['*', '_', ' ']).to_owned(),
                value: value.to_owned(),
                span: from..from + value.len(),
                place,
            });
        }
    }
    found
}

/// A bracketed property within a line.
pub(super) struct Bracketed {
    /// All of it, brackets included.
    pub whole: Range<usize>,
    /// Its name.
    pub name: Range<usize>,
    /// Its value, from its first character on.
    pub value: Range<usize>,
}

pub(super) fn bracketed_parts(line: &str) -> Vec<Bracketed> {
    let mut parts: Vec<Bracketed> = Vec::new();
    for (colons, _) in line.match_indices("::") {
        let from = ceil_boundary(line, colons.saturating_sub(MAX_KEY_BYTES + 2));
        let Some(open) = line[from..colons].rfind(['[', '(']).map(|at| from + at) else { continue };
        if parts.last().is_some_and(|last| last.whole.end > open) {
            continue;
        }
        let name = line[open + 1..colons].trim_matches(['*', '_', ' ']);
        let after = &line[colons + 2..];
        let doubled = line[..open].ends_with('[') && line.as_bytes()[open] == b'[';
        if doubled || !is_key(name, Syntax::Obsidian) || !after.starts_with([' ', '\t']) {
            continue;
        }
        let value_start = line.len() - after.trim_start().len();
        if let Some(close) = closing(line, open, value_start) {
            parts.push(Bracketed { whole: open..close + 1, name: open + 1..colons, value: value_start..close });
        }
    }
    parts
}

/// Where the bracket at `open` closes, counting those of its own kind between.
fn closing(line: &str, open: usize, from: usize) -> Option<usize> {
    let (opening, closing) = if line.as_bytes()[open] == b'[' { (b'[', b']') } else { (b'(', b')') };
    let mut depth = 0_usize;
    for (at, byte) in line.bytes().enumerate().skip(from).take(super::MAX_TARGET_BYTES) {
        if byte == opening {
            depth += 1;
        } else if byte == closing {
            match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return Some(at),
            }
        }
    }
    None
}

/// The value of an inline property: a number or a flag where it reads back as the same text, else text.
pub fn inline_scalar(text: &str) -> Yaml {
    if let Ok(number) = text.parse::<i64>()
        && number.to_string() == text
    {
        return Yaml::Integer(number);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number.to_string() == text => Yaml::Decimal(number),
        _ if text == "true" => Yaml::Bool(true),
        _ if text == "false" => Yaml::Bool(false),
        _ => Yaml::Text(text.to_owned()),
    }
}

/// A property's name as the relation of the links in its value.
pub(crate) fn relation_name(name: &str) -> String {
    let plain: String = name
        .trim()
        .to_lowercase()
        .chars()
        .map(|char| if char.is_whitespace() || char.is_control() || char == '/' { '_' } else { char })
        .collect();
    plain[..floor_boundary(&plain, 100)].to_owned()
}

/// The last character boundary at or before a byte.
pub(crate) fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn ceil_boundary(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, syntax: Syntax) -> Vec<(String, String, PropertyPlace)> {
        let outline = super::super::outline(text, 0, syntax);
        for property in &outline.properties {
            assert_eq!(text[property.span.clone()], property.value);
        }
        outline.properties.into_iter().map(|found| (found.name, found.value, found.place)).collect()
    }

    fn page(name: &str, value: &str) -> (String, String, PropertyPlace) {
        (name.into(), value.into(), PropertyPlace::Page)
    }

    #[test]
    fn obsidian_lines_and_brackets() {
        let text = "due:: 2026-11-21\n- **Boat type**:: [[Snipa]]\nIt is (rating:: 5) and [wood:: white [[Oak]]].\n`a:: b`\nstd::vec and x :: y";
        assert_eq!(
            read(text, Syntax::Obsidian),
            [
                page("due", "2026-11-21"),
                page("Boat type", "[[Snipa]]"),
                page("rating", "5"),
                page("wood", "white [[Oak]]")
            ]
        );
    }

    #[test]
    fn a_logseq_page_starts_with_its_properties() {
        let text = "type:: [[Feature]]\nalias:: a, b\n\n- text\n  id:: 60AF74C1-62f8-434a-827c-abc6d2a71734\n  price:: 10\n- ```\n  x:: y\n  ```";
        let outline = super::super::outline(text, 0, Syntax::Logseq);
        assert_eq!(&text[outline.page_properties_end..][..6], "\n- tex");
        assert_eq!(outline.block_ids, ["60af74c1-62f8-434a-827c-abc6d2a71734"]);
        assert_eq!(
            read(text, Syntax::Logseq),
            [
                page("type", "[[Feature]]"),
                page("alias", "a, b"),
                ("price".into(), "10".into(), PropertyPlace::Block)
            ]
        );
    }

    #[test]
    fn tasks_have_properties_of_their_own() {
        let text = "- [ ] tar the keel [due:: 2026-11-21]\n- TODO x\n";
        assert_eq!(read(text, Syntax::Obsidian), [("due".into(), "2026-11-21".into(), PropertyPlace::Task(0))]);
    }

    #[test]
    fn org_keywords_and_drawers() {
        let text = "#+TITLE: Draw\n* one\n:PROPERTIES:\n:id: 60acdebb-9142-431f-907c-3ad0e6fc0148\n:END:\n";
        let outline = super::super::outline(text, 0, Syntax::Org);
        assert_eq!(read(text, Syntax::Org), [page("TITLE", "Draw")]);
        assert_eq!(outline.block_ids.len(), 1);
    }

    #[test]
    fn scalars_are_only_what_reads_back() {
        assert_eq!(inline_scalar("10"), Yaml::Integer(10));
        assert_eq!(inline_scalar("2.5"), Yaml::Decimal(2.5));
        assert_eq!(inline_scalar("007"), Yaml::Text("007".into()));
        assert_eq!(inline_scalar("+46 70"), Yaml::Text("+46 70".into()));
    }
}
