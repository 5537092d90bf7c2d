//! Links: `[[Note]]`, `![[Note]]`, `#[[tag]]`, `[text](Note.md)` and `((block))`.

use std::ops::Range;

use super::Syntax;
use super::code::CodeMask;

/// The longest target of a link, in bytes. Two brackets with more between them are no link.
pub const MAX_TARGET_BYTES: usize = 1_000;

/// How a link is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkForm {
    /// `[[Note]]`.
    Wiki,
    /// `![[Note]]` or `{{embed [[Note]]}}`.
    Embed,
    /// `#[[tag]]`, and in Logseq `#tag`: a tag that is a page as well.
    Tag,
    /// `[text](Note.md)`.
    Markdown,
    /// Logseq's `((id of a block))`.
    Block,
}

/// A link as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wikilink {
    /// Where it stands.
    pub span: Range<usize>,
    /// How it is written.
    pub form: LinkForm,
    /// What it points to: a name, a path or a block's id. Empty for a link within the note.
    pub target: String,
    /// The heading it points to, `[[Note#Heading]]`.
    pub heading: Option<String>,
    /// The block it points to, `[[Note#^block]]`.
    pub block: Option<String>,
    /// What is shown in its place, `[[Note|alias]]`.
    pub alias: Option<String>,
}

impl Wikilink {
    /// What a reader sees in the link's place.
    pub fn shown(&self) -> &str {
        match (&self.alias, &self.heading) {
            (Some(alias), _) => alias,
            (None, Some(heading)) if self.target.is_empty() => heading,
            (None, _) => &self.target,
        }
    }
}

/// The links of a text that has no code in it, such as the value of a property.
pub fn links_in(text: &str, syntax: Syntax) -> Vec<Wikilink> {
    scan(text, 0..text.len(), &CodeMask::default(), syntax)
}

/// A text with every link replaced by what a reader sees in its place.
pub fn shown(text: &str, syntax: Syntax) -> String {
    let mut result = String::with_capacity(text.len());
    let mut from = 0;
    for link in links_in(text, syntax) {
        if link.form == LinkForm::Block {
            continue;
        }
        result.push_str(&text[from..link.span.start]);
        result.push_str(link.shown());
        from = link.span.end;
    }
    result.push_str(&text[from..]);
    result
}

/// Finds every link by brackets and parentheses outside code.
pub(super) fn scan(text: &str, range: Range<usize>, mask: &CodeMask, syntax: Syntax) -> Vec<Wikilink> {
    let mut links = Vec::new();
    let mut at = range.start;
    while let Some(found) = text[at..range.end].find("[[") {
        let open = at + found;
        if let Some(end) = mask.end_of(open) {
            at = end.min(range.end);
            continue;
        }
        match inner(text, open, range.end) {
            Inner::Closed(inner) => {
                at = inner.end + 2;
                links.extend(wikilink(text, inner, syntax));
            }
            Inner::Continue(next) => at = next,
        }
    }
    if syntax == Syntax::Logseq {
        block_references(text, range, mask, &mut links);
        links.sort_by_key(|link| link.span.start);
    }
    links
}

enum Inner {
    Closed(Range<usize>),
    Continue(usize),
}

/// What stands between two brackets and the next two closing ones on the same line.
fn inner(text: &str, open: usize, end: usize) -> Inner {
    let bytes = text.as_bytes();
    let mut start = open + 2;
    while start < end && bytes[start] == b'[' {
        start += 1;
    }
    let limit = end.min(start + MAX_TARGET_BYTES);
    let mut at = start;
    while at + 1 < limit {
        match (bytes[at], bytes[at + 1]) {
            (b']', b']') => return Inner::Closed(start..at),
            // Of nested brackets the innermost are the link.
            (b'[', b'[') => return Inner::Continue(at),
            (b'\n', _) => return Inner::Continue(at),
            _ => at += 1,
        }
    }
    // `start` follows an ASCII bracket, so it is a character boundary.
    Inner::Continue(start)
}

