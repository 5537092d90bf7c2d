//! What a Markdown text says beside its prose: links, tags, tasks and properties.
//!
//! Everything here is pure. Spans are byte ranges into the text that was given, on character boundaries.

mod code;
mod front_matter;
mod links;
mod properties;
mod tags;
mod tasks;
mod yaml;

use std::ops::Range;

pub use front_matter::{FrontMatter, FrontMatterProblem, MAX_FRONT_MATTER_BYTES, split_front_matter};
pub use links::{LinkForm, MAX_TARGET_BYTES, Wikilink, links_in, shown};
pub use properties::{InlineProperty, PropertyPlace, inline_scalar};
pub use tasks::{Priority, Status, TaskItem, TaskText, read_task_text};
pub use yaml::{MAX_YAML_DEPTH, MAX_YAML_NODES, Yaml, YamlError, parse_yaml};

pub(crate) use links::percent_decoded;
pub(crate) use properties::{floor_boundary, relation_name};
pub(crate) use tags::tag_list;
pub(crate) use tasks::priority_word;
pub(crate) use yaml::is_costly;

use code::CodeMask;

/// The most links taken from one file.
pub const MAX_LINKS: usize = 50_000;

/// The most different tags taken from one file.
pub const MAX_TAGS: usize = 2_000;

/// The most tasks taken from one file.
pub const MAX_TASKS: usize = 10_000;

/// The most properties taken from one file.
pub const MAX_PROPERTIES: usize = 1_000;

/// Whose Markdown it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// Obsidian's, which plain Markdown is read as too.
    Obsidian,
    /// Logseq's outlines.
    Logseq,
    /// Org mode, as Logseq writes it; a minimal reading.
    Org,
}

/// What a text says beside its prose, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outline {
    /// Links of every form.
    pub links: Vec<Wikilink>,
    /// Tags without their `#`, lower-cased, each once.
    pub tags: Vec<String>,
    /// Tasks.
    pub tasks: Vec<TaskItem>,
    /// Inline properties, of the page, of its blocks and of its tasks.
    pub properties: Vec<InlineProperty>,
    /// The ids of blocks, which block references point to.
    pub block_ids: Vec<String>,
    /// Where a Logseq page's leading properties end: the text proper starts here.
    pub page_properties_end: usize,
    /// Which limit was reached, if one was.
    pub over_limit: Option<&'static str>,
}

/// A line and where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Without its end.
    pub text: &'a str,
    /// The offset of its first byte.
    pub start: usize,
    /// Counted from one.
    pub number: usize,
}

/// The lines of a text. The end of a line is `\n` or `\r\n`.
pub(crate) fn lines(text: &str, range: Range<usize>, first_number: usize) -> impl Iterator<Item = Line<'_>> {
    let mut start = range.start;
    text[range].split_inclusive('\n').enumerate().map(move |(index, line)| {
        let here = start;
        start += line.len();
        let bare = line.strip_suffix('\n').unwrap_or(line);
        Line { text: bare.strip_suffix('\r').unwrap_or(bare), start: here, number: first_number + index }
    })
}

/// Reads a text from `start` (the end of its front matter) to its end.
///
/// Takes time linear in the length of the text.
pub fn outline(text: &str, start: usize, syntax: Syntax) -> Outline {
    let (mask, local_links) = CodeMask::of(text, start, syntax);
    let mut outline = Outline { page_properties_end: start, ..Outline::default() };
    outline.links = links::scan(text, start..text.len(), &mask, syntax);
    outline.links.extend(local_links);
    outline.links.sort_by_key(|link| link.span.start);
    cap(&mut outline.links, MAX_LINKS, "links", &mut outline.over_limit);
    outline.tags = tags::scan(text, start..text.len(), &mask, &outline.links, syntax);
    cap(&mut outline.tags, MAX_TAGS, "tags", &mut outline.over_limit);
    outline.tasks = tasks::scan(text, start, &mask, syntax);
    cap(&mut outline.tasks, MAX_TASKS, "tasks", &mut outline.over_limit);
    properties::scan(text, start, &mask, syntax, &mut outline);
    cap(&mut outline.properties, MAX_PROPERTIES, "properties", &mut outline.over_limit);
    outline
}

fn cap<T>(items: &mut Vec<T>, limit: usize, what: &'static str, over: &mut Option<&'static str>) {
    if items.len() > limit {
        items.truncate(limit);
        *over = Some(what);
    }
}

/// A line's bullet, if it is a list item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    /// The offset of the item's content within the line.
    pub content: usize,
    /// The offset of the bullet within the line.
    pub bullet: usize,
}

/// Reads `- `, `* `, `+ `, `1. ` or `1) ` after white space and quotation marks; in Org, stars.
pub(crate) fn list_item(line: &str, syntax: Syntax) -> Option<Item> {
    let bytes = line.as_bytes();
    if syntax == Syntax::Org {
        let stars = bytes.iter().take_while(|byte| **byte == b'*').count();
        return (stars > 0 && bytes.get(stars) == Some(&b' ')).then_some(Item { content: stars + 1, bullet: 0 });
    }
    let bullet = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'>')).count();
    let after = match bytes.get(bullet)? {
        b'-' | b'*' | b'+' => bullet + 1,
        b'0'..=b'9' => {
            let digits = bytes[bullet..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            matches!(bytes.get(bullet + digits), Some(b'.' | b')')).then_some(bullet + digits + 1)?
        }
        _ => return None,
    };
    let spaces = bytes[after..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    (spaces > 0).then_some(Item { content: after + spaces, bullet })
}
