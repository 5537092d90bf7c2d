//! One generation of a read model, open for writing.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::schema::{create, enter, schema_name, tables};
use super::sink::PgSink;
use super::{Server, failed};
use crate::change::Batch;
use crate::database::{Model, ModelError};

/// What the writing connection is told once. The statements of a batch look rows up by key and by nothing else. The
/// planner, which knows nothing of tables that are just being filled, might settle for reading them from end to end.
const SESSION: &str =
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off";

/// A generation open for writing. There is one such handle to a schema at a time. Every method blocks.
#[derive(Debug)]
pub struct PgDatabase {
    server: Server,
    model: &'static Model,
    schema: String,
    /// None after a failure: whatever state the old one was in, a new one is in a known one.
    connection: Option<PgConnection>,
    checkpoint: u64,
    /// The transaction of the last erasure whose rows the tables may still hold, dead.
    traces: Option<String>,
}

/// What became of a batch.
enum Applied {
    Written {
        transaction: Option<String>,
    },
    /// The rows stand elsewhere than this program thought.
    Elsewhere(u64),
}

impl PgDatabase {
    /// Begins an empty generation. It is set up to be filled quickly; [`make_ready`](Self::make_ready) turns it into one
    /// that can serve.
    ///
    /// # Errors
    /// See [`ModelError`]. It is one when the generation is there already.
    pub fn create(server: &Server, model: &'static Model, number: u64) -> Result<Self, ModelError> {
        let mut generation = Self::closed(server, model, number);
        let schema = generation.schema.clone();
        let created = server.handle.block_on(async {
            let connection = generation.connect().await?;
            create(connection, server, model, &schema).await
        });
        created.map_err(failed(&schema))?;
        tracing::debug!(schema, "created a generation");
        Ok(generation)
    }

