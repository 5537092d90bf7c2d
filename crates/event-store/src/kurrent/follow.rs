//! Hearing of what other nodes append.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::keeper::News;
use super::link::{Link, LinkError};

/// The first pause before a subscription is made again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause, and how long a subscription lasts that is no failure in a row.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Subscribes again and again, until told to end or nobody listens.
pub(super) async fn follow(
    mut link: Link,
    marked: watch::Receiver<u64>,
    news: mpsc::Sender<News>,
    ended: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let error = tokio::select! {
            () = ended.cancelled() => return,
            error = listen(&mut link, &marked, &news) => error,
        };
        let Some(error) = error else { return };
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(%error, "the subscription to KurrentDB was interrupted; it is made again");
        if news.send(News::Interrupted).await.is_err() {
            return;
        }
        tokio::select! {
            () = ended.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Passes on what is appended; returns why it ended, or nothing when nobody listens any more.
async fn listen(link: &mut Link, marked: &watch::Receiver<u64>, news: &mpsc::Sender<News>) -> Option<LinkError> {
    let after = *marked.borrow();
    let mut following = match link.subscribe(after).await {
        Ok(following) => following,
        Err(error) => return Some(error),
    };
    loop {
        match following.next().await {
            Ok(Ok(record)) => news.send(News::Record(record)).await.ok()?,
            Ok(Err(foreign)) => return Some(foreign.into()),
            Err(error) => return Some(link.failed(error)),
        }
    }
}
