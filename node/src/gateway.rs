//! KurrentDB's protocol, where the configuration asks for it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use cairn_event_store::SharedStore;
use cairn_gateway::{Authority, Caller, Credentials, Gateway, Level, Options, Refusal, Tls};
use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::brain::Brain;
use crate::config::GatewayConfig;
use crate::tokens::{Denied, Known, Token};

/// A gateway that serves.
pub struct Serving {
    /// Where it answers.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

/// Begins to serve, until the brain stops.
///
/// # Errors
/// When the address is taken, or the certificate cannot be used.
pub async fn start(brain: &Arc<Brain>, config: &GatewayConfig) -> Result<Serving> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("the gateway cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let tls = tls(config)?;
    let options = Options { tls, ..Options::plain(address) };
    let authority = Tokens { brain: Arc::clone(brain), anonymous: config.anonymous.clone() };
    let store: SharedStore = brain.log.clone();
    let gateway = Gateway::new(store, Arc::new(authority), options);
    let stopping = brain.stopping.clone();
    let task = tokio::spawn(async move {
        if let Err(error) = gateway.serve(listener, stopping.cancelled_owned()).await {
            tracing::error!(%error, "the gateway has ended");
        }
    });
    Ok(Serving { address, task })
}

impl Serving {
    /// Waits until the calls that are open when the brain stops have ended.
    pub async fn ended(self) {
        // Its panic, if any, has been reported by the panic hook.
        let _ = self.task.await;
    }
}

fn tls(config: &GatewayConfig) -> Result<Option<Tls>> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => Ok(Some(Tls { certificate: read(certificate)?, key: read(key)? })),
        (None, None) => Ok(None),
        _ => bail!("the gateway needs both, `certificate` and `key`, or neither"),
    }
}

/// Lets callers in by the brain's tokens.
struct Tokens {
    brain: Arc<Brain>,
    anonymous: Option<String>,
}

impl Authority for Tokens {
    fn admit(&self, credentials: Option<&Credentials>) -> Result<Caller, Refusal> {
        let (known, now) = (self.brain.tokens.known().map_err(refusal)?, Utc::now());
        let token = match (credentials, &self.anonymous) {
            (Some(credentials), _) => known.authenticate(credentials.token(), now).map_err(refusal)?,
            (None, Some(name)) => named(&known, name, now)?,
            (None, None) => {
                let reason = "send a token as the password; clients do so only over TLS, see docs/kurrentdb.md";
                return Err(Refusal::Unauthenticated(reason.into()));
            }
        };
        let ceiling = Level::new(token.ceiling.level()).expect("truths and levels are the same five");
        Ok(Caller { principal: token.id, ceiling, origin: token.origin.as_str().to_owned() })
    }
}

fn named(known: &Known, name: &str, now: DateTime<Utc>) -> Result<Token, Refusal> {
    let found = known.list().into_iter().find(|token| token.name == name && token.check(now).is_ok());
    found.ok_or_else(|| Refusal::Unauthenticated(format!("there is no valid token named `{name}`")))
}

fn refusal(denied: Denied) -> Refusal {
    match denied {
        Denied::Unknown | Denied::Revoked | Denied::Expired => Refusal::Unauthenticated(denied.to_string()),
        Denied::Unavailable => Refusal::Unavailable(denied.to_string()),
    }
}
