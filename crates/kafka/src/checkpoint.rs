//! How far a publisher has got, kept where a restart finds it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use cairn_event_store::Position;
use parking_lot::Mutex;

/// The longest name of a checkpoint, in bytes.
pub const MAX_CHECKPOINT_NAME_BYTES: usize = 100;

/// Positions by name, each kept durably.
///
/// Invariants: a position is durable when `save` returns; a kill during `save` leaves the old position or the new
/// one; a position that cannot be read is an error, never "none". One publisher at a time uses a name.
#[async_trait]
pub trait Checkpoints: Send + Sync + 'static {
    /// The position saved last; `None` when there is none.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    async fn load(&self, name: &str) -> Result<Option<Position>, CheckpointError>;

    /// Saves a position in place of the earlier one.
    ///
    /// # Errors
    /// See [`CheckpointError`]. The earlier position or this one is kept.
    async fn save(&self, name: &str, position: Position) -> Result<(), CheckpointError>;
}

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It may go well later: a full disk, a database that is away.
    #[error("the checkpoint {name} cannot be reached: {reason}")]
    Unavailable {
        /// Which one.
        name: String,
        /// Why, in words for an operator.
        reason: String,
    },
    /// What is kept is no position. It must be mended or deleted by hand.
    #[error("the checkpoint {name} is damaged: {reason}")]
    Corrupt {
        /// Which one.
        name: String,
        /// What is wrong with it, and where it is kept.
        reason: String,
    },
}

/// Checkpoints in a folder, a small file each: `<name>.checkpoint` holds the position in decimal digits.
#[derive(Debug, Clone)]
pub struct FileCheckpoints {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Held while a file is replaced: two that replace the same one would share its temporary file.
    replacing: Mutex<()>,
}

impl FileCheckpoints {
    /// Checkpoints in this folder, which is made where it does not exist.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let path = folder.into();
        fs::create_dir_all(&path)?;
        Ok(Self { folder: Arc::new(Folder { path, replacing: Mutex::new(()) }) })
    }

    /// Runs file work where it holds nobody up.
    async fn work<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Folder, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let unavailable = |reason: String| CheckpointError::Unavailable { name: name.to_owned(), reason };
        if !is_plain(name) {
            return Err(unavailable("its name must be 1 to 100 of a-z, A-Z, 0-9, `.`, `_` and `-`".into()));
        }
        let path = self.folder.path.join(format!("{name}.checkpoint"));
        let folder = Arc::clone(&self.folder);
        let done = tokio::task::spawn_blocking(move || work(&folder, &path)).await;
        done.map_err(|error| unavailable(error.to_string()))?.map_err(|error| unavailable(error.to_string()))
    }
}

#[async_trait]
impl Checkpoints for FileCheckpoints {
    async fn load(&self, name: &str) -> Result<Option<Position>, CheckpointError> {
        let read = self.work(name, |_, path| match fs::read_to_string(path) {
            Ok(text) => Ok(Some((text, path.display().to_string()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        let Some((text, path)) = read.await? else { return Ok(None) };
        let position = text.trim_ascii().parse().map_err(|_| CheckpointError::Corrupt {
            name: name.to_owned(),
            reason: format!(
                "{path} holds no number; write the position into it, or delete it to publish all again"
            ),
        })?;
        Ok(Some(Position(position)))
    }

    async fn save(&self, name: &str, position: Position) -> Result<(), CheckpointError> {
        self.work(name, move |folder, path| {
            let _replacing = folder.replacing.lock();
            replace(path, format!("{position}\n").as_bytes())
        })
        .await
    }
}

/// Whether a name can be the name of a file anywhere.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=MAX_CHECKPOINT_NAME_BYTES).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.')
}

/// Replaces a file as a whole, durably: whoever reads it, also after a kill, sees the old one or the new one.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("checkpoint-new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = path.parent().expect("the file lies in a folder");
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_position_is_found_again_and_names_do_not_mix() {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoints = FileCheckpoints::open(folder.path().join("new")).expect("opens");
        assert_eq!(checkpoints.load("kafka").await.expect("loads"), None);
        checkpoints.save("kafka", Position(7)).await.expect("saves");
        checkpoints.save("kafka", Position(9)).await.expect("saves");
        checkpoints.save("kafka.new", Position(1)).await.expect("saves");
        let again = FileCheckpoints::open(folder.path().join("new")).expect("opens");
        assert_eq!(again.load("kafka").await.expect("loads"), Some(Position(9)));
        assert_eq!(again.load("kafka.new").await.expect("loads"), Some(Position(1)));
    }

    #[tokio::test]
    async fn what_is_no_position_is_an_error_and_not_the_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
        fs::write(folder.path().join("kafka.checkpoint"), "12x").expect("writes");
        assert!(matches!(checkpoints.load("kafka").await, Err(CheckpointError::Corrupt { .. })));
        fs::write(folder.path().join("kafka.checkpoint"), "").expect("writes");
        assert!(matches!(checkpoints.load("kafka").await, Err(CheckpointError::Corrupt { .. })));
    }

    #[tokio::test]
    async fn a_name_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoints = FileCheckpoints::open(folder.path()).expect("opens");
        for name in ["", "../up", "a/b", ".hidden", &"x".repeat(101)] {
            assert!(checkpoints.save(name, Position(1)).await.is_err(), "{name}");
        }
    }
}
