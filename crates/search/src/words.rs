//! Makes texts of languages that put no spaces between words readable for BM25, which compares words.

use std::borrow::Cow;

/// Whether a character belongs to a script written without spaces: Chinese characters, Japanese
/// syllables, Thai, Lao, Burmese, Khmer.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2ffff}')
}

/// The text with every run of such characters spelled as its characters and its pairs of neighbours,
/// so that a word of two characters counts for more than the two apart.
pub(crate) fn spaced(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unspaced) {
        return Cow::Borrowed(text);
    }
    let mut spaced = String::with_capacity(text.len() * 4);
    let mut before = None;
    for now in text.chars() {
        if !is_unspaced(now) {
            if before.take().is_some() {
                spaced.push(' ');
            }
            spaced.push(now);
            continue;
        }
        spaced.push(' ');
        if let Some(before) = before {
            spaced.extend([before, now, ' ']);
        }
        spaced.push(now);
        before = Some(now);
    }
    Cow::Owned(spaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_spaces_stay_as_they_are() {
        assert!(matches!(spaced("Kühlschrank, помидоры and 2026"), Cow::Borrowed(_)));
    }

    #[test]
    fn characters_stand_alone_and_in_pairs() {
        assert_eq!(
            spaced("die 预算表2026").split_whitespace().collect::<Vec<_>>(),
            ["die", "预", "预算", "算", "算表", "表", "2026"]
        );
    }
}
