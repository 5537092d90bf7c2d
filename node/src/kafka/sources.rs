//! Taking the messages of topics into the log.
//!
//! The log lets each message in once, however many processes read a topic. Those that share a database take turns all the
//! same, so that a message is not read by all of them, and refused to all but one.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cairn_domain::id::PrincipalId;
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_event_store::SharedStore;
use cairn_kafka::{ConfigError, Properties, Source, SourceConfig, SourceError, SourceStatus, State};
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::brain::Brain;
use crate::config::{KafkaConfig, KafkaSourceConfig};
use crate::tokens::{Denied, Known, Token};
use crate::turns::{Turns, show};

/// How often it is asked whether the token that a source writes with still works.
const TOKEN_CHECK: Duration = Duration::from_secs(1);

/// Reads one topic into the log, when it is this process's turn.
#[derive(Clone)]
pub struct Reading {
    config: SourceConfig,
    store: SharedStore,
    board: watch::Sender<SourceStatus>,
}

/// A source that the configuration asks for and that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SourceRefusal {
    /// Two have one name.
    #[error("two Kafka sources are named `{name}`; give each a `name` of its own")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// It is not said where the topic is.
    #[error("the Kafka source `{name}` names no `brokers`, and there are none to publish to either")]
    NoBrokers {
        /// The source.
        name: String,
    },
    /// There is no such token.
    #[error(
        "the Kafka source `{name}` is to write as `{principal}`, and there is no such token; start without the source, make \
         one with `cairn token create --name {principal} --ceiling automation`, then start again"
    )]
    NoSuchToken {
        /// The source.
        name: String,
        /// What was asked for.
        principal: String,
    },
    /// There are several such tokens.
    #[error(
        "the Kafka source `{name}` is to write as `{principal}`, and several tokens have that name; put the id of one there \
         (`cairn token list`)"
    )]
    SeveralTokens {
        /// The source.
        name: String,
        /// What was asked for.
        principal: String,
    },
    /// It would write as the user.
    #[error(
        "the Kafka source `{name}` is to write as the user; make it a token with `--ceiling automation` or lower, and set \
         `ceiling` to 2 or more"
    )]
    AsUser {
        /// The source.
        name: String,
    },
    /// The origin does not go with the level.
    #[error("the `origin` of the Kafka source `{name}` begins with `{level}:` at its level")]
    ForeignOrigin {
        /// The source.
        name: String,
        /// The level's name.
        level: &'static str,
    },
    /// The settings cannot work.
    #[error("the Kafka source `{name}` cannot be")]
    Config {
        /// The source.
        name: String,
        /// Why.
        source: ConfigError,
    },
}

/// Why a source has ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// It cannot go on.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It may not go on.
    #[error("{0}")]
    Denied(Denied),
}

/// The sources that the configuration asks for, each with the principal it writes as.
///
/// # Errors
/// See [`SourceRefusal`]. A token that was revoked or has expired is none of them: its source ends by itself as soon as it is
/// run, and the rest of the node goes on.
pub fn sources(
    brain: &Brain,
    known: &Known,
    kafka: &KafkaConfig,
    now: DateTime<Utc>,
) -> Result<Vec<Reading>, SourceRefusal> {
    let mut names = HashSet::new();
    let mut readings = Vec::new();
    for wanted in &kafka.sources {
        let name = wanted.name.clone();
        if !names.insert(&wanted.name) {
            return Err(SourceRefusal::NameTaken { name });
        }
        let config = source_config(wanted, kafka, known, now)?;
        let store: SharedStore = brain.log.clone();
        let source = Source::new(config.clone(), Arc::clone(&store))
            .map_err(|source| SourceRefusal::Config { name, source })?;
        let status = SourceStatus { state: State::Standby, ..source.status().borrow().clone() };
        readings.push(Reading { config, store, board: watch::Sender::new(status) });
    }
    Ok(readings)
}

