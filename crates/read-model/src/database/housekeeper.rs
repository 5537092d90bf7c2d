//! Copies the write-ahead log of a serving generation back into its file, on a thread of its own.
//!
//! Copying ends with fsyncs. On the writer's thread they would delay what readers wait to see.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::BUSY_TIMEOUT;

/// The write-ahead log is copied back when it has grown beyond this.
pub(crate) const WAL_BYTES: u64 = 8 * 1024 * 1024;
/// How often its length is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Housekeeper {
    wal: PathBuf,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    looked: Instant,
}

impl Housekeeper {
    pub(super) fn start(path: &Path) -> std::io::Result<Self> {
        // One waiting request stands for any number.
        let (wake, requests) = sync_channel(1);
        let file = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("read-model-housekeeper".into())
            .spawn(move || copy_back(&file, &requests))?;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        Ok(Self { wal: wal.into(), wake: Some(wake), thread: Some(thread), looked: Instant::now() })
    }

    /// Notes that the writer committed.
    pub(super) fn committed(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let long = std::fs::metadata(&self.wal).is_ok_and(|wal| wal.len() > WAL_BYTES);
        if let (true, Some(wake)) = (long, &self.wake) {
            // A full channel means that it is at it already.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn copy_back(path: &Path, requests: &Receiver<()>) {
    let mut connection = None;
    while requests.recv().is_ok() {
        if let Err(error) = copy_once(path, &mut connection) {
            tracing::warn!(path = %path.display(), %error, "the write-ahead log could not be copied back; retrying");
            connection = None;
        }
    }
}

fn copy_once(path: &Path, connection: &mut Option<Connection>) -> rusqlite::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => {
            let opened = Connection::open(path)?;
            opened.busy_timeout(BUSY_TIMEOUT)?;
            connection.insert(opened)
        }
    };
    // Passive: it neither waits for readers nor holds the writer up.
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
