//! A memory as one Markdown file, whose front matter says all that the text does not.

use std::fmt::Write;

use cairn_domain::value::Value;

use super::{ExportedMemory, Layout};
use crate::markdown::{Syntax, is_costly, outline};
use crate::reading::{
    BODY_DIGEST_KEY, CREATED_KEY, ESCAPE_PREFIX, ID_KEY, LINKS_KEY, TASKS_KEY, UPDATED_KEY, body_digest,
    is_reserved,
};

/// How many brackets a front matter holds as they are. Those beyond are written as escapes, because the time to read
/// YAML grows with the square of their number.
const MAX_BRACKETS: usize = 1_000;

/// The whole file of a memory.
pub(super) fn file(memory: &ExportedMemory, layout: &Layout) -> String {
    let mut text = front_matter(memory, layout, MAX_BRACKETS);
    if is_costly(&text) {
        text = front_matter(memory, layout, 0);
    }
    text.push_str(&memory.body);
    text
}

fn front_matter(memory: &ExportedMemory, layout: &Layout, brackets: usize) -> String {
    let mut yaml = Yaml { text: "---\n".to_owned(), brackets };
    yaml.property(ID_KEY, &Value::Text(memory.id.to_string()));
    yaml.property("title", &Value::Text(memory.title.clone()));
    yaml.property("kind", &Value::Text(memory.kind.name().to_owned()));
    if memory.archived {
        yaml.property("archived", &Value::Flag(true));
    }
    for (name, value) in &memory.fields {
        if is_reserved(name) {
            yaml.property(&format!("{ESCAPE_PREFIX}{name}"), value);
        } else {
            yaml.property(name, value);
        }
    }
    if !memory.tags.is_empty() {
        yaml.property("tags", &Value::List(memory.tags.iter().cloned().map(Value::Text).collect()));
    }
    if !memory.links.is_empty() {
        let links = memory.links.iter().map(|link| {
            let plain = format!("{} {}", link.target, link.relation);
            // A link in brackets is one that Obsidian follows and keeps up when files are renamed.
            let linkable = !link.relation.contains(['[', ']', '|', '\n', '\r', '\\'])
                && link.relation.trim() == link.relation
                && !link.relation.is_empty();
            match layout.path(link.target) {
                Some(path) if linkable => format!("[[{path}|{}]]", link.relation),
                _ => plain,
            }
        });
        yaml.property(LINKS_KEY, &Value::List(links.map(Value::Text).collect()));
    }
    yaml.property(CREATED_KEY, &Value::Text(memory.created_at.clone()));
    yaml.property(UPDATED_KEY, &Value::Text(memory.updated_at.clone()));
    yaml.property(BODY_DIGEST_KEY, &Value::Text(body_digest(&memory.body)));
    if !outline(&memory.body, 0, Syntax::Obsidian).tasks.is_empty() {
        yaml.property(TASKS_KEY, &Value::Text("separate".to_owned()));
    }
    yaml.text.push_str("---\n");
    yaml.text
}

/// A YAML mapping on its way.
struct Yaml {
    text: String,
    brackets: usize,
}

impl Yaml {
    fn property(&mut self, name: &str, value: &Value) {
        self.string(name);
        self.text.push(':');
        match value {
            Value::List(items) if items.is_empty() => self.text.push_str(" []"),
            Value::List(items) => {
                for item in items {
                    self.text.push_str("\n  - ");
                    self.scalar(item);
                }
            }
            scalar => {
                self.text.push(' ');
                self.scalar(scalar);
            }
        }
        self.text.push('\n');
    }

    fn scalar(&mut self, value: &Value) {
        match value {
            // A list within a list is no value; what its parts say is all that could be kept.
            Value::Empty => self.text.push_str("null"),
            Value::Flag(flag) => self.text.push_str(if *flag { "true" } else { "false" }),
            Value::Integer(number) => self.text.push_str(&number.to_string()),
            Value::Decimal(number) => self.text.push_str(&format!("{number:?}")),
            Value::Text(text) => self.string(text),
            Value::List(_) => self.string(&value.display()),
        }
    }

    fn string(&mut self, text: &str) {
        if is_plain(text) {
            self.text.push_str(text);
            return;
        }
        self.text.push('"');
        for char in text.chars() {
            match char {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '[' | ']' | '{' | '}' => self.bracket(char),
                char if is_printable(char) => self.text.push(char),
                char => {
                    let width = if u32::from(char) > 0xffff { ('U', 8) } else { ('u', 4) };
                    write!(self.text, "\\{}{:0>2$x}", width.0, u32::from(char), width.1)
                        .expect("writing to a string does not fail");
                }
            }
        }
        self.text.push('"');
    }

    fn bracket(&mut self, char: char) {
        match self.brackets.checked_sub(1) {
            Some(left) => {
                self.brackets = left;
                self.text.push(char);
            }
            None => write!(self.text, "\\x{:02x}", u32::from(char)).expect("writing to a string does not fail"),
        }
    }
}

/// Whether a text can stand in YAML without quotation marks and is still that text: words and dates.
fn is_plain(text: &str) -> bool {
    let date = text.len() == 10 && text.parse::<chrono::NaiveDate>().is_ok();
    let word = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_- ".contains(&byte))
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    date || word
}

/// Whether YAML takes a character as it is. Marks of direction are allowed, but escaped: they would make one
/// value look like several.
fn is_printable(char: char) -> bool {
    !char.is_control()
        && !matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        && (u32::from(char) & 0xfffe) != 0xfffe
}