fn source_config(
    wanted: &KafkaSourceConfig,
    kafka: &KafkaConfig,
    known: &Known,
    now: DateTime<Utc>,
) -> Result<SourceConfig, SourceRefusal> {
    let name = || wanted.name.clone();
    let token = token(wanted, known, now)?;
    if token.ceiling == Truth::User || wanted.ceiling == Some(Truth::User) {
        return Err(SourceRefusal::AsUser { name: name() });
    }
    let ceiling = Truth::limited(token.ceiling, wanted.ceiling);
    let origin = wanted.origin.clone().unwrap_or_else(|| Origin::of(ceiling, &format!("kafka/{}", wanted.topic)));
    if !origin.as_str().starts_with(&format!("{}:", ceiling.name())) {
        return Err(SourceRefusal::ForeignOrigin { name: name(), level: ceiling.name() });
    }
    // Brokers that are meant by saying nothing are to be reached the same way.
    let (brokers, shared) = match (&wanted.brokers, &kafka.brokers) {
        (Some(brokers), _) => (brokers, None),
        (None, Some(brokers)) => (brokers, Some(&kafka.properties)),
        (None, None) => return Err(SourceRefusal::NoBrokers { name: name() }),
    };
    let properties = shared.into_iter().flatten().chain(&wanted.properties);
    Ok(SourceConfig {
        name: name(),
        start_at: wanted.start_at,
        payload: wanted.payload,
        stream_by: wanted.stream_by,
        max_message_bytes: wanted.max_message_bytes,
        ceiling,
        origin: Some(origin),
        properties: properties
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect::<Properties>(),
        ..SourceConfig::new(brokers, &wanted.topic, token.id)
    })
}

/// The token that is meant: by its id, or by its name among those that work. Where none works, the newest of that name.
fn token(wanted: &KafkaSourceConfig, known: &Known, now: DateTime<Utc>) -> Result<Token, SourceRefusal> {
    let (name, principal) = (wanted.name.clone(), wanted.principal.clone());
    let id: Option<Uuid> = principal.parse().ok();
    let all = known.list();
    let meant: Vec<&Token> = all.iter().filter(|token| Some(token.id) == id || token.name == principal).collect();
    let mut working = meant.iter().filter(|token| token.check(now).is_ok());
    match (working.next(), working.next(), meant.last()) {
        (Some(_), Some(_), _) => Err(SourceRefusal::SeveralTokens { name, principal }),
        (Some(token), None, _) | (None, _, Some(token)) => Ok((*token).clone()),
        (None, _, None) => Err(SourceRefusal::NoSuchToken { name, principal }),
    }
}

impl Reading {
    /// How it fares, now and whenever that changes.
    pub fn status(&self) -> watch::Receiver<SourceStatus> {
        self.board.subscribe()
    }

    /// Reads until the brain stops.
    pub async fn run(self, brain: Arc<Brain>) {
        let turns = Turns {
            leases: super::leases(&brain),
            name: format!("kafka source {}", self.config.name),
            stopping: brain.stopping.clone(),
        };
        let ended = turns.take(|turn| self.clone().read(Arc::clone(&brain), turn)).await;
        if let Err(error) = ended {
            tracing::error!(source = self.config.name, %error, "nothing more is read from this Kafka source");
            self.board.send_modify(|status| {
                status.state = State::Failed;
                status.problem = Some(error.to_string());
            });
        }
    }

    /// Reads for one turn.
    async fn read(self, brain: Arc<Brain>, turn: CancellationToken) -> Result<(), Ended> {
        self.check_token(&brain).map_err(Ended::Denied)?;
        let source = Source::new(self.config.clone(), Arc::clone(&self.store)).map_err(SourceError::Config)?;
        let status = source.status();
        let mut running = pin!(source.run(turn.clone()));
        let ended = tokio::select! {
            ended = &mut running => ended.map_err(Ended::Source),
            () = show(status.clone(), &self.board) => Ok(()),
            denied = self.denied(&brain) => {
                turn.cancel();
                running.await.map_err(Ended::Source).and(Err(Ended::Denied(denied)))
            }
        };
        self.board.send_replace(SourceStatus { state: State::Standby, ..status.borrow().clone() });
        ended
    }

    /// Waits until the token works no longer.
    async fn denied(&self, brain: &Brain) -> Denied {
        loop {
            tokio::time::sleep(TOKEN_CHECK).await;
            if let Err(denied) = self.check_token(brain) {
                return denied;
            }
        }
    }

    /// Without the database nobody can tell, and nothing can be appended either.
    fn check_token(&self, brain: &Brain) -> Result<(), Denied> {
        match brain.tokens.check(PrincipalId::new(self.config.principal), Utc::now()) {
            Ok(()) | Err(Denied::Unavailable) => Ok(()),
            Err(denied @ (Denied::Unknown | Denied::Revoked | Denied::Expired)) => Err(denied),
        }
    }
}

#[cfg(test)]
mod tests;
