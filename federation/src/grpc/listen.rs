//! Taking connections from outside, and finding out whose they are. Nothing is decoded here but TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::GrpcError;
use super::driver::Happening;
use super::limits::{ACCEPT_PAUSE, BACKLOG, HANDSHAKE_TIME};
use super::tls;
use crate::PeerKey;

/// A connection whose peer proved its key.
pub(super) struct Arrival {
    pub(super) stream: Box<TlsStream<TcpStream>>,
    pub(super) peer: PeerKey,
    pub(super) from: SocketAddr,
    /// Its place among those that are not known yet.
    _place: OwnedSemaphorePermit,
}

/// A socket that takes connections. Must be called within a tokio runtime.
pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, GrpcError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A node that restarts finds its port again.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|source| GrpcError::Listen { address, source })
}

/// Hands on those that come, until it is dropped. `places` bounds those whose keys are not known yet; beyond it a
/// connection is closed at once, which costs this node less than it costs the other one.
pub(super) async fn listen(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    places: Arc<Semaphore>,
    happenings: mpsc::Sender<Happening>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    handshakes.spawn(meet(stream, from, place, acceptor.clone(), happenings.clone()));
                }
                Err(_) => tracing::debug!(%from, "too many connections are not known yet"),
            },
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn meet(
    stream: TcpStream,
    from: SocketAddr,
    place: OwnedSemaphorePermit,
    acceptor: TlsAcceptor,
    happenings: mpsc::Sender<Happening>,
) {
    let shaken = async {
        stream.set_nodelay(true)?;
        acceptor.accept(stream).await
    };
    let stream = match timeout(HANDSHAKE_TIME, shaken).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "a handshake failed"),
        Err(_) => return tracing::debug!(%from, "a handshake took too long"),
    };
    if let Some(peer) = tls::proven_key(stream.get_ref().1.peer_certificates()) {
        let arrival = Arrival { stream: Box::new(stream.into()), peer, from, _place: place };
        let _ = happenings.send(Happening::Arrived(arrival)).await;
    }
}
