//! Looking through the files of a data folder.

use std::fs;
use std::path::{Path, PathBuf};

/// Every file below a folder. What vanishes meanwhile is left out.
pub fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Which of some words stand in which files, anywhere.
pub fn holding(folder: &Path, words: &[&str]) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for path in all(folder) {
        // Files are read once and searched as text, because both are quick even where tests are not optimised.
        let bytes = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let held = words.iter().filter(|word| text.contains(**word));
        found.extend(held.map(|word| ((*word).to_owned(), path.clone())));
    }
    found
}

/// Writes files, with the folders they lie in.
///
/// # Panics
/// When they cannot be written.
pub fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
    }
}
