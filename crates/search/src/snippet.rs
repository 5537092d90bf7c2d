//! Chooses the excerpt of a chunk that shows why it was found, and marks the words that match.

use std::ops::Range;

use crate::query::Snippet;
use crate::words::is_unspaced;

/// The longest excerpt, in bytes.
pub const SNIPPET_BYTES: usize = 280;

/// How much of the excerpt comes before the first marked word, in bytes, when there is a choice.
const LEAD_BYTES: usize = 40;

/// Cuts an excerpt out of a text. `matches` says which term of the query a word is, if any; it is
/// asked once for each word, so it may compare stems.
#[must_use]
pub fn snippet(text: &str, matches: impl Fn(&str) -> Option<u32>) -> Snippet {
    let line = one_line(text);
    let marks: Vec<(Range<usize>, u32)> =
        words(&line).filter_map(|word| matches(&line[word.clone()]).map(|term| (word, term))).collect();
    let window = window(&line, &marks);
    let marks = marks
        .into_iter()
        .map(|(mark, _)| mark)
        .filter(|mark| mark.start >= window.start && mark.end <= window.end)
        .map(|mark| mark.start - window.start..mark.end - window.start)
        .collect();
    Snippet { text: line[window].to_owned(), marks }
}

/// The text with every run of white space and control characters as one space.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for part in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(part);
    }
    line
}

/// The words of a text, in bytes; in scripts without spaces every character is one.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(char::is_alphanumeric)?;
        let word = &text[start..];
        let length = match word.chars().next().filter(|first| is_unspaced(*first)) {
            Some(first) => first.len_utf8(),
            None => word.find(|c: char| !c.is_alphanumeric() || is_unspaced(c)).unwrap_or(word.len()),
        };
        rest = start + length;
        Some(start..rest)
    })
}

/// The stretch that holds the most different terms, then the most marked words, then is the first.
fn window(line: &str, marks: &[(Range<usize>, u32)]) -> Range<usize> {
    if line.len() <= SNIPPET_BYTES {
        return 0..line.len();
    }
    let mut best = (0, 0, 0);
    for (at, (first, _)) in marks.iter().enumerate() {
        let start = start_before(line, first.start);
        let inside = marks[at..].iter().take_while(|(mark, _)| mark.end <= start + SNIPPET_BYTES);
        let mut terms: Vec<u32> = inside.map(|(_, term)| *term).collect();
        let count = terms.len();
        terms.sort_unstable();
        terms.dedup();
        if (terms.len(), count) > (best.0, best.1) {
            best = (terms.len(), count, start);
        }
    }
    let start = best.2;
    start..end_after(line, start)
}

/// The start of a word a little before a place.
fn start_before(line: &str, place: usize) -> usize {
    // Towards the end of the line the excerpt starts earlier, so that it is not cut short.
    let latest = line.len().saturating_sub(SNIPPET_BYTES);
    let wanted = floor(line, place.saturating_sub(LEAD_BYTES).min(latest));
    match line[wanted..place].find(' ') {
        Some(space) if wanted > 0 => wanted + space + 1,
        _ => wanted,
    }
}

/// The end of the last word that fits.
fn end_after(line: &str, start: usize) -> usize {
    let limit = floor(line, (start + SNIPPET_BYTES).min(line.len()));
    if limit == line.len() {
        return limit;
    }
    match line[start..limit].rfind(' ') {
        Some(space) if space > SNIPPET_BYTES / 2 => start + space,
        _ => limit,
    }
}

fn floor(line: &str, mut at: usize) -> usize {
    while !line.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tea(word: &str) -> Option<u32> {
        ["tea", "steep"].iter().position(|term| word.to_lowercase().starts_with(term)).map(|at| at as u32)
    }

    #[test]
    fn matching_words_are_marked() {
        let found = snippet("Steeping\n\ngreen **Tea**.", tea);
        assert_eq!(found.text, "Steeping green **Tea**.");
        let marked: Vec<_> = found.marks.iter().map(|mark| &found.text[mark.clone()]).collect();
        assert_eq!(marked, ["Steeping", "Tea"]);
    }

    #[test]
    fn the_excerpt_is_where_most_terms_are() {
        let text = format!("tea {} steep the tea well {}", "word ".repeat(200), "other ".repeat(200));
        let found = snippet(&text, tea);
        assert!(found.text.len() <= SNIPPET_BYTES);
        assert!(found.text.contains("steep the tea well"), "{}", found.text);
        assert_eq!(found.marks.len(), 2);
    }

    #[test]
    fn nothing_to_mark_shows_the_beginning() {
        let found = snippet(&"word ".repeat(200), tea);
        assert!(found.text.starts_with("word word") && found.marks.is_empty());
    }

    proptest! {
        #[test]
        fn marks_are_words_of_the_excerpt(text in "(\\PC|tea | steep|\n){0,600}") {
            let found = snippet(&text, tea);
            prop_assert!(found.text.len() <= SNIPPET_BYTES);
            let mut end = 0;
            for mark in &found.marks {
                prop_assert!(mark.start >= end);
                prop_assert!(tea(&found.text[mark.clone()]).is_some());
                end = mark.end;
            }
        }
    }
}
