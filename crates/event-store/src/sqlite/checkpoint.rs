//! Keeping the write-ahead log short without holding commits up.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

/// Whenever it has grown by this many pages, a thread of its own copies the write-ahead log into the database: 8 MiB. More
/// often would only make its fsyncs compete with those of commits.
const COPY_EVERY_PAGES: i32 = 2_048;
/// From this many pages on, the writer makes the write-ahead log start over: 18 MiB, less than there is room made for.
/// A busy writer is always a few pages ahead of the copying thread, so that the log would otherwise grow for as long as
/// it is busy, and growing makes commits slower.
const RESTART_FROM_PAGES: i32 = 4_608;

thread_local! {
    /// The write-ahead log's length after this thread's last commit, in pages.
    static PAGES: Cell<i32> = const { Cell::new(0) };
}

/// The writer's side of checkpointing.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    copy_at: i32,
    restart_at: i32,
}

impl Checkpointer {
    /// Starts the copying thread with a connection of its own, and watches the writer's commits. To be called on the
    /// writer's thread.
    pub(super) fn start(writer: &Connection, copier: Connection) -> std::io::Result<Self> {
        writer.wal_hook(Some(|_, pages| {
            PAGES.set(pages);
            Ok(())
        }));
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("event-log-checkpoint".into())
            .spawn(move || copy_whenever_woken(&copier, &woken))?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            copy_at: COPY_EVERY_PAGES,
            restart_at: RESTART_FROM_PAGES,
        })
    }

    /// To be called by the writer after each commit.
    pub(super) fn committed(&mut self, writer: &Connection) {
        let pages = PAGES.get();
        if pages < COPY_EVERY_PAGES {
            // It has started over.
            (self.copy_at, self.restart_at) = (COPY_EVERY_PAGES, RESTART_FROM_PAGES);
        } else if pages >= self.restart_at {
            // Where a long read is in the way, trying at every commit would slow them all.
            let done = checkpoint(writer, "RESTART");
            self.restart_at = if done { RESTART_FROM_PAGES } else { pages.saturating_add(RESTART_FROM_PAGES) };
        } else if pages >= self.copy_at {
            self.copy_at = pages.saturating_add(COPY_EVERY_PAGES);
            // A full channel means that the thread is about to look anyway.
            let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
        }
    }

    /// Ends the copying thread, and copies the rest.
    pub(super) fn stop(mut self, writer: &Connection) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself, and a panic in it has been reported by the panic hook.
            let _ = thread.join();
        }
        checkpoint(writer, "TRUNCATE");
    }
}

fn copy_whenever_woken(connection: &Connection, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        checkpoint(connection, "PASSIVE");
    }
}

/// Whether it was done completely. If not, nothing is lost: the next one continues.
fn checkpoint(connection: &Connection, mode: &str) -> bool {
    match connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(0)) {
        Ok(busy) => busy == 0,
        Err(error) => {
            tracing::warn!(%error, mode, "the event log's checkpoint failed; it will be tried again");
            false
        }
    }
}
