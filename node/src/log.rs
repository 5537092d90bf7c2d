//! The event log that the configuration chose.

use async_trait::async_trait;
use cairn_event_store::event::{
    Appended, Direction, Filter, NewAppend, Page, Position, RecordedEvent, Revision, Snapshot,
};
use cairn_event_store::verify::{Verification, VerifyProgress, verify};
use cairn_event_store::{AppendError, EventStore, KurrentStore, PostgresStore, StoreError};
use cairn_follower::Guarded;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

/// An event log, as it is on disk.
#[derive(Debug)]
pub enum Log {
    /// In a file of the data folder.
    Sqlite(Guarded),
    /// In a PostgreSQL database.
    Postgres(PostgresStore),
    /// In a KurrentDB server or cluster, with a copy in the data folder.
    Kurrent(Box<KurrentStore>),
}

impl Log {
    /// Finishes the appends that wait, and refuses later ones.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(guarded) => guarded.store().close().await,
            Self::Postgres(store) => store.close().await,
            Self::Kurrent(store) => store.close().await,
        }
    }

    /// Looks through the whole log for damage.
    ///
    /// # Errors
    /// Where it could not be finished.
    pub async fn verify(
        &self,
        progress: impl FnMut(VerifyProgress) + Send + 'static,
    ) -> Result<Verification, StoreError> {
        match self {
            Self::Sqlite(guarded) => guarded.store().verify(progress).await,
            Self::Postgres(store) => verify(store, progress).await,
            Self::Kurrent(store) => store.verify(progress).await,
        }
    }

    /// The log as followers get it; none where it is in a server, which has means of its own.
    pub fn guarded(&self) -> Option<&Guarded> {
        match self {
            Self::Sqlite(guarded) => Some(guarded),
            Self::Postgres(_) | Self::Kurrent(_) => None,
        }
    }

    fn store(&self) -> &dyn EventStore {
        match self {
            Self::Sqlite(store) => store,
            Self::Postgres(store) => store,
            Self::Kurrent(store) => &**store,
        }
    }
}

#[async_trait]
impl EventStore for Log {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        self.store().append(append).await
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.store().read_all(from, direction, filter, limit).await
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.store().read_stream(stream, from, direction, limit).await
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        self.store().event(id).await
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        self.store().position_at(time).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.store().head()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.store().tracking(source).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        self.store().load_snapshot(stream).await
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        self.store().save_snapshot(stream, snapshot).await
    }
}
