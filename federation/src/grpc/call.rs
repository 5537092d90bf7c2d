//! The one call of `cairn.sync.v1.Link`: frames both ways. A frame is a message as it stands; nothing here looks into it.

use bytes::{Buf, BufMut, Bytes};
use futures::{Stream, StreamExt};
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status, Streaming};

use super::limits::{ENCODE_FRAMES, STALL_TIME};
use crate::network::limits::MAX_FRAME_BYTES;
use crate::network::queue::Queued;
use crate::network::session::{End, Intake, Pipe};

/// The call, as HTTP/2 names it.
const PATH: &str = "/cairn.sync.v1.Link/Frames";

/// HTTP/2 wants one. A device is known by its key.
const ORIGIN: &str = "https://cairn.invalid";

/// A frame of fewer bytes is copied out of the buffer that it arrived in, which it would keep as a whole.
const COPY_BYTES: usize = 8 * 1024;

/// A call that both sides agreed to.
pub(super) struct Call {
    incoming: Streaming<Bytes>,
    outgoing: mpsc::Sender<Queued>,
}

/// A call that a peer asks for.
pub(super) struct Asked {
    incoming: Streaming<Bytes>,
    answer: oneshot::Sender<Result<mpsc::Receiver<Queued>, Status>>,
}

impl Asked {
    /// `None` if the peer does not want it any more.
    pub(super) fn accept(self) -> Option<Call> {
        let (outgoing, frames) = mpsc::channel(ENCODE_FRAMES);
        self.answer.send(Ok(frames)).ok()?;
        Some(Call { incoming: self.incoming, outgoing })
    }

    pub(super) fn refuse(self, status: Status) {
        // The peer may have gone away.
        let _ = self.answer.send(Err(status));
    }

    /// Whether the peer has taken it back.
    pub(super) fn is_gone(&self) -> bool {
        self.answer.is_closed()
    }
}

/// Asks a peer for frames, and waits until it agrees.
pub(super) async fn ask(connection: SendRequest<Body>) -> Result<Call, Status> {
    let (outgoing, frames) = mpsc::channel(ENCODE_FRAMES);
    let service = tower::service_fn(move |request| {
        let mut connection = connection.clone();
        async move { connection.send_request(request).await }
    });
    let mut client = tonic::client::Grpc::with_origin(service, http::Uri::from_static(ORIGIN))
        .max_decoding_message_size(MAX_FRAME_BYTES)
        .max_encoding_message_size(MAX_FRAME_BYTES);
    let request = Request::new(queued(frames));
    let answer = client.streaming(request, PathAndQuery::from_static(PATH), Opaque).await?;
    Ok(Call { incoming: answer.into_inner(), outgoing })
}

/// Answers a request on a connection: hands on the call, and waits for what becomes of it.
pub(super) async fn answer<F: Future<Output = ()> + Send>(
    request: http::Request<Incoming>,
    hand_on: impl FnOnce(Asked) -> F + Send,
) -> http::Response<Body> {
    if request.uri().path() != PATH {
        return Status::unimplemented("no such method").into_http();
    }
    let mut hand_on = Some(hand_on);
    let service = tower::service_fn(move |request: Request<Streaming<Bytes>>| {
        let hand_on = hand_on.take();
        async move {
            let (answer, answered) = oneshot::channel();
            let hand_on = hand_on.ok_or_else(|| Status::internal("a request is one call"))?;
            hand_on(Asked { incoming: request.into_inner(), answer }).await;
            let frames = answered.await.unwrap_or_else(|_| Err(Status::unavailable("shutting down")))?;
            Ok(Response::new(queued(frames).map(Ok)))
        }
    });
    tonic::server::Grpc::new(Opaque)
        .max_decoding_message_size(MAX_FRAME_BYTES)
        .max_encoding_message_size(MAX_FRAME_BYTES)
        .streaming(service, request)
        .await
}

