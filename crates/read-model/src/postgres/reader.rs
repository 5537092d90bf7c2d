//! Read transactions on the generation that serves.

use std::time::Duration;

use sqlx::{Postgres, Transaction};

use super::{Server, is_gone};
use crate::page::QueryError;
use crate::sql::{Answer, Connection, Failure};

/// How long one statement of a query may take, and wait for a lock. It is far more than any answer needs with its indexes in
/// place, and less than an HTTP request gets: a query that nobody waits for any more must not keep a connection.
pub const QUERY_LIMIT: Duration = Duration::from_secs(10);

/// How often a read begins anew when its generation was dropped just before it.
const READ_ATTEMPTS: usize = 5;

impl Server {
    /// Runs queries in one read transaction on the generation that serves.
    pub(crate) fn read<T>(
        &self,
        model: &'static str,
        query: impl Fn(&mut Connection<'_>) -> Answer<T>,
    ) -> Result<T, QueryError> {
        // A connection goes back to the pool with the help of the runtime.
        let _entered = self.handle.enter();
        let mut attempt = 1;
        loop {
            let failure = match self.read_once(model, &query) {
                Ok(answer) => return answer.ok_or(QueryError::NotReady { model }),
                Err(failure) => failure,
            };
            let dropped = matches!(&failure, Failure::Postgres(error) if is_gone(error));
            if !dropped || attempt == READ_ATTEMPTS {
                return Err(QueryError::of(model, failure));
            }
            attempt += 1;
        }
    }

    fn read_once<T>(
        &self,
        model: &'static str,
        query: impl Fn(&mut Connection<'_>) -> Answer<T>,
    ) -> Answer<Option<T>> {
        let Some(mut transaction) = self.handle.block_on(self.begin(model))? else { return Ok(None) };
        let answer = query(&mut Connection::Postgres { handle: &self.handle, connection: &mut transaction });
        // There is nothing to commit. Were the answer an error, the connection may be gone already.
        let ended = self.handle.block_on(transaction.rollback());
        let answer = answer?;
        ended?;
        Ok(Some(answer))
    }

    /// A transaction that sees the tables of the generation that serves; none where no generation does.
    async fn begin(&self, model: &'static str) -> sqlx::Result<Option<Transaction<'static, Postgres>>> {
        let mut transaction =
            self.pool.begin_with("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // A statement of its own: which row of `serving` is seen is decided when the next one begins.
        sqlx::query(
            "SELECT set_config('cairn.tenant', $1, true), set_config('jit', 'off', true),
                    set_config('statement_timeout', $2, true)",
        )
        .bind(self.tenant.to_string())
        .bind(QUERY_LIMIT.as_millis().to_string())
        .execute(&mut *transaction)
        .await?;
        // Whoever drops a generation takes the other side of the lock first. Without it the two could wait for each other,
        // one with the first table read and the other with the last one locked.
        let serving = sqlx::query(
            "SELECT set_config('search_path', quote_ident(schema) || ', pg_temp', true),
                    pg_advisory_xact_lock_shared(hashtextextended(schema, 0))
             FROM cairn.serving WHERE projection = $1",
        )
        .bind(model)
        .fetch_optional(&mut *transaction)
        .await?;
        match serving {
            Some(_) => Ok(Some(transaction)),
            None => {
                transaction.rollback().await?;
                Ok(None)
            }
        }
    }
}
