//! Configuration: defaults, then one file, then environment variables, then the command line.
//!
//! An unknown key is an error wherever it stands: a misspelt setting must not be ignored.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_kafka::{DEFAULT_MAX_MESSAGE_BYTES, PayloadFormat, StartAt, StreamBy};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// The port a node listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7411;

/// The configuration file looked for in the data folder.
pub const CONFIG_FILE: &str = "cairn.toml";

/// What a node is told at start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder that holds everything the node keeps.
    pub data: PathBuf,
    /// Where HTTP is answered. Loopback unless told otherwise.
    pub listen: SocketAddr,
    /// How logs are written.
    pub log: LogFormat,
    /// What turns text into vectors.
    pub embedder: EmbedderConfig,
    /// The PostgreSQL database that holds log, keys and read models. None: files of the data folder.
    pub database: Option<DatabaseConfig>,
    /// The KurrentDB server or cluster that holds the log. None: the database, or files of the data folder.
    pub kurrentdb: Option<KurrentDbConfig>,
    /// The Qdrant server that holds the search index. None: files of the data folder.
    pub qdrant: Option<QdrantConfig>,
    /// Where KurrentDB's protocol is answered. None: nowhere.
    pub gateway: Option<GatewayConfig>,
    /// Kafka: where events are published to, and the topics that are read into the log. None: neither.
    pub kafka: Option<KafkaConfig>,
    /// Where traces are sent.
    pub traces: TracesConfig,
    /// Who keeps the read models in servers up with the log.
    pub projections: Projections,
    /// The file of the brain's key, where it is not in the data folder: processes that serve one brain share it.
    pub brain_key: Option<PathBuf>,
    /// The file of the key that signs for the brain among others, once that is not its first any more; where it is not in the data folder.
    pub sharing_key: Option<PathBuf>,
    /// How the brain meets others that it shares memories with.
    pub federation: FederationConfig,
    /// How a second machine of one's own follows this one, or this one another.
    pub follower: FollowerConfig,
}

/// How a second machine of one's own follows this one, or this one another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FollowerConfig {
    /// Where followers are answered, by UDP. None: on this machine alone, as soon as one is invited, at the port two after the API's.
    pub listen: Option<SocketAddr>,
    /// How followers reach it, as `host:port`, where that is not the address it listens on.
    pub announce: Vec<String>,
    /// What followers are told it is called. Empty: the host's name.
    pub name: String,
    /// Whether an append is acknowledged only when a follower has it on disk.
    pub synchronous: bool,
}

/// How the brain meets others that it shares memories with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FederationConfig {
    /// Whether it meets any.
    pub enabled: bool,
    /// Where the process answers that meets them in this one's place, such as `http://127.0.0.1:7414`; with commas, where several are that take
    /// turns. What is asked about sharing is passed on to it. Empty: nowhere.
    pub answered_at: String,
    /// What others are told it is called. Empty: the name of the user who runs it.
    pub name: String,
    /// Where others can connect, as multiaddresses such as `/ip4/0.0.0.0/udp/7412/quic-v1`. Empty: on this machine alone, by QUIC and TCP at
    /// the port after the API's.
    pub listen: Vec<String>,
    /// Where others can connect by gRPC, for brains that reach each other plainly, such as `0.0.0.0:7413`. Empty: nowhere; other brains' gRPC is
    /// dialled all the same.
    pub grpc_listen: Vec<SocketAddr>,
    /// Whether it takes part in libp2p. Without it, brains are only met by gRPC.
    pub libp2p: bool,
    /// Addresses at which it can be reached from outside, where a port is forwarded to it.
    pub announce: Vec<String>,
    /// Whether brains on the local network are looked for, and this one is to be found there.
    pub mdns: bool,
    /// Relays that it can be reached through, each with `/p2p/` and the relay's peer id at its end.
    pub relays: Vec<String>,
    /// Whether it relays between brains that it knows.
    pub relay: bool,
    /// How many MiB of shared memories are taken of each brain in a day.
    pub peer_mib_per_day: u32,
}

impl Default for FederationConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            answered_at: String::new(),
            name: String::new(),
            listen: Vec::new(),
            grpc_listen: Vec::new(),
            libp2p: true,
            announce: Vec::new(),
            mdns: false,
            relays: Vec::new(),
            relay: false,
            peer_mib_per_day: 1_024,
        }
    }
}

/// Who keeps the read models in servers up with the log. Those in the data folder are always the node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projections {
    /// The node, taking turns with others like it.
    Internal,
    /// `cairn-projector` processes.
    External,
}