fn queued(frames: mpsc::Receiver<Queued>) -> impl Stream<Item = Queued> + Send + 'static {
    futures::stream::unfold(frames, |mut frames| async { frames.recv().await.map(|frame| (frame, frames)) })
}

impl Pipe for Call {
    fn halves(
        self,
        intake: Intake,
        queue: mpsc::Receiver<Queued>,
        drain: impl Future<Output = ()> + Send,
    ) -> (impl Future<Output = End> + Send, impl Future<Output = std::io::Result<()>> + Send) {
        (read(self.incoming, intake), write(self.outgoing, queue, drain))
    }
}

async fn read(mut incoming: Streaming<Bytes>, mut intake: Intake) -> End {
    loop {
        match incoming.message().await {
            Ok(Some(frame)) => {
                if let Err(end) = intake.take_in(frame).await {
                    return end;
                }
            }
            Ok(None) => return End::Io(std::io::ErrorKind::UnexpectedEof.into()),
            Err(status) => return End::Io(std::io::Error::other(status)),
        }
    }
}

/// Hands frames to the connection, which encodes them when the peer has room for them.
async fn write(
    outgoing: mpsc::Sender<Queued>,
    mut queue: mpsc::Receiver<Queued>,
    drain: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let mut drain = std::pin::pin!(drain);
    let mut draining = false;
    loop {
        let frame = tokio::select! {
            biased;
            () = &mut drain, if !draining => {
                draining = true;
                queue.close();
                continue;
            }
            frame = queue.recv() => frame,
        };
        let Some(frame) = frame else { return Ok(()) };
        let sent = timeout(STALL_TIME, outgoing.send(frame)).await;
        sent.map_err(|_| std::io::ErrorKind::TimedOut)?.map_err(|_| std::io::ErrorKind::BrokenPipe)?;
    }
}

/// Messages that are bytes, whatever they mean.
#[derive(Clone, Copy, Debug)]
struct Opaque;

impl Codec for Opaque {
    type Encode = Queued;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Opaque {
    type Item = Queued;
    type Error = Status;

    fn encode(&mut self, queued: Queued, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(queued.frame.len());
        to.put_slice(&queued.frame);
        Ok(())
    }
}

impl Decoder for Opaque {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let frame = from.copy_to_bytes(from.remaining());
        Ok(Some(if frame.len() < COPY_BYTES { Bytes::copy_from_slice(&frame) } else { frame }))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;
    use crate::PeerKey;
    use crate::network::queue;

    const PEER: PeerKey = PeerKey::from_bytes([1; 32]);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (sender, frames) = queue::outgoing(PEER);
        for _ in 0..3 * ENCODE_FRAMES {
            sender.send(Bytes::from_static(b"frame")).await.expect("the queue is there");
        }
        let (outgoing, mut taken) = mpsc::channel(ENCODE_FRAMES);
        let since = Instant::now();
        let writing = tokio::spawn(write(outgoing, frames, pending()));
        for _ in 0..ENCODE_FRAMES {
            tokio::time::sleep(STALL_TIME * 9 / 10).await;
            assert!(taken.recv().await.is_some(), "a slow peer was given up");
        }
        let slow = since.elapsed();
        let error = writing.await.expect("nothing panicked").expect_err("it takes nothing any more");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(since.elapsed() <= slow + STALL_TIME);
    }

    #[tokio::test]
    async fn what_is_queued_is_written_before_the_call_ends() {
        let (sender, frames) = queue::outgoing(PEER);
        for _ in 0..10 {
            sender.send(Bytes::from_static(b"frame")).await.expect("the queue is there");
        }
        let (outgoing, mut taken) = mpsc::channel(ENCODE_FRAMES);
        write(outgoing, frames, std::future::ready(())).await.expect("there is room");
        for _ in 0..10 {
            assert_eq!(taken.recv().await.map(|queued| queued.frame), Some(Bytes::from_static(b"frame")));
        }
        assert!(taken.recv().await.is_none(), "the other side learns of the end");
        assert!(sender.send(Bytes::new()).await.is_err(), "nothing more is queued");
    }
}
