//! A vault that changes between imports.

use std::path::Path;

use rand::Rng;
use rand::rngs::StdRng;

use crate::files::write;

/// How many files the vault has at most.
const FILES: u32 = 120;

/// Writes a few files anew: some are new, some are changed.
pub fn edit(folder: &Path, round: u32, rng: &mut StdRng) {
    for _ in 0..rng.random_range(3..12) {
        let number = rng.random_range(0..FILES);
        let other = rng.random_range(0..FILES);
        let text = format!(
            "---\ntags: [crash-vault]\nround: {round}\n---\n# Heading\n\nRound {round} of file {number}, see [[File {other}]].\n"
        );
        write(folder, &[(&format!("File {number}.md"), &text)]);
    }
}
