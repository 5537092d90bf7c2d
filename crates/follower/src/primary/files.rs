//! The small files that a follower needs beside the log: who may ask, and how far what is published elsewhere has got.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tracing::warn;

use crate::wire::SentFile;

/// The files, by their paths in the data folder.
const FILES: [&str; 2] = ["tokens.json", "owner.token"];
/// The folder of which every file is sent.
const FOLDER: &str = "log/published";
/// The longest file.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// The most files of the folder.
const MAX_FILES: usize = 64;

/// What was sent of them: a hash for each.
#[derive(Debug, Default)]
pub(super) struct Sent(BTreeMap<String, blake3::Hash>);

impl Sent {
    /// The files that are not what was sent last.
    pub(super) fn changed(&mut self, data: &Path) -> Vec<SentFile> {
        let mut names: Vec<String> = FILES.iter().map(|name| (*name).to_owned()).collect();
        if let Ok(entries) = fs::read_dir(data.join(FOLDER)) {
            let files = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            names.extend(
                files.filter(|name| is_plain(name)).take(MAX_FILES).map(|name| format!("{FOLDER}/{name}")),
            );
        }
        names.into_iter().filter_map(|name| self.changed_one(data, name)).collect()
    }

    fn changed_one(&mut self, data: &Path, name: String) -> Option<SentFile> {
        let path = data.join(&name);
        let length = fs::metadata(&path).ok()?.len();
        if length > MAX_FILE_BYTES {
            warn!(name, length, "a file is too long for followers");
            return None;
        }
        let content = fs::read(&path).ok()?;
        let hash = blake3::hash(&content);
        (self.0.insert(name.clone(), hash) != Some(hash)).then_some(SentFile { name, content })
    }
}

/// Whether a follower may write a file of this name.
pub(crate) fn is_sent(name: &str) -> bool {
    FILES.contains(&name)
        || name.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/')).is_some_and(is_plain)
}

fn is_plain(name: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && !name.ends_with(".tmp")
        && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_writes_nothing_but_these_files() {
        for name in ["tokens.json", "owner.token", "log/published/kafka.json"] {
            assert!(is_sent(name), "{name}");
        }
        for name in
            ["brain.key", "cairn.toml", "../x", "log/published/../../x", "log/published/", "log/events.db", ""]
        {
            assert!(!is_sent(name), "{name}");
        }
    }

    #[test]
    fn what_has_not_changed_is_not_sent_again() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("tokens.json"), "[]").expect("written");
        let mut sent = Sent::default();
        assert_eq!(sent.changed(folder.path()).len(), 1);
        assert!(sent.changed(folder.path()).is_empty());
        fs::write(folder.path().join("tokens.json"), "[1]").expect("written");
        assert_eq!(sent.changed(folder.path()).len(), 1);
    }
}
