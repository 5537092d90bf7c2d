//! Frames between paired devices, over libp2p.
//!
//! A device is named by its ed25519 key ([`PeerKey`]). Only keys that were [allowed](Network::allow) may connect, apart
//! from a few strangers while the [door is open](Network::admit_strangers) for an invitation. Peers are reached over
//! QUIC or TCP, directly or through a relay; with each there is at most one substream in use, on which frames (bytes
//! that only the protocol above understands) travel in order and without loss from `Connected` to `Disconnected`.
//!
//! When to dial, and when to try again, is decided by the protocol above; only relays are kept connected from here.
//! Every limit stands in [`limits`].

mod behaviour;
pub(crate) mod door;
pub(crate) mod driver;
pub(crate) mod frames;
mod friends;
mod gate;
pub mod limits;
mod peer_key;
pub(crate) mod policy;
pub(crate) mod queue;
mod relaying;
pub(crate) mod session;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::Multiaddr;
use tokio::sync::{mpsc, oneshot, watch};

use driver::{Command, Driver, Shown};
use policy::Policy;
use queue::Connections;

pub use door::Strangers;
pub use peer_key::{NotEd25519, PeerKey};
pub use queue::{NetworkEvents, Outgoing};
pub use relaying::{RelayOrigin, Relaying, UsedRelay};

/// How a node takes part in the network.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Where connections are taken. By default QUIC and TCP on a free port of 127.0.0.1, which nobody else reaches.
    pub listen: Vec<Multiaddr>,
    /// Whether to look for nodes on the local network, and be found there, by multicast DNS.
    pub mdns: bool,
    /// Whether this node relays between peers that it allows, and is a rendezvous point for them. It must be reachable
    /// from outside: see [`Network::announce`].
    pub relay_server: bool,
    /// Relays that keep this node reachable, each of which is also asked as a rendezvous point. Where fewer than
    /// [`limits::RELAYS_WANTED`] do, friends that relay are used as well, unless this node relays itself. Each address
    /// ends with `/p2p/` and the relay's peer id. A relay exchanges no frames with this node unless its key is allowed too.
    pub relays: Vec<Multiaddr>,
    /// Peers that are allowed from the first moment on, as if by [`Network::allow`].
    pub friends: Vec<PeerKey>,
    /// Where strangers are counted, together with those of other transports that are given the same.
    pub strangers: Strangers,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        let loopback = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];
        let address = |text: &str| text.parse().expect("a constant address");
        Self {
            listen: loopback.map(address).into(),
            mdns: false,
            relay_server: false,
            relays: Vec::new(),
            friends: Vec::new(),
            strangers: Strangers::default(),
        }
    }
}

/// Why a network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The bytes are no ed25519 secret key.
    #[error("the secret key is not usable")]
    Key(#[source] libp2p::identity::DecodingError),
    /// An address cannot be listened on: it is of a kind that is not spoken here, taken, or not of this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// As it was configured.
        address: Multiaddr,
        /// What the transport says.
        #[source]
        source: libp2p::TransportError<io::Error>,
    },
    /// The address of a relay does not say who it is.
    #[error("the relay {0} lacks /p2p/ and a peer id with an ed25519 key at its end")]
    NamelessRelay(Multiaddr),
    /// A part of the transport could not be set up.
    #[error("cannot set up {part}")]
    Transport {
        /// What it was.
        part: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection, or it ended before there was room for the frame.
    #[error("peer {peer} is not connected")]
    NotConnected {
        /// Whom the frame was for.
        peer: PeerKey,
    },
    /// The frame is longer than [`limits::MAX_FRAME_BYTES`].
    #[error("a frame of {length} bytes for peer {peer} is too long")]
    TooLong {
        /// Whom the frame was for.
        peer: PeerKey,
        /// Its length in bytes.
        length: usize,
    },
}

