//! The data folder: what lies where, who may use it, and which version wrote it.
//!
//! ```text
//! VERSION        the version of this layout
//! lock           held by the process that uses the folder
//! brain.key      the brain's ed25519 seed (0600)
//! sharing.key    the one that signs for it among others, once that is another one (0600)
//! owner.token    the owner's token (0600)
//! tokens.json    hashes of all tokens (0600), where they are not in a database
//! node.json      where the running node answers
//! log/           events.db, keys.db: the only things that cannot be made anew; notary/: what proves them;
//!                kurrentdb.db: the copy of a log that is in KurrentDB
//! read/          read models, a file for each generation; BRAIN: whose they are
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version of the layout that this program writes.
pub const LAYOUT_VERSION: u32 = 1;

/// Where in it the event log is.
pub const EVENTS: &str = "log/events.db";
/// Where in it the copy of a log is that is in KurrentDB.
pub const KURRENTDB_COPY: &str = "log/kurrentdb.db";

/// An opened data folder. Nobody else can open it while this lives.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    lock: File,
}

/// Where a running node answers, as `node.json` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its base URL.
    pub url: String,
    /// Its process.
    pub pid: u32,
    /// Its brain.
    pub brain: Uuid,
}

/// The brain's identity.
pub struct Identity {
    /// The key it signs with.
    pub key: SigningKey,
    /// The brain's id, derived from the public key.
    pub brain: Uuid,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// Another process uses it.
    #[error("{path} is in use by another cairn process; stop it, or name another folder with --data")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error("{path} has layout version {found}, this program knows {LAYOUT_VERSION}; start a newer cairn")]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It holds other things.
    #[error("{path} is not empty and not a cairn data folder; name another folder with --data")]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// A file in it is damaged.
    #[error("{path} is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no key, and this process must not make one.
    #[error(
        "{path}, the brain's key, is missing, and without it this process would begin a brain of its own; copy the key there, or \
         name it in CAIRN_BRAIN_KEY"
    )]
    NoIdentity {
        /// Where it should be.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("{path} cannot be used")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataFolder {
    /// Opens a data folder for this process alone; makes it if it does not exist.
    ///
    /// # Errors
    /// See [`DataFolderError`].
    pub fn open(path: &Path) -> Result<Self, DataFolderError> {
        let failed = |source| DataFolderError::Io { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let version_file = path.join("VERSION");
        match fs::read_to_string(&version_file) {
            Ok(text) => check_version(path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let known = ["lock", crate::config::CONFIG_FILE];
                let foreign = fs::read_dir(path)
                    .map_err(failed)?
                    .flatten()
                    .any(|entry| !known.iter().any(|name| entry.file_name() == *name));
                if foreign {
                    return Err(DataFolderError::Foreign { path: path.to_owned() });
                }
            }
            Err(error) => return Err(failed(error)),
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(DataFolderError::InUse { path: path.to_owned() }),
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        if !version_file.exists() {
            write_private(&version_file, format!("{LAYOUT_VERSION}\n").as_bytes())?;
        }
        for folder in ["log", "read"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join(folder)).map_err(failed)?;
        }
        Ok(Self { path: path.to_owned(), lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The event log.
    pub fn events(&self) -> PathBuf {
        self.path.join(EVENTS)
    }

    /// The copy of a log that is in KurrentDB.
    pub fn kurrentdb_copy(&self) -> PathBuf {
        self.path.join(KURRENTDB_COPY)
    }

    /// The keys that memories are sealed with.
    pub fn keys(&self) -> PathBuf {
        self.path.join("log/keys.db")
    }

    /// What the notary keeps.
    pub fn notary(&self) -> PathBuf {
        self.path.join("log/notary")
    }

    /// How far what is published elsewhere has got.
    pub fn published(&self) -> PathBuf {
        self.path.join("log/published")
    }

    /// The key that signs for the brain among others, once that is not its first any more.
    pub fn sharing_key(&self) -> PathBuf {
        self.path.join("sharing.key")
    }

    /// The read models.
    pub fn read(&self) -> PathBuf {
        self.path.join("read")
    }

    /// The hashes of all tokens.
    pub fn tokens(&self) -> PathBuf {
        self.path.join("tokens.json")
    }

    /// The owner's token.
    pub fn owner_token(&self) -> PathBuf {
        self.path.join("owner.token")
    }

    /// The brain's identity, from the file named or from the folder's own; the latter is made at the first start of a brain's
    /// first process.
    ///
    /// # Errors
    /// When the key file is damaged, or missing although it was named, there was a brain here before, or the process must
    /// `share` the brain of others.
    pub fn identity(&self, named: Option<&Path>, share: bool) -> Result<Identity, DataFolderError> {
        let path = named.map_or_else(|| self.path.join("brain.key"), Path::to_owned);
        let may_be_made = named.is_none() && !share && !self.is_in_use();
        let seed = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_be_made => {
                let mut seed = [0_u8; 32];
                getrandom::fill(&mut seed).map_err(|error| DataFolderError::Io {
                    path: path.clone(),
                    source: io::Error::other(error.to_string()),
                })?;
                let text = hex::encode(seed);
                write_private(&path, text.as_bytes())?;
                text
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DataFolderError::NoIdentity { path });
            }
            Err(source) => return Err(DataFolderError::Io { path, source }),
        };
        let bytes: [u8; 32] =
            hex::decode(seed.trim()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
                DataFolderError::Damaged { path, reason: "it is not a key of 64 hexadecimal digits".into() }
            })?;
        Ok(Identity::of(&bytes))
    }

    /// Makes sure that the read models here are of this brain: a folder that stayed behind when another brain was restored into it
    /// would answer with what that other one knew. What is of another is deleted, and folded again from the log.
    ///
    /// # Errors
    /// When it cannot be found out, or not be deleted.
    pub fn own_read_models(&self, brain: Uuid) -> Result<(), DataFolderError> {
        let mark = self.read().join("BRAIN");
        let failed = |source| DataFolderError::Io { path: mark.clone(), source };
        match fs::read_to_string(&mark) {
            Ok(text) if text.trim() == brain.to_string() => return Ok(()),
            Ok(_) => {
                tracing::warn!("the read models of this folder are of another brain; they are folded anew");
                for entry in fs::read_dir(self.read()).map_err(failed)? {
                    let path = entry.map_err(failed)?.path();
                    let deleted = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                    deleted.map_err(|source| DataFolderError::Io { path, source })?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        write_private(&mark, brain.to_string().as_bytes())
    }

    /// Whether a brain has written here: a log, or proofs of one that is elsewhere.
    fn is_in_use(&self) -> bool {
        let leaves = fs::metadata(self.notary().join("leaves"));
        self.events().exists() || self.kurrentdb_copy().exists() || leaves.is_ok_and(|leaves| leaves.len() > 0)
    }

    /// Says where the node answers, so that the command line finds it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce(&self, running: &Running) -> Result<(), DataFolderError> {
        let text = serde_json::to_vec_pretty(running).expect("plain fields");
        write_private(&self.path.join("node.json"), &text)
    }

    /// Lets others open it, although this lives. To be called when nothing in it is used any more.
    pub fn let_go(&self) {
        // It fails only where the lock is gone already.
        let _ = self.lock.unlock();
    }

    /// Takes the announcement back.
    pub fn withdraw(&self) {
        let _ = fs::remove_file(self.path.join("node.json"));
    }
}

impl Identity {
    /// The identity that has this seed.
    pub fn of(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let brain = Uuid::new_v5(&Uuid::NAMESPACE_OID, key.verifying_key().as_bytes());
        Self { key, brain }
    }

    /// The key that wraps the keys of memories: derived from the brain's, so there is one secret to keep safe.
    pub fn wrapping_key(&self) -> [u8; 32] {
        blake3::derive_key("cairn 2026-11 memory key wrapping", self.key.as_bytes())
    }
}

fn check_version(path: &Path, text: &str) -> Result<(), DataFolderError> {
    match text.trim().parse::<u32>() {
        Ok(found) if found > LAYOUT_VERSION => Err(DataFolderError::Newer { path: path.to_owned(), found }),
        Ok(_) => Ok(()),
        Err(_) => Err(DataFolderError::Damaged {
            path: path.join("VERSION"),
            reason: "it does not hold a version number".into(),
        }),
    }
}

/// Writes a file that only its owner can read: whole or not at all, and durable.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), DataFolderError> {
    let failed = |source| DataFolderError::Io { path: path.to_owned(), source };
    let temporary = path.with_extension("tmp");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    match path.parent() {
        Some(folder) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_serves_one_process_at_a_time() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("data");
        let first = DataFolder::open(&path).expect("opens");
        assert!(matches!(DataFolder::open(&path), Err(DataFolderError::InUse { .. })));
        drop(first);
        DataFolder::open(&path).expect("free again");
    }

    #[test]
    fn a_folder_of_a_newer_version_or_of_something_else_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::write(folder.path().join("VERSION"), "99\n").expect("write");
        assert!(matches!(DataFolder::open(folder.path()), Err(DataFolderError::Newer { found: 99, .. })));
        let other = tempfile::tempdir().expect("temporary folder");
        fs::write(other.path().join("thesis.tex"), "").expect("write");
        assert!(matches!(DataFolder::open(other.path()), Err(DataFolderError::Foreign { .. })));
    }

    #[test]
    fn read_models_of_another_brain_are_deleted() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let data = DataFolder::open(&folder.path().join("data")).expect("opens");
        let index = data.read().join("search/1");
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        fs::create_dir_all(&index).expect("made");
        for brain in [one, one] {
            data.own_read_models(brain).expect("owned");
            assert!(index.exists());
        }
        data.own_read_models(other).expect("owned");
        assert!(!index.exists());
        fs::create_dir_all(&index).expect("made");
        data.own_read_models(other).expect("owned");
        assert!(index.exists());
    }

    #[test]
    fn a_missing_key_is_made_for_a_new_brain_alone() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let data = DataFolder::open(&folder.path().join("data")).expect("opens");
        let refused = |share| matches!(data.identity(None, share), Err(DataFolderError::NoIdentity { .. }));
        assert!(refused(true), "a process that shares a brain begins none");
        fs::create_dir(data.notary()).expect("made");
        fs::write(data.notary().join("leaves"), [0; 32]).expect("written");
        assert!(refused(false), "a brain has signed something here");
        fs::write(data.notary().join("leaves"), []).expect("written");
        data.identity(None, false).expect("made");
        data.identity(None, true).expect("there is one now");
    }

    #[test]
    fn the_identity_stays_and_its_file_is_private() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let data = DataFolder::open(&folder.path().join("data")).expect("opens");
        let brain = data.identity(None, false).expect("made").brain;
        assert_eq!(data.identity(None, false).expect("read").brain, brain);
        let mode = fs::metadata(data.path().join("brain.key")).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(data.path().join("brain.key"), "zz").expect("write");
        assert!(matches!(data.identity(None, false), Err(DataFolderError::Damaged { .. })));
    }
}
