//! A session: one pipe for frames, from `Connected` to `Disconnected`, in a task of its own.
//!
//! Frames go straight between the pipe and the queues, never through the task that owns the connections: a receiver
//! that is slow holds back its peers and nothing else.

mod wire;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::frames::Link;
use super::limits::{DRAIN_TIME, YIELD_TIME};
use super::queue::{self, Envelope, Queued};
use super::{NetworkEvent, PeerKey};
pub(crate) use wire::Intake;

/// What carries frames both ways: a substream of libp2p, or a call of gRPC.
///
/// Frames arrive in order and whole. Nothing is read while the intake has no room, and nothing is taken from the queue
/// that cannot be written, so that what is on its way is bounded.
pub(crate) trait Pipe: Send + 'static {
    /// What reads into the intake until there is a reason not to; and what writes the queue until `drain` ends or every
    /// sender is gone, then what is left in it, and closes this side. Dropping both gives the pipe up.
    fn halves(
        self,
        intake: Intake,
        queue: mpsc::Receiver<Queued>,
        drain: impl Future<Output = ()> + Send,
    ) -> (impl Future<Output = End> + Send, impl Future<Output = std::io::Result<()>> + Send);
}

/// The driver's view of a session.
pub(crate) struct Session {
    pub(crate) link: Link,
    stop: watch::Sender<Stop>,
    trusted: Arc<AtomicBool>,
    started: Arc<AtomicBool>,
    reported: Arc<AtomicBool>,
    /// The connection of the session before it.
    follows: Option<ConnectionId>,
    /// Whether somebody dialled, and has heard nothing of it unless this session was reported.
    answers_dial: bool,
    over: bool,
    leaves: bool,
    task: JoinHandle<()>,
}

/// How a session should end, if it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    No,
    /// Write what is queued, within [`DRAIN_TIME`].
    Drain,
    /// The peer has lost it: only what has arrived is read, within [`YIELD_TIME`].
    Yield,
    /// At once.
    Cut,
}

/// Told to the driver when no more frames pass, which may be before `Disconnected` was received.
pub(crate) type Over = (PeerId, ConnectionId);

/// What a session needs of its surroundings.
pub(crate) struct Surroundings {
    pub(crate) peer: PeerKey,
    pub(crate) trusted: bool,
    /// Whether a dial led to it, of which nothing was said yet.
    pub(crate) answers_dial: bool,
    pub(crate) events: mpsc::Sender<Envelope>,
    pub(crate) over: mpsc::Sender<Over>,
    /// The peer's session before this one.
    pub(crate) previous: Option<Session>,
}

/// Why no more frames pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("this node ended it")]
    Stopped,
    #[error("nobody receives events any more")]
    Unheard,
    #[error("the pipe is done with")]
    Io(#[from] std::io::Error),
    #[error("the peer announced a frame of {0} bytes")]
    TooLong(usize),
    #[error("a stranger sent more than strangers may")]
    TooMuch,
}

impl Session {
    pub(crate) fn start(pipe: impl Pipe, link: Link, surroundings: Surroundings) -> Self {
        let Surroundings { peer, trusted, mut answers_dial, events, over, previous } = surroundings;
        // What the one before it owes is owed by this one.
        answers_dial |= previous.as_ref().is_some_and(Self::owes_an_answer);
        let follows = previous.as_ref().map(|previous| previous.link.connection);
        let (stop, stopped) = watch::channel(Stop::No);
        let trusted = Arc::new(AtomicBool::new(trusted));
        let (started, reported) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let task = Task {
            peer,
            link: link.clone(),
            events,
            over,
            stop: stopped,
            trusted: Arc::clone(&trusted),
            started: Arc::clone(&started),
            reported: Arc::clone(&reported),
        };
        let task = tokio::spawn(task.run(pipe, previous));
        Self { link, stop, trusted, started, reported, follows, answers_dial, over: false, leaves: false, task }
    }

    /// A later stop may be harder than the one before, never softer.
    pub(crate) fn stop(&self, stop: Stop) {
        self.stop.send_if_modified(|current| {
            let harder = stop > *current;
            *current = stop.max(*current);
            harder
        });
    }

    /// Ends it, and with it every connection with the peer.
    pub(crate) fn leave(&mut self) {
        self.leaves = true;
        self.stop(Stop::Drain);
    }

