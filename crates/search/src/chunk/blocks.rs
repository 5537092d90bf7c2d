//! Finds the blocks of a Markdown text: headings, code, lists and paragraphs.

use std::ops::Range;

/// What a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// A line with `#` signs.
    Heading {
        /// How many, 1 to 6.
        level: u8,
        /// What follows them.
        text: String,
    },
    /// Between fences, both included.
    Code,
    /// Bullets or numbers, with what is indented below them.
    List,
    /// Anything else between blank lines.
    Paragraph,
}

/// A run of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) kind: BlockKind,
    /// Where it is in the text, in bytes.
    pub(super) range: Range<usize>,
}

/// Lines of a text with their place, without the line feed.
pub(super) fn lines(text: &str, range: Range<usize>) -> impl Iterator<Item = (usize, &str)> {
    let mut at = range.start;
    text[range].split('\n').map(move |line| {
        let start = at;
        at += line.len() + 1;
        (start, line)
    })
}

/// Remembers whether lines are inside a fenced piece of code.
#[derive(Debug, Default)]
pub(super) struct Fence {
    /// The character of the opening fence and how often it stands there.
    open: Option<(char, usize)>,
}

impl Fence {
    /// Whether the line read last left a piece of code open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Reads a line and says whether it belongs to a piece of code, fences included.
    pub(super) fn read(&mut self, line: &str) -> bool {
        let marker = fence_marker(after_bullet(line.trim_start()));
        match (self.open, marker) {
            (None, None) => false,
            (None, opened) => {
                self.open = opened;
                true
            }
            (Some((sign, count)), Some((closing, length))) if sign == closing && length >= count => {
                self.open = None;
                true
            }
            (Some(_), _) => true,
        }
    }
}

fn fence_marker(line: &str) -> Option<(char, usize)> {
    let sign = line.chars().next().filter(|sign| matches!(sign, '`' | '~'))?;
    let count = line.chars().take_while(|c| *c == sign).count();
    (count >= 3).then_some((sign, count))
}

/// The text of a bullet or number without its sign; the line itself when it is neither.
pub(super) fn after_bullet(line: &str) -> &str {
    bullet(line).map_or(line, |rest| rest.trim_start())
}

/// What follows the sign of a bullet or number, if the line (without indentation) starts with one.
pub(super) fn bullet(line: &str) -> Option<&str> {
    let digits = line.len() - line.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = match digits {
        0 => line.strip_prefix(['-', '*', '+'])?,
        1..=9 => line[digits..].strip_prefix(['.', ')'])?,
        _ => return None,
    };
    (rest.trim().is_empty() || rest.starts_with([' ', '\t'])).then_some(rest)
}

/// The level and text of a heading, if the line is one.
pub(super) fn heading(line: &str) -> Option<(u8, &str)> {
    let rest = line.trim_start_matches('#');
    let level = u8::try_from(line.len() - rest.len()).ok().filter(|level| (1..=6).contains(level))?;
    let text = rest.strip_prefix([' ', '\t'])?;
    Some((level, text.trim().trim_end_matches('#').trim_end()))
}

/// The blocks of a text in order. Blank lines outside of code belong to none.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut fence = Fence::default();
    let mut open = false;
    for (start, line) in lines(text, 0..text.len()) {
        let end = start + line.len();
        let current = blocks.last_mut().filter(|_| open);
        let in_code = fence.read(line);
        let kind = match current {
            Some(block) if in_code && matches!(block.kind, BlockKind::Code | BlockKind::List) => None,
            _ if in_code && bullet(line.trim_start()).is_some() => Some(BlockKind::List),
            _ if in_code => Some(BlockKind::Code),
            // A code block ends with its closing fence.
            Some(Block { kind: BlockKind::Code, .. }) | None => starts(line),
            Some(block) => match starts(line) {
                Some(BlockKind::List) if block.kind == BlockKind::List => None,
                Some(BlockKind::Paragraph) => None,
                kind => kind,
            },
        };
        match (kind, blocks.last_mut().filter(|_| open)) {
            (None, Some(block)) if in_code || !line.trim().is_empty() => block.range.end = end,
            (Some(kind), _) => {
                open = !matches!(kind, BlockKind::Heading { .. });
                blocks.push(Block { kind, range: start..end });
            }
            (None, _) => open = false,
        }
    }
    blocks
}

/// The kind of block that a line outside of code may start; none for a blank line.
fn starts(line: &str) -> Option<BlockKind> {
    let text = line.trim();
    if text.is_empty() {
        None
    } else if let Some((level, text)) = heading(text) {
        Some(BlockKind::Heading { level, text: text.to_owned() })
    } else if bullet(text).is_some() {
        Some(BlockKind::List)
    } else {
        Some(BlockKind::Paragraph)
    }
}
