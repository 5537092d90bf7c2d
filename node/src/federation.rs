//! Federation at work: the service of `cairn-sharing` over the network of `cairn-federation`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use cairn_federation::{Multiaddr, Network, NetworkConfig, NetworkEvent, NetworkEvents, PeerKey};
use cairn_projector::Leases;
use cairn_sharing::{Happening, Resume, Sharing, SharingConfig, Transport};
use cairn_sync::key::DeviceKey;
use ed25519_dalek::SigningKey;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::brain::Brain;
use crate::config::{Config, FederationConfig};
use crate::turns::Turns;

/// Frames that wait for one device. What it has not asked for is bounded by the engine; one that does not take what it has asked for is cut off.
const QUEUED_FRAMES: usize = 256;
/// Orders that wait for the network.
const QUEUED_ORDERS: usize = 256;
/// What happened and waits for the service.
const QUEUED_HAPPENINGS: usize = 64;
/// How long is waited for this process's turn before the node goes on without.
const TURN_PATIENCE: Duration = Duration::from_secs(3);
/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_secs(5);
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
    let (network, events) = network(&device, config, port)?;
    for address in &config.announce {
        network.announce(address.parse().with_context(|| format!("`{address}` is no multiaddress"))?).await;
    }
    let (happenings, received) = mpsc::channel(QUEUED_HAPPENINGS);
    let (orders, taken) = mpsc::channel(QUEUED_ORDERS);
    let wires = Arc::new(Wires { orders, queues: Mutex::default(), addresses: network.addresses() });
    tokio::spawn(obey(network.clone(), taken));
    tokio::spawn(pass_on(network.clone(), events, Arc::clone(&wires), happenings));
    let name = if config.name.is_empty() { whoami() } else { config.name.clone() };
    let own = SharingConfig { brain: brain.key.clone(), device, name, resume: resume(brain) };
    let started = Sharing::start(own, Arc::clone(&brain.handler), wires, received, stop.clone()).await;
    let started = started.context("what is shared cannot be read from the log");
    let ended = match started {
        Ok((sharing, task)) => {
            brain.set_sharing(Some(sharing.clone()));
            began.send_replace(Some(Ok(())));
            note_begun(brain, &sharing).await;
            // Its panic, if any, has been reported by the panic hook.
            let _ = task.await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    network.shutdown().await;
    ended
}

/// A node that took over from another goes on in another epoch: the other may have said what is not in this log.
fn resume(brain: &Brain) -> Resume {
    match brain.followers.get() {
        Some(primary) if primary.begins_sharing_anew() => Resume::Anew,
        Some(_) | None => Resume::Here,
    }
}

/// Remembers that it has, as soon as the service answers, which it does after that.
async fn note_begun(brain: &Brain, sharing: &Sharing) {
    if let Some(primary) = brain.followers.get()
        && primary.begins_sharing_anew()
        && sharing.view().await.is_ok()
        && let Err(error) = primary.sharing_began_anew()
    {
        warn!(%error, "that sharing has begun anew could not be written down; it begins anew again after a start");
    }
}

fn network(device: &SigningKey, config: &FederationConfig, port: u16) -> Result<(Network, NetworkEvents)> {
    let parse = |text: &String| text.parse::<Multiaddr>().with_context(|| format!("`{text}` is no multiaddress"));
    let listen: Vec<Multiaddr> = config.listen.iter().map(parse).collect::<Result<_>>()?;
    let relays = config.relays.iter().map(parse).collect::<Result<_>>()?;
    let own = |port: u16| NetworkConfig {
        listen: if listen.is_empty() { loopback(port) } else { listen.clone() },
        mdns: config.mdns,
        relay_server: config.relay,
        relays,
    };
    let secret = device.to_bytes();
    let chosen = own(port.checked_add(1).unwrap_or(0));
    match Network::start(secret, chosen.clone()) {
        Ok(started) => Ok(started),
        // Somebody else has that port; others find this brain where it says it is.
        Err(error) if listen.is_empty() => {
            debug!(%error, "another port is taken for other brains");
            Ok(Network::start(secret, NetworkConfig { listen: loopback(0), ..chosen })?)
        }
        Err(error) => {
            Err(error).context("other brains cannot be listened for; see [federation] in the configuration")
        }
    }
}

/// On this machine alone, unless told otherwise.
fn loopback(port: u16) -> Vec<Multiaddr> {
    let addresses = [format!("/ip4/127.0.0.1/udp/{port}/quic-v1"), format!("/ip4/127.0.0.1/tcp/{port}")];
    addresses.iter().map(|address| address.parse().expect("it is well formed")).collect()
}

fn whoami() -> String {
    let named = |name: &str| std::env::var(name).ok().filter(|name| !name.is_empty());
    named("USER").or_else(|| named("LOGNAME")).unwrap_or_else(|| "somebody".to_owned())
}

enum Order {
    Dial(DeviceKey, Vec<String>),
    Close(DeviceKey),
    Admit(Vec<DeviceKey>, bool),
}

/// The network as the service sees it: nothing here waits.
struct Wires {
    orders: mpsc::Sender<Order>,
    queues: Mutex<BTreeMap<DeviceKey, mpsc::Sender<Bytes>>>,
    addresses: watch::Receiver<Vec<Multiaddr>>,
}

impl Wires {
    fn queue(&self, device: DeviceKey, queue: Option<mpsc::Sender<Bytes>>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        match queue {
            Some(queue) => drop(queues.insert(device, queue)),
            None => drop(queues.remove(&device)),
        }
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            warn!("the network does not keep up with what it is told");
        }
    }
}

