//! Federation at work: the service of `cairn-sharing` over the networks of `cairn-federation`.

mod key_file;
mod networks;
mod switchboard;
mod ways;
mod wires;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cairn_projector::Leases;
use cairn_sharing::{Resume, Sharing, SharingConfig, Transport};
use ed25519_dalek::SigningKey;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::brain::Brain;
use crate::config::{Config, FederationConfig};
use crate::turns::Turns;
use key_file::KeyFile;
use networks::Networks;
use switchboard::Switchboard;
use wires::{Early, Wires};

/// Orders that wait for the networks.
const QUEUED_ORDERS: usize = 256;
/// What happened and waits for the service.
const QUEUED_HAPPENINGS: usize = 64;
/// How long is waited for this process's turn before the node goes on without.
const TURN_PATIENCE: Duration = Duration::from_secs(3);
/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_secs(5);
/// How long is waited at the start until it is known where others can connect.
const ADDRESSES_WITHIN: Duration = Duration::from_secs(1);
/// How long the service gets to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Federation at work.
pub struct Federation {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Begins to meet other brains; none where the configuration says so. Of several processes that share a database, one does.
///
/// # Errors
/// When an address cannot be used, or the log cannot be read.
pub async fn start(brain: &Arc<Brain>, config: &Config, port: u16) -> Result<Option<Federation>> {
    if !config.federation.enabled {
        return Ok(None);
    }
    let stop = CancellationToken::new();
    let leases = brain.database.clone().map(|pool| Leases::new(pool, brain.brain));
    let shared = leases.is_some();
    let turns = Turns { leases, name: "sharing".into(), stopping: stop.clone() };
    let (began, mut begun) = watch::channel(None);
    let (meeting, config) = (Arc::clone(brain), config.federation.clone());
    let task = tokio::spawn(async move {
        let work = |stop| meet_until(Arc::clone(&meeting), config.clone(), port, began.clone(), stop);
        let ended: Result<(), std::convert::Infallible> = turns.take(work).await;
        debug!(?ended, "other brains are not met any more");
    });
    // Another process may be the one that does it.
    let patience = if shared { TURN_PATIENCE } else { Duration::MAX };
    let first = tokio::time::timeout(patience, begun.wait_for(Option::is_some)).await;
    if let Ok(Ok(first)) = first
        && let Some(Err(reason)) = first.as_ref()
    {
        stop.cancel();
        bail!("other brains cannot be met: {reason}");
    }
    Ok(Some(Federation { stop, task }))
}

impl Federation {
    /// Ends it, in order: nothing more is taken in, then connections close.
    pub async fn ended(self) {
        self.stop.cancel();
        if tokio::time::timeout(PATIENCE, self.task).await.is_err() {
            warn!("sharing did not end in time");
        }
    }
}

/// Meets other brains until told to stop. What goes wrong meanwhile, such as a log that does not answer, is told, and tried again.
async fn meet_until(
    brain: Arc<Brain>,
    config: FederationConfig,
    port: u16,
    began: watch::Sender<Option<Result<(), String>>>,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while !stop.is_cancelled() {
        if let Err(error) = meet(&brain, &config, port, &began, &stop).await {
            error!(reason = %format!("{error:#}"), "other brains cannot be met; it is tried again");
            began.send_replace(Some(Err(format!("{error:#}"))));
        }
        brain.set_sharing(None);
        brain.set_relaying(None);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    Ok(())
}

/// Meets other brains until told to stop, or until the log fails.
async fn meet(
    brain: &Arc<Brain>,
    config: &FederationConfig,
    port: u16,
    began: &watch::Sender<Option<Result<(), String>>>,
    stop: &CancellationToken,
) -> Result<()> {
    let device = SigningKey::from_bytes(&blake3::derive_key("cairn 2026-11 device 1", brain.key.as_bytes()));
    let secret = device.to_bytes();
    let (happenings, received) = mpsc::channel(QUEUED_HAPPENINGS);
    let (orders, mut taken) = mpsc::channel(QUEUED_ORDERS);
    let wires = Arc::new(Wires::new(orders));
    let name = if config.name.is_empty() { whoami() } else { config.name.clone() };
    let bytes_a_day = u64::from(config.peer_mib_per_day) * 1024 * 1024;
    let later = Arc::new(KeyFile(brain.sharing_key.clone()));
    let own = SharingConfig { brain: brain.key.clone(), later, device, name, resume: resume(brain), bytes_a_day };
    let sharing_stops = stop.child_token();
    // Whatever ends this ends the service.
    let _stops = sharing_stops.clone().drop_guard();
    let transport: Arc<dyn Transport> = Arc::clone(&wires) as _;
    let sharing = Sharing::start(own, Arc::clone(&brain.handler), transport, received, sharing_stops);
    let (sharing, task) = sharing.await.context("what is shared cannot be read from the log")?;
    // Once it answers, it has said whom it knows. Were connections taken before that, friends would be refused.
    sharing.view().await.context("what is shared is not known")?;
    note_begun(brain);
    let early = Early::take(&mut taken);
    let (networks, events) = Networks::start(secret, config, port, early.known()).await?;
    let switchboard = Switchboard::new(networks.clone(), Arc::clone(&wires), happenings);
    tokio::spawn(switchboard.run(events, early, taken));
    wires.addresses_known(ADDRESSES_WITHIN).await;
    brain.set_sharing(Some(sharing));
    brain.set_relaying(networks.relaying());
    began.send_replace(Some(Ok(())));
    // Its panic, if any, has been reported by the panic hook.
    let _ = task.await;
    networks.shutdown().await;
    Ok(())
}

/// A node that took over from another goes on in another epoch: the other may have said what is not in this log.
fn resume(brain: &Brain) -> Resume {
    match brain.followers.get() {
        Some(primary) if primary.begins_sharing_anew() => Resume::Anew,
        Some(_) | None => Resume::Here,
    }
}

/// Remembers that it has, once the service answers.
fn note_begun(brain: &Brain) {
    if let Some(primary) = brain.followers.get()
        && primary.begins_sharing_anew()
        && let Err(error) = primary.sharing_began_anew()
    {
        warn!(%error, "that sharing has begun anew could not be written down; it begins anew again after a start");
    }
}

fn whoami() -> String {
    let named = |name: &str| std::env::var(name).ok().filter(|name| !name.is_empty());
    named("USER").or_else(|| named("LOGNAME")).unwrap_or_else(|| "somebody".to_owned())
}
