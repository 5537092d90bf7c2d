//! The task that owns the connections: it carries out commands, starts sessions, and reports what became of dials.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::address;
use super::call::{Asked, Call};
use super::connection::{self, Surroundings as ConnectionSurroundings};
use super::dial::{self, Reached};
use super::limits::{HAPPENING_QUEUE, MAX_CONNECTIONS_PER_PEER, RIVAL_TIME};
use super::listen::{self, Arrival};
use super::settle::{self, Have, Verdict};
use super::tls::Identity;
use crate::network::door::Door;
use crate::network::driver::hints::Hints;
use crate::network::frames::Link;
use crate::network::handle::Command;
use crate::network::limits::{
    CLOSE_TIME, DIAL_TIME, DRAIN_TIME, MAX_DIAL_ADDRESSES, MAX_ESTABLISHED, MAX_ESTABLISHED_INCOMING,
    MAX_PENDING_INCOMING, MAX_PENDING_OUTGOING,
};
use crate::network::policy::{Policy, Standing};
use crate::network::queue::Envelope;
use crate::network::session::{Over, Session, Stop, Surroundings};
use crate::network::{DialFailure, NetworkEvent, PeerKey};

/// How often what depends on time is looked at.
const TICK: Duration = Duration::from_millis(250);

/// What happened on a connection, or on the way to one.
pub(super) enum Happening {
    /// A peer connected from outside, and proved its key.
    Arrived(Arrival),
    /// It asks for frames.
    Called { connection: ConnectionId, asked: Box<Asked> },
    /// A dial came to its end, good or bad.
    Dialled { peer: PeerKey, attempt: ConnectionId, result: Result<Reached, DialFailure> },
    /// A peer that was dialled agreed to exchange frames, or did not.
    Answered { connection: ConnectionId, answer: Result<Box<Call>, DialFailure> },
    /// A connection is gone.
    Closed { connection: ConnectionId },
}

pub(super) struct Driver {
    identity: Identity,
    policy: Arc<Policy>,
    door: Door,
    connections: HashMap<ConnectionId, Connection>,
    sessions: HashMap<PeerKey, Session>,
    dials: HashMap<PeerKey, Dial>,
    held: HashMap<PeerKey, Held>,
    hints: Hints,
    tasks: JoinSet<()>,
    listeners: JoinSet<()>,
    events: mpsc::Sender<Envelope>,
    happenings: mpsc::Sender<Happening>,
    happened: mpsc::Receiver<Happening>,
    over: mpsc::Sender<Over>,
    over_queue: mpsc::Receiver<Over>,
    addresses: watch::Sender<Vec<Multiaddr>>,
    last_connection: usize,
}

/// A connection whose peer is known.
struct Connection {
    peer: PeerKey,
    address: Multiaddr,
    from_outside: bool,
    close: CancellationToken,
}

/// A dial whose outcome was not reported yet: at most one for each peer.
struct Dial {
    /// The name that its connection has, or will have.
    attempt: ConnectionId,
    since: Instant,
    /// Whether frames were asked for, so that the peer may have agreed by now.
    asked: bool,
    task: AbortHandle,
}

/// A call that waits for another one to be found out as dead: at most one for each peer.
struct Held {
    connection: ConnectionId,
    since: Instant,
    asked: Box<Asked>,
}

impl Driver {
    pub(super) fn new(
        identity: Identity,
        policy: Arc<Policy>,
        door: Door,
        listeners: Vec<TcpListener>,
        (events, addresses): (mpsc::Sender<Envelope>, watch::Sender<Vec<Multiaddr>>),
    ) -> Self {
        let (over, over_queue) = mpsc::channel(MAX_ESTABLISHED as usize);
        let (happenings, happened) = mpsc::channel(HAPPENING_QUEUE);
        let places = Arc::new(Semaphore::new(MAX_PENDING_INCOMING as usize));
        let listening = listeners.into_iter().map(|listener| {
            listen::listen(listener, identity.acceptor(), Arc::clone(&places), happenings.clone())
        });
        Self {
            policy,
            door,
            connections: HashMap::new(),
            sessions: HashMap::new(),
            dials: HashMap::new(),
            held: HashMap::new(),
            hints: Hints::default(),
            tasks: JoinSet::new(),
            listeners: listening.collect(),
            identity,
            events,
            happenings,
            happened,
            over,
            over_queue,
            addresses,
            last_connection: 0,
        }
    }