    /// Opens a generation that was created before.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn open(server: &Server, model: &'static Model, number: u64) -> Result<Self, ModelError> {
        let mut generation = Self::closed(server, model, number);
        let schema = generation.schema.clone();
        let meta = server.handle.block_on(generation.meta()).map_err(failed(&schema))?;
        let Some((version, checkpoint, erased)) = meta else { return Err(ModelError::Missing { schema }) };
        let found = u32::try_from(version).unwrap_or_default();
        if found != model.version {
            return Err(ModelError::OtherVersion {
                place: format!("the schema {schema}"),
                model: model.name,
                found,
                expected: model.version,
            });
        }
        generation.checkpoint = checkpoint.cast_unsigned();
        generation.traces = erased;
        Ok(generation)
    }

    fn closed(server: &Server, model: &'static Model, number: u64) -> Self {
        let schema = schema_name(server, model, number);
        Self { server: server.clone(), model, schema, connection: None, checkpoint: 0, traces: None }
    }

    /// The position the rows stand at.
    pub fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    /// The schema.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Writes what a batch changed, in one transaction. What was written before is not written again, also where the
    /// connection broke before it was known to be.
    ///
    /// # Errors
    /// See [`ModelError`]. Nothing is written then, or, where the connection broke, possibly everything; the next call
    /// finds out. After [`ModelError::Behind`] every later call fails alike.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), ModelError> {
        while batch.position > self.checkpoint {
            let mut sink = PgSink::default();
            (self.model.fold)(&mut sink, self.checkpoint, batch);
            let handle = self.server.handle.clone();
            let applied = handle.block_on(self.write(batch, &sink));
            if applied.is_err() {
                self.connection = None;
            }
            match applied.map_err(failed(&self.schema))? {
                Applied::Written { transaction } => {
                    self.checkpoint = batch.position;
                    self.traces = transaction.or(self.traces.take());
                }
                // An earlier commit came through after all.
                Applied::Elsewhere(found) if found > self.checkpoint => self.checkpoint = found,
                Applied::Elsewhere(found) => {
                    let (schema, expected) = (self.schema.clone(), self.checkpoint);
                    return Err(ModelError::Behind { schema, expected, found });
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, batch: &Batch, sink: &PgSink) -> sqlx::Result<Applied> {
        let (server, schema, checkpoint) = (self.server.clone(), self.schema.clone(), self.checkpoint);
        let mut transaction = self.connect().await?.begin().await?;
        enter(&mut transaction, &server, &schema).await?;
        // It also keeps a second writer waiting, until this one is done and the checkpoint is not where that one thinks.
        let found: Option<i64> = sqlx::query_scalar(
            "UPDATE meta SET checkpoint = $1 FROM (SELECT checkpoint AS before FROM meta FOR UPDATE) AS old
             RETURNING old.before",
        )
        .bind(batch.position.cast_signed())
        .fetch_optional(&mut *transaction)
        .await?;
        let found = found.ok_or(sqlx::Error::RowNotFound)?.cast_unsigned();
        if found != checkpoint {
            transaction.rollback().await?;
            return Ok(Applied::Elsewhere(found));
        }
        sink.write(&mut transaction, server.tenant).await?;
        let erases = batch.memories.iter().any(|change| change.memory.is_erased());
        let id = match erases {
            true => Some(sqlx::query_scalar(TRANSACTION).fetch_one(&mut *transaction).await?),
            false => None,
        };
        transaction.commit().await?;
        Ok(Applied::Written { transaction: id })
    }

    /// Makes the generation fit to serve: builds the indexes that queries need and lets the planner know the tables.
    /// Doing it again does nothing.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn make_ready(&mut self) -> Result<(), ModelError> {
        let handle = self.server.handle.clone();
        handle.block_on(self.index()).map_err(failed(&self.schema))
    }

    async fn index(&self) -> sqlx::Result<()> {
        // Not on the writing connection, whose planner is told to avoid what is best here.
        let mut transaction = self.server.pool.begin().await?;
        enter(&mut transaction, &self.server, &self.schema).await?;
        // What serves must not be lost in a crash: with this commit, all before it are on the disk.
        sqlx::query("SELECT set_config('synchronous_commit', 'on', true)").execute(&mut *transaction).await?;
        let indexed: bool = sqlx::query_scalar("SELECT indexed FROM meta").fetch_one(&mut *transaction).await?;
        if !indexed {
            sqlx::raw_sql(self.model.postgres.indexes).execute(&mut *transaction).await?;
            for table in tables(&mut transaction, &self.schema).await? {
                let sql = format!("ANALYZE {}.{table}", self.schema);
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await?;
            }
            sqlx::query("UPDATE meta SET indexed = true").execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// For quiet moments: takes what erasures left dead out of the tables. Says whether anything is left to do, because
    /// a query still sees the time before.
    ///
    /// It does what PostgreSQL offers: no query can reach the rows any more, and their space is used again. Their bytes
    /// stay in the pages until something else is written there, and in the write-ahead log until it is recycled.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn settle(&mut self) -> Result<bool, ModelError> {
        let Some(transaction) = self.traces.clone() else { return Ok(false) };
        let handle = self.server.handle.clone();
        let left = handle.block_on(self.vacuum(&transaction)).map_err(failed(&self.schema))?;
        if !left {
            self.traces = None;
        }
        Ok(left)
    }

    async fn vacuum(&self, transaction: &str) -> sqlx::Result<bool> {
        let mut connection = self.server.pool.acquire().await?;
        // Only sessions of this role are seen, which are all that read here.
        let seen: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL
             AND age(backend_xmin) >= age($1::text::xid)",
        )
        .bind(transaction)
        .fetch_one(&mut *connection)
        .await?;
        if seen > 0 {
            return Ok(true);
        }
        for table in tables(&mut connection, &self.schema).await? {
            let sql = format!("VACUUM {}.{table}", self.schema);
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
        }
        Ok(false)
    }

    /// Takes leave of the server. Another write connects again.
    pub fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // It is gone either way.
            let _ = self.server.handle.block_on(connection.close());
        }
    }

    async fn connect(&mut self) -> sqlx::Result<&mut PgConnection> {
        if self.connection.is_none() {
            let mut connection = PgConnection::connect_with(&self.server.pool.connect_options()).await?;
            sqlx::raw_sql(SESSION).execute(&mut connection).await?;
            self.connection = Some(connection);
        }
        Ok(self.connection.as_mut().expect("it was just made sure of"))
    }

    /// Version, checkpoint, and a transaction that may have left erased rows behind, if there were any erasures.
    async fn meta(&mut self) -> sqlx::Result<Option<(i64, i64, Option<String>)>> {
        let (server, schema) = (self.server.clone(), self.schema.clone());
        let mut transaction = self.connect().await?.begin().await?;
        enter(&mut transaction, &server, &schema).await?;
        let meta =
            sqlx::query_as("SELECT version, checkpoint FROM meta").fetch_optional(&mut *transaction).await?;
        let Some((version, checkpoint)) = meta else { return Ok(None) };
        let erasures: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM tombstones)").fetch_one(&mut *transaction).await?;
        let erased = match erasures {
            true => Some(sqlx::query_scalar(TRANSACTION).fetch_one(&mut *transaction).await?),
            false => None,
        };
        transaction.commit().await?;
        Ok(Some((version, checkpoint, erased)))
    }
}

/// Asks for the number of the transaction at hand.
const TRANSACTION: &str = "SELECT pg_current_xact_id()::xid::text";
