//! Kafka, where the configuration asks for it: what is committed out, what topics hold in.

mod checkpoints;
mod publishing;
mod sources;

use std::sync::Arc;

use anyhow::{Result, bail};
use cairn_kafka::{PublisherStatus, SourceStatus};
use cairn_projector::Leases;
use chrono::Utc;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::brain::Brain;
use crate::config::KafkaConfig;
use publishing::Publishing;

/// Publisher and sources at work.
pub struct Working {
    tasks: Vec<JoinHandle<()>>,
}

/// What publisher and sources tell of themselves.
#[derive(Default)]
pub struct Watched {
    publisher: Option<watch::Receiver<PublisherStatus>>,
    sources: Vec<watch::Receiver<SourceStatus>>,
}

/// How publisher and sources fare.
#[derive(Debug, Serialize)]
pub struct KafkaStatus {
    /// The publisher; none where nothing is published.
    pub publisher: Option<PublisherStatus>,
    /// The sources.
    pub sources: Vec<SourceStatus>,
}

/// Begins to publish and to read, until the brain stops. Of several processes that share a database, one does each.
///
/// # Errors
/// When the configuration cannot work.
pub fn start(brain: &Arc<Brain>, config: &KafkaConfig) -> Result<Working> {
    if config.brokers.is_none() && config.sources.is_empty() {
        bail!("the configuration of Kafka names neither `brokers` to publish to nor `sources` to read");
    }
    let publishing =
        config.brokers.as_deref().map(|brokers| Publishing::new(brain, brokers, config)).transpose()?;
    let readings = sources::sources(brain, &*brain.tokens.known()?, config, Utc::now())?;
    let watched = Watched {
        publisher: publishing.as_ref().map(Publishing::status),
        sources: readings.iter().map(sources::Reading::status).collect(),
    };
    let mut tasks: Vec<JoinHandle<()>> =
        readings.into_iter().map(|reading| tokio::spawn(reading.run(Arc::clone(brain)))).collect();
    tasks.extend(publishing.map(|publishing| tokio::spawn(publishing.run(Arc::clone(brain)))));
    // A process starts this once.
    let _ = brain.kafka.set(watched);
    Ok(Working { tasks })
}

impl Working {
    /// Waits until what was on its way when the brain stopped has arrived, or has been given up.
    pub async fn ended(self) {
        for task in self.tasks {
            // Its panic, if any, has been reported by the panic hook.
            let _ = task.await;
        }
    }
}

impl Watched {
    /// How they fare now.
    pub fn status(&self) -> KafkaStatus {
        KafkaStatus {
            publisher: self.publisher.as_ref().map(|publisher| publisher.borrow().clone()),
            sources: self.sources.iter().map(|source| source.borrow().clone()).collect(),
        }
    }
}

/// What says whose turn it is, where several processes may share the brain.
fn leases(brain: &Brain) -> Option<Leases> {
    brain.database.clone().map(|pool| Leases::new(pool, brain.brain))
}