/// What happened. See [`NetworkEvents`] for the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkEvent {
    /// Frames can be exchanged with a peer, whoever dialled.
    Connected {
        /// The peer, which may be a stranger while the door is open.
        peer: PeerKey,
        /// Where it is connected from. Of a peer that dialled this node, this is not an address to dial.
        address: Multiaddr,
        /// Whether the connection runs through a relay, which may limit its bytes and its time.
        relayed: bool,
    },
    /// No more frames come from a peer, and those that were queued for it may be lost. `Connected` follows at once if
    /// there is another connection, for example a direct one in place of a relayed one.
    Disconnected {
        /// The peer.
        peer: PeerKey,
    },
    /// A frame arrived.
    Frame {
        /// Who sent it, as proven by the handshake.
        peer: PeerKey,
        /// At most [`limits::MAX_FRAME_BYTES`].
        bytes: Bytes,
    },
    /// A peer was found on the local network or at a rendezvous point. Who it says it is becomes proven only when it
    /// is dialled.
    Discovered {
        /// The peer, whether allowed or not.
        peer: PeerKey,
        /// Where it says it can be dialled.
        addresses: Vec<Multiaddr>,
    },
    /// A dial did not lead to `Connected`.
    DialFailed {
        /// Who was dialled.
        peer: PeerKey,
        /// Why it failed.
        reason: DialFailure,
    },
}

impl NetworkEvent {
    /// The peer that this is about.
    pub fn peer(&self) -> PeerKey {
        match self {
            Self::Connected { peer, .. }
            | Self::Disconnected { peer }
            | Self::Frame { peer, .. }
            | Self::Discovered { peer, .. }
            | Self::DialFailed { peer, .. } => *peer,
        }
    }
}

/// Why a dial did not lead to a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFailure {
    /// The peer was not allowed on this node.
    #[error("the peer is not allowed here")]
    NotAllowed,
    /// No address was given.
    #[error("no address to dial")]
    NoAddress,
    /// Somebody else answers at that address.
    #[error("another peer answers at {0}")]
    WrongPeer(Multiaddr),
    /// This node has as many connections, or uses as much memory, as it may.
    #[error("this node is at its limit: {0}")]
    AtLimit(String),
    /// No address could be reached; the text says for each what was wrong.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The peer hung up, or does not want to exchange frames: most likely it did not allow this node.
    #[error("the peer refused")]
    Refused,
    /// Nothing came of it within [`limits::DIAL_TIME`].
    #[error("the peer did not answer in time")]
    TimedOut,
}

/// A handle of the network; its clones are the same network. It is shut down by [`shutdown`](Self::shutdown), or when
/// the last handle or the receiver of events is dropped. After that every call returns at once and does nothing.
#[derive(Clone, Debug)]
pub struct Network {
    local: PeerKey,
    policy: Arc<Policy>,
    connections: Arc<Connections>,
    commands: mpsc::Sender<Command>,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    relaying: watch::Receiver<Relaying>,
}

impl Network {
    /// Starts a node with the ed25519 secret key `secret` (the 32-byte seed of RFC 8032). Must be called within a tokio
    /// runtime.
    pub fn start(secret: [u8; 32], config: NetworkConfig) -> Result<(Self, NetworkEvents), NetworkError> {
        let relays = behaviour::named_relays(&config.relays)?;
        let policy = Arc::new(Policy::new(relays.iter().map(|(relay, _)| *relay), config.friends.clone()));
        let swarm = behaviour::build(secret, &config, &policy)?;
        let local = PeerKey::try_from(*swarm.local_peer_id()).expect("made from an ed25519 key");
        let connections = Arc::new(Connections::default());
        let (event_sender, events) = queue::events(Arc::clone(&connections));
        let (commands, command_queue) = mpsc::channel(limits::COMMAND_QUEUE);
        let (address_sender, addresses) = watch::channel(Vec::new());
        let (relaying_sender, relaying) =
            watch::channel(Relaying { relays: config.relay_server, ..Relaying::default() });
        let shown = Shown { addresses: address_sender, relaying: relaying_sender };
        let driver = Driver::new(swarm, Arc::clone(&policy), relays, event_sender, shown);
        // Boxed because the swarm is large, and a task is moved before it is boxed.
        tokio::spawn(Box::pin(driver.run(command_queue)));
        Ok((Self { local, policy, connections, commands, addresses, relaying }, events))
    }

