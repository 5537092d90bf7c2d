//! What an append passes on a node that may be followed: whether writes are taken at all, and whether a follower has it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cairn_event_store::event::{
    Appended, Direction, Filter, NewAppend, Page, Position, RecordedEvent, Revision, Snapshot,
};
use cairn_event_store::{AppendError, EventStore, SqliteStore, StoreError};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::{RwLock, watch};
use tracing::{info, warn};
use uuid::Uuid;

use crate::error::FollowError;
use crate::state::{Folder, Replaced, Role, State, now};

/// How long an append waits for a follower in synchronous mode. After that the node goes on alone, and says so, until a
/// follower is in step again.
pub const SYNC_PATIENCE: Duration = Duration::from_secs(3);

/// Whether appends wait for a follower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum Synchrony {
    /// They do not: what the last moment brought can be lost with the primary.
    Asynchronous,
    /// They do: what was acknowledged is on a follower's disk as well.
    Synchronous,
    /// They should, but no follower is in step: as if asynchronous.
    Alone {
        /// Since when, in milliseconds since 1970.
        since: u64,
    },
}

/// Why a node takes no writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shut {
    /// It follows a node of this name.
    Follows(String),
    /// Another has taken over.
    Replaced(Replaced),
}

impl Shut {
    /// What writers are told.
    pub fn reason(&self) -> String {
        match self {
            Self::Follows(name) => format!(
                "this node follows {name} and takes no writes: write there. If {name} is gone for good, `cairn promote` makes this node \
                 the primary"
            ),
            Self::Replaced(replaced) => replaced.reason(),
        }
    }
}

/// Decides over the appends of a node.
#[derive(Debug)]
pub struct Gate {
    folder: Folder,
    /// Held by appends while they are made, so that none comes after the last position that is told to the one that takes over.
    writing: RwLock<()>,
    shut: watch::Sender<Option<Shut>>,
    state: Mutex<State>,
    /// The greatest position that a follower has on disk.
    had: watch::Sender<u64>,
    synchrony: watch::Sender<Synchrony>,
}

impl Gate {
    /// The gate of a folder, whatever it is.
    ///
    /// # Errors
    /// When what the folder is cannot be read.
    pub fn open(folder: Folder, synchronous: bool) -> Result<Arc<Self>, FollowError> {
        let state = folder.state()?;
        let shut = match &state.role {
            Role::Replaced(replaced) => Some(Shut::Replaced(replaced.clone())),
            Role::Standby(of) => Some(Shut::Follows(of.name.clone())),
            Role::Primary(_) => None,
        };
        let mode = if synchronous { Synchrony::Alone { since: now() } } else { Synchrony::Asynchronous };
        Ok(Arc::new(Self {
            folder,
            writing: RwLock::new(()),
            shut: watch::channel(shut).0,
            state: Mutex::new(state),
            had: watch::channel(0).0,
            synchrony: watch::channel(mode).0,
        }))
    }

    /// Why the node takes no writes, if it takes none, and every change of that.
    pub fn shut(&self) -> watch::Receiver<Option<Shut>> {
        self.shut.subscribe()
    }

    /// How the node was replaced, if it was.
    pub fn replaced(&self) -> Option<Replaced> {
        match &*self.shut.borrow() {
            Some(Shut::Replaced(replaced)) => Some(replaced.clone()),
            Some(Shut::Follows(_)) | None => None,
        }
    }

    /// Whether appends wait for a follower, and every change of that.
    pub fn synchrony(&self) -> watch::Receiver<Synchrony> {
        self.synchrony.subscribe()
    }

    /// What the folder is.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what the folder is, durably.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) -> Result<State, FollowError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = state.clone();
        change(&mut changed);
        self.folder.set_state(&changed)?;
        *state = changed.clone();
        Ok(changed)
    }

    /// Takes no more writes, for good, because another node with this epoch is the primary; one with a lower epoch changes nothing.
    /// When it returns, nothing is being written any more. Says whether this node has been replaced.
    pub(crate) async fn replace(&self, epoch: u64, by: &str) -> Result<bool, FollowError> {
        let _nobody_writes = self.writing.write().await;
        if epoch <= self.state().epoch {
            return Ok(self.replaced().is_some());
        }
        let new = Replaced { by: by.to_owned(), epoch, at: now() };
        self.change(|state| (state.epoch, state.role) = (epoch, Role::Replaced(new.clone())))?;
        warn!(by, epoch, "this node was replaced and takes no more writes");
        self.shut.send_replace(Some(Shut::Replaced(new)));
        Ok(true)
    }

    /// A follower has everything up to a position on disk. `in_step`: and that is all, or was a moment ago.
    pub(crate) fn has(&self, position: u64, in_step: bool) {
        self.had.send_if_modified(|had| {
            let more = position > *had;
            *had = (*had).max(position);
            more
        });
        if in_step && matches!(*self.synchrony.borrow(), Synchrony::Alone { .. }) {
            info!("a follower is in step; from now on appends wait for it");
            self.synchrony.send_replace(Synchrony::Synchronous);
        }
    }

    async fn await_follower(&self, position: u64) {
        if *self.synchrony.borrow() != Synchrony::Synchronous {
            return;
        }
        let mut had = self.had.subscribe();
        let mut synchrony = self.synchrony.subscribe();
        let patience = tokio::select! {
            // It fails only with the gate itself.
            _ = had.wait_for(|had| *had >= position) => return,
            _ = synchrony.wait_for(|mode| *mode != Synchrony::Synchronous) => return,
            () = tokio::time::sleep(SYNC_PATIENCE) => SYNC_PATIENCE,
        };
        let alone = self.synchrony.send_if_modified(|mode| {
            let was = *mode == Synchrony::Synchronous;
            if was {
                *mode = Synchrony::Alone { since: now() };
            }
            was
        });
        if alone {
            warn!(?patience, "no follower is in step; appends do not wait for one until one is");
        }
    }
}

/// The log of a node that may be followed.
#[derive(Debug, Clone)]
pub struct Guarded {
    store: Arc<SqliteStore>,
    gate: Arc<Gate>,
}

impl Guarded {
    /// Puts the gate before a log.
    pub fn new(store: Arc<SqliteStore>, gate: Arc<Gate>) -> Self {
        Self { store, gate }
    }

    /// The log itself.
    pub fn store(&self) -> &Arc<SqliteStore> {
        &self.store
    }

    /// The gate.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }
}

#[async_trait]
impl EventStore for Guarded {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        let writing = self.gate.writing.read().await;
        let shut = self.gate.shut.borrow().as_ref().map(Shut::reason);
        if let Some(reason) = shut {
            return Err(StoreError::Unavailable { reason }.into());
        }
        let appended = self.store.append(append).await?;
        drop(writing);
        self.gate.await_follower(appended.position.0).await;
        Ok(appended)
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.store.read_all(from, direction, filter, limit).await
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.store.read_stream(stream, from, direction, limit).await
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        self.store.event(id).await
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        self.store.position_at(time).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.store.head()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.store.tracking(source).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        self.store.load_snapshot(stream).await
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        self.store.save_snapshot(stream, snapshot).await
    }
}