fn wikilink(text: &str, inner: Range<usize>, syntax: Syntax) -> Option<Wikilink> {
    let bytes = text.as_bytes();
    let open = inner.start - 2;
    let before = |back: usize| open.checked_sub(back).map(|at| bytes[at]);
    if before(1) == Some(b'\\') && before(2) != Some(b'\\') {
        return None;
    }
    let content = &text[inner.clone()];
    let mut link = match syntax {
        Syntax::Obsidian => obsidian_target(content),
        Syntax::Logseq => plain_target(content, label_before(text, open)),
        Syntax::Org => match content.split_once("][") {
            Some((target, label)) => plain_target(target, Some(label.to_owned())),
            None => plain_target(content, None),
        },
    };
    if content.trim().is_empty() || link.target.contains("://") {
        return None;
    }
    let start = match before(1) {
        Some(b'!') => {
            link.form = LinkForm::Embed;
            open - 1
        }
        Some(b'#') => {
            link.form = LinkForm::Tag;
            open - 1
        }
        _ => open,
    };
    if text[..open].ends_with("{{embed ") {
        link.form = LinkForm::Embed;
    }
    link.span = start..inner.end + 2;
    Some(link)
}

/// `Note#Heading#Sub|alias`; inside a table the bar is written `\|`.
fn obsidian_target(content: &str) -> Wikilink {
    let (place, alias) = match content.split_once('|') {
        Some((place, alias)) => (place.strip_suffix('\\').unwrap_or(place), Some(alias.trim().to_owned())),
        None => (content, None),
    };
    let (target, part) = place.split_once('#').unwrap_or((place, ""));
    let part = part.trim();
    let block = part.rsplit('#').next().and_then(|last| last.strip_prefix('^')).map(str::to_owned);
    Wikilink {
        span: 0..0,
        form: LinkForm::Wiki,
        target: target.trim().to_owned(),
        heading: (block.is_none() && !part.is_empty()).then(|| part.to_owned()),
        block,
        alias: alias.filter(|alias| !alias.is_empty()),
    }
}

fn plain_target(target: &str, alias: Option<String>) -> Wikilink {
    let (span, form, target) = (0..0, LinkForm::Wiki, target.trim().to_owned());
    Wikilink { span, form, target, heading: None, block: None, alias }
}

/// Logseq writes an alias as `[label]([[Page]])`.
fn label_before(text: &str, open: usize) -> Option<String> {
    let before = text[..open].strip_suffix("](")?;
    let mut from = before.len().saturating_sub(MAX_TARGET_BYTES);
    while !before.is_char_boundary(from) {
        from += 1;
    }
    let label = &before[from + before[from..].rfind('[')? + 1..];
    (!label.is_empty() && !label.contains('\n')).then(|| label.to_owned())
}

fn block_references(text: &str, range: Range<usize>, mask: &CodeMask, links: &mut Vec<Wikilink>) {
    const UUID: usize = 36;
    for (found, _) in text[range.clone()].match_indices("((") {
        let open = range.start + found;
        let id = text.get(open + 2..open + 2 + UUID).filter(|id| {
            id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
                && text[open + 2 + UUID..range.end].starts_with("))")
        });
        if let (Some(id), false) = (id, mask.covers(open)) {
            let mut link = plain_target(&id.to_ascii_lowercase(), None);
            link.form = LinkForm::Block;
            link.span = open..open + UUID + 4;
            links.push(link);
        }
    }
}

/// A Markdown link, if it points to a note of the vault.
pub(super) fn local_link(text: &str, span: Range<usize>, destination: &str) -> Option<Wikilink> {
    if destination.contains("://") || destination.starts_with("mailto:") || destination.len() > MAX_TARGET_BYTES {
        return None;
    }
    let (path, fragment) = destination.split_once('#').unwrap_or((destination, ""));
    let path = percent_decoded(path);
    let note = [".md", ".markdown", ".org"].iter().any(|end| path.to_ascii_lowercase().ends_with(end));
    if !note || path.contains(['\n', '\0']) {
        return None;
    }
    let fragment = percent_decoded(fragment);
    let label =
        text[span.clone()].strip_prefix('[').and_then(|rest| rest.split_once("](")).map(|(label, _)| label);
    let block = fragment.strip_prefix('^').map(str::to_owned);
    Some(Wikilink {
        span,
        form: LinkForm::Markdown,
        target: path,
        heading: (block.is_none() && !fragment.is_empty()).then_some(fragment),
        block,
        alias: label.filter(|label| !label.is_empty() && !label.contains("[[")).map(str::to_owned),
    })
}