    /// The key of this node.
    pub fn key(&self) -> PeerKey {
        self.local
    }

    /// Where this node listens, and where it is known to be reachable from outside, relays included. Sorted.
    pub fn addresses(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.addresses.clone()
    }

    /// What this node does as a relay, and which relays it uses.
    pub fn relaying(&self) -> watch::Receiver<Relaying> {
        self.relaying.clone()
    }

    /// Says that this node is reachable at `address`, for example because a port is forwarded to it. Peers are told
    /// so, and a relay or rendezvous registration needs it. Addresses that peers saw are checked and announced
    /// without being asked for.
    pub async fn announce(&self, address: Multiaddr) {
        self.command(|done| Command::Announce(address, done)).await;
    }

    /// Lets a peer connect from now on, and be dialled. It takes back an earlier [`block`](Self::block).
    pub async fn allow(&self, peer: PeerKey) {
        self.policy.allow(peer.peer_id());
        self.command(|done| Command::StandingChanged(peer, done)).await;
    }

    /// Keeps a peer out from now on, even while the door is open, and cuts its connections at once. Frames of it that
    /// were queued already are still received, then `Disconnected`.
    pub async fn block(&self, peer: PeerKey) {
        self.policy.block(peer.peer_id());
        self.command(|done| Command::StandingChanged(peer, done)).await;
    }

    /// Opens or closes the door: while it is open, peers that are not known may connect, few at a time
    /// ([`limits::MAX_STRANGERS`]), for a short time, and with few and small frames. Closing it cuts off those that
    /// were not allowed meanwhile.
    pub async fn admit_strangers(&self, admit: bool) {
        self.policy.admit_strangers(admit);
        self.command(Command::DoorMoved).await;
    }

    /// Dials a peer at the first [`limits::MAX_DIAL_ADDRESSES`] of these addresses: all at once, with a head start for
    /// QUIC. `Connected` or `DialFailed` follows. Nothing happens while the peer is being dialled already, or is
    /// connected; a relayed connection does not count if one of the addresses is not relayed.
    pub async fn dial(&self, peer: PeerKey, addresses: Vec<Multiaddr>) {
        self.command(|done| Command::Dial(peer, addresses, done)).await;
    }

    /// Queues a frame of at most [`limits::MAX_FRAME_BYTES`] for a peer whose `Connected` was received, and
    /// `Disconnected` was not yet. Waits while [`limits::OUTGOING_FRAMES`] or [`limits::OUTGOING_BYTES`] are queued;
    /// if the future is dropped meanwhile, nothing is queued. `Ok` does not say that the frame has arrived.
    ///
    /// Receive events while this waits: two peers that only send would wait for each other.
    pub async fn send(&self, peer: PeerKey, frame: Bytes) -> Result<(), SendError> {
        self.connections.send(peer, frame).await
    }

    /// The way to a peer whose `Connected` was received, and `Disconnected` was not yet: for whoever hands frames on in
    /// a task of its own, in which the connection may meanwhile have become another one.
    pub fn outgoing(&self, peer: PeerKey) -> Option<Outgoing> {
        self.connections.outgoing(peer)
    }

    /// Closes the connections with a peer, after writing what is queued for it within [`limits::DRAIN_TIME`]. It may
    /// connect again.
    pub async fn disconnect(&self, peer: PeerKey) {
        self.command(|done| Command::Disconnect(peer, done)).await;
    }

    /// Closes every connection as [`disconnect`](Self::disconnect) does, and stops listening. Returns when that is
    /// done, after at most [`limits::DRAIN_TIME`] and [`limits::CLOSE_TIME`], however slowly events are received.
    pub async fn shutdown(&self) {
        self.policy.close();
        self.command(Command::Shutdown).await;
    }

    /// Waits until the command was carried out. If the driver is gone there is nothing to be done to it.
    async fn command(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, carried_out) = oneshot::channel();
        if self.commands.send(command(done)).await.is_ok() {
            let _ = carried_out.await;
        }
    }
}
