//! Reaching a peer: the first of its addresses where it proves its key.

use futures::StreamExt;
use libp2p::Multiaddr;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::address::Target;
use super::limits::{DIALS_AT_ONCE, HANDSHAKE_TIME};
use super::tls::{self, Identity};
use crate::PeerKey;
use crate::network::DialFailure;

/// A connection to a peer that proved its key.
pub(super) struct Reached {
    pub(super) stream: Box<TlsStream<TcpStream>>,
    pub(super) address: Multiaddr,
}

/// Why one address did not lead to the peer.
enum Missed {
    WrongPeer(DialFailure),
    Unreachable(String),
}

/// Tries the addresses, a few at a time. Whoever drops the future gives it up.
pub(super) async fn reach(
    identity: Identity,
    peer: PeerKey,
    addresses: Vec<Multiaddr>,
) -> Result<Reached, DialFailure> {
    if addresses.is_empty() {
        return Err(DialFailure::NoAddress);
    }
    let attempts = addresses.into_iter().map(|address| {
        let identity = identity.clone();
        async move {
            let tried = timeout(HANDSHAKE_TIME, try_address(&identity, peer, &address)).await;
            tried.unwrap_or_else(|_| Err(unreachable(&address, "no answer in time")))
        }
    });
    let mut attempts = futures::stream::iter(attempts).buffer_unordered(DIALS_AT_ONCE);
    let (mut wrong, mut reasons) = (None, Vec::new());
    while let Some(result) = attempts.next().await {
        match result {
            Ok(reached) => return Ok(reached),
            Err(Missed::WrongPeer(failure)) => wrong = Some(failure),
            Err(Missed::Unreachable(reason)) => reasons.push(reason),
        }
    }
    Err(wrong.unwrap_or_else(|| DialFailure::Unreachable(reasons.join("; "))))
}

async fn try_address(identity: &Identity, peer: PeerKey, address: &Multiaddr) -> Result<Reached, Missed> {
    let target = Target::parse(address).ok_or_else(|| unreachable(address, "not an address of this transport"))?;
    if peer == identity.key() || target.peer.is_some_and(|named| named != peer.peer_id()) {
        return Err(Missed::WrongPeer(DialFailure::WrongPeer(address.clone())));
    }
    let sockets = target.resolve().await.map_err(|error| unreachable(address, error))?;
    let stream = TcpStream::connect(sockets.as_slice()).await.map_err(|error| unreachable(address, error))?;
    // Frames are flushed when there are no more of them; waiting for company would only delay them.
    stream.set_nodelay(true).map_err(|error| unreachable(address, error))?;
    let connector = identity.connector(peer).map_err(|error| unreachable(address, error))?;
    match connector.connect(Identity::server_name(), stream).await {
        Ok(stream) => Ok(Reached { stream: Box::new(stream.into()), address: address.clone() }),
        Err(error) => {
            Err(tls::failure(&error, address).map_or_else(|| unreachable(address, error), Missed::WrongPeer))
        }
    }
}

fn unreachable(address: &Multiaddr, reason: impl std::fmt::Display) -> Missed {
    Missed::Unreachable(format!("{address}: {reason}"))
}
