//! The queues between sessions and whoever uses the network: events that wait to be received, frames that wait to be
//! written.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::limits::{EVENT_QUEUE, MAX_FRAME_BYTES, OUTGOING_BYTES, OUTGOING_FRAMES};
use super::{NetworkEvent, PeerKey, SendError};

/// What happens on the network, in order: for each peer `Connected`, then its frames, then `Disconnected`, and so on.
///
/// It ends when the network was shut down and everything before that was received. While nobody receives, peers are
/// held back: at most [`EVENT_QUEUE`] events wait, and at most [`INCOMING_BYTES`](super::limits::INCOMING_BYTES) of
/// frames for each peer.
#[derive(Debug)]
pub struct NetworkEvents {
    queue: mpsc::Receiver<Envelope>,
    connections: Arc<Connections>,
}

/// An event on its way, with what is due when it is received.
#[derive(Debug)]
pub(crate) struct Envelope {
    event: NetworkEvent,
    due: Due,
}

#[derive(Debug)]
enum Due {
    Nothing,
    /// Gives the bytes of a frame back to the budget of its peer.
    Release(#[expect(dead_code, reason = "it acts when it is dropped")] OwnedSemaphorePermit),
    Connect(Outgoing),
    Disconnect,
}

/// The peers that can be sent to: those whose `Connected` was received, and `Disconnected` was not yet. Were it the
/// moment in which things happen instead, a frame meant for a connection that was just lost could be the first one of
/// the next connection.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    outgoing: Mutex<HashMap<PeerKey, Outgoing>>,
}

/// The way to the task that writes to a peer, from one `Connected` to its `Disconnected`. What is sent on it later is
/// refused, whatever connection there is by then.
#[derive(Clone, Debug)]
pub struct Outgoing {
    peer: PeerKey,
    frames: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
}

/// A frame that waits to be written. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) frame: Bytes,
    _permit: OwnedSemaphorePermit,
}

/// A queue for events, with both of its ends.
pub(crate) fn events(connections: Arc<Connections>) -> (mpsc::Sender<Envelope>, NetworkEvents) {
    let (sender, queue) = mpsc::channel(EVENT_QUEUE);
    (sender, NetworkEvents { queue, connections })
}

/// A queue for frames to one peer, with both of its ends.
pub(crate) fn outgoing(peer: PeerKey) -> (Outgoing, mpsc::Receiver<Queued>) {
    let (frames, queue) = mpsc::channel(OUTGOING_FRAMES);
    (Outgoing { peer, frames, bytes: Arc::new(Semaphore::new(OUTGOING_BYTES)) }, queue)
}

/// How many permits a frame of so many bytes takes.
pub(crate) fn weight(length: usize) -> u32 {
    u32::try_from(length).expect("a frame was checked to be at most MAX_FRAME_BYTES long")
}

impl NetworkEvents {
    /// The next event, or `None` after the network was shut down. Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<NetworkEvent> {
        let envelope = self.queue.recv().await?;
        Some(self.open(envelope))
    }

    fn open(&self, envelope: Envelope) -> NetworkEvent {
        let Envelope { event, due } = envelope;
        match due {
            Due::Nothing | Due::Release(_) => {}
            Due::Connect(outgoing) => {
                self.connections.outgoing.lock().insert(event.peer(), outgoing);
            }
            Due::Disconnect => {
                self.connections.outgoing.lock().remove(&event.peer());
            }
        }
        event
    }
}

impl Stream for NetworkEvents {
    type Item = NetworkEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NetworkEvent>> {
        let envelope = ready!(self.queue.poll_recv(cx));
        Poll::Ready(envelope.map(|envelope| self.open(envelope)))
    }
}

impl Envelope {
    /// An event that changes nothing.
    pub(crate) fn hint(event: NetworkEvent) -> Self {
        Self { event, due: Due::Nothing }
    }

    pub(crate) fn frame(peer: PeerKey, bytes: Bytes, permit: OwnedSemaphorePermit) -> Self {
        Self { event: NetworkEvent::Frame { peer, bytes }, due: Due::Release(permit) }
    }

    pub(crate) fn connected(event: NetworkEvent, outgoing: Outgoing) -> Self {
        Self { event, due: Due::Connect(outgoing) }
    }

    pub(crate) fn disconnected(peer: PeerKey) -> Self {
        Self { event: NetworkEvent::Disconnected { peer }, due: Due::Disconnect }
    }
}

impl Connections {
    pub(crate) fn outgoing(&self, peer: PeerKey) -> Option<Outgoing> {
        self.outgoing.lock().get(&peer).cloned()
    }

    pub(crate) async fn send(&self, peer: PeerKey, frame: Bytes) -> Result<(), SendError> {
        let Some(outgoing) = self.outgoing(peer) else { return Err(SendError::NotConnected { peer }) };
        outgoing.send(frame).await
    }
}

impl Outgoing {
    /// Queues a frame as [`Handle::send`](super::Handle::send) does, for this connection and no other.
    ///
    /// # Errors
    /// When the frame is too long, or nothing is written on this connection any more. `Disconnected` follows then, if
    /// it was not received yet.
    pub async fn send(&self, frame: Bytes) -> Result<(), SendError> {
        let peer = self.peer;
        if frame.len() > MAX_FRAME_BYTES {
            return Err(SendError::TooLong { peer, length: frame.len() });
        }
        self.queue(frame).await.ok_or(SendError::NotConnected { peer })
    }

    /// `None` if the other end is gone.
    async fn queue(&self, frame: Bytes) -> Option<()> {
        // The place in the queue comes first: it is what ends the wait when the other end goes away.
        let place = self.frames.reserve().await.ok()?;
        let permit = tokio::select! {
            biased;
            () = self.frames.closed() => None,
            permit = Arc::clone(&self.bytes).acquire_many_owned(weight(frame.len())) => permit.ok(),
        }?;
        place.send(Queued { frame, _permit: permit });
        Some(())
    }
}
