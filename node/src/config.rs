//! Configuration: defaults, then one file, then environment variables, then the command line.
//!
//! An unknown key is an error wherever it stands: a misspelt setting must not be ignored.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

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
}

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
        };
        let figment = Figment::from(Serialized::defaults(defaults));
        let own = data.join(CONFIG_FILE);
        let figment = match file {
            Some(file) if !file.exists() => return Err(ConfigError::Missing(file.to_owned())),
            Some(file) => figment.merge(Toml::file_exact(file)),
            None if own.exists() => figment.merge(Toml::file_exact(own)),
            None => figment,
        };
        // The clients' own variables share the prefix and are not the node's configuration.
        let environment = Env::prefixed("CAIRN_").ignore(&["url", "token", "data"]).split("__");
        figment.merge(environment).extract().map_err(|error| ConfigError::Invalid(Box::new(error)))
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
    fn a_misspelt_key_is_an_error() {
        let error = load("lisen = \"127.0.0.1:1\"").expect_err("unknown key");
        assert!(error.to_string().contains("lisen"), "{error}");
        assert!(load("[embedder]\nmodle = \"x\"").is_err());
    }
}
