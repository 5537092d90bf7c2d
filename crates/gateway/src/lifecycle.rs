//! What a stream's metadata says about it: from where on it can be read, whether it was deleted or ended for good.
//!
//! The log deletes nothing. A stream's metadata are the events of the stream `$$` plus its name, the last of which is
//! in force: a `$metadata` event with the keys the protocol knows (`$tb`, `$maxCount`, `$maxAge`), or the tombstone,
//! after which nothing comes. A deleted stream is one whose `$tb` is the largest revision there can be.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_event_store::{
    Direction, Filter, Position, RecordedEvent, Revision, SharedStore, StoreError, subscribe,
};
use lru::LruCache;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::names::{METADATA_PREFIX, metadata_stream};

/// The type of the events in a metadata stream.
pub(crate) const METADATA_TYPE: &str = "$metadata";
/// The type of the event that ends a stream for good.
pub(crate) const TOMBSTONE_TYPE: &str = "$streamDeleted";
/// The `$tb` of a deleted stream.
pub(crate) const DELETED: u64 = i64::MAX.cast_unsigned();

/// The streams of which it is remembered what their metadata says. Any other is looked up.
const KNOWN_STREAMS: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
/// How long is waited before the log is followed again after a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The metadata events taken at once while following.
const FOLLOW_EVENTS: usize = 256;

/// What is known of a stream's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// What it comes to.
    pub(crate) fate: Fate,
    /// The last revision of the metadata stream.
    pub(crate) revision: Option<Revision>,
    position: Position,
}

/// What has become of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It can be read, within bounds.
    Open(Bounds),
    /// It was deleted. The next append begins it anew.
    Deleted,
    /// It was ended for good.
    Tombstoned,
}

/// What may be read of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bounds {
    /// Nothing before this revision.
    pub(crate) from: u64,
    /// At most so many of the newest events.
    pub(crate) count: Option<u64>,
    /// Nothing older than this.
    pub(crate) age: Option<Duration>,
}

#[derive(Debug, Default, Deserialize)]
struct Content {
    #[serde(rename = "$tb")]
    truncate_before: Option<u64>,
    #[serde(rename = "$maxCount")]
    max_count: Option<u64>,
    #[serde(rename = "$maxAge")]
    max_age: Option<u64>,
}

impl Default for Fate {
    fn default() -> Self {
        Self::Open(Bounds::default())
    }
}

impl Known {
    /// What the last event of a metadata stream says. One that says nothing the protocol knows changes nothing.
    pub(crate) fn of(event: &RecordedEvent) -> Self {
        let fate = if &*event.event_type == TOMBSTONE_TYPE {
            Fate::Tombstoned
        } else {
            let content: Content = serde_json::from_slice(&event.data).unwrap_or_default();
            match content.truncate_before {
                Some(DELETED..) => Fate::Deleted,
                from => Fate::Open(Bounds {
                    from: from.unwrap_or(0),
                    count: content.max_count,
                    age: content.max_age.map(Duration::from_secs),
                }),
            }
        };
        Self { fate, revision: Some(event.revision), position: event.position }
    }
}

/// What is known of the streams in use.
pub(crate) struct Lifecycles {
    store: SharedStore,
    known: Mutex<LruCache<Arc<str>, Known>>,
}

impl Lifecycles {
    /// Remembers what is asked for, and follows the log until `end` so that what others write is seen.
    pub(crate) fn begin(store: SharedStore, end: CancellationToken) -> Arc<Self> {
        let lifecycles = Arc::new(Self { store, known: Mutex::new(LruCache::new(KNOWN_STREAMS)) });
        let following = Arc::clone(&lifecycles);
        tokio::spawn(async move { end.run_until_cancelled(following.follow()).await });
        lifecycles
    }

    /// What is known of a stream. Another node's change may be seen a moment late.
    pub(crate) async fn of(&self, stream: &Arc<str>) -> Result<Known, StoreError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(stream).copied();
        match known {
            Some(known) => Ok(known),
            None => self.look(stream).await,
        }
    }

    /// Looks a stream's metadata up, whatever is remembered of it.
    pub(crate) async fn look(&self, stream: &Arc<str>) -> Result<Known, StoreError> {
        let metadata = metadata_stream(stream);
        let last = self.store.read_stream(&metadata, Revision(u64::MAX), Direction::Backwards, 1).await?;
        Ok(self.learn(stream, last.first().map(Known::of).unwrap_or_default()))
    }

    /// Takes note of a metadata event; what is newer wins, whichever way it became known.
    fn learn(&self, stream: &Arc<str>, found: Known) -> Known {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get_or_insert_mut(Arc::clone(stream), || found);
        if entry.position < found.position {
            *entry = found;
        }
        *entry
    }

    /// Begins at the log's end: what lies before is looked up when it is asked for.
    async fn follow(&self) {
        loop {
            let head = *self.store.head().borrow();
            let filter = Filter { stream_prefixes: vec![METADATA_PREFIX.to_owned()], ..Filter::default() };
            let mut subscription = subscribe(Arc::clone(&self.store), head, filter);
            // What was missed while the log could not be followed is not remembered wrongly.
            self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
            loop {
                match subscription.next_batch(FOLLOW_EVENTS).await {
                    Ok(batch) => batch.events.iter().for_each(|event| self.note(event)),
                    Err(error) => {
                        tracing::debug!(%error, "the streams' metadata cannot be followed; trying again");
                        break;
                    }
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    fn note(&self, event: &RecordedEvent) {
        if let Some(stream) = event.stream.strip_prefix(METADATA_PREFIX) {
            self.learn(&stream.into(), Known::of(event));
        }
    }
}
