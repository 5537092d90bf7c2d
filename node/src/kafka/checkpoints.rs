//! How far the publisher has got, in the database that the log is in.

use async_trait::async_trait;
use cairn_event_store::Position;
use cairn_event_store::postgres::begin;
use cairn_kafka::{CheckpointError, Checkpoints};
use sqlx::PgPool;
use uuid::Uuid;

/// Checkpoints in the database that the log is in.
pub struct PostgresCheckpoints {
    /// The database.
    pub pool: PgPool,
    /// Whose log is published.
    pub brain: Uuid,
}

impl PostgresCheckpoints {
    async fn load_position(&self, name: &str) -> Result<Option<i64>, sqlx::Error> {
        let mut transaction = begin(&self.pool, self.brain).await?;
        let select = sqlx::query_scalar("SELECT position FROM cairn.checkpoints WHERE brain = $1 AND name = $2");
        select.bind(self.brain).bind(name).fetch_optional(&mut *transaction).await
    }

    async fn save_position(&self, name: &str, position: i64) -> Result<(), sqlx::Error> {
        let mut transaction = begin(&self.pool, self.brain).await?;
        sqlx::query(
            "INSERT INTO cairn.checkpoints (brain, name, position) VALUES ($1, $2, $3)
             ON CONFLICT (brain, name) DO UPDATE SET position = $3",
        )
        .bind(self.brain)
        .bind(name)
        .bind(position)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }
}

#[async_trait]
impl Checkpoints for PostgresCheckpoints {
    async fn load(&self, name: &str) -> Result<Option<Position>, CheckpointError> {
        let loaded = self.load_position(name).await.map_err(|error| unavailable(name, &error))?;
        Ok(loaded.map(|position| Position(position.cast_unsigned())))
    }

    async fn save(&self, name: &str, position: Position) -> Result<(), CheckpointError> {
        let saved = self.save_position(name, position.0.cast_signed()).await;
        saved.map_err(|error| unavailable(name, &error))
    }
}

fn unavailable(name: &str, error: &sqlx::Error) -> CheckpointError {
    CheckpointError::Unavailable { name: name.to_owned(), reason: error.to_string() }
}
