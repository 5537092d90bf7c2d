//! Federation at work: the service of `cairn-sharing` over the network of `cairn-federation`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use cairn_federation::{Multiaddr, Network, NetworkConfig, NetworkEvent, NetworkEvents, PeerKey};
use cairn_sharing::{Happening, Sharing, SharingConfig, Transport};
use cairn_sync::key::DeviceKey;
use ed25519_dalek::SigningKey;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::brain::Brain;
use crate::config::{Config, FederationConfig};

/// Frames that wait for one device. What it has not asked for is bounded by the engine; one that does not take what it has asked for is cut off.
const QUEUED_FRAMES: usize = 256;
/// Orders that wait for the network.
const QUEUED_ORDERS: usize = 256;
/// What happened and waits for the service.
const QUEUED_HAPPENINGS: usize = 64;
/// How long the service gets to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Federation at work.
pub struct Federation {
    network: Network,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Begins to meet other brains; none where the configuration says so.
///
/// # Errors
/// When an address cannot be used, or the log cannot be read.
pub async fn start(brain: &Arc<Brain>, config: &Config, port: u16) -> Result<Option<Federation>> {
    let federation = &config.federation;
    if !federation.enabled {
        return Ok(None);
    }
    let device = SigningKey::from_bytes(&blake3::derive_key("cairn 2026-11 device 1", brain.key.as_bytes()));
    let (network, events) = network(&device, federation, port)?;
    for address in &federation.announce {
        network.announce(address.parse().with_context(|| format!("`{address}` is no multiaddress"))?).await;
    }
    let (happenings, received) = mpsc::channel(QUEUED_HAPPENINGS);
    let (orders, taken) = mpsc::channel(QUEUED_ORDERS);
    let wires = Arc::new(Wires { orders, queues: Mutex::default(), addresses: network.addresses() });
    tokio::spawn(obey(network.clone(), taken));
    tokio::spawn(pass_on(network.clone(), events, Arc::clone(&wires), happenings));
    let name = if federation.name.is_empty() { whoami() } else { federation.name.clone() };
    let own = SharingConfig { brain: brain.key.clone(), device, name };
    let stop = CancellationToken::new();
    let started = Sharing::start(own, Arc::clone(&brain.handler), wires, received, stop.clone()).await;
    let (sharing, task) = started.context("what is shared cannot be read from the log")?;
    let _ = brain.sharing.set(sharing);
    Ok(Some(Federation { network, stop, task }))
}

impl Federation {
    /// Ends it, in order: nothing more is taken in, then connections close.
    pub async fn ended(self) {
        self.stop.cancel();
        if tokio::time::timeout(PATIENCE, self.task).await.is_err() {
            warn!("sharing did not end in time");
        }
        self.network.shutdown().await;
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