/// Undoes `%20` and its like; what is no UTF-8 afterwards stays as it was.
pub(crate) fn percent_decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |byte: u8| (byte as char).to_digit(16);
        match (bytes[at], bytes.get(at + 1).copied().and_then(hex), bytes.get(at + 2).copied().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, _, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str, syntax: Syntax) -> Vec<String> {
        super::super::outline(text, 0, syntax).links.into_iter().map(|link| link.target).collect()
    }

    #[test]
    fn every_part_of_an_obsidian_link() {
        let link = &links_in("see [[People/Åsa Lind#Phone|Åsa]]", Syntax::Obsidian)[0];
        assert_eq!(link.target, "People/Åsa Lind");
        assert_eq!(link.heading.as_deref(), Some("Phone"));
        assert_eq!(link.alias.as_deref(), Some("Åsa"));
        let block = &links_in("![[Oak#^a1]]", Syntax::Obsidian)[0];
        assert_eq!((block.block.as_deref(), block.form), (Some("a1"), LinkForm::Embed));
        assert_eq!(links_in("| [[a\\|b]] |", Syntax::Obsidian)[0].target, "a");
    }

    #[test]
    fn logseq_names_pages_whole_and_labels_them_in_front() {
        assert_eq!(links_in("[[C#]] [[a|b]]", Syntax::Logseq)[0].target, "C#");
        let labelled = &links_in("[the docs]([[Queries]])", Syntax::Logseq)[0];
        assert_eq!((labelled.target.as_str(), labelled.alias.as_deref()), ("Queries", Some("the docs")));
        let block = &links_in("((60AB6f5b-4bdc-4ef0-a0f8-6cad9dcad2b2))", Syntax::Logseq)[0];
        assert_eq!((block.target.as_str(), block.form), ("60ab6f5b-4bdc-4ef0-a0f8-6cad9dcad2b2", LinkForm::Block));
    }

    #[test]
    fn code_holds_no_links() {
        let text = "[[a]] `[[b]]` ``x ` [[c]]``\n\n```\n[[d]]\n```\n- ~~~\n  [[e]]\n  ~~~\n- [[f]] \\[[g]]";
        for syntax in [Syntax::Obsidian, Syntax::Logseq] {
            assert_eq!(targets(text, syntax), ["a", "f"]);
        }
    }

    #[test]
    fn deep_logseq_blocks_are_not_code() {
        let text = "- a\n\n\t\t\t- [[b]] `[[c]]`\n";
        assert_eq!(targets(text, Syntax::Logseq), ["b"]);
    }

    #[test]
    fn markdown_links_to_notes_are_links() {
        let text = "[a](Notes/Oak%20tar.md#Mixing) [b](https://x.se/a.md) [c](pic.png) [d](<../Oak tar.md>)";
        assert_eq!(targets(text, Syntax::Obsidian), ["Notes/Oak tar.md", "../Oak tar.md"]);
    }

    #[test]
    fn brackets_that_are_no_links() {
        for text in ["[[]]", "[[ ]]", "[[a\nb]]", "[[a", "a]]", "[[https://x.se]]"] {
            assert_eq!(targets(text, Syntax::Obsidian), [""; 0], "{text}");
        }
        assert_eq!(targets("[[a [[b]] c]] [[[d]]]", Syntax::Logseq), ["b", "d"]);
    }

    #[test]
    fn org_links_have_labels_behind() {
        let links = links_in("[[Draw][the page]] [[https://x.se][x]] [[Features]]", Syntax::Org);
        assert_eq!(links.len(), 2);
        assert_eq!((links[0].target.as_str(), links[0].alias.as_deref()), ("Draw", Some("the page")));
    }
}
