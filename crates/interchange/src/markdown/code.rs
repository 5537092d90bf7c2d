//! Which parts of a text are code, where nothing is a link, a tag, a task or a property.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};

use super::links::{Wikilink, local_link};
use super::{Syntax, lines};

/// The parts of a text that are code, in order and apart from each other.
#[derive(Debug, Default)]
pub(super) struct CodeMask {
    ranges: Vec<Range<usize>>,
}

impl CodeMask {
    /// Finds the code of a text, and, since the same parser finds them, its Markdown links to local notes.
    pub(super) fn of(text: &str, start: usize, syntax: Syntax) -> (Self, Vec<Wikilink>) {
        let mut links = Vec::new();
        let mut ranges = match syntax {
            Syntax::Org => org_blocks(text, start),
            Syntax::Obsidian | Syntax::Logseq => markdown_code(text, start, syntax, &mut links),
        };
        if syntax == Syntax::Logseq {
            ranges.extend(org_blocks(text, start));
        }
        ranges.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        (Self { ranges: merged }, links)
    }

    /// The end of the code that a byte is in.
    pub(super) fn end_of(&self, at: usize) -> Option<usize> {
        let after = self.ranges.partition_point(|range| range.end <= at);
        self.ranges.get(after).filter(|range| range.start <= at).map(|range| range.end)
    }

    /// Whether a byte is in code.
    pub(super) fn covers(&self, at: usize) -> bool {
        self.end_of(at).is_some()
    }
}

fn markdown_code(text: &str, start: usize, syntax: Syntax, links: &mut Vec<Wikilink>) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let parser = Parser::new_ext(&text[start..], Options::ENABLE_TABLES).into_offset_iter();
    for (event, range) in parser {
        let range = range.start + start..range.end + start;
        match event {
            Event::Code(_) => ranges.push(range),
            // Logseq knows no indented code: what looks like it is a block that is deeper than its parent.
            Event::Start(Tag::CodeBlock(CodeBlockKind::Indented)) if syntax == Syntax::Logseq => {
                backtick_spans(text, range, &mut ranges);
            }
            Event::Start(Tag::CodeBlock(_)) => ranges.push(range),
            Event::Start(Tag::Link { dest_url, .. }) => links.extend(local_link(text, range, &dest_url)),
            _ => {}
        }
    }
    ranges
}

/// Inline code by backticks alone, line by line.
fn backtick_spans(text: &str, range: Range<usize>, ranges: &mut Vec<Range<usize>>) {
    for line in lines(text, range, 1) {
        let mut open: Option<usize> = None;
        for (at, _) in line.text.match_indices('`') {
            match open.take() {
                Some(from) => ranges.push(line.start + from..line.start + at + 1),
                None => open = Some(at),
            }
        }
    }
}

/// The blocks of Org that hold code, data or nothing to be read; quotes and notes are text.
const CODE_BLOCKS: [&str; 5] = ["src", "query", "example", "export", "comment"];

/// `#+BEGIN_SRC` to `#+END_SRC` and their like, which Logseq has in Markdown too, also as a bullet.
fn org_blocks(text: &str, start: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for line in lines(text, start..text.len(), 1) {
        let words = line.text.trim_start().trim_start_matches("- ").trim_start();
        let Some((mark, rest)) = words.split_once('_') else { continue };
        let name: String =
            rest.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
        match &open {
            None if mark.eq_ignore_ascii_case("#+begin") && CODE_BLOCKS.contains(&name.as_str()) => {
                open = Some((line.start, name));
            }
            Some((from, begun)) if mark.eq_ignore_ascii_case("#+end") && name == *begun => {
                ranges.push(*from..line.start + line.text.len());
                open = None;
            }
            _ => {}
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(text: &str, syntax: Syntax) -> Vec<&str> {
        let (mask, _) = CodeMask::of(text, 0, syntax);
        text.split_inclusive('\n')
            .filter(|line| mask.covers(line.as_ptr() as usize - text.as_ptr() as usize))
            .collect()
    }

    #[test]
    fn blocks_of_code_are_code_in_logseq_too() {
        let text = "- a\n- #+BEGIN_SRC clojure\n  [[x]] #y\n  #+END_SRC\n#+begin_query\nTODO z\n#+end_query\nb\n";
        let expected = [
            "- #+BEGIN_SRC clojure\n",
            "  [[x]] #y\n",
            "  #+END_SRC\n",
            "#+begin_query\n",
            "TODO z\n",
            "#+end_query\n",
        ];
        assert_eq!(covered(text, Syntax::Logseq), expected);
        assert_eq!(covered(&text.replace("- #+", "#+"), Syntax::Org).len(), 6);
        assert!(covered(text, Syntax::Obsidian).is_empty());
    }

    #[test]
    fn quotes_are_text_and_a_block_without_an_end_is_none() {
        assert!(covered("#+BEGIN_QUOTE\n[[x]]\n#+END_QUOTE\n", Syntax::Org).is_empty());
        assert!(covered("#+BEGIN_SRC\n[[x]]\n", Syntax::Logseq).is_empty());
    }
}
