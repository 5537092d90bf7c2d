//! What a data folder is: a primary's, a standby's, or one that was replaced. It is kept in `replication/`.
//!
//! ```text
//! machine.key    this machine's key (0600)
//! state.json     what the folder is, and since when
//! followers.json a primary's followers and invitations
//! status.json    how far a standby is, written as it goes
//! takeover       a request to the running standby to end
//! aside/         events that only a replaced primary had
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::chain::Mark;
use crate::error::FollowError;
use crate::key::{Machine, MachineKey};

/// The part of a data folder that says what it is.
#[derive(Debug, Clone)]
pub struct Folder {
    data: PathBuf,
}

/// What a data folder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// How many times a follower has taken over. Of two nodes, the one with the lower one has been replaced.
    pub epoch: u64,
    /// What it is.
    pub role: Role,
    /// The hash of the link that it followed by last, whatever it became since: it is not used again.
    pub link: Option<String>,
}

/// What a data folder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A node's own: it takes writes.
    Primary(PrimaryOf),
    /// It follows a primary.
    Standby(StandbyOf),
    /// It was a primary's, and another took over: it takes no writes any more.
    Replaced(Replaced),
}

impl Default for Role {
    fn default() -> Self {
        Self::Primary(PrimaryOf::default())
    }
}

/// A primary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrimaryOf {
    /// Whom it took over from, who may not know.
    pub predecessor: Option<Predecessor>,
    /// Whether it took over and the brain has not yet said so to other brains: what it says to them goes on in a new epoch of theirs.
    pub begin_sharing_anew: bool,
}

/// The primary that another took over from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predecessor {
    /// Its key.
    pub key: MachineKey,
    /// Where it was.
    pub addresses: Vec<String>,
    /// Whether it knows.
    pub knows: bool,
}

/// A standby.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandbyOf {
    /// Its primary's key.
    pub key: MachineKey,
    /// What the primary is called.
    pub name: String,
    /// Where the primary is.
    pub addresses: Vec<String>,
    /// Whether what is in `log/` is another primary's, and must be put away before anything else.
    pub put_away: bool,
    /// Whether it has ever had the whole log: before that it can stand in for nobody.
    pub whole: bool,
}

/// How a primary was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// What the machine is called that took over.
    pub by: String,
    /// Its epoch.
    pub epoch: u64,
    /// When this one heard of it, in milliseconds since 1970.
    pub at: u64,
}

impl Replaced {
    /// What writers are told.
    pub(crate) fn reason(&self) -> String {
        format!(
            "this node was replaced by {} (epoch {}) and takes no more writes; `cairn follow <link>`, with a link made there by \
             `cairn follow invite`, rejoins it as a follower",
            self.by, self.epoch
        )
    }
}

/// A follower as its primary knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Follower {
    pub(crate) key: MachineKey,
    pub(crate) name: String,
    /// Where it will answer once it has taken over.
    pub(crate) listen: Option<String>,
    /// When it was paired, in milliseconds since 1970.
    pub(crate) paired_at: u64,
    /// What it has on disk.
    pub(crate) has: Mark,
    /// When it said so, in milliseconds since 1970.
    pub(crate) has_at: u64,
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Invitation {
    /// The hash of its secret.
    pub(crate) secret: String,
    pub(crate) expires_at: u64,
    /// Who has used it. The same machine may again, should the answer have been lost.
    pub(crate) used_by: Option<MachineKey>,
}

/// A primary's followers and invitations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Followers {
    pub(crate) followers: Vec<Follower>,
    pub(crate) invitations: Vec<Invitation>,
    /// The port that followers know.
    pub(crate) port: Option<u16>,
}

impl Folder {
    /// Of a data folder.
    pub fn of(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// This machine's key, which is made where there is none.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn machine(&self) -> Result<Machine, FollowError> {
        self.make()?;
        Machine::open(&self.path("machine.key"))
    }

    /// What the folder is: a primary's, unless it says otherwise.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn state(&self) -> Result<State, FollowError> {
        self.read("state.json").map(Option::unwrap_or_default)
    }

    /// Says what the folder is, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_state(&self, state: &State) -> Result<(), FollowError> {
        self.write("state.json", state)
    }

    /// Whether the folder has anything to do with followers.
    pub fn is_used(&self) -> bool {
        self.path("state.json").exists() || self.path("followers.json").exists()
    }

    pub(crate) fn followers(&self) -> Result<Followers, FollowError> {
        self.read("followers.json").map(Option::unwrap_or_default)
    }

    pub(crate) fn set_followers(&self, followers: &Followers) -> Result<(), FollowError> {
        self.write("followers.json", followers)
    }

    /// How far the standby said it was; none where it never did, or where a power cut has spoilt it: it is not made durable.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn status<T: DeserializeOwned>(&self) -> Result<Option<T>, FollowError> {
        match self.read("status.json") {
            Err(FollowError::Damaged { .. }) => Ok(None),
            read => read,
        }
    }

    pub(crate) fn set_status(&self, status: &impl Serialize) -> Result<(), FollowError> {
        self.make()?;
        write_lasting(&self.path("status.json"), &json(status), Lasting::Maybe)
    }

    pub(crate) fn forget_status(&self) -> Result<(), FollowError> {
        remove(&self.path("status.json"))
    }

    /// Asks the standby that runs on the folder to end, because the folder takes over.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn ask_to_end(&self) -> Result<(), FollowError> {
        self.make()?;
        write_private(&self.path("takeover"), b"")
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn ask_no_more(&self) -> Result<(), FollowError> {
        remove(&self.path("takeover"))
    }

    /// Whether the standby was asked to end.
    pub fn is_asked_to_end(&self) -> bool {
        self.path("takeover").exists()
    }

    pub(crate) fn aside(&self) -> PathBuf {
        self.path("aside")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("log")
    }

    /// Where the log of a primary that follows again waits until there is another whole one.
    pub(crate) fn put_away(&self) -> PathBuf {
        self.data.join("log.replaced")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.join("replication").join(name)
    }

    fn make(&self) -> Result<(), FollowError> {
        make_private(&self.data.join("replication"))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FollowError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| FollowError::Damaged { path, reason: error.to_string() }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FollowError::File { path, source }),
        }
    }

    fn write(&self, name: &str, content: &impl Serialize) -> Result<(), FollowError> {
        self.make()?;
        write_private(&self.path(name), &json(content))
    }
}

fn json(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(content).expect("plain fields")
}

/// Whether a file must outlive a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasting {
    Yes,
    Maybe,
}

pub(crate) fn make_private(folder: &Path) -> Result<(), FollowError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(FollowError::file(folder))
}

/// Writes a file that only its owner can read: whole or not at all, and durable.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), FollowError> {
    write_lasting(path, content, Lasting::Yes)
}

fn write_lasting(path: &Path, content: &[u8], lasting: Lasting) -> Result<(), FollowError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        if lasting == Lasting::Yes {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) if lasting == Lasting::Yes => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(FollowError::file(path))
}

fn remove(path: &Path) -> Result<(), FollowError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(FollowError::File { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    chrono::Utc::now().timestamp_millis().unsigned_abs()
}