impl Transport for Wires {
    fn send(&self, device: DeviceKey, frame: Bytes) {
        let queue = self.queues.lock().unwrap_or_else(PoisonError::into_inner).get(&device).cloned();
        if queue.is_some_and(|queue| queue.try_send(frame).is_err()) {
            self.close(device);
        }
    }

    fn dial(&self, device: DeviceKey, addresses: Vec<String>) {
        self.order(Order::Dial(device, addresses));
    }

    fn close(&self, device: DeviceKey) {
        self.order(Order::Close(device));
    }

    fn admit(&self, devices: Vec<DeviceKey>, strangers: bool) {
        self.order(Order::Admit(devices, strangers));
    }

    fn addresses(&self) -> Vec<String> {
        self.addresses.borrow().iter().map(ToString::to_string).collect()
    }
}

/// Carries out what the network is told, in order.
async fn obey(network: Network, mut orders: mpsc::Receiver<Order>) {
    let mut admitted: BTreeSet<DeviceKey> = BTreeSet::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Dial(device, addresses) => {
                let addresses = addresses.iter().filter_map(|address| address.parse().ok()).collect();
                network.dial(key(device), addresses).await;
            }
            Order::Close(device) => network.disconnect(key(device)).await,
            Order::Admit(devices, strangers) => {
                let devices: BTreeSet<DeviceKey> = devices.into_iter().collect();
                for device in devices.difference(&admitted) {
                    network.allow(key(*device)).await;
                }
                for device in admitted.difference(&devices) {
                    network.block(key(*device)).await;
                }
                admitted = devices;
                network.admit_strangers(strangers).await;
            }
        }
    }
}

/// Tells the service what happens on the network.
async fn pass_on(
    network: Network,
    mut events: NetworkEvents,
    wires: Arc<Wires>,
    happenings: mpsc::Sender<Happening>,
) {
    while let Some(event) = events.recv().await {
        let Some(device) = DeviceKey::parse(*event.peer().as_bytes()) else { continue };
        let happening = match event {
            NetworkEvent::Connected { address, relayed, .. } => {
                debug!(%device, %address, relayed, "connected");
                let (queue, frames) = mpsc::channel(QUEUED_FRAMES);
                wires.queue(device, Some(queue));
                tokio::spawn(deliver(network.clone(), device, frames));
                Happening::Connected { device, address: address.to_string() }
            }
            NetworkEvent::Disconnected { .. } => {
                wires.queue(device, None);
                Happening::Disconnected { device }
            }
            NetworkEvent::DialFailed { reason, .. } => {
                debug!(%device, %reason, "could not be reached");
                Happening::Disconnected { device }
            }
            NetworkEvent::Frame { bytes, .. } => Happening::Frame { device, bytes },
            NetworkEvent::Discovered { addresses, .. } => {
                Happening::Found { device, addresses: addresses.iter().map(ToString::to_string).collect() }
            }
        };
        if happenings.send(happening).await.is_err() {
            return;
        }
    }
}

async fn deliver(network: Network, device: DeviceKey, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = network.send(key(device), frame).await {
            debug!(%device, %error, "a frame was not sent");
            return;
        }
    }
}

fn key(device: DeviceKey) -> PeerKey {
    PeerKey::from_bytes(*device.bytes())
}
