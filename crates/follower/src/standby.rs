//! The standby's side: it calls its primary, writes what comes, and says how far it is.

mod calls;
mod session;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_event_store::keyring::KeyringError;
use cairn_event_store::sqlite::OpenError;
use cairn_event_store::{EventStore, Sealed, SqliteStore, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::chain::{Mark, walk};
use crate::error::FollowError;
use crate::key::Machine;
use crate::keys::Keys;
use crate::state::{Folder, Predecessor, PrimaryOf, Role, StandbyOf, State, now};
pub(crate) use calls::{Line, ask, fence, marks};
pub use calls::{Paired, pair};

/// The pauses between calls of a primary that is not there: doubled from the first to the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(3)];
/// How long a primary that hands over gets to send what it still has.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is written down how far the standby is.
const NOTE_EVERY: Duration = Duration::from_millis(500);

/// What a standby is told.
#[derive(Debug, Clone)]
pub struct StandbyConfig {
    /// The brain.
    pub brain: Uuid,
    /// What this machine is called.
    pub name: String,
    /// Where it will answer once it has taken over, as `host:port`.
    pub listen: Option<String>,
}

/// A follower at work.
pub struct Standby {
    config: StandbyConfig,
    folder: Folder,
    machine: Machine,
    store: Arc<SqliteStore>,
    keys: Arc<dyn Keys>,
    held: Mutex<Held>,
    files: watch::Sender<u64>,
}

struct Held {
    state: State,
    status: StandbyStatus,
    behind_since: Option<Instant>,
}

/// How a standby is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StandbyStatus {
    /// What its primary is called.
    pub primary: String,
    /// How many times a follower has taken over before.
    pub epoch: u64,
    /// Whether it is connected.
    pub connected: bool,
    /// What it has on disk.
    pub has: Mark,
    /// How far the primary's log went when it was heard of last.
    pub primary_head: u64,
    /// When that was, in milliseconds since 1970.
    pub heard_at: u64,
    /// How many events it lacks of those.
    pub lag_events: u64,
    /// For how long it has lacked any, in milliseconds.
    pub lag_ms: u64,
    /// Whether it has ever had the whole log.
    pub whole: bool,
    /// Whether the primary's appends waited for a follower when it was heard of last.
    pub synchronous: bool,
    /// When this was written, in milliseconds since 1970.
    pub at: u64,
    /// What went wrong last, if it has not gone well since.
    pub problem: Option<String>,
}

/// What a standby has when it takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOver {
    /// What it has on disk.
    pub has: Mark,
    /// Whether the primary was there and has handed over: it takes no more writes, and nothing is lost.
    pub handed_over: bool,
    /// How far the primary's log went when it was heard of last.
    pub primary_head: u64,
    /// When that was, in milliseconds since 1970. What the primary took after that is not known here.
    pub heard_at: u64,
    /// Whether the standby has ever had the whole log.
    pub whole: bool,
    /// Whether the primary's appends waited for a follower when it was heard of last.
    pub synchronous: bool,
}

impl TakenOver {
    /// The events that are known to be lost with the primary.
    pub fn lacks(&self) -> u64 {
        self.primary_head.saturating_sub(self.has.position)
    }
}

impl Standby {
    /// A standby that writes to this log, which is its folder's. [`Folder::make_way`] comes before the log is opened.
    ///
    /// # Errors
    /// When the folder is no standby's, or cannot be used.
    pub async fn open<S: EventStore>(
        config: StandbyConfig,
        folder: Folder,
        store: Arc<SqliteStore>,
        log: Arc<Sealed<S>>,
    ) -> Result<Self, FollowError> {
        let machine = folder.machine()?;
        let state = folder.state()?;
        let of = standby_of(&state)?.clone();
        let known: StandbyStatus = folder.status()?.unwrap_or_default();
        let has = whole_mark(&store, known.has).await?;
        let status = StandbyStatus {
            primary: of.name,
            epoch: state.epoch,
            has,
            whole: of.whole,
            connected: false,
            problem: None,
            ..known
        };
        let held = Mutex::new(Held { state, status, behind_since: None });
        Ok(Self { config, folder, machine, store, keys: log, held, files: watch::channel(0).0 })
    }

