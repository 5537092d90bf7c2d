//! Keys and titles from paths.

use std::collections::{HashMap, HashSet};

use unicode_normalization::UnicodeNormalization;

use super::FileReading;
use crate::markdown::{floor_boundary, percent_decoded};
use crate::problem::{Problem, ProblemCode};
use crate::vault::Flavour;
use cairn_domain::kind::Kind;

/// The longest title that is made of a file's name, in bytes.
const MAX_TITLE_BYTES: usize = 500;

/// The key of a file: its path without the extension, in normal form C.
pub(super) fn key(path: &str) -> String {
    let stem = match path.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') && !stem.is_empty() && !stem.ends_with('/') => stem,
        _ => path,
    };
    stem.nfc().collect()
}

/// The title that a file's name gives.
pub(super) fn title_of(key: &str, flavour: Flavour) -> String {
    let name = key.rsplit('/').next().unwrap_or(key);
    let title = match flavour {
        Flavour::Logseq => percent_decoded(&name.replace("___", "/")),
        Flavour::Obsidian | Flavour::Plain => name.to_owned(),
    };
    title[..floor_boundary(&title, MAX_TITLE_BYTES)].trim().to_owned()
}

/// Further names that Logseq's older rules for file names stand for: `a.b` and `a%2Fb` for `a/b`, and `_` for
/// whatever a file name could not hold.
pub(crate) fn alternative_names(key: &str) -> Vec<String> {
    let name = key.rsplit('/').next().unwrap_or(key);
    let decoded = percent_decoded(name);
    let mut names = vec![decoded.replace('.', "/"), decoded.replace('_', " "), decoded];
    names.retain(|other| other != name);
    names.dedup();
    names
}

/// Sees to it that no two files are one memory: of several with one key, one stated id or one day the first
/// keeps it.
pub(super) fn make_unique(files: &mut [FileReading]) {
    let mut keys: HashSet<String> = HashSet::with_capacity(files.len());
    let mut ids = HashMap::new();
    let mut days = HashMap::new();
    for file in files {
        if !keys.insert(file.memory.key.clone()) {
            // The whole path, in the form the file system has it, differs by its extension or normal form.
            let own = file.path.clone();
            for task in &mut file.tasks {
                task.key = format!("{own}{}", &task.key[file.memory.key.len()..]);
            }
            file.memory.key.clone_from(&own);
            keys.insert(own);
        }
        if let Some(id) = file.memory.id {
            if let Some(first) = ids.get(&id) {
                let message = format!("it states the id of `{first}` and got one of its own");
                file.problems.push(Problem::new(&file.path, ProblemCode::DuplicateId, message));
                file.memory.id = None;
            } else {
                ids.insert(id, file.path.clone());
            }
        }
        // Also where it states an id: that of a daily log follows from its day.
        if let Some(day) = file.memory.log_date {
            if let Some(first) = days.get(&day) {
                let message = format!("`{first}` is the log of {day} already, so this is a note");
                file.problems.push(Problem::new(&file.path, ProblemCode::DuplicateDaily, message));
                file.memory.kind = Kind::Note;
                file.memory.log_date = None;
                file.memory.id = None;
            } else {
                days.insert(day, file.path.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_paths_without_extensions() {
        assert_eq!(key("Notes/a.b.md"), "Notes/a.b");
        assert_eq!(key("A\u{30a}sa.md"), "\u{c5}sa");
        assert_eq!(key("x.d/.md"), "x.d/.md");
    }

    #[test]
    fn logseq_encodes_what_file_names_cannot_hold() {
        assert_eq!(title_of("pages/New to Logseq%3F", Flavour::Logseq), "New to Logseq?");
        assert_eq!(title_of("pages/term___page title", Flavour::Logseq), "term/page title");
        assert_eq!(title_of("a___b", Flavour::Obsidian), "a___b");
    }
}
