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
        // There is nothing to commit. The transaction is rolled back when its connection goes back to the pool, for which nobody
        // waits.
        query(&mut Connection::Postgres { handle: &self.handle, connection: &mut transaction }).map(Some)
    }

    /// A transaction that sees the tables of the generation that serves; none where no generation does.
    async fn begin(&self, model: &'static str) -> sqlx::Result<Option<Transaction<'static, Postgres>>> {
        let mut transaction =
            self.pool.begin_with("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let serves: bool = sqlx::query_scalar("SELECT cairn.begin_read($1, $2, $3)")
            .bind(self.tenant.to_string())
            .bind(model)
            .bind(QUERY_LIMIT.as_millis().to_string())
            .fetch_one(&mut *transaction)
            .await?;
        Ok(serves.then_some(transaction))
    }
}