    /// Runs until it is asked to shut down, or nobody is left to ask or to listen.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let events = self.events.clone();
        let done = loop {
            tokio::select! {
                Some(happening) = self.happened.recv() => self.on_happening(happening),
                command = commands.recv() => match command {
                    Some(Command::Shutdown(done)) => break Some(done),
                    Some(command) => self.carry_out(command),
                    None => break None,
                },
                Some((peer, connection)) = self.over_queue.recv() => self.on_session_over(peer, connection),
                Ok(place) = events.reserve(), if !self.hints.is_empty() => {
                    if let Some(event) = self.hints.pop().filter(|event| self.is_news(event)) {
                        place.send(Envelope::hint(event));
                    }
                }
                Some(_) = self.tasks.join_next() => {}
                () = events.closed() => break None,
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
        };
        self.close().await;
        drop(self);
        commands.close();
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn carry_out(&mut self, command: Command) {
        let done = match command {
            Command::StandingChanged(peer, done) => {
                self.on_standing_changed(peer);
                done
            }
            Command::DoorMoved(done) => {
                self.cut_unwelcome(Instant::now());
                done
            }
            Command::Dial(peer, addresses, done) => {
                self.dial(peer, addresses);
                done
            }
            Command::Disconnect(peer, done) => {
                self.disconnect(peer);
                done
            }
            Command::Announce(address, done) => {
                self.announce(address);
                done
            }
            Command::Shutdown(done) => done,
        };
        // Whoever asked may have stopped waiting.
        let _ = done.send(());
    }

    fn on_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Arrived(arrival) => self.on_arrived(arrival),
            Happening::Called { connection, asked } => self.on_called(connection, asked),
            Happening::Dialled { peer, attempt, result } => self.on_dialled(peer, attempt, result),
            Happening::Answered { connection, answer } => self.on_answered(connection, answer),
            Happening::Closed { connection } => self.on_closed(connection),
        }
    }

    fn on_standing_changed(&mut self, peer: PeerKey) {
        match self.standing(peer) {
            Standing::Refused | Standing::Relay => {
                self.cut(peer);
                if self.give_up_dial(peer) {
                    self.dial_failed(peer, DialFailure::NotAllowed);
                }
            }
            Standing::Friend => {
                if let Some(session) = self.sessions.get(&peer) {
                    session.trust();
                }
            }
            Standing::Stranger => {}
        }
    }

    fn cut(&mut self, peer: PeerKey) {
        if let Some(session) = self.sessions.get(&peer) {
            session.stop(Stop::Cut);
        }
        self.close_all(peer);
    }

    fn cut_unwelcome(&mut self, now: Instant) {
        for peer in self.door.unwelcome(now) {
            tracing::debug!(%peer, "a stranger has to leave");
            if let Ok(peer) = PeerKey::try_from(peer) {
                self.cut(peer);
            }
        }
    }

    fn disconnect(&mut self, peer: PeerKey) {
        match self.sessions.get_mut(&peer) {
            // Its end closes the connections.
            Some(session) if !session.is_over() => session.leave(),
            _ => self.close_all(peer),
        }
    }

    fn announce(&self, address: Multiaddr) {
        self.addresses.send_modify(|addresses| {
            let all: BTreeSet<Multiaddr> = addresses.drain(..).chain([address]).collect();
            *addresses = all.into_iter().collect();
        });
    }

    fn on_tick(&mut self, now: Instant) {
        self.cut_unwelcome(now);
        let is_late = |dial: &Dial| now.duration_since(dial.since) >= DIAL_TIME;
        let late: Vec<PeerKey> =
            self.dials.iter().filter(|(_, dial)| is_late(dial)).map(|(peer, _)| *peer).collect();
        for peer in late {
            self.give_up_dial(peer);
            self.take_held_or_fail(peer, DialFailure::TimedOut);
        }
        let is_due = |held: &Held| held.asked.is_gone() || now.duration_since(held.since) >= RIVAL_TIME;
        let due: Vec<PeerKey> = self.held.iter().filter(|(_, held)| is_due(held)).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.take_held(peer);
        }
        let finished = self.sessions.iter().filter(|(_, session)| session.is_finished());
        for (peer, connection) in
            finished.map(|(peer, session)| (*peer, session.link.connection)).collect::<Vec<_>>()
        {
            // That it is over may still be on its way here, or may have been lost with a task that panicked.
            self.on_session_over(peer.peer_id(), connection);
            self.sessions.retain(|_, session| session.link.connection != connection);
        }
    }

    fn standing(&self, peer: PeerKey) -> Standing {
        self.policy.standing(&peer.peer_id())
    }

    /// Says goodbye to everybody, within a bounded time.
    async fn close(&mut self) {
        self.listeners.shutdown().await;
        for peer in self.dials.keys().copied().collect::<Vec<_>>() {
            self.give_up_dial(peer);
        }
        self.held.clear();
        for session in self.sessions.values() {
            session.stop(Stop::Drain);
        }
        // A session that waits for the receiver of events is given up.
        let drained = async {
            while self.sessions.values().any(|session| !session.is_over() && !session.is_waiting()) {
                tokio::select! {
                    Some(happening) = self.happened.recv() => drop(happening),
                    Some((peer, connection)) = self.over_queue.recv() => {
                        self.note_over(peer, connection);
                    }
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIME, drained).await;
        for session in self.sessions.values() {
            session.stop(Stop::Cut);
        }
        for connection in self.connections.values() {
            connection.close.cancel();
        }
        let closed = async {
            while !self.tasks.is_empty() {
                tokio::select! {
                    Some(happening) = self.happened.recv() => drop(happening),
                    _ = self.tasks.join_next() => {}
                }
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIME, closed).await;
        self.tasks.shutdown().await;
    }

    /// The driver's own note of it, without what follows. None if it was noted before.
    fn note_over(&mut self, peer: PeerId, connection: ConnectionId) -> Option<&Session> {
        let peer = PeerKey::try_from(peer).ok()?;
        let session = self.sessions.get_mut(&peer).filter(|session| session.link.connection == connection)?;
        if session.is_over() {
            return None;
        }
        session.set_over();
        Some(session)
    }
}

/// Dials.
impl Driver {
    fn dial(&mut self, peer: PeerKey, mut addresses: Vec<Multiaddr>) {
        addresses.truncate(MAX_DIAL_ADDRESSES);
        // Whoever has heard of an end must not be told, by silence, that the peer is still connected.
        while let Ok((peer, connection)) = self.over_queue.try_recv() {
            self.on_session_over(peer, connection);
        }
        if self.standing(peer) != Standing::Friend {
            return self.dial_failed(peer, DialFailure::NotAllowed);
        }
        if self.dials.contains_key(&peer) {
            return;
        }
        if let Some(session) = self.sessions.get_mut(&peer).filter(|session| !session.is_over()) {
            return session.answer_dial();
        }
        if self.dials.len() >= MAX_PENDING_OUTGOING as usize {
            let limit = format!("{MAX_PENDING_OUTGOING} peers are being dialled");
            return self.dial_failed(peer, DialFailure::AtLimit(limit));
        }
        let attempt = self.next_connection();
        let (identity, happenings) = (self.identity.clone(), self.happenings.clone());
        let task = self.tasks.spawn(async move {
            let result = dial::reach(identity, peer, addresses).await;
            let _ = happenings.send(Happening::Dialled { peer, attempt, result }).await;
        });
        self.dials.insert(peer, Dial { attempt, since: Instant::now(), asked: false, task });
    }

    fn on_dialled(&mut self, peer: PeerKey, attempt: ConnectionId, result: Result<Reached, DialFailure>) {
        let Some(dial) = self.dials.get_mut(&peer).filter(|dial| dial.attempt == attempt) else { return };
        let reached = match result {
            Ok(reached) => reached,
            Err(failure) => {
                self.dials.remove(&peer);
                return self.take_held_or_fail(peer, failure);
            }
        };
        dial.asked = true;
        if let Err(failure) = self.has_room_for(peer, false) {
            self.dials.remove(&peer);
            return self.take_held_or_fail(peer, DialFailure::AtLimit(failure.to_owned()));
        }
        let surroundings = self.note_connection(attempt, peer, reached.address, false);
        self.tasks.spawn(connection::call(reached.stream, surroundings));
    }

    fn on_answered(&mut self, connection: ConnectionId, answer: Result<Box<Call>, DialFailure>) {
        let Some(peer) = self.connections.get(&connection).map(|connection| connection.peer) else { return };
        if self.dials.get(&peer).is_none_or(|dial| dial.attempt != connection) {
            // It was given up; the connection is being closed.
            return self.close_connection(connection);
        }
        self.dials.remove(&peer);
        match answer {
            Ok(call) => self.open(peer, connection, *call, true),
            Err(failure) => self.take_held_or_fail(peer, failure),
        }
    }

    /// Says whether there was one. The peer learns of it at once, if it was asked for frames.
    fn give_up_dial(&mut self, peer: PeerKey) -> bool {
        let Some(dial) = self.dials.remove(&peer) else { return false };
        dial.task.abort();
        self.close_connection(dial.attempt);
        true
    }

    /// Whether an event that had to wait still says something. A failed dial does not, once the peer is there.
    fn is_news(&mut self, event: &NetworkEvent) -> bool {
        let NetworkEvent::DialFailed { peer, .. } = event else { return true };
        let session = self.sessions.get_mut(peer).filter(|session| !session.is_over());
        // Should the session end before it is reported, this would be the first that is heard of the dial.
        session.map(Session::answer_dial).is_none()
    }

    fn take_held_or_fail(&mut self, peer: PeerKey, failure: DialFailure) {
        if !self.take_held(peer) {
            self.dial_failed(peer, failure);
        }
    }

    fn dial_failed(&mut self, peer: PeerKey, reason: DialFailure) {
        tracing::debug!(%peer, %reason, "a dial failed");
        self.hints.push(NetworkEvent::DialFailed { peer, reason });
    }
}

/// Connections and calls from outside.
impl Driver {
    fn on_arrived(&mut self, arrival: Arrival) {
        let Arrival { stream, peer, from, .. } = arrival;
        if let Err(reason) = self.has_room_for(peer, true) {
            return tracing::debug!(%from, %peer, reason, "a connection from outside is refused");
        }
        let connection = self.next_connection();
        if let Err(refusal) = self.door.admit_inbound(connection, peer.peer_id(), Instant::now()) {
            return tracing::debug!(%from, %refusal, "a connection from outside is refused");
        }
        let surroundings = self.note_connection(connection, peer, address::of_socket(from), true);
        self.tasks.spawn(connection::serve(stream, surroundings));
    }

    fn on_called(&mut self, connection: ConnectionId, asked: Box<Asked>) {
        let Some(peer) = self.connections.get(&connection).map(|connection| connection.peer) else { return };
        if !self.standing(peer).has_frames() {
            asked.refuse(Status::permission_denied("not allowed"));
            return self.close_connection(connection);
        }
        match settle::on_call(self.identity.key(), peer, self.have(peer)) {
            Verdict::Take => {
                self.take(peer, connection, *asked);
            }
            Verdict::Hold => {
                let held = Held { connection, since: Instant::now(), asked };
                if let Some(before) = self.held.insert(peer, held) {
                    before.asked.refuse(Status::aborted("another call came after this one"));
                    self.close_connection(before.connection);
                }
            }
        }
    }

    fn have(&self, peer: PeerKey) -> Have {
        match self.dials.get(&peer) {
            _ if self.has_session(peer) => Have::Session,
            Some(dial) if dial.asked => Have::Asking,
            Some(_) => Have::Reaching,
            None => Have::Nothing,
        }
    }

    /// Says whether the peer still wants it.
    fn take(&mut self, peer: PeerKey, connection: ConnectionId, asked: Asked) -> bool {
        let Some(call) = asked.accept() else {
            self.close_connection(connection);
            return false;
        };
        let answers_dial = self.give_up_dial(peer);
        self.open(peer, connection, call, answers_dial);
        true
    }

    /// Says whether there was one that the peer still wants.
    fn take_held(&mut self, peer: PeerKey) -> bool {
        self.held.remove(&peer).is_some_and(|held| self.take(peer, held.connection, *held.asked))
    }

    fn has_room_for(&self, peer: PeerKey, from_outside: bool) -> Result<(), &'static str> {
        let count = |counts: &dyn Fn(&Connection) -> bool| self.connections.values().filter(|c| counts(c)).count();
        if self.connections.len() >= MAX_ESTABLISHED as usize {
            Err("too many connections")
        } else if from_outside && count(&|connection| connection.from_outside) >= MAX_ESTABLISHED_INCOMING as usize
        {
            Err("too many connections from outside")
        } else if count(&|connection| connection.peer == peer) >= MAX_CONNECTIONS_PER_PEER {
            Err("too many connections with this peer")
        } else {
            Ok(())
        }
    }
}

/// Connections and sessions, whoever dialled.
impl Driver {
    fn has_session(&self, peer: PeerKey) -> bool {
        self.sessions.get(&peer).is_some_and(|session| !session.is_over())
    }

    fn next_connection(&mut self) -> ConnectionId {
        self.last_connection += 1;
        ConnectionId::new_unchecked(self.last_connection)
    }

    fn note_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerKey,
        address: Multiaddr,
        from_outside: bool,
    ) -> ConnectionSurroundings {
        let close = CancellationToken::new();
        self.connections.insert(connection, Connection { peer, address, from_outside, close: close.clone() });
        ConnectionSurroundings { connection, happenings: self.happenings.clone(), close }
    }

    /// Starts a session. `answers_dial` says that somebody who dialled has not heard of it yet.
    fn open(&mut self, peer: PeerKey, connection: ConnectionId, call: Call, answers_dial: bool) {
        let Some(made) = self.connections.get(&connection) else {
            if answers_dial {
                self.dial_failed(peer, DialFailure::Refused);
            }
            return;
        };
        let (address, dialled) = (made.address.clone(), !made.from_outside);
        if let Some(waiting) = self.sessions.get_mut(&peer).filter(|session| session.is_waiting()) {
            if answers_dial {
                waiting.answer_dial();
            }
            // A third session, while the second one still waits for the receiver to hear of the end of the first,
            // would be the start of an endless queue.
            tracing::debug!(%peer, "a call too many");
            return self.close_connection(connection);
        }
        let previous = self.sessions.remove(&peer);
        if let Some(previous) = &previous {
            // The peer has lost it, or it would not have made another one.
            previous.stop(Stop::Yield);
        }
        let surroundings = Surroundings {
            peer,
            trusted: self.standing(peer) == Standing::Friend,
            answers_dial,
            events: self.events.clone(),
            over: self.over.clone(),
            previous,
        };
        tracing::debug!(%peer, %address, "frames are exchanged");
        let link = Link { connection, address, relayed: false, dialled };
        self.sessions.insert(peer, Session::start(call, link, surroundings));
    }

    fn on_session_over(&mut self, peer: PeerId, connection: ConnectionId) {
        let noted = self.note_over(peer, connection).map(|session| (session.leaves(), session.owes_an_answer()));
        let (leaves, owes) = noted.unwrap_or_default();
        self.close_connection(connection);
        let Ok(peer) = PeerKey::try_from(peer) else { return };
        if leaves {
            self.close_all(peer);
        } else if !self.has_session(peer) && self.take_held(peer) {
            // What is owed is owed by the session that follows.
            return;
        }
        if owes {
            self.dial_failed(peer, DialFailure::Refused);
        }
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        self.door.left(connection);
        let Some(Connection { peer, .. }) = self.connections.remove(&connection) else { return };
        if let Some(session) = self.sessions.get(&peer).filter(|session| session.link.connection == connection) {
            // Its call ends by itself, after what has arrived is read. This sees to it that it does.
            session.stop(Stop::Drain);
        }
        if self.held.get(&peer).is_some_and(|held| held.connection == connection) {
            self.held.remove(&peer);
        }
        if self.dials.get(&peer).is_some_and(|dial| dial.attempt == connection) {
            self.dials.remove(&peer);
            self.take_held_or_fail(peer, DialFailure::Refused);
        }
    }

    fn close_connection(&self, connection: ConnectionId) {
        if let Some(connection) = self.connections.get(&connection) {
            connection.close.cancel();
        }
    }

    fn close_all(&mut self, peer: PeerKey) {
        self.held.remove(&peer);
        for connection in self.connections.values().filter(|connection| connection.peer == peer) {
            connection.close.cancel();
        }
    }
}
