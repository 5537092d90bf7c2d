//! Publishing to Kafka, where the configuration names brokers.

use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use cairn_event_store::postgres::begin;
use cairn_event_store::{Position, SharedStore};
use cairn_kafka::{CheckpointError, Checkpoints, FileCheckpoints, Properties, Publisher, PublisherConfig};
use cairn_projector::Leases;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::brain::Brain;
use crate::config::KafkaConfig;

/// A publisher at work.
pub struct Publishing {
    task: JoinHandle<()>,
}

/// Begins to publish, until the brain stops. Of several processes that share a database, one publishes.
///
/// # Errors
/// When the configuration cannot work.
pub fn start(brain: &Arc<Brain>, config: &KafkaConfig) -> Result<Publishing> {
    let properties = config.properties.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
    let config = PublisherConfig {
        topic_prefix: config.topic_prefix.clone(),
        properties: Properties::from_iter(properties),
        ..PublisherConfig::new(config.brokers.clone())
    };
    let (checkpoints, leases): (Arc<dyn Checkpoints>, _) = match &brain.database {
        Some(pool) => {
            let kept = PostgresCheckpoints { pool: pool.clone(), brain: brain.brain };
            (Arc::new(kept), Some(Leases::new(pool.clone(), brain.brain)))
        }
        None => {
            let folder = brain.folder.published();
            let kept =
                FileCheckpoints::open(&folder).with_context(|| format!("{} cannot be used", folder.display()))?;
            (Arc::new(kept), None)
        }
    };
    let store: SharedStore = brain.log.clone();
    // Tells now what will not work later either.
    Publisher::new(config.clone(), Arc::clone(&store), Arc::clone(&checkpoints))?;
    let stopping = brain.stopping.clone();
    let task = tokio::spawn(async move {
        let work = publish(config, store, checkpoints, leases, stopping);
        if let Err(error) = work.await {
            tracing::error!(%error, "nothing is published to Kafka any more");
        }
    });
    Ok(Publishing { task })
}

impl Publishing {
    /// Waits until what was on its way when the brain stopped has arrived, or has been given up.
    pub async fn ended(self) {
        // Its panic, if any, has been reported by the panic hook.
        let _ = self.task.await;
    }
}

async fn publish(
    config: PublisherConfig,
    store: SharedStore,
    checkpoints: Arc<dyn Checkpoints>,
    leases: Option<Leases>,
    stopping: CancellationToken,
) -> Result<()> {
    loop {
        let lease = match &leases {
            Some(leases) => match stopping.run_until_cancelled(leases.acquire("kafka")).await {
                Some(lease) => Some(lease),
                None => return Ok(()),
            },
            None => None,
        };
        let publisher = Publisher::new(config.clone(), Arc::clone(&store), Arc::clone(&checkpoints))?;
        let turn = stopping.child_token();
        let lost = async {
            match &lease {
                Some(lease) => lease.lost().await,
                None => std::future::pending().await,
            }
        };
        let running = publisher.run(turn.clone());
        let mut running = std::pin::pin!(running);
        let ended = tokio::select! {
            ended = &mut running => Some(ended),
            () = lost => None,
        };
        match ended {
            Some(ended) => return Ok(ended?),
            // What it was about to send is sent again by whoever goes on: at least once.
            None => {
                turn.cancel();
                running.await?;
            }
        }
    }
}

/// Checkpoints in the database that the log is in.
struct PostgresCheckpoints {
    pool: PgPool,
    brain: Uuid,
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
