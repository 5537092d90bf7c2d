//! What a publisher and a source are told: parsed strictly, with defaults that keep every promise.

use std::collections::BTreeMap;
use std::fmt;

use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_event_store::event::MAX_EVENT_BYTES;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::checkpoint::is_plain;

/// The largest message a source takes unless it is told otherwise, in bytes of key, headers and payload.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// The longest topic name that Kafka takes, in bytes.
const MAX_TOPIC_BYTES: usize = 249;
/// The longest topic prefix, in bytes: a family comes after it.
const MAX_PREFIX_BYTES: usize = 120;

/// What the publisher's promises rest on: not for `properties` to change.
const PUBLISHER_OWN: [&str; 13] = [
    "acks",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "message.timeout.ms",
    "metadata.broker.list",
    "partitioner",
    "request.required.acks",
    "retries",
    "message.send.max.retries",
    "queuing.strategy",
    "transactional.id",
];

/// What the source's promises rest on: not for `properties` to change.
const SOURCE_OWN: [&str; 8] = [
    "auto.commit.enable",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "metadata.broker.list",
    "statistics.interval.ms",
];

/// A configuration that cannot work. It never holds a property's value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A setting is missing or out of range.
    #[error("{setting} of the Kafka configuration {reason}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A property that Cairn sets itself.
    #[error("the Kafka property {property} is set by Cairn, because what it promises rests on it; remove it")]
    Reserved {
        /// Its name.
        property: String,
    },
    /// A property that librdkafka does not know, or not with this value.
    #[error("the Kafka property {property} is unknown, or its value is not one of those it takes")]
    Property {
        /// Its name.
        property: String,
    },
    /// The client library refuses the properties together.
    #[error("the Kafka client cannot be made: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
}

/// Properties of librdkafka, such as `security.protocol`, passed on as they are. Printing them shows their names
/// alone: a value may be a password or a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

/// What a property's value may be written as.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Switch(bool),
    Whole(i64),
    Fraction(f64),
}

impl Properties {
    /// The properties with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(properties: I) -> Self {
        Self(properties.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
        Ok(given
            .into_iter()
            .map(|(name, value)| {
                let value = match value {
                    Scalar::Text(text) => text,
                    Scalar::Switch(switch) => switch.to_string(),
                    Scalar::Whole(number) => number.to_string(),
                    Scalar::Fraction(number) => number.to_string(),
                };
                (name, value)
            })
            .collect())
    }
}

/// A publisher's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherConfig {
    /// Its name: of its checkpoint, and in its status and metrics. One publisher at a time has a name.
    #[serde(default = "default_name")]
    pub name: String,
    /// The brokers to begin with, `host:port` with commas between.
    pub brokers: String,
    /// What the topics' names begin with: events of the family `memory` go to `<topic_prefix>.memory`.
    #[serde(default = "default_prefix")]
    pub topic_prefix: String,
    /// More properties of librdkafka, such as those for TLS and SASL.
    #[serde(default)]
    pub properties: Properties,
}

impl PublisherConfig {
    /// The defaults, with these brokers.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            name: default_name(),
            brokers: brokers.into(),
            topic_prefix: default_prefix(),
            properties: Properties::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_name(&self.name)?;
        check_brokers(&self.brokers)?;
        check_topic("topic_prefix", &self.topic_prefix, MAX_PREFIX_BYTES)?;
        check_properties(&self.properties, &PUBLISHER_OWN)
    }

    /// The client's configuration: what may be changed first, then what may not.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        // Any event of the log fits, so that it is the broker's limit that counts; batches stay below its default.
        client.set("message.max.bytes", "8388608").set("batch.size", "1000000");
        // The window is what bounds the queue. The library's own bounds lie above it.
        client.set("queue.buffering.max.messages", "1000000").set("queue.buffering.max.kbytes", "262144");
        client.set("linger.ms", "5").set("client.id", format!("cairn-{}", self.name));
        client.set("allow.auto.create.topics", "true").set("connections.max.idle.ms", "0");
        client.set("reconnect.backoff.max.ms", "5000");
        for (name, value) in self.properties.iter() {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.brokers);
        client.set("enable.idempotence", "true").set("acks", "all").set("enable.gapless.guarantee", "true");
        // As Java's clients do it, so that theirs and ours agree on where a key lies.
        client.set("partitioner", "murmur2_random");
        // For ever: a broker may be away for days, and an event that timed out would have to be sent again anyway.
        client.set("message.timeout.ms", "0");
        client
    }
}

