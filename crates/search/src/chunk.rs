//! Cuts a memory's Markdown into the chunks that are embedded and found.
//!
//! Pure: the same text always gives the same chunks, and every character that is not white space is
//! in exactly one of them. Chunks follow headings and paragraphs; small neighbours under one heading
//! are joined, long paragraphs are cut between sentences, code and lists stay whole when they fit.
//! In an outline (Logseq, nested lists) a bullet with children is a heading to its children.

mod blocks;
mod outline;

use std::ops::Range;

use blocks::{Block, BlockKind};

/// The size that chunks are joined up to and long paragraphs cut down to, in bytes.
pub const TARGET_BYTES: usize = 800;

/// The largest block (a paragraph, a list, a piece of code) that is kept whole, in bytes. No chunk of
/// a body with fewer than [`MAX_CHUNKS`] chunks is larger.
pub const WHOLE_BYTES: usize = 1_200;

/// A chunk smaller than this is joined with its neighbour even across a heading, in bytes.
pub const SMALL_BYTES: usize = 200;

/// The most chunks a body is cut into. Neighbouring chunks of a body that would have more are joined
/// until they fit, whatever their size.
pub const MAX_CHUNKS: usize = 1_000;

/// The longest heading that a chunk carries, in bytes; longer ones are cut.
pub const HEADING_BYTES: usize = 120;

/// The deepest outline whose bullets count as headings; deeper ones are plain text.
pub const OUTLINE_DEPTH: usize = 8;

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The headings it stands under, outermost first.
    pub headings: Vec<String>,
    /// Where it is in the body, in bytes, without the white space around it.
    pub range: Range<usize>,
}

/// Cuts a body into chunks, in the order of the text.
#[must_use]
pub fn chunk(body: &str) -> Vec<Chunk> {
    // A heading says little without what follows it, so that comes first.
    let sections = join(body, &pieces(body), |current, next| {
        let size = next.range.end - current.range.start;
        current.only_headings && next.headings.starts_with(&current.headings) && size <= WHOLE_BYTES
    });
    let mut chunks = join(body, &sections, |current, next| {
        let size = next.range.end - current.range.start;
        let small = current.range.len() < SMALL_BYTES || next.range.len() < SMALL_BYTES;
        size <= TARGET_BYTES && (small || current.headings == next.headings)
    });
    if chunks.len() > MAX_CHUNKS {
        // Two neighbours together exceed the limit, so at most twice the quotient remain.
        let limit = body.len().div_ceil(MAX_CHUNKS) * 2 + 2;
        chunks = join(body, &chunks, |current, next| next.range.end - current.range.start <= limit);
    }
    chunks.into_iter().map(|piece| Chunk { headings: piece.headings, range: piece.range }).collect()
}

/// The smallest unit of joining.
#[derive(Debug, Clone)]
struct Piece {
    headings: Vec<String>,
    range: Range<usize>,
    /// Whether it holds nothing but headings, which say little without what follows them.
    only_headings: bool,
}

fn pieces(body: &str) -> Vec<Piece> {
    let mut path: Vec<(u8, String)> = Vec::new();
    let mut pieces = Vec::new();
    for Block { kind, range } in blocks::blocks(body) {
        if let BlockKind::Heading { level, text } = &kind {
            path.retain(|(above, _)| above < level);
            path.push((*level, cut(text, HEADING_BYTES).to_owned()));
        }
        let headings: Vec<String> = path.iter().map(|(_, text)| text.clone()).collect();
        let only_headings = matches!(kind, BlockKind::Heading { .. });
        if range.len() <= WHOLE_BYTES {
            pieces.push(Piece { headings, range, only_headings });
        } else if kind == BlockKind::List {
            outline::split(body, range, &headings, &mut pieces);
        } else {
            split_text(body, range, &headings, &mut pieces);
        }
    }
    pieces
}

fn join(body: &str, pieces: &[Piece], may_join: impl Fn(&Piece, &Piece) -> bool) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        let Some(piece) = trimmed(body, piece) else { continue };
        match joined.last_mut() {
            Some(current) if may_join(current, &piece) => {
                current.headings = if current.only_headings {
                    piece.headings
                } else {
                    common(&current.headings, &piece.headings)
                };
                current.range.end = piece.range.end;
                current.only_headings &= piece.only_headings;
            }
            _ => joined.push(piece),
        }
    }
    joined
}

/// The piece without white space at its ends, if anything is left.
fn trimmed(body: &str, piece: &Piece) -> Option<Piece> {
    let text = &body[piece.range.clone()];
    let start = piece.range.start + (text.len() - text.trim_start().len());
    let end = start + text.trim().len();
    (start < end).then(|| Piece { range: start..end, ..piece.clone() })
}

fn common(one: &[String], other: &[String]) -> Vec<String> {
    one.iter().zip(other).take_while(|(one, other)| one == other).map(|(one, _)| one.clone()).collect()
}

/// Cuts a long text between sentences, else lines, else words, else characters.
fn split_text(body: &str, range: Range<usize>, headings: &[String], pieces: &mut Vec<Piece>) {
    let mut start = range.start;
    while range.end - start > TARGET_BYTES {
        let head = cut(&body[start..range.end], TARGET_BYTES);
        let at = start + cut_point(head);
        pieces.push(Piece { headings: headings.to_vec(), range: start..at, only_headings: false });
        start = at;
    }
    pieces.push(Piece { headings: headings.to_vec(), range: start..range.end, only_headings: false });
}

/// Where to cut so that the text before fits and reads well: in the later half, after a sentence,
/// a line or a word.
fn cut_point(head: &str) -> usize {
    let half = head.len() / 2;
    let mut sentence = None;
    let mut line = None;
    let mut word = None;
    let mut before = ' ';
    for (at, now) in head.char_indices() {
        let after = at + now.len_utf8();
        if after > half {
            if now.is_whitespace() && matches!(before, '.' | '!' | '?' | ':' | ';')
                || matches!(now, '。' | '！' | '？')
            {
                sentence = Some(after);
            }
            if now == '\n' {
                line = Some(after);
            }
            if now.is_whitespace() {
                word = Some(after);
            }
        }
        before = now;
    }
    sentence.or(line).or(word).unwrap_or(head.len())
}

/// The start of a text, at most so many bytes long, cut between characters.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
