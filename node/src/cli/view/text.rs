//! Pieces of text: safe to print, cut to a width, wrapped with their marks.

use serde_json::Value as Json;

use crate::cli::screen::paint::Paint;

/// How many characters of an id are shown: enough of a time-ordered id to tell neighbours apart.
const SHORT_ID: usize = 13;

/// One line that cannot move a terminal's cursor: white space and control characters become spaces.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || is_unsafe(c)).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Text of several lines without characters that could move a terminal's cursor.
pub fn lines(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !is_unsafe(*c)).collect()
}

/// Control characters, and those that turn the direction of text around.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A title, or a word for its absence.
pub fn title(title: &str) -> String {
    let title = line(title);
    if title.is_empty() { "(untitled)".to_owned() } else { title }
}

/// The start of an id, long enough to name it.
pub fn short_id(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// Cuts to a width, with `…` where something is missing.
pub fn cut(text: &str, width: usize) -> String {
    if console::measure_text_width(text) <= width {
        return text.to_owned();
    }
    let short = console::truncate_str(text, width, "…");
    if console::measure_text_width(&short) <= width {
        return short.into_owned();
    }
    // Some sequences of characters are wider apart than together: then the colour goes, and the text by characters.
    let plain = console::strip_ansi_codes(text);
    let mut short = String::new();
    for c in plain.chars() {
        short.push(c);
        if console::measure_text_width(&short) >= width {
            short.pop();
            break;
        }
    }
    short.push('…');
    short
}

/// A value of a field.
pub fn value(value: &Json) -> String {
    match value {
        Json::Null => "—".to_owned(),
        Json::String(text) => line(text),
        Json::Array(items) => items.iter().map(self::value).collect::<Vec<_>>().join(", "),
        Json::Bool(true) => "yes".to_owned(),
        Json::Bool(false) => "no".to_owned(),
        Json::Number(_) | Json::Object(_) => line(&value.to_string()),
    }
}

/// A field's name for people: tags and links by what they are.
pub fn field(name: &str) -> String {
    match name.split_once('/') {
        Some(("tag", tag)) => format!("#{}", line(tag)),
        Some(("link", link)) => match link.rsplit_once('/') {
            Some((relation, target)) => format!("{} → {}", line(relation), short_id(target)),
            None => line(name),
        },
        _ => line(name),
    }
}

/// Wraps text with marked words to a width, at most `rows` lines. White space is evened out.
pub fn marked(text: &str, marks: &[[usize; 2]], paint: Paint, width: usize, rows: usize) -> Vec<String> {
    let mut out = Vec::new();
    let (mut row, mut used) = (String::new(), 0);
    let mut words = words(text).peekable();
    while let Some((start, word)) = words.next() {
        let shown = console::measure_text_width(&line(word));
        let gap = usize::from(used > 0);
        if used > 0 && used + gap + shown > width {
            if out.len() + 1 == rows {
                out.push(cut(&format!("{row} …"), width));
                return out;
            }
            // One word alone may be wider than the row.
            out.push(cut(&std::mem::take(&mut row), width));
            used = 0;
        }
        if used > 0 {
            row.push(' ');
            used += 1;
        }
        row.push_str(&painted(word, start, marks, paint));
        used += shown;
        if words.peek().is_none() {
            out.push(cut(&std::mem::take(&mut row), width));
        }
    }
    out
}

/// Words with where they start, in bytes.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace().map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

fn painted(word: &str, start: usize, marks: &[[usize; 2]], paint: Paint) -> String {
    let mut out = String::new();
    let mut at = 0;
    for [from, to] in marks {
        let from = from.saturating_sub(start).clamp(at, word.len());
        let to = to.saturating_sub(start).min(word.len());
        let (Some(before), Some(inside)) = (word.get(at..from), word.get(from..to)) else { continue };
        if inside.is_empty() {
            continue;
        }
        out.push_str(&line(before));
        out.push_str(&paint.mark(&line(inside)));
        at = to;
    }
    out.push_str(&line(word.get(at..).unwrap_or_default()));
    out
}

/// A number with its thousands apart: `12 345`.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `1 memory`, `2 memories`.
pub fn count(how_many: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(how_many), if how_many == 1 { one } else { many })
}

/// A length of time: `4s`, `3m 20s`, `2h 5m`, `3d 4h`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d {}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// An amount of memory: `250 MB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn text_cannot_move_the_cursor() {
        assert_eq!(line("a\x1b[2Jb\n\tc\u{202e}d"), "a [2Jb c d");
        assert_eq!(lines("a\x1b[2J\nb\tc\r\n"), "a[2J\nb\tc\n");
    }

    #[test]
    fn marks_are_painted_inside_words() {
        let text = "the drip-line needs water";
        let rows = marked(text, &[[4, 8], [20, 25]], Paint::coloured(), 80, 2);
        assert_eq!(rows, ["the \x1b[1;33mdrip\x1b[0m-line needs \x1b[1;33mwater\x1b[0m"]);
    }

    #[test]
    fn long_text_is_cut_at_the_last_row() {
        let rows = marked("one two three four five six", &[], Paint::plain(), 9, 2);
        assert_eq!(rows, ["one two", "three …"]);
    }

    #[test]
    fn values_and_fields_are_for_people() {
        assert_eq!(value(&json!(["Ada", "Grace"])), "Ada, Grace");
        assert_eq!(value(&Json::Null), "—");
        assert_eq!(field("tag/garden"), "#garden");
        assert_eq!(field("link/mentions/0192a3f2-77aa-7000-8000-000000000001"), "mentions → 0192a3f2-77aa");
        assert_eq!(duration(200.0), "3m 20s");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(1, "memory", "memories"), "1 memory");
    }

    proptest! {
        #[test]
        fn no_row_is_wider_than_asked(text in "[\\x00-\\x7eÀ-ž漢字🌀]{0,200}", from in 0_usize..200, length in 0_usize..40, width in 5_usize..60) {
            for row in marked(&text, &[[from, from + length]], Paint::coloured(), width, 3) {
                prop_assert!(console::measure_text_width(&row) <= width);
            }
        }
    }
}