    pub(crate) fn leaves(&self) -> bool {
        self.leaves
    }

    /// Lifts the limits for strangers.
    pub(crate) fn trust(&self) {
        self.trusted.store(true, Ordering::Relaxed);
    }

    /// The connection of the session before it, which closes when that one has ended.
    pub(crate) fn follows(&self) -> Option<ConnectionId> {
        self.follows
    }

    /// Takes note that somebody dialled while it was there, and waits for news of it.
    pub(crate) fn answer_dial(&mut self) {
        self.answers_dial = true;
    }

    /// Whether its end, now, would be the first that is heard of a dial.
    pub(crate) fn owes_an_answer(&self) -> bool {
        self.answers_dial && !self.reported.load(Ordering::Acquire)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn set_over(&mut self) {
        self.over = true;
    }

    /// Whether it still waits for the end of the session before it.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.started.load(Ordering::Relaxed)
    }

    /// Whether its last event was queued.
    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

struct Task {
    peer: PeerKey,
    link: Link,
    events: mpsc::Sender<Envelope>,
    over: mpsc::Sender<Over>,
    stop: watch::Receiver<Stop>,
    trusted: Arc<AtomicBool>,
    started: Arc<AtomicBool>,
    reported: Arc<AtomicBool>,
}

impl Task {
    async fn run(mut self, pipe: impl Pipe, previous: Option<Session>) {
        if let Some(previous) = previous {
            previous.stop(Stop::Drain);
            // Its events come before those of this session. A task that panicked has none left.
            let _ = previous.task.await;
        }
        self.started.store(true, Ordering::Relaxed);
        let queue = self.report_connected().await;
        let was_reported = queue.is_some();
        let end = match queue {
            Some(queue) => self.exchange(pipe, queue).await,
            None => End::Stopped,
        };
        let peer = self.peer;
        tracing::debug!(%peer, reason = &end as &dyn std::error::Error, "a session is over");
        // The driver goes away first when the node shuts down, and the receiver may go at any time.
        let _ = self.over.send((peer.peer_id(), self.link.connection)).await;
        if was_reported {
            let _ = self.events.send(Envelope::disconnected(peer)).await;
        }
    }

    /// `None` if the session was stopped before there was room for the event.
    async fn report_connected(&mut self) -> Option<mpsc::Receiver<Queued>> {
        let place = tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop != Stop::No) => None,
            place = self.events.reserve() => place.ok(),
        }?;
        let (outgoing, queue) = queue::outgoing(self.peer);
        let Link { address, relayed, .. } = self.link.clone();
        self.reported.store(true, Ordering::Release);
        place.send(Envelope::connected(NetworkEvent::Connected { peer: self.peer, address, relayed }, outgoing));
        Some(queue)
    }

    /// Reads and writes until either side has had enough. Whoever is asked to stop writes what is queued and closes
    /// its half; the other one reads that to the end, then lets go.
    async fn exchange(&self, pipe: impl Pipe, queue: mpsc::Receiver<Queued>) -> End {
        let intake = Intake::new(self.peer, self.events.clone(), Arc::clone(&self.trusted));
        let (reading, writing) = pipe.halves(intake, queue, self.until(Stop::Drain));
        let (mut reading, mut writing) = (pin!(reading), pin!(writing));
        let mut cut = pin!(self.until(Stop::Cut));
        let mut overtime = pin!(async {
            tokio::select! {
                () = async { self.until(Stop::Drain).await; tokio::time::sleep(DRAIN_TIME).await } => {}
                () = async { self.until(Stop::Yield).await; tokio::time::sleep(YIELD_TIME).await } => {}
            }
        });
        let mut written = false;
        loop {
            tokio::select! {
                biased;
                () = &mut cut => return End::Stopped,
                () = &mut overtime => return End::Stopped,
                end = &mut reading => return end,
                result = &mut writing, if !written => match result {
                    Ok(()) => written = true,
                    Err(error) => return End::Io(error),
                },
            }
        }
    }

    /// Ends when this session is asked to stop so hard or harder, or nobody is left who could ask.
    async fn until(&self, stop: Stop) {
        // An error says that the driver is gone, and with it the connection.
        let _ = self.stop.clone().wait_for(|current| *current >= stop).await;
    }
}
