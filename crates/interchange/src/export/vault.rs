//! Writing a Markdown vault.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cairn_domain::id::MemoryId;
use serde::{Deserialize, Serialize};

use super::{ExportError, ExportHead, ExportedMemory, Layout, front_matter};

/// The file that tells a folder made by an export from any other. It lists what the export wrote.
pub const MARKER_FILE: &str = ".cairn-export.json";

/// The largest marker that is read, in bytes.
const MAX_MARKER_BYTES: u64 = 512 * 1024 * 1024;

/// The version of the marker's form.
const MARKER_VERSION: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Marker {
    version: u32,
    files: Vec<String>,
}

/// What an export wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// Files written, one for each memory.
    pub written: usize,
    /// Files of an earlier export into the same folder whose memories are gone or have moved.
    pub removed: usize,
}

/// A Markdown vault on its way.
///
/// The folder must be new, empty, or made by an earlier export; then what that export wrote is replaced. Every file
/// is written beside its place and moved there, so that a reader never sees half of one. Nothing is written
/// outside the folder: names are made from titles without separators, and a symbolic link in the place of a
/// folder is refused.
#[derive(Debug)]
pub struct MarkdownExport {
    root: PathBuf,
    layout: Layout,
    earlier: Vec<String>,
    written: Vec<String>,
    done: HashSet<MemoryId>,
}

impl MarkdownExport {
    /// Prepares the folder and finds a place for every memory.
    ///
    /// # Errors
    /// When the folder holds something that no export wrote, or cannot be written.
    pub fn begin(folder: &Path, heads: impl IntoIterator<Item = ExportHead>) -> Result<Self, ExportError> {
        let mut builder = fs::DirBuilder::new();
        // For the owner's eyes alone; one that is there already keeps its mode.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(folder).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                ExportError::InTheWay(folder.to_owned())
            }
            _ => failed(folder, source),
        })?;
        let root = folder.canonicalize().map_err(|source| failed(folder, source))?;
        let earlier = earlier_files(&root)?;
        let layout = Layout::new(heads);
        // The marker comes first and names all that may get written: an export that is interrupted can be begun again.
        let planned = layout.paths().map(|path| format!("{path}.md")).chain(earlier.iter().cloned());
        write_marker(&root, planned.collect())?;
        Ok(Self { root, layout, earlier, written: Vec::new(), done: HashSet::new() })
    }

    /// Writes one memory.
    ///
    /// # Errors
    /// When it was not announced to [`MarkdownExport::begin`], or its file cannot be written.
    pub fn write(&mut self, memory: &ExportedMemory) -> Result<(), ExportError> {
        let path = self.layout.path(memory.id).ok_or(ExportError::Unannounced(memory.id))?;
        let path = format!("{path}.md");
        let folder = self.root.join(path.split('/').next().unwrap_or_default());
        match fs::symlink_metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(ExportError::InTheWay(folder)),
            Err(_) => fs::create_dir(&folder).map_err(|source| failed(&folder, source))?,
        }
        write_atomically(&self.root.join(&path), front_matter::file(memory, &self.layout).as_bytes())?;
        if self.done.insert(memory.id) {
            self.written.push(path);
        }
        Ok(())
    }

    /// Removes what an earlier export wrote and this one did not, and closes the marker.
    ///
    /// # Errors
    /// When a file cannot be removed or the marker cannot be written.
    pub fn finish(self) -> Result<ExportReport, ExportError> {
        let kept: HashSet<&str> = self.written.iter().map(String::as_str).collect();
        let stale: Vec<PathBuf> = self
            .earlier
            .iter()
            .filter(|path| !kept.contains(path.as_str()) && is_own_path(path))
            .map(|path| self.root.join(path))
            .filter(|path| is_plain_file(path))
            .collect();
        for path in &stale {
            fs::remove_file(path).map_err(|source| failed(path, source))?;
        }
        let report = ExportReport { written: self.written.len(), removed: stale.len() };
        write_marker(&self.root, self.written)?;
        Ok(report)
    }
}

fn write_marker(root: &Path, mut files: Vec<String>) -> Result<(), ExportError> {
    files.sort();
    files.dedup();
    let path = root.join(MARKER_FILE);
    let mut json = serde_json::to_vec(&Marker { version: MARKER_VERSION, files })
        .map_err(|source| failed(&path, io::Error::other(source)))?;
    json.push(b'\n');
    write_atomically(&path, &json)
}

/// What an earlier export wrote into a folder; an error if the folder is not one an export may use.
fn earlier_files(root: &Path) -> Result<Vec<String>, ExportError> {
    let marker = root.join(MARKER_FILE);
    match fs::symlink_metadata(&marker) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_MARKER_BYTES => {
            let bytes = fs::read(&marker).map_err(|source| failed(&marker, source))?;
            let marker: Option<Marker> = serde_json::from_slice(&bytes).ok();
            return marker
                .filter(|marker| marker.version == MARKER_VERSION)
                .map(|marker| marker.files)
                .ok_or_else(|| ExportError::NotEmpty(root.to_owned()));
        }
        Ok(_) => return Err(ExportError::InTheWay(marker)),
        Err(_) => {}
    }
    let mut entries = fs::read_dir(root).map_err(|source| failed(root, source))?;
    match entries.next() {
        None => Ok(Vec::new()),
        Some(_) => Err(ExportError::NotEmpty(root.to_owned())),
    }
}

/// Whether a path of a marker is one that an export can have written: a folder of its own and a file.
fn is_own_path(path: &str) -> bool {
    let own =
        |folder: &str| cairn_domain::kind::Kind::ALL.iter().any(|kind| super::layout::folder(*kind) == folder);
    match path.split_once('/') {
        Some((folder, file)) => {
            own(folder) && file.ends_with(".md") && !file.contains(['/', '\\', '\0']) && !file.starts_with('.')
        }
        None => false,
    }
}

/// Whether a path leads to a regular file through a real folder.
fn is_plain_file(path: &Path) -> bool {
    let real = |path: &Path| fs::symlink_metadata(path).ok();
    path.parent().and_then(real).is_some_and(|folder| folder.is_dir())
        && real(path).is_some_and(|file| file.is_file())
}

/// Writes a file beside its place and moves it there. What stands there is replaced, also when it is a link.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let folder = path.parent().expect("a file of an export is in the export's folder");
    let beside = folder.join(format!(".cairn-export-{}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
        file.write_all(bytes)?;
        drop(file);
        fs::rename(&beside, path)
    };
    write().map_err(|source| {
        // The first error is the one to tell; what is left beside is hidden and replaced next time.
        let _ = fs::remove_file(&beside);
        failed(path, source)
    })
}

fn failed(path: &Path, source: io::Error) -> ExportError {
    ExportError::Io { path: path.to_owned(), source }
}
