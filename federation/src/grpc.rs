//! Frames between paired devices, over gRPC: for nodes that reach each other plainly, at fixed addresses.
//!
//! It is used as the libp2p [`Network`](crate::Network) is, and beside it: the same keys, events and limits. What is
//! missing here is what needs libp2p: discovery, relays, and getting through a NAT. What it has instead is plain: TLS
//! over one TCP port, HTTP/2 and one call, `cairn.sync.v1.Link/Frames`, whose messages are the frames as they stand.
//!
//! Both devices show a certificate made of their ed25519 key, and the handshake proves that key. Whoever dials knows
//! the key that it wants and takes no other; whoever is dialled lets in whom it has [allowed](GrpcNetwork::allow), and
//! reads nothing from others. With each device there is at most one call at a time; `settle.rs` says which, where both
//! dial at once.
//!
//! An address is written `/ip4/192.0.2.1/tcp/7413/tls/http` or `/dns/example.org/tcp/7413/tls/http`; see [`speaks`].

mod address;
mod call;
mod connection;
mod dial;
mod driver;
pub mod limits;
mod listen;
mod settle;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::Multiaddr;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::network::door::Door;
use crate::network::limits::COMMAND_QUEUE;
use crate::network::policy::Policy;
use crate::network::queue::{self, Connections, NetworkEvents, Outgoing};
use crate::network::{PeerKey, SendError, Strangers};
use driver::{Command, Driver};
use tls::Identity;

/// How a node takes part in the network.
#[derive(Clone, Debug, Default)]
pub struct GrpcConfig {
    /// Where connections are taken; none by default, so that this node only dials. Port 0 is any free one.
    pub listen: Vec<SocketAddr>,
    /// Peers that are allowed from the first moment on, as if by [`GrpcNetwork::allow`].
    pub friends: Vec<PeerKey>,
    /// Where strangers are counted, together with those of other transports that are given the same.
    pub strangers: Strangers,
}

/// Why a network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// An address cannot be listened on: it is taken, or not of this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// As it was configured.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// No certificate can be made of the secret key.
    #[error("no certificate can be made of the secret key")]
    Certificate(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// Whether an address is one of this transport's: a host (`ip4`, `ip6`, `dns`, `dns4` or `dns6`), `tcp` and a port,
/// `tls`, `http`, and at will `p2p` and a peer id.
pub fn speaks(address: &Multiaddr) -> bool {
    address::Target::parse(address).is_some()
}

/// A handle of the network; its clones are the same network. It is shut down by [`shutdown`](Self::shutdown), or when
/// the last handle or the receiver of events is dropped. After that every call returns at once and does nothing.
#[derive(Clone, Debug)]
pub struct GrpcNetwork {
    local: PeerKey,
    policy: Arc<Policy>,
    connections: Arc<Connections>,
    commands: mpsc::Sender<Command>,
    addresses: watch::Receiver<Vec<Multiaddr>>,
}

impl GrpcNetwork {
    /// Starts a node with the ed25519 secret key `secret` (the 32-byte seed of RFC 8032). Must be called within a tokio
    /// runtime. When it returns, the node listens.
    pub fn start(secret: [u8; 32], config: GrpcConfig) -> Result<(Self, NetworkEvents), GrpcError> {
        let identity = Identity::new(secret)?;
        let local = identity.key();
        let listeners = config.listen.into_iter().map(listen::bind).collect::<Result<Vec<_>, _>>()?;
        let policy = Arc::new(Policy::new([], config.friends));
        let connections = Arc::new(Connections::default());
        let (event_sender, events) = queue::events(Arc::clone(&connections));
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (address_sender, addresses) = watch::channel(reachable(&listeners));
        let door = Door::new(Arc::clone(&policy), config.strangers);
        let driver = Driver::new(identity, Arc::clone(&policy), door, listeners, (event_sender, address_sender));
        tokio::spawn(driver.run(command_queue));
        Ok((Self { local, policy, connections, commands, addresses }, events))
    }

    /// The key of this node.
    pub fn key(&self) -> PeerKey {
        self.local
    }

    /// Where this node listens, and where it was [announced](Self::announce) to be. Sorted. A socket that listens on
    /// every interface (`0.0.0.0` or `[::]`) is left out, for nobody can dial that: such a node has to be announced.
    pub fn addresses(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.addresses.clone()
    }

    /// Says that this node is reachable at `address`. It is added to [`addresses`](Self::addresses), and nothing else.
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
    /// ([`MAX_STRANGERS`](crate::network::limits::MAX_STRANGERS)), for a short time, and with few and small frames.
    /// Closing it cuts off those that were not allowed meanwhile.
    pub async fn admit_strangers(&self, admit: bool) {
        self.policy.admit_strangers(admit);
        self.command(Command::DoorMoved).await;
    }

    /// Dials a peer at the first [`MAX_DIAL_ADDRESSES`](crate::network::limits::MAX_DIAL_ADDRESSES) of these addresses,
    /// a few at a time. `Connected` or `DialFailed` follows. Nothing happens while the peer is being dialled already, or
    /// is connected. Addresses of another transport count as unreachable.
    pub async fn dial(&self, peer: PeerKey, addresses: Vec<Multiaddr>) {
        self.command(|done| Command::Dial(peer, addresses, done)).await;
    }

    /// Queues a frame, exactly as [`Network::send`](crate::Network::send) does.
    ///
    /// Receive events while this waits: two peers that only send would wait for each other. A peer that takes nothing
    /// for [`STALL_TIME`](limits::STALL_TIME) is cut off.
    pub async fn send(&self, peer: PeerKey, frame: Bytes) -> Result<(), SendError> {
        self.connections.send(peer, frame).await
    }

    /// The way to a peer, exactly as [`Network::outgoing`](crate::Network::outgoing) gives it.
    pub fn outgoing(&self, peer: PeerKey) -> Option<Outgoing> {
        self.connections.outgoing(peer)
    }

    /// Closes the connections with a peer, after writing what is queued for it within
    /// [`DRAIN_TIME`](crate::network::limits::DRAIN_TIME). It may connect again.
    pub async fn disconnect(&self, peer: PeerKey) {
        self.command(|done| Command::Disconnect(peer, done)).await;
    }

    /// Closes every connection as [`disconnect`](Self::disconnect) does, and stops listening. Returns when that is
    /// done, after at most [`DRAIN_TIME`](crate::network::limits::DRAIN_TIME) and
    /// [`CLOSE_TIME`](crate::network::limits::CLOSE_TIME), however slowly events are received.
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

/// The addresses of those that can be dialled, sorted.
fn reachable(listeners: &[TcpListener]) -> Vec<Multiaddr> {
    let sockets = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    let mut addresses: Vec<_> = sockets.filter(|at| !at.ip().is_unspecified()).map(address::of_socket).collect();
    addresses.sort();
    addresses
}
