//! Frames between paired devices, over gRPC: for nodes that reach each other plainly, at fixed addresses.
//!
//! It is used as the libp2p [`Network`](crate::Network) is, and beside it: the same keys, events and limits. What is
//! missing here is what needs libp2p: discovery, relays, and getting through a NAT. What it has instead is plain: TLS
//! over one TCP port, HTTP/2 and one call, `cairn.sync.v1.Link/Frames`, whose messages are the frames as they stand.
//!
//! Both devices show a certificate made of their ed25519 key, and the handshake proves that key. Whoever dials knows
//! the key that it wants and takes no other; whoever is dialled lets in whom it has [allowed](Handle::allow), and
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
use std::ops::Deref;
use std::sync::Arc;

use libp2p::Multiaddr;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::network::door::Door;
use crate::network::policy::Policy;
use crate::network::queue::{self, Connections, NetworkEvents};
use crate::network::{Handle, PeerKey, Strangers};
use driver::Driver;
use tls::Identity;

/// How a node takes part in the network.
#[derive(Clone, Debug, Default)]
pub struct GrpcConfig {
    /// Where connections are taken; none by default, so that this node only dials. Port 0 is any free one.
    pub listen: Vec<SocketAddr>,
    /// Peers that are allowed from the first moment on, as if by [`Handle::allow`].
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

/// The network over gRPC. What can be asked of it stands at [`Handle`].
#[derive(Clone, Debug)]
pub struct GrpcNetwork(Handle);

impl Deref for GrpcNetwork {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
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
        let (address_sender, addresses) = watch::channel(reachable(&listeners));
        let (handle, command_queue) = Handle::new(local, Arc::clone(&policy), connections, addresses);
        let door = Door::new(Arc::clone(&policy), config.strangers);
        let driver = Driver::new(identity, Arc::clone(&policy), door, listeners, (event_sender, address_sender));
        tokio::spawn(driver.run(command_queue));
        Ok((Self(handle), events))
    }
}

/// The addresses of those that can be dialled, sorted.
fn reachable(listeners: &[TcpListener]) -> Vec<Multiaddr> {
    let sockets = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    let mut addresses: Vec<_> = sockets.filter(|at| !at.ip().is_unspecified()).map(address::of_socket).collect();
    addresses.sort();
    addresses
}
