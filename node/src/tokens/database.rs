//! Tokens in the database: one list for all processes of a brain.
//!
//! Each process has the whole list in memory, so that letting a request in asks nobody. A task of its own keeps it up: it
//! looks at the database whenever another process tells of a change, whenever a request brings a token that is not in the
//! list, and every second in any case. What was last seen counts for [`TRUSTED_FOR`] and no longer, so that a token that
//! was revoked elsewhere is refused within that time even where no news comes through.

use std::sync::Arc;
use std::time::Duration;

use cairn_event_store::StoreError;
use cairn_event_store::postgres::{begin, store_error};
use chrono::{DateTime, Utc};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::known::Known;
use super::{Denied, MAX_TOKENS, Token, TokenError};

/// How long the list counts after it was looked at. Longer than a write waits for a server that restarts, so that whoever
/// is known gets through that.
pub const TRUSTED_FOR: Duration = Duration::from_secs(9);

/// How often the list is looked at where nobody asks for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least time between two looks: neither unknown tokens nor notifications, which anybody in the database can send, make
/// more of them.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// How long one look, or an attempt to listen, may take.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// The connections that looks and notifications have for themselves: however busy the node is, it knows who may ask.
const CONNECTIONS: u32 = 2;
/// How long a request waits for a look.
const LOOK_PATIENCE: Duration = Duration::from_secs(3);

/// The channel that changes are told on.
const CHANNEL: &str = "cairn_tokens";

/// The tokens of a brain, in a database.
pub struct DatabaseTokens {
    database: Database,
    seen: watch::Receiver<Seen>,
    asked: Arc<Notify>,
    _following: DropGuard,
}

/// What a look at the list found.
#[derive(Debug, Clone)]
struct Seen {
    known: Arc<Known>,
    /// Which list it was: it counts up with each change.
    version: i64,
    /// When the look began: every change before it is in the list.
    began: Instant,
}

/// The part of the database that is one brain's.
#[derive(Debug, Clone)]
struct Database {
    pool: PgPool,
    brain: Uuid,
}

/// A row of `cairn.tokens`.
type Row = (Uuid, String, i16, String, String, DateTime<Utc>, Option<DateTime<Utc>>, Option<DateTime<Utc>>);

impl DatabaseTokens {
    /// Reads the list, and begins to follow it.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn open(pool: PgPool, brain: Uuid) -> Result<Self, TokenError> {
        let database = Database { pool, brain };
        let nothing = Seen { known: Arc::default(), version: 0, began: Instant::now() };
        let seen = database.look(&nothing).await.map_err(|error| store_error(&error))?;
        let (tell, seen) = watch::channel(seen);
        let (asked, ended) = (Arc::new(Notify::new()), CancellationToken::new());
        let following = follow(database.apart(), tell, Arc::clone(&asked));
        tokio::spawn(ended.clone().run_until_cancelled_owned(following));
        Ok(Self { database, seen, asked, _following: ended.drop_guard() })
    }

    /// All of them, as they were at most [`TRUSTED_FOR`] ago.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] where that cannot be told.
    pub fn known(&self) -> Result<Arc<Known>, Denied> {
        let seen = self.seen.borrow();
        if seen.began.elapsed() > TRUSTED_FOR {
            return Err(Denied::Unavailable);
        }
        Ok(Arc::clone(&seen.known))
    }

    /// All of them, as they are now. Several who ask at once share a look.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] where the database does not answer.
    pub async fn refreshed(&self) -> Result<Arc<Known>, Denied> {
        let asked = Instant::now();
        self.asked.notify_one();
        let mut seen = self.seen.clone();
        let newer = seen.wait_for(|seen| seen.began >= asked);
        match timeout(LOOK_PATIENCE, newer).await {
            Ok(Ok(seen)) => Ok(Arc::clone(&seen.known)),
            Ok(Err(_)) | Err(_) => Err(Denied::Unavailable),
        }
    }

    /// Keeps a new token.
    ///
    /// # Errors
    /// When there are too many, or the database cannot be used.
    pub async fn add(&self, token: &Token) -> Result<(), TokenError> {
        self.database.add(token).await?;
        self.settle().await;
        Ok(())
    }

    /// Revokes a token. One that was revoked stays so, since when it was.
    ///
    /// # Errors
    /// When there is no such token, or the database cannot be used.
    pub async fn revoke(&self, id: Uuid, now: DateTime<Utc>) -> Result<Token, TokenError> {
        let token = self.database.revoke(id, now).await?;
        self.settle().await;
        Ok(token)
    }

    /// Waits until this process knows of its own change. It is made already: should the database go away just now, this
    /// process learns of it as the others do.
    async fn settle(&self) {
        if self.refreshed().await.is_err() {
            tracing::warn!("a change of the tokens is made, but cannot be seen yet");
        }
    }
}

impl Database {
    /// The same, over connections of its own.
    fn apart(&self) -> Self {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(LOOK_LIMIT);
        Self { pool: pool.connect_lazy_with(self.pool.connect_options().as_ref().clone()), brain: self.brain }
    }

    /// Looks at the list, and reads it where it is not the one that was seen before.
    async fn look(&self, before: &Seen) -> Result<Seen, sqlx::Error> {
        let began = Instant::now();
        let mut transaction = begin(&self.pool, self.brain).await?;
        let version: Option<i64> = sqlx::query_scalar("SELECT version FROM cairn.token_lists WHERE brain = $1")
            .bind(self.brain)
            .fetch_optional(&mut *transaction)
            .await?;
        let version = version.unwrap_or_default();
        let known = match version == before.version {
            true => Arc::clone(&before.known),
            // What was changed since the version was read is there too. The next look then reads it once more.
            false => Arc::new(self.read(&mut transaction).await?),
        };
        transaction.commit().await?;
        Ok(Seen { known, version, began })
    }

