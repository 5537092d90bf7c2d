//! A vault on disk: which files there are, and reading one of them safely.
//!
//! Nothing outside the root is ever read. Symbolic links are named and skipped, inside the root too: what they
//! point to there is found under its own name, and what they point to elsewhere is none of the vault's. A
//! link that appears between listing and reading is refused as well, because a file is opened without
//! following links and must still be the one that was listed.

mod load;
mod settings;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::problem::Problem;

pub use settings::Settings;

/// The largest file that is read, in bytes. A note larger than this is an export of something else.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The deepest nesting of folders that is entered.
pub const MAX_DEPTH: usize = 64;

/// The most entries of a vault that are looked at.
pub const MAX_FILES: usize = 1_000_000;

/// Which program keeps the vault; it decides how links and properties are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// A folder with `.obsidian`.
    Obsidian,
    /// A folder with `logseq`, or with both `pages` and `journals`.
    Logseq,
    /// Any other folder of Markdown files; read as Obsidian would.
    Plain,
}

/// How to scan.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// The flavour, when the owner knows better than the folder shows.
    pub flavour: Option<Flavour>,
}

/// Why a vault cannot be scanned at all.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// There is nothing at the path.
    #[error("there is no folder `{0}`; check the spelling of the path")]
    NotFound(PathBuf),
    /// The path is not a folder.
    #[error("`{0}` is not a folder; name the folder that holds the notes")]
    NotAFolder(PathBuf),
    /// The folder cannot be read.
    #[error("the folder `{path}` cannot be read; check its permissions")]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A file of a vault that holds a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultFile {
    /// Relative to the root, with `/` between its parts, as the file system spells it.
    pub path: String,
    /// Its length in bytes when it was listed.
    pub size: u64,
    /// When it was last modified, if the file system says.
    pub modified: Option<SystemTime>,
    identity: load::Identity,
}

/// A file's content, read while nobody changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileText {
    /// Relative to the root, with `/` between its parts.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// BLAKE3 of the bytes, in hexadecimal.
    pub digest: String,
    /// The length in bytes.
    pub size: u64,
    /// When it was last modified, if the file system says.
    pub modified: Option<SystemTime>,
}

/// What a vault holds.
#[derive(Debug)]
pub struct Scan {
    /// The folder, absolute and without links.
    pub root: PathBuf,
    /// What the vault's own settings say.
    pub settings: Settings,
    /// The notes, by path.
    pub files: Vec<VaultFile>,
    /// Every other file that is not hidden, by path: images and the like.
    pub attachments: Vec<String>,
    /// What was left out.
    pub problems: Vec<Problem>,
}

/// The entry to a vault.
#[derive(Debug)]
pub struct Vault;

impl Vault {
    /// Lists a vault without reading its notes.
    ///
    /// Hidden files and folders (so `.trash` too), Logseq's own `logseq` folder and Obsidian's folder of
    /// templates are left out.
    ///
    /// # Errors
    /// When the root is missing, is no folder or cannot be read. Whatever is wrong below it is a problem of
    /// the scan instead.
    pub fn scan(root: &Path, options: &ScanOptions) -> Result<Scan, ScanError> {
        let canonical = root.canonicalize().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ScanError::NotFound(root.to_owned()),
            _ => ScanError::Unreadable { path: root.to_owned(), source },
        })?;
        if !canonical.is_dir() {
            return Err(ScanError::NotAFolder(root.to_owned()));
        }
        std::fs::read_dir(&canonical).map_err(|source| ScanError::Unreadable { path: root.to_owned(), source })?;
        let settings = Settings::of(&canonical, options.flavour);
        Ok(walk::walk(canonical, settings))
    }
}

impl Scan {
    /// Reads one file of the scan.
    ///
    /// # Errors
    /// When the file is too large, is not UTF-8, is no longer the file that was listed, cannot be read, or
    /// changes while it is read, twice.
    pub fn read(&self, file: &VaultFile) -> Result<FileText, Problem> {
        load::load(&self.root, file)
    }
}
