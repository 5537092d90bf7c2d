//! The task between the service and the networks: it carries out orders, and tells what happens. To the service there is one connection
//! with a device at a time, whichever network it goes over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_federation::{Multiaddr, NetworkEvent, NetworkEvents, Outgoing, SendError};
use cairn_sharing::{Happening, Incoming};
use cairn_sync::key::DeviceKey;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::debug;

use super::networks::{Events, Networks};
use super::ways::{Come, Way, Ways};
use super::wires::{Early, Order, Wires};

/// Frames that wait for one device. What it has not asked for is bounded by the engine; one that does not take what it has asked for is cut off.
const QUEUED_FRAMES: usize = 256;
/// How long libp2p has to connect before gRPC is tried beside it.
const HEAD_START: Duration = Duration::from_millis(1_500);

pub(super) struct Switchboard {
    networks: Networks,
    wires: Arc<Wires>,
    happenings: mpsc::Sender<Happening>,
    ways: Ways,
    admitted: BTreeSet<DeviceKey>,
    /// Dials over gRPC that libp2p has a head start of.
    later: BTreeMap<DeviceKey, (Instant, Vec<Multiaddr>)>,
    /// What waits to be told. While there is any, no network is listened to, so that this stays short.
    told: VecDeque<Told>,
}

/// What waits to be told.
enum Told {
    Happening(Happening),
    Connected { device: DeviceKey, way: Way, address: Multiaddr },
}

impl Switchboard {
    pub(super) fn new(networks: Networks, wires: Arc<Wires>, happenings: mpsc::Sender<Happening>) -> Self {
        let (ways, admitted, later, told) = Default::default();
        Self { networks, wires, happenings, ways, admitted, later, told }
    }

