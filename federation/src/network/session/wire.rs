//! Frames on a substream: a length of 4 bytes, the most significant first, then that many bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::io::BufReader;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::swarm::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{End, Pipe};
use crate::network::PeerKey;
use crate::network::limits::{
    INCOMING_BYTES, MAX_FRAME_BYTES, STRANGER_BYTES, STRANGER_FRAME_BYTES, STRANGER_FRAMES,
};
use crate::network::queue::{self, Envelope, Queued};

const LENGTH_BYTES: usize = 4;

/// How much is read from a substream at once, and how much of a frame is allocated before any of it has arrived.
const READ_BYTES: usize = 64 * 1024;

/// Frames are gathered up to about so many bytes, then written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// A frame of more bytes is written from where it is, instead of being copied beside others.
const COPY_BYTES: usize = 8 * 1024;

/// Takes in the frames of one peer.
pub(crate) struct Intake {
    peer: PeerKey,
    events: mpsc::Sender<Envelope>,
    budget: Arc<Semaphore>,
    trusted: Arc<AtomicBool>,
    allowance: Allowance,
}

/// What a stranger may still send.
struct Allowance {
    frames: usize,
    bytes: usize,
}

impl Pipe for Stream {
    fn halves(
        self,
        mut intake: Intake,
        queue: mpsc::Receiver<Queued>,
        drain: impl Future<Output = ()> + Send,
    ) -> (impl Future<Output = End> + Send, impl Future<Output = io::Result<()>> + Send) {
        let (reader, writer) = self.split();
        let reading = async move { intake.read_frames(reader).await };
        (reading, write_frames(writer, queue, drain))
    }
}

impl Intake {
    pub(super) fn new(peer: PeerKey, events: mpsc::Sender<Envelope>, trusted: Arc<AtomicBool>) -> Self {
        let allowance = Allowance { frames: STRANGER_FRAMES, bytes: STRANGER_BYTES };
        Self { peer, events, budget: Arc::new(Semaphore::new(INCOMING_BYTES)), trusted, allowance }
    }

    /// Hands on frames until there is a reason not to. While the queue of events is full nothing is read, and so the
    /// windows of the transport fill up and hold back the peer.
    async fn read_frames(&mut self, reader: impl AsyncRead + Unpin) -> End {
        let mut reader = BufReader::with_capacity(READ_BYTES, reader);
        loop {
            if let Err(end) = self.read_frame(&mut reader).await {
                return end;
            }
        }
    }

    async fn read_frame(&mut self, reader: &mut BufReader<impl AsyncRead + Unpin>) -> Result<(), End> {
        let mut length = [0; LENGTH_BYTES];
        reader.read_exact(&mut length).await?;
        let length = u32::from_be_bytes(length) as usize;
        let permit = self.room_for(length).await?;
        let bytes = read_body(reader, length).await?;
        self.hand_on(bytes, permit).await
    }

    /// Takes in a frame that was read already. Whoever reads so holds one frame without room for it, and no more.
    pub(crate) async fn take_in(&mut self, frame: Bytes) -> Result<(), End> {
        let permit = self.room_for(frame.len()).await?;
        self.hand_on(frame, permit).await
    }

    async fn room_for(&mut self, length: usize) -> Result<OwnedSemaphorePermit, End> {
        if length > MAX_FRAME_BYTES {
            return Err(End::TooLong(length));
        }
        if !self.trusted.load(Ordering::Relaxed) {
            self.allowance.spend(length)?;
        }
        let permit = Arc::clone(&self.budget).acquire_many_owned(queue::weight(length)).await;
        Ok(permit.expect("the budget is never closed"))
    }

    async fn hand_on(&self, frame: Bytes, permit: OwnedSemaphorePermit) -> Result<(), End> {
        self.events.send(Envelope::frame(self.peer, frame, permit)).await.map_err(|_| End::Unheard)
    }
}

