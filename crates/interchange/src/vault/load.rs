//! Reading one file while its owner may be writing it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use super::{FileText, MAX_FILE_BYTES, VaultFile};
use crate::problem::{Problem, ProblemCode};

/// How often a file that changes while it is read is tried.
const ATTEMPTS: usize = 2;

/// What tells one file from another that later stands at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
}

impl Identity {
    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Self {
        // The inode is left out on purpose: editors save by putting a new file in the old one's place. The
        // device and the path's own parents are what keep the file inside the vault.
        Self { device: std::os::unix::fs::MetadataExt::dev(metadata) }
    }

    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> Self {
        Self { device: 0 }
    }
}

enum Attempt {
    Read(Vec<u8>, Metadata),
    Changed,
    Refused(ProblemCode, String),
}

pub(super) fn load(root: &Path, file: &VaultFile) -> Result<FileText, Problem> {
    load_with(root, file, &mut || ())
}

/// `after_read` runs between reading and looking whether the file changed; tests change it there.
fn load_with(root: &Path, file: &VaultFile, after_read: &mut dyn FnMut()) -> Result<FileText, Problem> {
    let problem = |code, message: String| Problem { path: file.path.clone(), code, message };
    for _ in 0..ATTEMPTS {
        match attempt(root, file, after_read) {
            Attempt::Changed => {}
            Attempt::Refused(code, message) => return Err(problem(code, message)),
            Attempt::Read(bytes, metadata) => {
                let digest = blake3::hash(&bytes).to_hex().to_string();
                let text = String::from_utf8(bytes).map_err(|error| {
                    let at = error.utf8_error().valid_up_to();
                    problem(
                        ProblemCode::InvalidUtf8,
                        format!("it is not valid UTF-8 from byte {at} on; save it as UTF-8"),
                    )
                })?;
                return Ok(FileText {
                    path: file.path.clone(),
                    size: text.len() as u64,
                    text,
                    digest,
                    modified: metadata.modified().ok(),
                });
            }
        }
    }
    Err(problem(
        ProblemCode::ChangedWhileRead,
        "it changed while it was read, twice; import again when it is at rest".to_owned(),
    ))
}

fn attempt(root: &Path, file: &VaultFile, after_read: &mut dyn FnMut()) -> Attempt {
    let path = root.join(&file.path);
    match read_whole(root, &path, file.identity) {
        Err(error) => Attempt::Refused(ProblemCode::Unreadable, format!("it cannot be read: {error}")),
        Ok(Err(refused)) => refused,
        Ok(Ok((handle, bytes, before))) => {
            after_read();
            let unchanged = handle
                .metadata()
                .is_ok_and(|after| after.len() == before.len() && after.modified().ok() == before.modified().ok());
            if unchanged && bytes.len() as u64 == before.len() {
                Attempt::Read(bytes, before)
            } else {
                Attempt::Changed
            }
        }
    }
}

type Whole = (File, Vec<u8>, Metadata);

fn read_whole(root: &Path, path: &Path, listed: Identity) -> io::Result<Result<Whole, Attempt>> {
    let refused = |code, message: String| Ok(Err(Attempt::Refused(code, message)));
    // A folder on the way may have become a link since the vault was listed.
    let inside = path
        .parent()
        .is_some_and(|parent| parent.canonicalize().is_ok_and(|real| real == parent && real.starts_with(root)));
    if !inside {
        return refused(ProblemCode::SymlinkSkipped, "its folder now leads elsewhere".to_owned());
    }
    let mut handle = open(path)?;
    let before = handle.metadata()?;
    if !before.is_file() || Identity::of(&before) != listed {
        return refused(ProblemCode::NotAFile, "another kind of file took its place".to_owned());
    }
    if before.len() > MAX_FILE_BYTES {
        let message = format!(
            "it has {} bytes, more than the {MAX_FILE_BYTES} a note may have; it was skipped",
            before.len()
        );
        return refused(ProblemCode::TooLarge, message);
    }
    let mut bytes = Vec::with_capacity(before.len() as usize);
    (&mut handle).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(Ok((handle, bytes, before)))
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Without NONBLOCK, opening a pipe would wait for a writer for ever.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::{ScanOptions, Vault};

    fn vault_with(name: &str, bytes: &[u8]) -> (tempfile::TempDir, crate::vault::Scan) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let scan = Vault::scan(folder.path(), &ScanOptions::default()).unwrap();
        (folder, scan)
    }

    #[test]
    fn a_file_that_changes_once_is_read_again() {
        let (_folder, scan) = vault_with("a.md", b"before");
        let path = scan.root.join("a.md");
        let mut first = true;
        let read = load_with(&scan.root, &scan.files[0], &mut || {
            if std::mem::take(&mut first) {
                std::fs::write(&path, "after it").unwrap();
            }
        });
        assert_eq!(read.unwrap().text, "after it");
    }

    #[test]
    fn a_file_that_keeps_changing_is_named() {
        let (_folder, scan) = vault_with("a.md", b"");
        let path = scan.root.join("a.md");
        let mut text = String::new();
        let problem = load_with(&scan.root, &scan.files[0], &mut || {
            text.push('x');
            std::fs::write(&path, &text).unwrap();
        })
        .unwrap_err();
        assert_eq!((problem.path.as_str(), problem.code), ("a.md", ProblemCode::ChangedWhileRead));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_became_a_link_is_not_followed() {
        let (_folder, scan) = vault_with("a.md", b"mine");
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::remove_file(scan.root.join("a.md")).unwrap();
        std::os::unix::fs::symlink(secret.path(), scan.root.join("a.md")).unwrap();
        assert_eq!(scan.read(&scan.files[0]).unwrap_err().code, ProblemCode::Unreadable);
    }
}