    /// Counts the small files that have come: whoever keeps what is in them reads them again.
    pub fn files(&self) -> watch::Receiver<u64> {
        self.files.subscribe()
    }

    /// How it is doing.
    pub fn status(&self) -> StandbyStatus {
        let held = self.held();
        let lag =
            held.behind_since.map_or(0, |since| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX));
        let lag_events = held.status.primary_head.saturating_sub(held.status.has.position);
        StandbyStatus { lag_ms: lag, lag_events, at: now(), ..held.status.clone() }
    }

    /// Follows until told to stop. A primary that is not there is called again and again.
    ///
    /// # Errors
    /// When going on makes no sense: the primary refuses, the logs differ, or the disk fails.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), FollowError> {
        let noting = async {
            loop {
                self.note();
                tokio::time::sleep(NOTE_EVERY).await;
            }
        };
        let done = tokio::select! {
            done = self.follow() => done,
            () = stop.cancelled() => Ok(()),
            () = noting => Ok(()),
        };
        self.held().status.connected = false;
        if let Err(error) = &done {
            self.held().status.problem = Some(told(error));
        }
        self.note();
        done
    }

    async fn follow(&self) -> Result<(), FollowError> {
        let mut pause = PAUSES[0];
        loop {
            let began = Instant::now();
            let Err(error) = self.session(None).await else { return Ok(()) };
            self.held().status.connected = false;
            if !error.may_pass() {
                return Err(error);
            }
            info!(%error, "the primary is called again");
            self.held().status.problem = Some(told(&error));
            pause = if began.elapsed() > PAUSES[1] { PAUSES[0] } else { (pause * 2).min(PAUSES[1]) };
            tokio::time::sleep(pause).await;
            // What was being written when the connection ended may have been written after all.
            let has = self.held().status.has;
            let has = whole_mark(&self.store, has).await?;
            self.keys.complete_erasures().await?;
            self.has(has);
        }
    }

    /// Has the primary hand over, if it is there within `patience`: it takes no more writes, and everything it has comes here first.
    /// [`Folder::promote`] is what is left to do then.
    ///
    /// # Errors
    /// When what the primary sends cannot be written.
    pub async fn take_over(&self, patience: Duration) -> Result<TakenOver, FollowError> {
        let epoch = self.held().state.epoch + 1;
        self.held().status.connected = false;
        let given_up = async {
            tokio::time::sleep(patience).await;
            if self.held().status.connected {
                // It is there and takes no more writes: what it has is worth some patience.
                tokio::time::sleep(DRAIN_PATIENCE).await;
            }
        };
        let handed_over = tokio::select! {
            done = self.session(Some(epoch)) => match done {
                Ok(()) => true,
                Err(FollowError::Unreachable { .. } | FollowError::Cut(_) | FollowError::Refused(_)) => false,
                Err(error) => return Err(error),
            },
            () = given_up => false,
        };
        let has = self.held().status.has;
        let has = whole_mark(&self.store, has).await?;
        self.has(has);
        self.keys.complete_erasures().await?;
        self.note();
        let status = self.status();
        Ok(TakenOver {
            has,
            handed_over,
            primary_head: status.primary_head.max(has.position),
            heard_at: status.heard_at,
            whole: status.whole,
            synchronous: status.synchronous,
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        if let Err(error) = self.folder.set_status(&self.status()) {
            warn!(%error, "how far the standby is could not be written down");
        }
    }

    /// The primary's log goes so far.
    fn heard(&self, head: u64) -> Result<(), FollowError> {
        let mut held = self.held();
        let Held { state, status, behind_since } = &mut *held;
        (status.primary_head, status.heard_at) = (head, now());
        if status.has.position < head {
            behind_since.get_or_insert_with(Instant::now);
            return Ok(());
        }
        *behind_since = None;
        if let Role::Standby(of) = &mut state.role
            && !of.whole
        {
            of.whole = true;
            self.folder.set_state(state)?;
            status.whole = true;
            info!("the whole log is here; from now on this machine can take over");
            remove_folder(&self.folder.put_away())?;
        }
        Ok(())
    }

    fn has(&self, mark: Mark) {
        let mut held = self.held();
        held.status.has = mark;
        if mark.position >= held.status.primary_head {
            held.behind_since = None;
        }
    }
}

impl Folder {
    /// Puts the log of another primary out of the way, where the folder is of a standby that was one. To be called before the log is
    /// opened.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn make_way(&self) -> Result<(), FollowError> {
        let mut state = self.state()?;
        if let Role::Standby(of) = &mut state.role
            && of.put_away
        {
            put_away(self)?;
            of.put_away = false;
            self.set_state(&state)?;
        }
        Ok(())
    }

    /// Makes a standby's folder a primary's, durably: its epoch is the next one, and whoever had the last is to be told. The folder of a
    /// node that was replaced becomes a primary's again in the same way. Gives the epoch.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn promote(&self, handed_over: bool) -> Result<u64, FollowError> {
        let mut state = self.state()?;
        let predecessor = match &state.role {
            Role::Standby(StandbyOf { key, addresses, .. }) => {
                Some(Predecessor { key: *key, addresses: addresses.clone(), knows: handed_over })
            }
            Role::Primary(_) | Role::Replaced(_) => None,
        };
        state.epoch += 1;
        state.role = Role::Primary(PrimaryOf { predecessor, begin_sharing_anew: true });
        self.set_state(&state)?;
        self.forget_status()?;
        self.ask_no_more()?;
        Ok(state.epoch)
    }

    /// Makes the folder a standby's, durably. `put_away`: what is in `log/` is of another primary.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn follow(&self, paired: &Paired, put_away: bool) -> Result<(), FollowError> {
        self.forget_status()?;
        let Paired { key, name, addresses, epoch, link, .. } = paired;
        let of = StandbyOf { key: *key, name: name.clone(), addresses: addresses.clone(), put_away, whole: false };
        self.set_state(&State { epoch: *epoch, role: Role::Standby(of), link: Some(link.clone()) })
    }
}