/// A source's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name, in its status and metrics; also stands for the cluster in the log's tracking, so that it must stay
    /// the same for a topic, and be another one for a topic that was made anew.
    #[serde(default = "default_name")]
    pub name: String,
    /// The brokers to begin with, `host:port` with commas between.
    pub brokers: String,
    /// The topic to read.
    pub topic: String,
    /// Where to begin in a partition that was never read.
    #[serde(default)]
    pub start_at: StartAt,
    /// What payloads must be.
    #[serde(default)]
    pub payload: PayloadFormat,
    /// Which stream a message goes to.
    #[serde(default)]
    pub stream_by: StreamBy,
    /// The largest message that is taken, in bytes of key, headers and payload.
    #[serde(default = "default_max_message_bytes")]
    pub max_message_bytes: usize,
    /// The principal that the events are written by: an automation that was registered.
    pub principal: Uuid,
    /// The highest truth the principal may write at, 2 to 5. A source never writes as the user.
    #[serde(default = "default_ceiling")]
    pub ceiling: Truth,
    /// Where the events come from, as provenance shows it; `automation:kafka/<topic>` when it is left out.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// More properties of librdkafka, such as those for TLS and SASL.
    #[serde(default)]
    pub properties: Properties,
}

/// Where a source begins in a partition that was never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// With the oldest message that is kept.
    #[default]
    Earliest,
    /// With the first message written after the source first saw the partition.
    Latest,
}

/// What the payloads of a topic are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadFormat {
    /// JSON where it is JSON, else text where it is UTF-8, else bytes.
    #[default]
    Any,
    /// JSON. What is not is rejected.
    Json,
    /// UTF-8. What is not is rejected.
    Text,
    /// Bytes.
    Binary,
}

/// Which stream a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamBy {
    /// `capture-<topic>-<partition>`.
    #[default]
    Partition,
    /// `capture-<topic>-<key>`; a message without a key as above.
    Key,
}

impl SourceConfig {
    /// The defaults, with these brokers, this topic and this principal.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>, principal: Uuid) -> Self {
        Self {
            name: default_name(),
            brokers: brokers.into(),
            topic: topic.into(),
            start_at: StartAt::default(),
            payload: PayloadFormat::default(),
            stream_by: StreamBy::default(),
            max_message_bytes: default_max_message_bytes(),
            principal,
            ceiling: default_ceiling(),
            origin: None,
            properties: Properties::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_name(&self.name)?;
        check_brokers(&self.brokers)?;
        check_topic("topic", &self.topic, MAX_TOPIC_BYTES)?;
        if !(1..=MAX_EVENT_BYTES).contains(&self.max_message_bytes) {
            let reason = format!("must be 1 to {MAX_EVENT_BYTES}");
            return Err(ConfigError::Setting { setting: "max_message_bytes", reason });
        }
        if self.ceiling == Truth::User {
            let reason = "must be 2 to 5: what comes from a topic is never written as the user".into();
            return Err(ConfigError::Setting { setting: "ceiling", reason });
        }
        check_properties(&self.properties, &SOURCE_OWN)
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        // The group is a mere name here: partitions are assigned by hand, and offsets are kept in the log.
        client.set("group.id", format!("cairn-{}", self.name)).set("client.id", format!("cairn-{}", self.name));
        client.set("queued.max.messages.kbytes", "16384").set("isolation.level", "read_committed");
        client.set("connections.max.idle.ms", "0").set("reconnect.backoff.max.ms", "5000");
        for (name, value) in self.properties.iter() {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.brokers);
        client.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        // An offset that is gone must be noticed, not jumped over.
        client.set("auto.offset.reset", "error").set("enable.partition.eof", "false");
        client.set("statistics.interval.ms", "5000");
        client
    }
}

fn default_name() -> String {
    "kafka".into()
}

fn default_prefix() -> String {
    "cairn".into()
}

const fn default_max_message_bytes() -> usize {
    DEFAULT_MAX_MESSAGE_BYTES
}

const fn default_ceiling() -> Truth {
    Truth::Automation
}