    /// Runs until nobody orders anything any more, or nobody is told. What was ordered already comes first.
    pub(super) async fn run(mut self, events: Events, early: Early, mut orders: mpsc::Receiver<Order>) {
        let Events { mut libp2p, mut grpc } = events;
        let mut addresses = self.networks.addresses();
        self.publish_addresses(&mut addresses);
        for order in early.into_orders() {
            self.obey(order).await;
        }
        let happenings = self.happenings.clone();
        loop {
            let due = self.later.values().map(|(at, _)| *at).min();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                places = happenings.reserve_many(self.places()), if !self.told.is_empty() => match places {
                    Ok(mut places) => {
                        let told = self.told.pop_front().map(|told| self.tell(told));
                        places.next().zip(told).into_iter().for_each(|(place, told)| place.send(told));
                    }
                    Err(_) => return,
                },
                event = next(libp2p.as_mut()), if self.told.is_empty() => match event {
                    Some(event) => self.happened(Way::Libp2p, event).await,
                    None => return,
                },
                event = next(Some(&mut grpc)), if self.told.is_empty() => match event {
                    Some(event) => self.happened(Way::Grpc, event).await,
                    None => return,
                },
                () = any_changed(&mut addresses) => self.publish_addresses(&mut addresses),
                () = at(due) => self.dial_later(Instant::now()).await,
            }
        }
    }

    fn publish_addresses(&self, addresses: &mut [watch::Receiver<Vec<Multiaddr>>]) {
        let each = addresses.iter_mut().map(|addresses| addresses.borrow_and_update().clone());
        self.wires.set_addresses(each.flatten().map(|address| address.to_string()).collect());
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Dial(device, addresses) => self.dial(device, &addresses).await,
            Order::Close(device) => {
                for way in [Way::Libp2p, Way::Grpc] {
                    self.networks.disconnect(way, device).await;
                }
            }
            Order::Admit(devices, strangers) => self.admit(devices, strangers).await,
        }
    }

    async fn admit(&mut self, devices: Vec<DeviceKey>, strangers: bool) {
        let devices: BTreeSet<DeviceKey> = devices.into_iter().collect();
        for device in devices.difference(&self.admitted) {
            self.networks.allow(*device).await;
        }
        for device in self.admitted.difference(&devices) {
            self.networks.block(*device).await;
        }
        self.admitted = devices;
        self.networks.admit_strangers(strangers).await;
    }

    async fn dial(&mut self, device: DeviceKey, addresses: &[String]) {
        let mut ways = self.networks.ways(addresses).into_iter();
        let Some((first, at)) = ways.next() else {
            debug!(%device, "it has no address of a network that this node is in");
            // One that has come by itself meanwhile is not gone because of that.
            if self.ways.uses(device).is_none() {
                self.told.push_back(Told::Happening(Happening::Disconnected { device }));
            }
            return;
        };
        let mut dialled = BTreeSet::from([first]);
        for (second, at) in ways {
            dialled.insert(second);
            self.later.insert(device, (Instant::now() + HEAD_START, at));
        }
        self.ways.dialled(device, dialled);
        self.networks.dial(first, device, at).await;
    }

    /// Dials over gRPC whom libp2p has not reached in time.
    async fn dial_later(&mut self, now: Instant) {
        let due: Vec<_> = self.later.extract_if(.., |_, (at, _)| *at <= now).collect();
        for (device, (_, addresses)) in due {
            if self.ways.waits_for(device, Way::Grpc) {
                self.networks.dial(Way::Grpc, device, addresses).await;
            }
        }
    }

    /// How many places must be free among what waits for the service. A connection is told when nothing else waits: what the service sends
    /// until it has heard of the end of the one before must not be the first that is sent over this one.
    fn places(&self) -> usize {
        match self.told.front() {
            Some(Told::Connected { .. }) => self.happenings.max_capacity(),
            Some(Told::Happening(_)) | None => 1,
        }
    }

    fn tell(&self, told: Told) -> Happening {
        match told {
            Told::Happening(happening) => happening,
            Told::Connected { device, way, address } => {
                // Nothing was heard of any network since that of the connection: it is this one, or it has ended.
                if let Some(outgoing) = self.networks.outgoing(way, device) {
                    let (queue, frames) = mpsc::channel(QUEUED_FRAMES);
                    self.wires.set_queue(device, Some(queue));
                    tokio::spawn(deliver(self.networks.clone(), (way, device), outgoing, frames));
                }
                Happening::Connected { device, address: address.to_string() }
            }
        }
    }

    async fn happened(&mut self, way: Way, event: NetworkEvent) {
        let Some(device) = DeviceKey::parse(*event.peer().as_bytes()) else { return };
        match event {
            NetworkEvent::Connected { address, relayed, .. } => {
                debug!(%device, %address, relayed, "connected");
                self.connected(device, way, relayed, address).await;
            }
            NetworkEvent::Disconnected { .. } => {
                if self.ways.disconnected(device, way) {
                    self.gone(device);
                }
            }
            NetworkEvent::DialFailed { reason, .. } => {
                debug!(%device, %reason, "could not be reached");
                if way == Way::Libp2p
                    && let Some((at, _)) = self.later.get_mut(&device)
                {
                    *at = Instant::now();
                }
                if self.ways.dial_failed(device, way) {
                    self.told.push_back(Told::Happening(Happening::Disconnected { device }));
                }
            }
            NetworkEvent::Frame { bytes, .. } => {
                // What comes over a connection that is being closed is lost with it.
                if self.ways.uses(device) == Some(way) {
                    self.told.push_back(Told::Happening(Happening::Frame { device, frame: Incoming::of(bytes) }));
                }
            }
            NetworkEvent::Discovered { addresses, .. } => {
                let addresses = addresses.iter().map(ToString::to_string).collect();
                self.told.push_back(Told::Happening(Happening::Found { device, addresses }));
            }
        }
    }

    async fn connected(&mut self, device: DeviceKey, way: Way, relayed: bool, address: Multiaddr) {
        self.later.remove(&device);
        match self.ways.connected(device, way, relayed) {
            Come::Use => {}
            Come::Instead(before) => {
                self.gone(device);
                self.networks.disconnect(before, device).await;
            }
            Come::Close => return self.networks.disconnect(way, device).await,
        }
        self.told.push_back(Told::Connected { device, way, address });
    }

    fn gone(&mut self, device: DeviceKey) {
        self.wires.set_queue(device, None);
        self.told.push_back(Told::Happening(Happening::Disconnected { device }));
    }
}

/// Hands on frames for one connection and no other: what is left when it ends is lost with it, and must not be the first that the next one
/// carries.
async fn deliver(
    networks: Networks,
    (way, device): (Way, DeviceKey),
    outgoing: Outgoing,
    mut frames: mpsc::Receiver<Bytes>,
) {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = outgoing.send(frame).await {
            debug!(%device, %error, "a frame was not sent");
            if matches!(error, SendError::TooLong { .. }) {
                networks.disconnect(way, device).await;
            }
            return;
        }
    }
}

/// The next event of a network, if there is that network.
async fn next(events: Option<&mut NetworkEvents>) -> Option<NetworkEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn any_changed(addresses: &mut [watch::Receiver<Vec<Multiaddr>>]) {
    let changed = addresses.iter_mut().map(|addresses| {
        Box::pin(async {
            // A network that is gone changes nothing any more.
            if addresses.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    futures::future::select_all(changed).await;
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
