//! YAML between two lines of `---` at the start of a file.

use super::yaml::{Yaml, YamlError, parse_yaml};

/// The largest front matter that is read, in bytes.
pub const MAX_FRONT_MATTER_BYTES: usize = 4 * 1024 * 1024;

/// The front matter of a text, as far as it can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct FrontMatter {
    /// The properties in order. Empty when there is no front matter or none that can be read.
    pub properties: Vec<(String, Yaml)>,
    /// Where the text proper starts; past the byte order mark, or 0, if the front matter stays in the text.
    pub body_start: usize,
    /// How many lines stand before `body_start`.
    pub lines: usize,
    /// Why the front matter could not be used, if so.
    pub problem: Option<FrontMatterProblem>,
}

/// Why a front matter stays in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrontMatterProblem {
    /// No closing line.
    #[error("the front matter has no closing `---`; it stays in the text")]
    Unclosed,
    /// Past a limit.
    #[error("the front matter is refused: {0}; it stays in the text")]
    TooLarge(YamlError),
    /// Not YAML.
    #[error("the front matter is no valid YAML: {0}; it stays in the text")]
    Malformed(YamlError),
    /// YAML, but not names and values.
    #[error("the front matter is no list of `name: value`; it stays in the text")]
    NotProperties,
}

/// Separates the front matter of a text from the rest.
///
/// The rest starts right after the closing line, with its blank lines.
pub fn split_front_matter(text: &str) -> FrontMatter {
    let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let none = |problem| FrontMatter { properties: Vec::new(), body_start: mark, lines: 0, problem };
    let Some(opening) = text[mark..].split_inclusive('\n').next().filter(|line| is_fence(line, true)) else {
        return none(None);
    };
    let yaml_start = mark + opening.len();
    let mut at = yaml_start;
    for (index, line) in text[yaml_start..].split_inclusive('\n').enumerate() {
        if at - yaml_start > MAX_FRONT_MATTER_BYTES {
            break;
        }
        if is_fence(line, false) {
            let rest = at + line.len();
            return match properties_of(&text[yaml_start..at]) {
                Ok(properties) => FrontMatter { properties, body_start: rest, lines: index + 2, problem: None },
                Err(problem) => none(Some(problem)),
            };
        }
        at += line.len();
    }
    // A rule across the page is a fine way to begin a note; only what looks like properties is worth a word.
    let looks_meant = text[yaml_start..].lines().next().is_some_and(|line| {
        line.split_once(':').is_some_and(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace))
    });
    none(looks_meant.then_some(FrontMatterProblem::Unclosed))
}

fn is_fence(line: &str, opening: bool) -> bool {
    let bare = line.trim_end_matches(['\n', '\r', ' ', '\t']);
    // An opening fence that ends the text opens nothing.
    bare == "---" && (!opening || line.ends_with('\n')) || (!opening && bare == "...")
}

fn properties_of(yaml: &str) -> Result<Vec<(String, Yaml)>, FrontMatterProblem> {
    match parse_yaml(yaml) {
        Ok(Yaml::Null) => Ok(Vec::new()),
        Ok(Yaml::Map(properties)) => Ok(properties),
        Ok(_) => Err(FrontMatterProblem::NotProperties),
        Err(error @ (YamlError::TooDeep | YamlError::TooBig)) => Err(FrontMatterProblem::TooLarge(error)),
        Err(error @ YamlError::Syntax(_)) => Err(FrontMatterProblem::Malformed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_starts_right_after_the_closing_line() {
        let text = "---\ntitle: Oak\n---\n\nBody";
        let split = split_front_matter(text);
        assert_eq!(split.properties, [("title".to_owned(), Yaml::Text("Oak".into()))]);
        assert_eq!((&text[split.body_start..], split.lines), ("\nBody", 3));
    }

    #[test]
    fn what_cannot_be_read_stays_in_the_text() {
        for text in ["---\na: [\n---\nx", "---\na: b\nx", "---\n- a\n---\nx", "---\nx: *a\n---\n"] {
            let split = split_front_matter(text);
            assert_eq!(split.body_start, 0, "{text}");
            assert!(split.problem.is_some(), "{text}");
        }
    }

    #[test]
    fn a_rule_across_the_page_is_no_front_matter() {
        let split = split_front_matter("---\nOnce upon a time");
        assert_eq!((split.body_start, split.problem), (0, None));
    }

    #[test]
    fn blank_and_windows_front_matter() {
        assert_eq!(split_front_matter("---\n---\nx").body_start, 8);
        assert_eq!(split_front_matter("---\n# only a comment\n---\nx").problem, None);
        let windows = "\u{feff}---\r\na: 1\r\n---\r\nx";
        let split = split_front_matter(windows);
        assert_eq!(split.properties, [("a".to_owned(), Yaml::Integer(1))]);
        assert_eq!(&windows[split.body_start..], "x");
    }
}
