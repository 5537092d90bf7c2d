//! Computing everything the notary signed again from the events.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use ed25519_dalek::VerifyingKey;

use super::NotaryError;
use super::record::{Checkpoint, Checkpoints, Leaves};
use super::tree::{Tree, leaf};
use crate::event::{Direction, Filter, Position};
use crate::page::MAX_PAGE_EVENTS;
use crate::port::EventStore;
use crate::verify::Damage;

/// A node that runs signs sooner than this by far.
pub const LATE_AFTER: TimeDelta = TimeDelta::minutes(1);

/// What a verification of the signatures found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notarized {
    /// How many checkpoints hold.
    pub checkpoints: u64,
    /// How many events they cover.
    pub events: u64,
    /// How many of these were signed more than [`LATE_AFTER`] after they were written. A node that was killed signs its last
    /// events when it starts again; many late ones say that a history was signed anew.
    pub late: u64,
    /// The first place where the log is not what was signed.
    pub damage: Option<Damage>,
}

/// What is read beside the log.
struct Files<'a> {
    folder: &'a Path,
    leaves: Leaves,
    checkpoints: Checkpoints,
}

impl Files<'_> {
    /// The next checkpoint.
    fn checkpoint(&mut self) -> Result<Option<Result<Checkpoint, String>>, NotaryError> {
        let folder = self.folder;
        self.checkpoints.next().map_err(|source| NotaryError::Files { folder: folder.to_owned(), source })
    }

    fn leaf(&mut self) -> Result<Option<super::Hash>, NotaryError> {
        let folder = self.folder;
        self.leaves.next().map_err(|source| NotaryError::Files { folder: folder.to_owned(), source })
    }
}

/// Compares a log, as it is on disk, with what the notary signed of it. `progress` is told how many events were looked at.
/// It may run while the log grows and is signed; what comes in meanwhile is left for the next time.
///
/// # Errors
/// Where it could not be finished. Damage is an answer, not an error.
pub async fn verify(
    log: &impl EventStore,
    folder: &Path,
    key: &VerifyingKey,
    mut progress: impl FnMut(u64),
) -> Result<Notarized, NotaryError> {
    let files = |source| NotaryError::Files { folder: folder.to_owned(), source };
    let head = *log.head().borrow();
    let mut files = Files {
        folder,
        leaves: Leaves::open(folder).map_err(files)?,
        checkpoints: Checkpoints::open(folder).map_err(files)?,
    };
    let mut found = Notarized::default();
    let (mut tree, mut differs) = (Tree::default(), None);
    let mut next = files.checkpoint()?;
    // When the events since the last checkpoint were written.
    let mut written: Vec<DateTime<Utc>> = Vec::new();
    while tree.size() < head.0 {
        let page = log
            .read_all(Position(tree.size() + 1), Direction::Forwards, &Filter::default(), MAX_PAGE_EVENTS)
            .await?;
        if page.events.is_empty() {
            break;
        }
        for event in page.events.iter().filter(|event| event.position <= head) {
            let hash = leaf(event);
            if differs.is_none() && files.leaf()?.is_some_and(|kept| kept != hash) {
                differs = Some(event.position);
            }
            tree.push(hash);
            written.push(event.recorded_at);
            while let Some(checkpoint) = next {
                let checkpoint = match checkpoint {
                    Ok(checkpoint) if checkpoint.size > tree.size() => {
                        next = Some(Ok(checkpoint));
                        break;
                    }
                    Ok(checkpoint) => checkpoint,
                    Err(reason) => return Ok(unreadable(found, &reason)),
                };
                if let Some(damage) = judge(&checkpoint, &tree, key, &found, differs) {
                    return Ok(Notarized { damage: Some(damage), ..found });
                }
                let late = written.drain(..).filter(|written| checkpoint.time - written > LATE_AFTER);
                found.late += late.count() as u64;
                found.checkpoints += 1;
                found.events = checkpoint.size;
                next = files.checkpoint()?;
            }
        }
        progress(tree.size());
    }
    match next {
        Some(Err(reason)) => return Ok(unreadable(found, &reason)),
        // One that was signed since this began is no matter.
        Some(Ok(checkpoint)) if checkpoint.size > log.head().borrow().0 => {
            let (first, last) = (tree.size() + 1, checkpoint.size);
            let reason = format!("the events from {first} to {last} were signed and are missing");
            found.damage = Some(Damage { position: Some(Position(first)), reason });
        }
        _ => {}
    }
    if let (None, Some(position)) = (&found.damage, differs) {
        found.damage = Some(match position.0 <= found.events {
            true => Damage {
                position: None,
                reason: "the log is as it was signed, but the file `leaves` of the notary is damaged; delete it and the \
                         checkpoints beside it, and the notary begins anew"
                    .into(),
            },
            false => Damage {
                position: Some(position),
                reason: "the event is not the one that was noted when it was written".into(),
            },
        });
    }
    Ok(found)
}

/// What is wrong with a checkpoint, given the tree over as many events as it covers.
fn judge(
    checkpoint: &Checkpoint,
    tree: &Tree,
    key: &VerifyingKey,
    found: &Notarized,
    differs: Option<Position>,
) -> Option<Damage> {
    let size = checkpoint.size;
    if size < tree.size() {
        let reason = format!("the checkpoint over {size} events comes after one over {}", found.events);
        return Some(Damage { position: None, reason });
    }
    if !checkpoint.is_signed_by(key) {
        let reason = format!("the checkpoint over {size} events does not carry this brain's signature");
        return Some(Damage { position: None, reason });
    }
    if checkpoint.has_root(&tree.root()) {
        return None;
    }
    let first = Position(found.events + 1);
    Some(match differs {
        Some(position) => {
            Damage { position: Some(position), reason: "the event is not the one that was signed".into() }
        }
        None => {
            let reason = format!("one of the events from {first} to {size} is not the one that was signed");
            Damage { position: Some(first), reason }
        }
    })
}

fn unreadable(found: Notarized, reason: &str) -> Notarized {
    let reason = format!("checkpoint {} cannot be read: {reason}", found.checkpoints + 1);
    Notarized { damage: Some(Damage { position: None, reason }), ..found }
}
