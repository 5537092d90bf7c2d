//! What can be asked of a network, whatever it goes over.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::Multiaddr;
use tokio::sync::{mpsc, oneshot, watch};

use super::limits;
use super::policy::Policy;
use super::queue::{Connections, Outgoing};
use super::{PeerKey, SendError};

/// A handle of a network; its clones are the same network. It is shut down by [`shutdown`](Self::shutdown), or when the
/// last handle or the receiver of events is dropped. After that every call returns at once and does nothing.
#[derive(Clone, Debug)]
pub struct Handle {
    local: PeerKey,
    policy: Arc<Policy>,
    connections: Arc<Connections>,
    commands: mpsc::Sender<Command>,
    addresses: watch::Receiver<Vec<Multiaddr>>,
}

/// What a handle asks of the task that owns the connections. The sender says that it was carried out.
#[derive(Debug)]
pub(crate) enum Command {
    StandingChanged(PeerKey, oneshot::Sender<()>),
    DoorMoved(oneshot::Sender<()>),
    Dial(PeerKey, Vec<Multiaddr>, oneshot::Sender<()>),
    Disconnect(PeerKey, oneshot::Sender<()>),
    Announce(Multiaddr, oneshot::Sender<()>),
    Shutdown(oneshot::Sender<()>),
}

impl Handle {
    /// A handle, and what its commands come out of.
    pub(crate) fn new(
        local: PeerKey,
        policy: Arc<Policy>,
        connections: Arc<Connections>,
        addresses: watch::Receiver<Vec<Multiaddr>>,
    ) -> (Self, mpsc::Receiver<Command>) {
        let (commands, command_queue) = mpsc::channel(limits::COMMAND_QUEUE);
        (Self { local, policy, connections, commands, addresses }, command_queue)
    }

    /// The key of this node.
    pub fn key(&self) -> PeerKey {
        self.local
    }

    /// Where this node listens, and where it is known to be reachable from outside, relays included. Sorted. A socket of
    /// gRPC that listens on every interface (`0.0.0.0` or `[::]`) is left out, for nobody can dial that: such a node has
    /// to be announced.
    pub fn addresses(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.addresses.clone()
    }

    /// Says that this node is reachable at `address`, for example because a port is forwarded to it. Peers are told
    /// so, and a relay or rendezvous registration needs it. Over libp2p, addresses that peers saw are checked and announced
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

    /// Dials a peer at the first [`limits::MAX_DIAL_ADDRESSES`] of these addresses: over libp2p all at
    /// once, with a head start for QUIC, over gRPC a few at a time. `Connected` or `DialFailed` follows. Nothing happens
    /// while the peer is being dialled already, or is connected; a relayed connection does not count if one of the
    /// addresses is not relayed. Addresses of another transport count as unreachable.
    pub async fn dial(&self, peer: PeerKey, addresses: Vec<Multiaddr>) {
        self.command(|done| Command::Dial(peer, addresses, done)).await;
    }

    /// Queues a frame of at most [`limits::MAX_FRAME_BYTES`] for a peer whose `Connected` was received, and
    /// `Disconnected` was not yet. Waits while [`limits::OUTGOING_FRAMES`] or [`limits::OUTGOING_BYTES`] are queued;
    /// if the future is dropped meanwhile, nothing is queued. `Ok` does not say that the frame has arrived.
    ///
    /// Receive events while this waits: two peers that only send would wait for each other. Over gRPC, a peer that takes
    /// nothing for [`STALL_TIME`](crate::grpc::limits::STALL_TIME) is cut off.
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