fn standby_of(state: &State) -> Result<&StandbyOf, FollowError> {
    match &state.role {
        Role::Standby(of) => Ok(of),
        Role::Primary(_) | Role::Replaced(_) => Err(FollowError::Refused(
            "this folder follows nobody; `cairn follow <link>`, with a link of `cairn follow invite`, makes it a standby"
                .into(),
        )),
    }
}

/// What the log has, by going on from what it was known to have.
async fn whole_mark(store: &SqliteStore, known: Mark) -> Result<Mark, StoreError> {
    let head = store.head().borrow().0;
    let from = if known.position <= head { known } else { Mark::default() };
    walk(store, from, head, |_| {}).await
}

/// Moves the log of the primary that this folder was out of the way, and what was made of it.
fn put_away(folder: &Folder) -> Result<(), FollowError> {
    let (log, away) = (folder.log(), folder.put_away());
    if log.join("events.db").exists() && !away.exists() {
        fs::rename(&log, &away).map_err(FollowError::file(&log))?;
    }
    let read = folder.data().join("read");
    remove_folder(&log)?;
    remove_folder(&read)?;
    crate::state::make_private(&log)?;
    crate::state::make_private(&read)
}

fn remove_folder(path: &Path) -> Result<(), FollowError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(FollowError::File { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

pub(crate) fn keys_failed(error: KeyringError) -> FollowError {
    StoreError::Corrupt { reason: told(&error) }.into()
}

pub(crate) fn log_failed(error: OpenError) -> FollowError {
    StoreError::Corrupt { reason: told(&error) }.into()
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
