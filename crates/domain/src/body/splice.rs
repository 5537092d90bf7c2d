//! Splices, and what they do to a text.

use serde::{Deserialize, Serialize};

/// Replaces `delete` characters at `at` by `insert`. Counted in Unicode scalar values, from 0.
/// The splices of one edit are applied one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splice {
    /// Where.
    pub at: usize,
    /// How many characters go.
    #[serde(default)]
    pub delete: usize,
    /// What comes.
    #[serde(default)]
    pub insert: String,
}

/// Applies splices to a text.
pub(super) fn apply(text: &str, splices: &[Splice]) -> Result<String, String> {
    let mut text = text.to_owned();
    apply_to(&mut text, splices)?;
    Ok(text)
}

pub(super) fn apply_to(text: &mut String, splices: &[Splice]) -> Result<(), String> {
    for splice in splices {
        let from = byte_offset(text, splice.at).ok_or("a splice starts past the end of the text")?;
        let length = byte_offset(&text[from..], splice.delete).ok_or("a splice ends past the end of the text")?;
        text.replace_range(from..from + length, &splice.insert);
    }
    Ok(())
}

/// Where a character starts; the end of the text counts as the start of the one after the last.
pub(super) fn byte_offset(text: &str, characters: usize) -> Option<usize> {
    let Some(skipped) = characters.checked_sub(1) else { return Some(0) };
    let mut rest = text.chars();
    // Skipping is quick: the standard library counts whole blocks of bytes.
    rest.nth(skipped)?;
    Some(text.len() - rest.as_str().len())
}