    async fn read(&self, transaction: &mut Transaction<'static, Postgres>) -> Result<Known, sqlx::Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, ceiling, origin, hash, created_at, expires_at, revoked_at FROM cairn.tokens
             WHERE brain = $1 LIMIT $2",
        )
        .bind(self.brain)
        .bind(MAX_TOKENS as i64)
        .fetch_all(&mut **transaction)
        .await?;
        rows.into_iter().map(token).collect()
    }

    async fn add(&self, token: &Token) -> Result<(), TokenError> {
        let failed = |error| store_error(&error);
        let mut transaction = self.begin_change().await.map_err(failed)?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM cairn.tokens WHERE brain = $1")
            .bind(self.brain)
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        if count >= MAX_TOKENS as i64 {
            return Err(TokenError::TooMany);
        }
        sqlx::query(
            "INSERT INTO cairn.tokens (brain, id, name, ceiling, origin, hash, created_at, expires_at, revoked_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(self.brain)
        .bind(token.id)
        .bind(&token.name)
        .bind(i16::from(token.ceiling.level()))
        .bind(token.origin.as_str())
        .bind(&token.hash)
        .bind(token.created_at)
        .bind(token.expires_at)
        .bind(token.revoked_at)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        Ok(self.end_change(transaction).await.map_err(failed)?)
    }

    async fn revoke(&self, id: Uuid, now: DateTime<Utc>) -> Result<Token, TokenError> {
        let failed = |error| store_error(&error);
        let mut transaction = self.begin_change().await.map_err(failed)?;
        let row: Option<Row> = sqlx::query_as(
            "UPDATE cairn.tokens SET revoked_at = coalesce(revoked_at, $3) WHERE brain = $1 AND id = $2
             RETURNING id, name, ceiling, origin, hash, created_at, expires_at, revoked_at",
        )
        .bind(self.brain)
        .bind(id)
        .bind(now)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let token = token(row.ok_or(TokenError::NotFound(id))?).map_err(failed)?;
        self.end_change(transaction).await.map_err(failed)?;
        Ok(token)
    }

    /// Begins a change: whoever else changes the list waits until it is made or given up.
    async fn begin_change(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let mut transaction = begin(&self.pool, self.brain).await?;
        sqlx::query(
            "INSERT INTO cairn.token_lists AS list (brain, version) VALUES ($1, 1)
             ON CONFLICT (brain) DO UPDATE SET version = list.version + 1",
        )
        .bind(self.brain)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction)
    }

    /// Makes a change, and tells the others with the same commit.
    async fn end_change(&self, mut transaction: Transaction<'static, Postgres>) -> Result<(), sqlx::Error> {
        let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(self.brain.to_string());
        notify.execute(&mut *transaction).await?;
        transaction.commit().await
    }
}

fn token(row: Row) -> Result<Token, sqlx::Error> {
    let (id, name, ceiling, origin, hash, created_at, expires_at, revoked_at) = row;
    let damaged = |reason: String| sqlx::Error::Decode(format!("token {id}: {reason}").into());
    let level = u8::try_from(ceiling).map_err(|error| damaged(error.to_string()))?;
    Ok(Token {
        id,
        name,
        ceiling: level
            .try_into()
            .map_err(|error: cairn_domain::truth::InvalidTruth| damaged(error.to_string()))?,
        origin: origin
            .parse()
            .map_err(|error: cairn_domain::principal::InvalidOrigin| damaged(error.to_string()))?,
        hash,
        created_at,
        expires_at,
        revoked_at,
    })
}

/// Keeps what is seen of the list up with it.
async fn follow(database: Database, seen: watch::Sender<Seen>, asked: Arc<Notify>) {
    let mut listener = None;
    loop {
        if listener.is_none() {
            listener = timeout(LOOK_LIMIT, listen(&database.pool)).await.ok().flatten();
        }
        let before = seen.borrow().clone();
        match timeout(LOOK_LIMIT, database.look(&before)).await {
            Ok(Ok(found)) => {
                seen.send_replace(found);
            }
            Ok(Err(error)) => tell(store_error(&error), &before),
            Err(_) => tell(StoreError::Unavailable { reason: "PostgreSQL does not answer".to_owned() }, &before),
        }
        sleep(LOOK_PAUSE).await;
        tokio::select! {
            () = asked.notified() => {}
            () = sleep(LOOK_EVERY) => {}
            is_lost = hear(&mut listener, database.brain) => {
                if is_lost {
                    listener = None;
                }
            }
        }
    }
}

/// Says why the list cannot be looked at, once it matters.
fn tell(error: StoreError, before: &Seen) {
    match before.began.elapsed() > TRUSTED_FOR {
        true => tracing::warn!(%error, "tokens cannot be checked, so requests are refused"),
        false => tracing::debug!(%error, "the tokens could not be looked at"),
    }
}

async fn listen(pool: &PgPool) -> Option<PgListener> {
    let mut listener = PgListener::connect_with(pool).await.ok()?;
    listener.listen(CHANNEL).await.ok()?;
    Some(listener)
}

/// Waits until a process tells of a change, or the connection is lost, which the answer says. Without a connection it waits
/// for ever.
async fn hear(listener: &mut Option<PgListener>, brain: Uuid) -> bool {
    let Some(listener) = listener else { return std::future::pending().await };
    while let Ok(Some(notification)) = listener.try_recv().await {
        if notification.payload().parse() == Ok(brain) {
            return false;
        }
    }
    true
}
