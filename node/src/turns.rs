//! Whose turn it is: of several processes that share a database, one does a piece of work.

use std::pin::pin;

use cairn_projector::Leases;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The turns of one piece of work.
pub struct Turns {
    /// What says whose turn it is; none where no other process could do the work.
    pub leases: Option<Leases>,
    /// What the others know the work by.
    pub name: String,
    /// Cancelled when no more work is wanted.
    pub stopping: CancellationToken,
}

impl Turns {
    /// Does the work whenever it is this process's turn, until it ends by itself or is to stop. The work ends soon after its
    /// token is cancelled.
    ///
    /// # Errors
    /// That of the work.
    pub async fn take<W, E>(self, mut work: impl FnMut(CancellationToken) -> W) -> Result<(), E>
    where
        W: Future<Output = Result<(), E>>,
    {
        loop {
            let lease = match &self.leases {
                Some(leases) => match self.stopping.run_until_cancelled(leases.acquire(&self.name)).await {
                    Some(lease) => Some(lease),
                    None => return Ok(()),
                },
                None => None,
            };
            let lost = async {
                match &lease {
                    Some(lease) => lease.lost().await,
                    None => std::future::pending().await,
                }
            };
            let turn = self.stopping.child_token();
            let mut working = pin!(work(turn.clone()));
            tokio::select! {
                ended = &mut working => return ended,
                () = lost => {}
            }
            turn.cancel();
            working.await?;
        }
    }
}

/// Shows on a board what a worker tells of itself, for as long as this is polled.
pub async fn show<T: Clone>(mut told: watch::Receiver<T>, board: &watch::Sender<T>) {
    loop {
        let status = told.borrow_and_update().clone();
        board.send_replace(status);
        if told.changed().await.is_err() {
            // The worker has ended; whoever polls this knows.
            std::future::pending::<()>().await;
        }
    }
}
