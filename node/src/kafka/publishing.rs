//! Publishing what is committed.

use std::sync::Arc;

use anyhow::{Context, Result};
use cairn_event_store::SharedStore;
use cairn_kafka::{
    Checkpoints, FileCheckpoints, Properties, PublishError, Publisher, PublisherConfig, PublisherStatus, State,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::checkpoints::PostgresCheckpoints;
use crate::brain::Brain;
use crate::config::KafkaConfig;
use crate::turns::{Turns, show};

/// What other processes know the work by.
const LEASE: &str = "kafka";

/// Publishes, when it is this process's turn.
#[derive(Clone)]
pub struct Publishing {
    config: PublisherConfig,
    store: SharedStore,
    checkpoints: Arc<dyn Checkpoints>,
    board: watch::Sender<PublisherStatus>,
}

impl Publishing {
    /// Makes sure that the configuration can work.
    ///
    /// # Errors
    /// When it cannot.
    pub fn new(brain: &Brain, brokers: &str, config: &KafkaConfig) -> Result<Self> {
        let properties = config.properties.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let config = PublisherConfig {
            topic_prefix: config.topic_prefix.clone(),
            properties: Properties::from_iter(properties),
            ..PublisherConfig::new(brokers)
        };
        let checkpoints: Arc<dyn Checkpoints> = match &brain.database {
            Some(pool) => Arc::new(PostgresCheckpoints { pool: pool.clone(), brain: brain.brain }),
            None => {
                let folder = brain.folder.published();
                let kept = FileCheckpoints::open(&folder)
                    .with_context(|| format!("{} cannot be used", folder.display()))?;
                Arc::new(kept)
            }
        };
        let store: SharedStore = brain.log.clone();
        // Tells now what will not work later either.
        let publisher = Publisher::new(config.clone(), Arc::clone(&store), Arc::clone(&checkpoints))?;
        let status = PublisherStatus { state: State::Standby, ..publisher.status().borrow().clone() };
        Ok(Self { config, store, checkpoints, board: watch::Sender::new(status) })
    }

    /// How it fares, now and whenever that changes.
    pub fn status(&self) -> watch::Receiver<PublisherStatus> {
        self.board.subscribe()
    }

    /// Publishes until the brain stops.
    pub async fn run(self, brain: Arc<Brain>) {
        let turns =
            Turns { leases: super::leases(&brain), name: LEASE.to_owned(), stopping: brain.stopping.clone() };
        if let Err(error) = turns.take(|turn| self.clone().publish(turn)).await {
            tracing::error!(%error, "nothing is published to Kafka any more");
        }
    }

    /// Publishes for one turn. What was on its way at its end is sent again by whoever goes on: at least once.
    async fn publish(self, turn: CancellationToken) -> Result<(), PublishError> {
        let publisher = Publisher::new(self.config, self.store, self.checkpoints)?;
        let status = publisher.status();
        let ended = tokio::select! {
            ended = publisher.run(turn.clone()) => ended,
            () = show(status.clone(), &self.board) => Ok(()),
        };
        let mut last = status.borrow().clone();
        if ended.is_ok() {
            last.state = State::Standby;
        }
        self.board.send_replace(last);
        ended
    }
}
