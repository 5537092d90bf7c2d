//! Refuses work that the disk has no room for.
//!
//! The engine writes through memory maps of files with holes. Where the file system cannot fill a
//! hole any more, the process dies at once, and with it everything else the node does. So there must
//! be room before anything is written.

use std::fs;
use std::io;
use std::path::Path;

use super::SearchError;

/// The room that must be left before a batch is written, in bytes. A batch takes a few megabytes; the
/// rest is for what others write to the same disk meanwhile.
pub const LEAST_ROOM: u64 = 64 * 1024 * 1024;

/// Checks that a batch can be written.
pub(super) fn for_batch(folder: &Path) -> Result<(), SearchError> {
    check(folder, LEAST_ROOM)
}

/// Checks that everything can be written once more, as an optimisation does at worst.
pub(super) fn for_optimization(folder: &Path) -> Result<(), SearchError> {
    let size = size(folder).map_err(|source| SearchError::io(folder, source))?;
    check(folder, LEAST_ROOM + size)
}

fn check(folder: &Path, needed: u64) -> Result<(), SearchError> {
    let free = free(folder).map_err(|source| SearchError::io(folder, source))?;
    if free < needed {
        return Err(SearchError::NoRoom { folder: folder.to_owned(), free, needed });
    }
    Ok(())
}

#[cfg(unix)]
fn free(folder: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(folder)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

#[cfg(not(unix))]
fn free(_folder: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}

/// The room a folder takes, without the holes of its files.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Files of the engine come and go while they are counted.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { size(&entry.path())? } else { used(&metadata) };
    }
    Ok(bytes)
}

#[cfg(unix)]
fn used(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.blocks() * 512
}

#[cfg(not(unix))]
fn used(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}
