//! Tags: `#oak`, `#wood/oak`, `#[[white oak]]`.

use std::collections::HashSet;
use std::ops::Range;

use super::code::CodeMask;
use super::links::{LinkForm, Wikilink};
use super::{Syntax, lines};

/// The longest tag, in bytes.
const MAX_TAG_BYTES: usize = 150;

/// The tags of a text, without `#` and lower-cased, each once, in order.
pub(super) fn scan(
    text: &str,
    range: Range<usize>,
    mask: &CodeMask,
    links: &[Wikilink],
    syntax: Syntax,
) -> Vec<String> {
    let mut found: Vec<(usize, String)> = links
        .iter()
        .filter(|link| link.form == LinkForm::Tag)
        .filter_map(|link| Some((link.span.start, normalised(&link.target)?)))
        .collect();
    let mut links = links.iter().peekable();
    for line in lines(text, range, 1) {
        // In Org `#+` starts a keyword and tags stand at the end of a heading; neither is read.
        if syntax == Syntax::Org {
            continue;
        }
        for (offset, _) in line.text.match_indices('#') {
            let at = line.start + offset;
            while links.next_if(|link| link.span.end <= at).is_some() {}
            let inside_link = links.peek().is_some_and(|link| link.span.start <= at);
            if inside_link || !starts_word(&line.text[..offset]) || mask.covers(at) {
                continue;
            }
            if let Some(tag) = tag_at(&line.text[offset + 1..], syntax).and_then(normalised) {
                found.push((at, tag));
            }
        }
    }
    found.sort_by_key(|(at, _)| *at);
    let mut seen = HashSet::new();
    found.into_iter().map(|(_, tag)| tag).filter(|tag| seen.insert(tag.clone())).collect()
}

fn starts_word(before: &str) -> bool {
    before.chars().next_back().is_none_or(|last| last.is_whitespace() || matches!(last, ',' | '|' | '(' | '"'))
}

/// The characters of a tag, as far as they go.
fn tag_at(text: &str, syntax: Syntax) -> Option<&str> {
    let mut end = 0;
    let mut rest = text.char_indices().peekable();
    while let Some((at, char)) = rest.next() {
        let inside_dot =
            syntax == Syntax::Logseq && char == '.' && rest.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        if at >= MAX_TAG_BYTES || !(belongs(char) || inside_dot) {
            break;
        }
        end = at + char.len_utf8();
    }
    let tag = text[..end].trim_end_matches('/');
    (!tag.is_empty()).then_some(tag)
}

fn belongs(char: char) -> bool {
    // Beyond ASCII everything but white space and the usual punctuation belongs: emoji are popular tags.
    let punctuation = matches!(
        char,
        '\u{80}'..='\u{bf}' | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{3001}'..='\u{3003}'
            | '\u{3008}'..='\u{3011}' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    char.is_alphanumeric()
        || matches!(char, '_' | '-' | '/')
        || (!char.is_ascii() && !punctuation && !char.is_whitespace() && !char.is_control())
}

/// A tag as it is compared and kept, unless it is none: a number alone is not a tag.
pub(super) fn normalised(tag: &str) -> Option<String> {
    let tag = tag.trim().trim_start_matches('#').trim();
    let kept = tag.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let sound = !kept.is_empty()
        && kept.len() <= MAX_TAG_BYTES
        && !kept.bytes().all(|byte| byte.is_ascii_digit())
        && !kept.chars().any(char::is_control)
        && kept.chars().any(|char| !matches!(char, '/' | '-' | '_'));
    sound.then_some(kept)
}

/// The tags of a property's text: separated by commas, or by white space when there are none and
/// `words` says that a tag has no white space.
pub(crate) fn tag_list(text: &str, words: bool) -> Vec<String> {
    let bare = text.replace("#[[", "").replace("[[", "").replace("]]", "");
    if bare.contains(',') || !words {
        bare.split(',').filter_map(normalised).collect()
    } else {
        bare.split_whitespace().filter_map(normalised).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str, syntax: Syntax) -> Vec<String> {
        super::super::outline(text, 0, syntax).tags
    }

    #[test]
    fn tags_are_words_after_white_space() {
        let text =
            "#Oak, #wood/oak. (#tar) a#b https://x.se/#c `#d` ##e # f #1 #2026 #y2026 #0🌲 [[g#h]] \\#i #läder’s";
        assert_eq!(tags(text, Syntax::Obsidian), ["oak", "wood/oak", "tar", "y2026", "0🌲", "läder"]);
    }

    #[test]
    fn logseq_tags_may_have_spaces_in_brackets() {
        assert_eq!(tags("#[[white  Oak]] #oak #v0.1.", Syntax::Logseq), ["white oak", "oak", "v0.1"]);
    }

    #[test]
    fn headings_and_code_blocks_hold_no_tags() {
        assert_eq!(tags("# Title\n\n```css\n#id { color: #fff }\n```\n", Syntax::Obsidian), [""; 0]);
    }

    #[test]
    fn lists_of_tags() {
        assert_eq!(tag_list("oak, #tar", true), ["oak", "tar"]);
        assert_eq!(tag_list("oak tar", true), ["oak", "tar"]);
        assert_eq!(tag_list("white oak, [[tar]]", false), ["white oak", "tar"]);
    }
}
