//! What only a replaced primary had: kept in a file when it follows again, because it is nowhere else.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cairn_event_store::{
    Direction, EventStore, Filter, Keyring, Position, RecordedEvent, Sealed, SqliteStore, StoreError,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::chain::{Chain, Mark, PAGE_EVENTS, walk};
use crate::error::FollowError;
use crate::key::Machine;
use crate::standby::{Line, Paired, keys_failed, log_failed, marks};
use crate::state::{Folder, make_private, now};
use crate::wire::MAX_MARKS;

/// Events that only this machine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The position up to which the logs are the same.
    pub after: u64,
    /// How many events follow there that only this one has.
    pub events: u64,
    /// The file they are in, an event a line, decrypted.
    pub file: PathBuf,
}

/// What was kept aside in a folder, the oldest first.
///
/// # Errors
/// When it cannot be read.
pub fn kept_aside(folder: &Folder) -> Result<Vec<Kept>, FollowError> {
    let path = folder.aside();
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(FollowError::File { path, source }),
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files.into_iter().filter_map(|file| named(&file)).collect())
}

/// `<when>-after-<position>-<events>.jsonl`
fn named(file: &Path) -> Option<Kept> {
    let name = file.file_name()?.to_str()?.strip_suffix(".jsonl")?;
    let (after, events) = name.split_once("-after-")?.1.split_once('-')?;
    Some(Kept { after: after.parse().ok()?, events: events.parse().ok()?, file: file.to_owned() })
}

impl Folder {
    /// Whether there is a log here.
    pub fn has_log(&self) -> bool {
        self.log().join("events.db").exists()
    }

    /// Compares the log of this folder, which was a primary's, with that of the primary it is going to follow, and keeps aside what
    /// only this one has. None where it has nothing of its own.
    ///
    /// # Errors
    /// When the log cannot be read, the primary not be reached, or the file not be written.
    pub async fn keep_aside(
        &self,
        machine: &Machine,
        paired: &Paired,
        brain: Uuid,
        wrapping_key: Zeroizing<[u8; 32]>,
    ) -> Result<Option<Kept>, FollowError> {
        let keyring = Keyring::open(self.log().join("keys.db"), *wrapping_key).map_err(keys_failed)?;
        let store = SqliteStore::open(self.log().join("events.db"), brain).map_err(log_failed)?;
        let log = Sealed::open(store, keyring).await?;
        let head = log.store().head().borrow().0;
        let mut line = Line::to(machine, paired.key, &paired.addresses).await?;
        let fork = fork(&mut line, log.store()).await?;
        let kept = if fork < head { Some(self.write_aside(&log, fork, head).await?) } else { None };
        log.store().close().await;
        Ok(kept)
    }

    async fn write_aside(&self, log: &Sealed<SqliteStore>, fork: u64, head: u64) -> Result<Kept, FollowError> {
        let folder = self.aside();
        make_private(&folder)?;
        let events = head - fork;
        let file = folder.join(format!("{:015}-after-{fork}-{events}.jsonl", now()));
        let temporary = file.with_extension("tmp");
        let failed = |source| FollowError::File { path: file.clone(), source };
        let mut options = OpenOptions::new();
        let out = options.create(true).truncate(true).write(true).mode(0o600).open(&temporary).map_err(failed)?;
        let mut out = BufWriter::new(out);
        let mut next = Some(Position(fork + 1));
        while let Some(from) = next {
            let page = log.read_all(from, Direction::Forwards, &Filter::default(), PAGE_EVENTS).await?;
            for event in &page.events {
                serde_json::to_writer(&mut out, &Written::of(event)).map_err(|error| failed(error.into()))?;
                out.write_all(b"\n").map_err(failed)?;
            }
            next = page.next;
        }
        let out = out.into_inner().map_err(|error| failed(error.into_error()))?;
        out.sync_all().and_then(|()| fs::rename(&temporary, &file)).map_err(failed)?;
        fs::File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(Kept { after: fork, events, file })
    }
}

/// An event as it is kept aside.
#[derive(Serialize)]
struct Written<'a> {
    position: u64,
    stream: &'a str,
    revision: u64,
    id: Uuid,
    #[serde(rename = "type")]
    event_type: &'a str,
    schema_version: u16,
    recorded_at: String,
    data: serde_json::Value,
    metadata: serde_json::Value,
}

impl<'a> Written<'a> {
    fn of(event: &'a RecordedEvent) -> Self {
        // What is no JSON, which the log does not ask for, is kept as text.
        let value = |bytes: &[u8]| {
            serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
        };
        Self {
            position: event.position.0,
            stream: &event.stream,
            revision: event.revision.0,
            id: event.id,
            event_type: &event.event_type,
            schema_version: event.schema_version,
            recorded_at: event.recorded_at.to_rfc3339(),
            data: value(&event.data),
            metadata: value(&event.metadata),
        }
    }
}

/// The last position up to which the primary's log and this one are the same. Each round compares up to [`MAX_MARKS`] places, and the
/// next one looks between two of them.
async fn fork(line: &mut Line, store: &SqliteStore) -> Result<u64, FollowError> {
    let (mut same, mut end) = (0, store.head().borrow().0);
    while same < end {
        let step = (end - same).div_ceil(MAX_MARKS);
        let (head, theirs) = marks(line, same, step).await?;
        end = end.min(head);
        let ours = hashes(store, same, step, end).await?;
        let equal = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count() as u64;
        let differ = equal < ours.len().min(theirs.len()) as u64;
        same += equal * step;
        if differ {
            // They are no longer the same at the next place.
            end = end.min(same + step - 1);
        } else if step == 1 {
            break;
        } else {
            // What is left is shorter than a step.
            end = end.min(same + step - 1);
        }
    }
    Ok(same)
}

async fn hashes(store: &SqliteStore, after: u64, step: u64, to: u64) -> Result<Vec<Chain>, StoreError> {
    let mut hashes = Vec::new();
    let collect = |mark: Mark| {
        if (mark.position - after).is_multiple_of(step) {
            hashes.push(mark.chain);
        }
    };
    walk(store, Mark { position: after, ..Mark::default() }, to, collect).await?;
    Ok(hashes)
}
