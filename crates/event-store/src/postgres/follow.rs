//! Learning what other processes append, and telling them what this one did.
//!
//! A notification wakes; a look at the log every so often makes up for those that were lost. Notifications are sent after
//! the commit, in a transaction of their own: within it they would make every commit of the whole database wait for the
//! one before, of whatever brain.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::reader;
use super::writer::raise;
use crate::event::Position;

/// The channel that positions are told on.
const CHANNEL: &str = "cairn_log";
/// How often the log is looked at where notifications come through.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked at where they do not.
const LOOK_OFTEN: Duration = Duration::from_millis(100);
/// The least time between two notifications; several commits share one.
const TELL_EVERY: Duration = Duration::from_millis(5);

/// Starts both; returns what the writer tells of its commits.
pub(super) fn start(
    pool: PgPool,
    brain: Uuid,
    head: Arc<watch::Sender<Position>>,
    ended: CancellationToken,
) -> watch::Sender<Position> {
    let (told, commits) = watch::channel(*head.borrow());
    let telling = tell(pool.clone(), brain, commits);
    tokio::spawn(ended.clone().run_until_cancelled_owned(telling));
    tokio::spawn(ended.run_until_cancelled_owned(async move { listen(&pool, brain, &head).await }));
    told
}

async fn tell(pool: PgPool, brain: Uuid, mut commits: watch::Receiver<Position>) {
    while commits.changed().await.is_ok() {
        let position = *commits.borrow_and_update();
        let payload = format!("{brain}:{position}");
        let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload);
        if let Err(error) = notify.execute(&pool).await {
            // Others look at the log by themselves.
            tracing::debug!(%error, "a notification could not be sent");
        }
        tokio::time::sleep(TELL_EVERY).await;
    }
}

async fn listen(pool: &PgPool, brain: Uuid, head: &watch::Sender<Position>) {
    let mut listener = None;
    loop {
        if listener.is_none() {
            listener = connect(pool).await;
        }
        match reader::head(pool, brain).await {
            Ok(found) => raise(head, found),
            Err(error) => tracing::debug!(%error, "the log's head could not be looked at"),
        }
        let Some(listening) = &mut listener else {
            tokio::time::sleep(LOOK_OFTEN).await;
            continue;
        };
        if let Ok(Heard::Nothing) = tokio::time::timeout(LOOK_EVERY, hear(listening, brain, head)).await {
            listener = None;
        }
    }
}

async fn connect(pool: &PgPool) -> Option<PgListener> {
    let mut listener = PgListener::connect_with(pool).await.ok()?;
    listener.listen(CHANNEL).await.ok()?;
    Some(listener)
}

/// What the listening ended with.
enum Heard {
    /// Another process has appended. How far is looked up: anybody in the database can send a notification.
    More,
    /// The connection is lost.
    Nothing,
}

async fn hear(listener: &mut PgListener, brain: Uuid, head: &watch::Sender<Position>) -> Heard {
    while let Ok(Some(notification)) = listener.try_recv().await {
        let Some((told, position)) = notification.payload().split_once(':') else { continue };
        let told = told.parse() == Ok(brain) && position.parse().is_ok_and(|told: u64| told > head.borrow().0);
        if told {
            return Heard::More;
        }
    }
    Heard::Nothing
}
