//! Leases: which of several processes runs a projection.
//!
//! A lease is a lock that PostgreSQL holds for as long as a connection lives, so it ends with the process, however that
//! ends, and nobody's clock matters. The holder asks the connection every second whether it is still there, and stops well
//! before the server would give up on a peer that has gone silent and let the next one in. Should it stop too late all the
//! same, what it still writes is refused: each batch says from which position it goes on.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often somebody who waits for a lease asks for it.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// How often the holder asks whether its connection is still there.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long it waits for the answer. With the pause before it is less than half of what the server waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// After some 11 seconds without a sign of life the server lets the lock go.
const SESSION: &str = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;
                       SET tcp_user_timeout = 11000";

/// The leases of one brain. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases {
    pool: PgPool,
    brain: Uuid,
}

/// A lease that this process holds until this is dropped or the connection is lost.
#[derive(Debug)]
pub struct Lease {
    lost: CancellationToken,
    released: CancellationToken,
}

impl Leases {
    /// Those that are kept in a database.
    pub fn new(pool: PgPool, brain: Uuid) -> Self {
        Self { pool, brain }
    }

    /// Waits until this process holds the lease of this name.
    pub async fn acquire(&self, name: &str) -> Lease {
        loop {
            match self.try_acquire(name).await {
                Ok(Some(lease)) => return lease,
                Ok(None) => {}
                Err(error) => tracing::debug!(name, %error, "a lease cannot be asked for now"),
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    }

    /// Takes the lease if nobody holds it.
    ///
    /// # Errors
    /// What the database said.
    pub async fn try_acquire(&self, name: &str) -> Result<Option<Lease>, sqlx::Error> {
        // Not one of the pool: it is kept for as long as the process runs.
        let mut connection = PgConnection::connect_with(&self.pool.connect_options()).await?;
        sqlx::raw_sql(SESSION).execute(&mut connection).await?;
        let lock = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))");
        let is_got: bool = lock.bind(format!("cairn {} {name}", self.brain)).fetch_one(&mut connection).await?;
        if !is_got {
            connection.close().await?;
            return Ok(None);
        }
        let lease = Lease { lost: CancellationToken::new(), released: CancellationToken::new() };
        tokio::spawn(hold(connection, name.to_owned(), lease.lost.clone(), lease.released.clone()));
        Ok(Some(lease))
    }
}

impl Lease {
    /// Waits until the lease is lost: another process may hold it soon.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.released.cancel();
    }
}

/// Keeps the connection until the lease is given back, and tells when it breaks.
async fn hold(mut connection: PgConnection, name: String, lost: CancellationToken, released: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            () = released.cancelled() => {
                // Where it cannot be said, the server notices that the connection is gone.
                let _ = connection.close().await;
                return;
            }
        }
        if !matches!(tokio::time::timeout(ANSWER_WITHIN, connection.ping()).await, Ok(Ok(()))) {
            tracing::warn!(name, "a lease is lost, because its connection is; another process may go on");
            lost.cancel();
            return;
        }
    }
}
