//! Keeps the engine's own write-ahead log from growing for ever.
//!
//! The engine numbers every operation in that log but, embedded, never replays and never shortens it.
//! What it needs is the numbering: the open file and the newest closed one. The content of older ones
//! is given back to the file system, while it runs by punching holes, before it starts by deleting.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FOLDER: &str = "wal";
const CLOSED: &str = "closed-";

/// Deletes the closed files that a load does not need. Only before the engine opens the folder.
pub(super) fn delete_old(index: &Path) -> io::Result<()> {
    for path in old(index)? {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Gives the room of closed files back while the engine runs; it keeps them mapped but reads them no
/// more. Failing costs nothing but room, which the next start frees.
pub(super) fn release_old(index: &Path) {
    let Ok(files) = old(index) else { return };
    for path in files {
        if let Err(error) = release(&path) {
            tracing::debug!(%error, path = %path.display(), "the old log file keeps its room until the next start");
        }
    }
}

/// The number of the newest closed file; it changes whenever the open file is full and another one is begun.
pub(super) fn newest_closed(index: &Path) -> io::Result<Option<u64>> {
    Ok(closed(index)?.pop().map(|(number, _)| number))
}

/// The closed files but for the newest.
fn old(index: &Path) -> io::Result<Vec<PathBuf>> {
    let mut closed = closed(index)?;
    closed.pop();
    Ok(closed.into_iter().map(|(_, path)| path).collect())
}

/// The closed files, by the number in their names.
fn closed(index: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let folder = index.join(FOLDER);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut closed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(CLOSED)?.parse::<u64>().ok());
        closed.extend(number.map(|number| (number, entry.path())));
    }
    closed.sort_unstable();
    Ok(closed)
}

#[cfg(target_os = "linux")]
fn release(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{FallocateFlags, fallocate};

    let metadata = fs::metadata(path)?;
    if metadata.blocks() == 0 {
        return Ok(());
    }
    let file = fs::OpenOptions::new().write(true).open(path)?;
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, metadata.len())?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn release(_path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
