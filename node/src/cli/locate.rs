//! Where the node is, and the token to act with.

use std::path::{Path, PathBuf};

use reqwest::Url;

use super::args::Global;
use super::error::CliError;
use crate::config::default_data_folder;
use crate::data_folder::Running;

/// A node to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its base URL.
    pub url: Url,
    /// The token to act with.
    pub token: String,
    /// Whether it was found in a data folder of this machine.
    pub local: bool,
}

/// Finds the node: at `--url`, else the one that announces itself in the data folder.
///
/// # Errors
/// When no node runs there or there is no token.
pub fn locate(global: &Global) -> Result<Located, CliError> {
    let folder = || match &global.data {
        Some(folder) => Ok(folder.clone()),
        None => default_data_folder().map_err(|error| {
            CliError::usage("no data folder is known", format!("name one with --data or CAIRN_DATA: {error}"))
        }),
    };
    if let Some(text) = &global.url {
        let url = parse_url(text)?;
        let token = match &global.token {
            Some(token) => token.clone(),
            // The owner's token is a key to everything: it is not sent to other machines unasked.
            None if is_loopback(&url) => owner_token(&folder()?)?,
            None => return Err(CliError::NoToken { reason: format!("{url} is another machine") }),
        };
        return Ok(Located { url, token, local: false });
    }
    let folder = folder()?;
    let running = announced(&folder)?;
    let token = global.token.clone().map_or_else(|| owner_token(&folder), Ok)?;
    Ok(Located { url: parse_url(&running.url)?, token, local: true })
}

fn parse_url(text: &str) -> Result<Url, CliError> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).ok_or_else(
        || CliError::usage(format!("`{text}` is not an address"), "use one such as http://127.0.0.1:7411"),
    )
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn announced(folder: &Path) -> Result<Running, CliError> {
    let path = folder.join("node.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(CliError::NoNode { folder: folder.to_owned() });
        }
        Err(error) => return Err(CliError::file(path.display().to_string(), error)),
    };
    serde_json::from_slice(&text).map_err(|error| CliError::file(path.display().to_string(), error.into()))
}

fn owner_token(folder: &Path) -> Result<String, CliError> {
    let path: PathBuf = folder.join("owner.token");
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(error) => Err(CliError::NoToken { reason: format!("{}: {error}", path.display()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(node: Option<&str>, token: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temporary folder");
        if let Some(node) = node {
            std::fs::write(folder.path().join("node.json"), node).expect("write");
        }
        if let Some(token) = token {
            std::fs::write(folder.path().join("owner.token"), token).expect("write");
        }
        folder
    }

    fn global(folder: &tempfile::TempDir) -> Global {
        Global { data: Some(folder.path().to_owned()), ..Global::default() }
    }

    const NODE: &str = r#"{"url":"http://127.0.0.1:7411","pid":1,"brain":"00000000-0000-0000-0000-000000000001"}"#;

    #[test]
    fn the_node_of_the_data_folder_is_found_with_the_owners_token() {
        let folder = folder(Some(NODE), Some("cairn_secret\n"));
        let located = locate(&global(&folder)).expect("located");
        assert_eq!(located.url.as_str(), "http://127.0.0.1:7411/");
        assert_eq!(located.token, "cairn_secret");
        assert!(located.local);
    }

    #[test]
    fn without_a_node_or_a_token_the_error_says_so() {
        let none = folder(None, None);
        assert!(matches!(locate(&global(&none)), Err(CliError::NoNode { .. })));
        let tokenless = folder(Some(NODE), None);
        assert!(matches!(locate(&global(&tokenless)), Err(CliError::NoToken { .. })));
    }

    #[test]
    fn the_owners_token_is_not_sent_to_other_machines() {
        let folder = folder(None, Some("cairn_secret"));
        let at = |url: &str| locate(&Global { url: Some(url.into()), ..global(&folder) });
        assert!(matches!(at("http://brain.example:7411"), Err(CliError::NoToken { .. })));
        assert_eq!(at("http://localhost:9").expect("loopback").token, "cairn_secret");
        assert_eq!(at("http://[::1]:9").expect("loopback").token, "cairn_secret");
        assert!(matches!(at("brain"), Err(CliError::Usage { .. })));
    }
}
