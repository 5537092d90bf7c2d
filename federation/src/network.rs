//! Frames between paired devices, over libp2p.
//!
//! A device is named by its ed25519 key ([`PeerKey`]). Only keys that were [allowed](Handle::allow) may connect, apart
//! from a few strangers while the [door is open](Handle::admit_strangers) for an invitation. Peers are reached over
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
pub(crate) mod handle;
pub mod limits;
mod peer_key;
pub(crate) mod policy;
pub(crate) mod queue;
mod relaying;
pub(crate) mod session;

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::Multiaddr;
use tokio::sync::watch;

use driver::{Driver, Shown};
use policy::Policy;
use queue::Connections;

pub use door::Strangers;
pub use handle::Handle;
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
    /// from outside: see [`Handle::announce`].
    pub relay_server: bool,
    /// Relays that keep this node reachable, each of which is also asked as a rendezvous point. Where fewer than
    /// [`limits::RELAYS_WANTED`] do, friends that relay are used as well, unless this node relays itself. Each address
    /// ends with `/p2p/` and the relay's peer id. A relay exchanges no frames with this node unless its key is allowed too.
    pub relays: Vec<Multiaddr>,
    /// Peers that are allowed from the first moment on, as if by [`Handle::allow`].
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

/// The network over libp2p. What can be asked of it stands at [`Handle`].
#[derive(Clone, Debug)]
pub struct Network {
    handle: Handle,
    relaying: watch::Receiver<Relaying>,
}

impl Deref for Network {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
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
        let (address_sender, addresses) = watch::channel(Vec::new());
        let (handle, command_queue) = Handle::new(local, Arc::clone(&policy), connections, addresses);
        let (relaying_sender, relaying) =
            watch::channel(Relaying { relays: config.relay_server, ..Relaying::default() });
        let shown = Shown { addresses: address_sender, relaying: relaying_sender };
        let driver = Driver::new(swarm, Arc::clone(&policy), relays, event_sender, shown);
        // Boxed because the swarm is large, and a task is moved before it is boxed.
        tokio::spawn(Box::pin(driver.run(command_queue)));
        Ok((Self { handle, relaying }, events))
    }

    /// What this node does as a relay, and which relays it uses.
    pub fn relaying(&self) -> watch::Receiver<Relaying> {
        self.relaying.clone()
    }
}
