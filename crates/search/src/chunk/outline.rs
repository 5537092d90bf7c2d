//! Splits a list that is too long to stay whole, item by item.

use std::ops::Range;

use super::blocks::{Fence, after_bullet, bullet, heading, lines};
use super::{HEADING_BYTES, OUTLINE_DEPTH, Piece, WHOLE_BYTES, cut, split_text};

/// How many columns a tab stands for.
const TAB: usize = 4;

/// Splits a list into its outermost items, and those that are still too long into the text of the
/// item and its children, which then stand under it as under a heading.
pub(super) fn split(body: &str, range: Range<usize>, headings: &[String], pieces: &mut Vec<Piece>) {
    split_level(body, range, headings, 0, pieces);
}

fn split_level(body: &str, range: Range<usize>, headings: &[String], depth: usize, pieces: &mut Vec<Piece>) {
    let starts = item_starts(body, range.clone());
    let first = starts.first().copied().unwrap_or(range.end);
    if first > range.start {
        push(body, range.start..first, headings, pieces);
    }
    for (at, start) in starts.iter().enumerate() {
        let item = *start..starts.get(at + 1).copied().unwrap_or(range.end);
        let children = if item.len() > WHOLE_BYTES { children_start(body, item.clone()) } else { None };
        match children {
            Some(children) if depth < OUTLINE_DEPTH => {
                push(body, item.start..children, headings, pieces);
                let mut below = headings.to_vec();
                below.push(label(body, item.start..children));
                split_level(body, children..item.end, &below, depth + 1, pieces);
            }
            _ => push(body, item, headings, pieces),
        }
    }
}

fn push(body: &str, range: Range<usize>, headings: &[String], pieces: &mut Vec<Piece>) {
    if range.len() <= WHOLE_BYTES {
        pieces.push(Piece { headings: headings.to_vec(), range, only_headings: false });
    } else {
        split_text(body, range, headings, pieces);
    }
}

/// The bullets outside of code: where their lines start and how far they are indented.
fn bullets(body: &str, range: Range<usize>) -> Vec<(usize, usize)> {
    let mut fence = Fence::default();
    let mut found = Vec::new();
    for (start, line) in lines(body, range) {
        let in_code = fence.is_open();
        fence.read(line);
        if !in_code && bullet(line.trim_start()).is_some() {
            found.push((start, indentation(line)));
        }
    }
    found
}

fn indentation(line: &str) -> usize {
    line.chars().take_while(|c| c.is_whitespace()).map(|c| if c == '\t' { TAB } else { 1 }).sum()
}

/// Where the outermost items start.
fn item_starts(body: &str, range: Range<usize>) -> Vec<usize> {
    let bullets = bullets(body, range);
    let least = bullets.iter().map(|(_, indentation)| *indentation).min().unwrap_or(0);
    bullets.into_iter().filter(|(_, indentation)| *indentation == least).map(|(start, _)| start).collect()
}

/// Where the second bullet of an item is, which is its first child.
fn children_start(body: &str, item: Range<usize>) -> Option<usize> {
    bullets(body, item).get(1).map(|(start, _)| *start)
}

/// What the children of an item stand under: its first line.
fn label(body: &str, item: Range<usize>) -> String {
    let line = body[item].lines().next().unwrap_or_default();
    let text = after_bullet(line.trim());
    let text = heading(text).map_or(text, |(_, text)| text);
    cut(text.trim(), HEADING_BYTES).to_owned()
}