impl Allowance {
    fn spend(&mut self, length: usize) -> Result<(), End> {
        if length > STRANGER_FRAME_BYTES {
            return Err(End::TooMuch);
        }
        self.frames = self.frames.checked_sub(1).ok_or(End::TooMuch)?;
        self.bytes = self.bytes.checked_sub(length).ok_or(End::TooMuch)?;
        Ok(())
    }
}

async fn read_body(reader: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Bytes> {
    let mut body = Vec::new();
    while body.len() < length {
        let start = body.len();
        let end = affordable(start, length);
        body.reserve_exact(end - start);
        body.resize(end, 0);
        reader.read_exact(&mut body[start..]).await?;
    }
    Ok(Bytes::from(body))
}

/// How long a body may become in memory when so many bytes of it have arrived. A length alone costs a peer nothing,
/// and so must not cost this node much.
fn affordable(arrived: usize, length: usize) -> usize {
    length.min(arrived + READ_BYTES.max(arrived))
}

/// Writes what is queued until `drain` ends or every sender is gone; then what is left, and closes the substream.
async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Queued>,
    drain: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut drain = std::pin::pin!(drain);
    let mut draining = false;
    let mut buffer = Vec::with_capacity(WRITE_BYTES + COPY_BYTES);
    loop {
        let first = tokio::select! {
            biased;
            () = &mut drain, if !draining => {
                draining = true;
                queue.close();
                continue;
            }
            first = queue.recv() => first,
        };
        let Some(first) = first else { return writer.close().await };
        write_batch(&mut writer, &mut buffer, first, &mut queue).await?;
        if queue.is_empty() {
            writer.flush().await?;
        }
    }
}

