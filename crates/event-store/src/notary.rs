//! Tamper evidence: whoever changes, removes or reorders what is in the log is found out, and where.
//!
//! The notary follows the log, keeps the hash of each event, and signs the root of a Merkle tree over all of them at most
//! [`NOTED_EVERY`] after an event was committed. It reads the log as it is on disk: what is personal is encrypted, and
//! erasing it changes no hash. [`verify`] computes everything again from the events. See
//! `docs/decisions/0009-notary.md` for what this proves and what not.

mod record;
mod tree;
mod verify;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use ed25519_dalek::SigningKey;
use tokio::sync::watch;

pub use ed25519_dalek::VerifyingKey;
pub use record::Checkpoint;
pub use verify::{LATE_AFTER, Notarized, verify};

use crate::event::{Direction, Filter, Position};
use crate::page::MAX_PAGE_EVENTS;
use crate::port::{EventStore, StoreError};
use crate::sealed::Sealed;
use record::{Checkpoints, Leaves, Record};
use tree::{Hash, Tree};

/// How long events may wait until they are signed, while the node runs.
pub const NOTED_EVERY: Duration = Duration::from_secs(1);

/// Why the notary could not read or write.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    /// Its own files.
    #[error("the notary's files in {folder} cannot be used")]
    Files {
        /// Their folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log.
    #[error("the log cannot be read")]
    Log(#[from] StoreError),
    /// What it has signed does not fit its own files or the log. It signs nothing more, lest it cover that up.
    #[error("the log is not what was signed: {0}; run `cairn verify`, then restore a backup")]
    Contradiction(String),
    /// The process ends.
    #[error("it was cut short")]
    Stopped,
}

/// How far the notary is.
#[derive(Debug, Clone, Default)]
pub struct Noted {
    /// The newest checkpoint; none before the first. Written down elsewhere, it proves the log even against somebody who
    /// has the brain's key.
    pub checkpoint: Option<Checkpoint>,
    /// Why it does not get on, if so.
    pub problem: Option<Arc<str>>,
}

/// Follows a log and signs it.
pub struct Notary<S> {
    log: Arc<Sealed<S>>,
    key: SigningKey,
    folder: PathBuf,
    noted: watch::Sender<Noted>,
}

/// What the notary has open.
struct Book {
    tree: Tree,
    record: Record,
}

impl<S: EventStore> Notary<S> {
    /// A notary that signs with `key` and keeps its files in `folder`.
    pub fn new(log: Arc<Sealed<S>>, key: SigningKey, folder: PathBuf) -> (Self, watch::Receiver<Noted>) {
        let (noted, seen) = watch::channel(Noted::default());
        (Self { log, key, folder, noted }, seen)
    }

    /// Works until `ended` is done, and signs once more then. Where the log contradicts what was signed, it says so in
    /// [`Noted::problem`] and signs nothing more.
    pub async fn run(self, ended: impl Future<Output = ()>) {
        let mut ended = std::pin::pin!(ended);
        let mut head = self.log.store().head();
        let (mut book, mut last) = (None, false);
        loop {
            let target = *head.borrow_and_update();
            if let Err(error) = self.work(&mut book, target).await {
                tracing::error!(%error, "the notary does not get on");
                self.noted.send_modify(|noted| noted.problem = Some(error.to_string().into()));
                if matches!(error, NotaryError::Contradiction(_)) {
                    return;
                }
            }
            if last {
                return;
            }
            let resting = async {
                tokio::time::sleep(NOTED_EVERY / 2).await;
                // After a failure it is tried again without being asked.
                book.is_none() || head.changed().await.is_ok()
            };
            last = tokio::select! {
                () = &mut ended => true,
                open = resting => !open,
            };
        }
    }

    /// Takes everything up to `target` into the book, which is opened where it is not.
    async fn work(&self, book: &mut Option<Book>, target: Position) -> Result<(), NotaryError> {
        let mut open = match book.take() {
            Some(open) => open,
            None => self.open(target).await?,
        };
        if open.tree.size() < target.0 {
            open = self.note(open, target).await?;
        }
        *book = Some(open);
        Ok(())
    }

    async fn open(&self, head: Position) -> Result<Book, NotaryError> {
        let (folder, noted) = (self.folder.clone(), self.noted.clone());
        blocking(move || {
            let files = |source| NotaryError::Files { folder: folder.clone(), source };
            let record = Record::open(&folder).map_err(files)?;
            let last = last_checkpoint(&folder).map_err(files)?;
            let mut tree = Tree::default();
            let mut leaves = Leaves::open(&folder).map_err(files)?;
            let signed = last.as_ref().map_or(0, |checkpoint| checkpoint.size);
            if signed > head.0 {
                return Err(NotaryError::Contradiction(format!("{signed} events were signed, {head} are there")));
            }
            while tree.size() < signed {
                let Some(leaf) = leaves.next().map_err(files)? else {
                    let kept = tree.size();
                    return Err(NotaryError::Contradiction(format!(
                        "{signed} events were signed, {kept} hashes are kept"
                    )));
                };
                tree.push(leaf);
            }
            if last.as_ref().is_some_and(|last| !last.has_root(&tree.root())) {
                return Err(NotaryError::Contradiction(format!(
                    "the hashes of the first {signed} events do not give the root that was signed"
                )));
            }
            // Hashes that were not signed yet are computed again: a crash may have cut them off.
            record.truncate(signed).map_err(files)?;
            noted.send_modify(|noted| noted.checkpoint = last);
            Ok(Book { tree, record })
        })
        .await
    }

    async fn note(&self, mut book: Book, target: Position) -> Result<Book, NotaryError> {
        while book.tree.size() < target.0 {
            let from = Position(book.tree.size() + 1);
            let page =
                self.log.store().read_all(from, Direction::Forwards, &Filter::default(), MAX_PAGE_EVENTS).await?;
            if page.events.is_empty() {
                break;
            }
            let leaves: Vec<Hash> = page.events.iter().map(tree::leaf).collect();
            let last = page.next.is_none() || page.events.last().is_some_and(|event| event.position >= target);
            let (key, folder, noted) = (self.key.clone(), self.folder.clone(), self.noted.clone());
            book = blocking(move || {
                let written = book.record.add(&leaves).and_then(|()| {
                    leaves.iter().for_each(|leaf| book.tree.push(*leaf));
                    if last {
                        let checkpoint = Checkpoint::sign(&book.tree, Utc::now(), &key);
                        book.record.close_with(&checkpoint)?;
                        noted.send_modify(|noted| *noted = Noted { checkpoint: Some(checkpoint), problem: None });
                    }
                    Ok(())
                });
                written.map(|()| book).map_err(|source| NotaryError::Files { folder, source })
            })
            .await?;
        }
        Ok(book)
    }
}

fn last_checkpoint(folder: &std::path::Path) -> io::Result<Option<Checkpoint>> {
    let mut checkpoints = Checkpoints::open(folder)?;
    let mut last = None;
    while let Some(next) = checkpoints.next()? {
        last = next.ok().or(last);
    }
    Ok(last)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotaryError> + Send + 'static,
) -> Result<T, NotaryError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(NotaryError::Stopped))
}