fn check_name(name: &str) -> Result<(), ConfigError> {
    if is_plain(name) {
        return Ok(());
    }
    let reason = "must be 1 to 100 of a-z, A-Z, 0-9, `.`, `_` and `-`, and not begin with a dot".into();
    Err(ConfigError::Setting { setting: "name", reason })
}

fn check_brokers(brokers: &str) -> Result<(), ConfigError> {
    if !brokers.trim_ascii().is_empty() && !brokers.contains('\0') {
        return Ok(());
    }
    let reason = "must name at least one broker, `host:port`".into();
    Err(ConfigError::Setting { setting: "brokers", reason })
}

fn check_topic(setting: &'static str, topic: &str, most: usize) -> Result<(), ConfigError> {
    if (1..=most).contains(&topic.len()) && topic.chars().all(is_topic_char) && topic != "." && topic != ".." {
        return Ok(());
    }
    let reason = format!("must be 1 to {most} of a-z, A-Z, 0-9, `.`, `_` and `-`");
    Err(ConfigError::Setting { setting, reason })
}

/// Whether a topic's name may hold the character.
pub(crate) fn is_topic_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn check_properties(properties: &Properties, own: &[&str]) -> Result<(), ConfigError> {
    for (name, value) in properties.iter() {
        if own.contains(&name) {
            return Err(ConfigError::Reserved { property: name.to_owned() });
        }
        if name.contains('\0') || value.contains('\0') {
            return Err(ConfigError::Property { property: name.replace('\0', "") });
        }
    }
    Ok(())
}

/// Why the client could not be made, without the value that the library's own error tells.
pub(crate) fn client_error(error: KafkaError) -> ConfigError {
    match error {
        KafkaError::ClientConfig(_, _, property, _) => ConfigError::Property { property },
        other => ConfigError::Client { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let mut config = PublisherConfig::new("localhost:9092");
        config.properties = [("sasl.password", "hunter2"), ("linger.ms", "hunter3")].into_iter().collect();
        let printed = format!("{config:?}");
        assert!(printed.contains("sasl.password") && !printed.contains("hunter"), "{printed}");
        let refused = config.client().create_native_config().err().map(client_error).expect("refused");
        assert!(!format!("{refused} {refused:?}").contains("hunter"), "{refused}");
        assert_eq!(refused, ConfigError::Property { property: "linger.ms".into() });
    }

    #[test]
    fn what_the_promises_rest_on_cannot_be_changed() {
        for property in PUBLISHER_OWN {
            let mut config = PublisherConfig::new("localhost:9092");
            config.properties = [(property, "0")].into_iter().collect();
            assert_eq!(config.check(), Err(ConfigError::Reserved { property: property.into() }));
        }
        let mut config = SourceConfig::new("localhost:9092", "in", Uuid::nil());
        config.properties = [("enable.auto.commit", "true")].into_iter().collect();
        assert!(matches!(config.check(), Err(ConfigError::Reserved { .. })));
    }

    #[test]
    fn unknown_settings_are_errors_and_defaults_are_filled_in() {
        let config: PublisherConfig =
            serde_json::from_str(r#"{"brokers":"a:1","properties":{"linger.ms":7,"tcp.nodelay":true}}"#)
                .expect("reads");
        assert_eq!((config.name.as_str(), config.topic_prefix.as_str()), ("kafka", "cairn"));
        assert_eq!(config.properties, [("linger.ms", "7"), ("tcp.nodelay", "true")].into_iter().collect());
        config.check().expect("fits");
        assert!(serde_json::from_str::<PublisherConfig>(r#"{"brokers":"a:1","prefix":"x"}"#).is_err());
        assert!(serde_json::from_str::<PublisherConfig>("{}").is_err());
    }

    #[test]
    fn a_source_never_writes_as_the_user() {
        let mut config = SourceConfig::new("localhost:9092", "in", Uuid::nil());
        config.check().expect("fits");
        config.ceiling = Truth::User;
        assert!(matches!(config.check(), Err(ConfigError::Setting { setting: "ceiling", .. })));
    }

    #[test]
    fn passwords_in_plain_work_without_any_library_for_tls() {
        let mut config = PublisherConfig::new("localhost:9092");
        config.properties =
            [("security.protocol", "sasl_plaintext"), ("sasl.mechanisms", "PLAIN"), ("sasl.username", "a")]
                .into_iter()
                .collect();
        config.client().create_native_config().expect("is known");
    }
}