/// Writes one frame, and as many more as are queued and fit into the buffer beside it.
async fn write_batch(
    writer: &mut (impl AsyncWrite + Unpin),
    buffer: &mut Vec<u8>,
    first: Queued,
    queue: &mut mpsc::Receiver<Queued>,
) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(queued) = next.take() {
        let frame = &queued.frame;
        buffer.extend_from_slice(&queue::weight(frame.len()).to_be_bytes());
        if frame.len() > COPY_BYTES {
            writer.write_all(buffer).await?;
            buffer.clear();
            writer.write_all(frame).await?;
        } else {
            buffer.extend_from_slice(frame);
            if buffer.len() < WRITE_BYTES {
                next = queue.try_recv().ok();
            }
        }
    }
    writer.write_all(buffer).await?;
    buffer.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;
    use crate::network::queue::Connections;
    use crate::network::{NetworkEvent, NetworkEvents};

    const PEER: PeerKey = PeerKey::from_bytes([1; 32]);

    fn intake(trusted: bool) -> (Intake, NetworkEvents) {
        let (sender, events) = queue::events(Arc::new(Connections::default()));
        (Intake::new(PEER, sender, Arc::new(AtomicBool::new(trusted))), events)
    }

    fn encoded(frames: &[Bytes]) -> Vec<u8> {
        let frame = |frame: &Bytes| [&queue::weight(frame.len()).to_be_bytes()[..], frame].concat();
        frames.iter().flat_map(frame).collect()
    }

    async fn received(mut events: NetworkEvents) -> Vec<Bytes> {
        let mut frames = Vec::new();
        while let Some(event) = events.recv().await {
            match event {
                NetworkEvent::Frame { bytes, .. } => frames.push(bytes),
                other => panic!("{other:?}"),
            }
        }
        frames
    }

    #[tokio::test]
    async fn frames_of_every_size_are_written_and_read_back() {
        let sizes = [0, 1, 100, COPY_BYTES, COPY_BYTES + 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 300_000];
        let sizes = sizes.into_iter().chain([MAX_FRAME_BYTES]).chain(std::iter::repeat_n(50, 20));
        let frames: Vec<Bytes> = sizes.enumerate().map(|(i, size)| Bytes::from(vec![i as u8; size])).collect();
        let (outgoing, queue) = queue::outgoing(PEER);
        let mut written = Vec::new();
        let send = async {
            for frame in frames.clone() {
                outgoing.send(frame).await.expect("the queue is being written");
            }
            drop(outgoing);
        };
        let write = write_frames(Cursor::new(&mut written), queue, std::future::pending());
        let ((), result) = tokio::join!(send, write);
        result.expect("memory can be written to");
        assert_eq!(written, encoded(&frames));

        let (mut intake, events) = intake(true);
        let read = async {
            let end = intake.read_frames(Cursor::new(written)).await;
            drop(intake);
            end
        };
        let (end, received) = tokio::join!(read, received(events));
        assert!(matches!(end, End::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof));
        assert_eq!(received, frames);
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_ends_it_at_its_length() {
        let (mut intake, _events) = intake(true);
        let too_long = u32::try_from(MAX_FRAME_BYTES + 1).expect("small").to_be_bytes();
        assert!(
            matches!(intake.read_frames(Cursor::new(too_long)).await, End::TooLong(length) if length == MAX_FRAME_BYTES + 1)
        );
        assert!(matches!(intake.read_frames(Cursor::new([0xff; 4])).await, End::TooLong(_)));
    }

    #[test]
    fn memory_for_a_frame_grows_with_what_has_arrived() {
        assert_eq!(affordable(0, MAX_FRAME_BYTES), READ_BYTES);
        assert_eq!(affordable(0, 10), 10);
        assert_eq!(affordable(4 * READ_BYTES, MAX_FRAME_BYTES), 8 * READ_BYTES);
        assert_eq!(affordable(MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES), MAX_FRAME_BYTES);
    }

    #[tokio::test]
    async fn strangers_have_limits_on_frames_bytes_and_size() {
        let few = Bytes::from_static(b"few");
        let (mut stranger, _events) = intake(false);
        let at_limit = encoded(&vec![few.clone(); STRANGER_FRAMES]);
        assert!(matches!(stranger.read_frames(Cursor::new(&at_limit)).await, End::Io(_)));
        let beyond = encoded(&vec![few; STRANGER_FRAMES + 1]);
        assert!(matches!(stranger.read_frames(Cursor::new(&beyond)).await, End::TooMuch));

        let (mut stranger, _events) = intake(false);
        let large = Bytes::from(vec![0; STRANGER_FRAME_BYTES]);
        let full = STRANGER_BYTES / STRANGER_FRAME_BYTES;
        assert!(matches!(
            stranger.read_frames(Cursor::new(encoded(&vec![large.clone(); full]))).await,
            End::Io(_)
        ));
        let too_many = encoded(&vec![large; full + 1]);
        assert!(matches!(stranger.read_frames(Cursor::new(too_many)).await, End::TooMuch));
        let too_large = encoded(&[Bytes::from(vec![0; STRANGER_FRAME_BYTES + 1])]);
        assert!(matches!(stranger.read_frames(Cursor::new(too_large)).await, End::TooMuch));
    }

    #[tokio::test]
    async fn nothing_is_read_beyond_what_the_receiver_has_room_for() {
        let (mut intake, mut events) = intake(true);
        let frame = Bytes::from(vec![0; MAX_FRAME_BYTES]);
        let fits = INCOMING_BYTES / MAX_FRAME_BYTES;
        let mut source = Cursor::new(encoded(&vec![frame; fits + 2]));
        let mut reading = Box::pin(intake.read_frames(&mut source));
        assert!(futures::poll!(&mut reading).is_pending());
        for _ in 0..fits {
            assert!(events.recv().await.is_some());
        }
        drop(reading);
        let read = usize::try_from(source.position()).expect("small");
        assert!(read <= fits * MAX_FRAME_BYTES + 2 * READ_BYTES, "{read} bytes were read");
    }
}