/// A text that must not be shown, such as a password.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/database`. The role must be neither a superuser nor able to pass by row-level
    /// security.
    pub url: Secret,
    /// The most connections the node opens.
    #[serde(default = "default_connections")]
    pub connections: u32,
}

const fn default_connections() -> u32 {
    24
}

/// A KurrentDB server or cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KurrentDbConfig {
    /// `kurrentdb://user:password@host:port?tls=true`, with several hosts as `host:port,host:port`.
    pub url: Secret,
}

/// A Qdrant server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QdrantConfig {
    /// Its gRPC endpoint, such as `http://localhost:6334`.
    pub url: String,
    /// Its key, where it asks for one.
    #[serde(default)]
    pub api_key: Option<Secret>,
}

/// Where KurrentDB's protocol is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The address; KurrentDB's own port is 2113.
    pub listen: SocketAddr,
    /// The certificate, as PEM, with those it rests on. Clients send credentials only to a server that has one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, as PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The name of the token that calls without credentials act with. Without it they are refused.
    #[serde(default)]
    pub anonymous: Option<String>,
}

/// Kafka.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// The brokers that events are published to, as `host:port,host:port`. None: nothing is published.
    #[serde(default)]
    pub brokers: Option<String>,
    /// What the names of topics begin with.
    #[serde(default = "default_prefix")]
    pub topic_prefix: String,
    /// More properties of librdkafka, such as those for SASL.
    #[serde(default)]
    pub properties: BTreeMap<String, Secret>,
    /// The topics that are read into the log.
    #[serde(default)]
    pub sources: Vec<KafkaSourceConfig>,
}

/// A topic that is read into the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSourceConfig {
    /// The topic.
    pub topic: String,
    /// The name of the token, or its id, whose principal the events are written by.
    pub principal: String,
    /// Its name: stands for the cluster in what the log keeps of it. Each source has another.
    #[serde(default = "default_source")]
    pub name: String,
    /// The brokers to begin with. None: those that events are published to, with their properties.
    #[serde(default)]
    pub brokers: Option<String>,
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
    #[serde(default = "default_message_bytes")]
    pub max_message_bytes: usize,
    /// The level of the events. None, or above what the token may: the token's.
    #[serde(default)]
    pub ceiling: Option<Truth>,
    /// Where the events come from. None: `<level>:kafka/<topic>`.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// More properties of librdkafka, such as those for SASL.
    #[serde(default)]
    pub properties: BTreeMap<String, Secret>,
}

/// Where traces are sent, beside what the `OTEL_` variables say.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// The collector, such as `http://localhost:4317`. None: traces are not sent.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// A file with what the collector wants with each request, as `name=value,name=value`.
    #[serde(default)]
    pub headers_file: Option<PathBuf>,
    /// What this process is called.
    #[serde(default)]
    pub service_name: Option<String>,
    /// The share of traces that are sent, from 0 to 1.
    #[serde(default)]
    pub sample_ratio: Option<f64>,
}

fn default_prefix() -> String {
    "cairn".to_owned()
}

fn default_source() -> String {
    "kafka".to_owned()
}

const fn default_message_bytes() -> usize {
    DEFAULT_MAX_MESSAGE_BYTES
}

/// Variables that other programs know by these names, with what they set here. `<NAME>_FILE` names a file that holds the
/// value instead.
const COMMON_VARIABLES: [(&str, &str); 6] = [
    ("DATABASE_URL", "database.url"),
    ("KURRENTDB_URL", "kurrentdb.url"),
    ("QDRANT_URL", "qdrant.url"),
    ("QDRANT_API_KEY", "qdrant.api_key"),
    ("KAFKA_BROKERS", "kafka.brokers"),
    ("KAFKA_TOPIC_PREFIX", "kafka.topic_prefix"),
];

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What turns text into vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedderConfig {
    /// The base URL of an OpenAI-compatible service; `/embeddings` is added. Empty: the built-in model.
    pub url: String,
    /// The model to ask it for.
    pub model: String,
    /// The number of dimensions of its vectors.
    pub dimensions: usize,
    /// A file that holds the service's key. The key itself never stands in the configuration.
    pub key_file: Option<PathBuf>,
}

/// Configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is missing, unknown or of the wrong type.
    #[error("the configuration cannot be used: {0}")]
    Invalid(#[from] Box<figment::Error>),
    /// The file that was named does not exist.
    #[error("the configuration file {0} does not exist")]
    Missing(PathBuf),
    /// A file that a variable names cannot be read.
    #[error("{variable} names {path}, which cannot be read")]
    File {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The platform names no home folder.
    #[error("no home folder is known; name the data folder with --data or CAIRN_DATA")]
    NoHome,
}

/// The data folder of a user who names none.
///
/// # Errors
/// When neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn default_data_folder() -> Result<PathBuf, ConfigError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    base.map(|base| base.join("cairn")).ok_or(ConfigError::NoHome)
}

impl Config {
    /// Reads the configuration for a data folder: `file` if given, else the folder's own, then the environment.
    ///
    /// # Errors
    /// When a key is unknown or a value does not fit.
    pub fn load(data: &Path, file: Option<&Path>) -> Result<Self, ConfigError> {
        let defaults = Self {
            data: data.to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            log: LogFormat::Text,
            embedder: EmbedderConfig::default(),
            database: None,
            kurrentdb: None,
            qdrant: None,
            gateway: None,
            kafka: None,
            traces: TracesConfig::default(),
            projections: Projections::Internal,
            brain_key: None,
            sharing_key: None,
            federation: FederationConfig::default(),
            follower: FollowerConfig::default(),
        };
        let figment = Figment::from(Serialized::defaults(defaults));
        let own = data.join(CONFIG_FILE);
        let figment = match file {
            Some(file) if !file.exists() => return Err(ConfigError::Missing(file.to_owned())),
            Some(file) => figment.merge(Toml::file_exact(file)),
            None if own.exists() => figment.merge(Toml::file_exact(own)),
            None => figment,
        };
        let figment = COMMON_VARIABLES.into_iter().try_fold(figment, |figment, (name, key)| {
            Ok::<_, ConfigError>(match variable(name)? {
                Some(value) => figment.merge((key, value)),
                None => figment,
            })
        })?;
        // The clients' own variables share the prefix and are not the node's configuration.
        let environment = Env::prefixed("CAIRN_").ignore(&["url", "token", "data"]).split("__");
        figment.merge(environment).extract().map_err(|error| ConfigError::Invalid(Box::new(error)))
    }
}

/// The value of a variable, or of the file that it names.
fn variable(name: &str) -> Result<Option<String>, ConfigError> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(file) = set(&format!("{name}_FILE")) else { return Ok(set(name)) };
    let failed =
        |source| ConfigError::File { variable: format!("{name}_FILE"), path: file.clone().into(), source };
    let text = std::fs::read_to_string(&file).map_err(&failed)?;
    match text.trim() {
        "" => Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is empty"))),
        value => Ok(Some(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join(CONFIG_FILE), toml).expect("write");
        Config::load(folder.path(), None)
    }

    #[test]
    fn a_node_listens_on_loopback_unless_told_otherwise() {
        let config = load("").expect("defaults");
        assert!(config.listen.ip().is_loopback());
        assert_eq!(load("listen = \"0.0.0.0:80\"").expect("valid").listen.port(), 80);
    }

    #[test]
    fn a_folder_without_a_configuration_file_is_fine() {
        let folder = tempfile::tempdir().expect("temporary folder");
        Config::load(&folder.path().join("not-made-yet"), None).expect("defaults");
    }

    #[test]
    fn the_password_of_a_url_is_not_shown() {
        let config = load("[kurrentdb]\nurl = \"kurrentdb://user:rosebud@host\"").expect("valid");
        assert!(!format!("{config:?}").contains("rosebud"));
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let error = load("lisen = \"127.0.0.1:1\"").expect_err("unknown key");
        assert!(error.to_string().contains("lisen"), "{error}");
        assert!(load("[embedder]\nmodle = \"x\"").is_err());
        assert!(load("[[kafka.sources]]\ntopic = \"x\"\nprincipal = \"x\"\nstart = \"latest\"").is_err());
    }

    #[test]
    fn a_source_needs_a_topic_and_a_principal_and_no_publishing() {
        let config =
            load("[[kafka.sources]]\ntopic = \"t\"\nprincipal = \"p\"\nceiling = 5\nstart_at = \"latest\"");
        let kafka = config.expect("valid").kafka.expect("there is one");
        assert_eq!(kafka.brokers, None);
        let source = &kafka.sources[0];
        assert_eq!((source.topic.as_str(), source.principal.as_str(), source.name.as_str()), ("t", "p", "kafka"));
        assert_eq!((source.ceiling, source.start_at), (Some(Truth::CloudAi), StartAt::Latest));
        assert!(load("[[kafka.sources]]\ntopic = \"t\"").is_err());
    }
}
