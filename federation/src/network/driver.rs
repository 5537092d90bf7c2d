//! The task that owns the swarm: it carries out commands, starts sessions, and reports what became of dials.

mod dials;
pub(crate) mod hints;
mod punches;
mod relayed;
mod relays;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, mdns, ping, relay};
use tokio::sync::{mpsc, watch};

use super::behaviour::{Behaviour, BehaviourEvent};
use super::frames::{self, Link};
use super::handle::Command;
use super::limits::{CLOSE_TIME, DRAIN_TIME, MAX_ESTABLISHED};
use super::policy::{Policy, Standing};
use super::queue::Envelope;
use super::relaying::Relaying;
use super::session::{Over, Session, Stop, Surroundings};
use super::{DialFailure, NetworkEvent, PeerKey};
use dials::Dials;
use hints::Hints;
use punches::Punches;
use relayed::Relayed;
use relays::Relays;

/// How often what depends on time is looked at.
const TICK: Duration = Duration::from_millis(250);

pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    policy: Arc<Policy>,
    sessions: HashMap<PeerId, Session>,
    dials: Dials,
    hints: Hints,
    punches: Punches,
    relays: Relays,
    relayed: Relayed,
    events: mpsc::Sender<Envelope>,
    over: mpsc::Sender<Over>,
    over_queue: mpsc::Receiver<Over>,
    shown: Shown,
}

/// Where the driver shows what the handle can be asked for.
pub(super) struct Shown {
    pub(super) addresses: watch::Sender<Vec<Multiaddr>>,
    pub(super) relaying: watch::Sender<Relaying>,
}

impl Driver {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        policy: Arc<Policy>,
        relays: Vec<(PeerId, Multiaddr)>,
        events: mpsc::Sender<Envelope>,
        shown: Shown,
    ) -> Self {
        let asks_friends = !shown.relaying.borrow().relays;
        let (over, over_queue) = mpsc::channel(MAX_ESTABLISHED as usize);
        Self {
            swarm,
            policy,
            sessions: HashMap::new(),
            dials: Dials::default(),
            hints: Hints::default(),
            punches: Punches::default(),
            relays: Relays::new(relays, asks_friends),
            relayed: Relayed::default(),
            events,
            over,
            over_queue,
            shown,
        }
    }

    /// Runs until it is asked to shut down, or nobody is left to ask or to listen.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let events = self.events.clone();
        let done = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
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
                () = events.closed() => break None,
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
        };
        self.close().await;
        // Dropped first, so that whoever waited finds the addresses free again.
        drop(self);
        commands.close();
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn carry_out(&mut self, command: Command) {
        let done = match command {
            Command::StandingChanged(peer, done) => {
                self.on_standing_changed(peer.peer_id());
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
                self.disconnect(peer.peer_id());
                done
            }
            Command::Announce(address, done) => {
                self.swarm.add_external_address(address);
                self.publish_addresses();
                self.relays.register(&mut self.swarm);
                done
            }
            Command::Shutdown(done) => done,
        };
        // Whoever asked may have stopped waiting.
        let _ = done.send(());
    }

    fn on_standing_changed(&mut self, peer: PeerId) {
        match self.policy.standing(&peer) {
            Standing::Refused => self.cut(peer),
            Standing::Friend => {
                if let Some(session) = self.sessions.get(&peer) {
                    session.trust();
                }
            }
            Standing::Relay | Standing::Stranger => {}
        }
        self.swarm.behaviour_mut().standing_changed(peer);
    }

    fn cut(&mut self, peer: PeerId) {
        if let Some(session) = self.sessions.get(&peer) {
            session.stop(Stop::Cut);
        }
        // An error says that there was no connection.
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn cut_unwelcome(&mut self, now: Instant) {
        for peer in self.swarm.behaviour_mut().gate.unwelcome(now) {
            tracing::debug!(%peer, "a stranger has to leave");
            self.cut(peer);
        }
    }

    fn disconnect(&mut self, peer: PeerId) {
        let live = self.sessions.get(&peer).filter(|session| !session.is_over());
        let Some(session) = live else {
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        };
        // Its end closes its connection. One that comes up until then is the peer's, come back.
        session.stop(Stop::Drain);
        let used = session.link.connection;
        for connection in self.swarm.behaviour().frames.beside(&peer, used) {
            self.close_connection(peer, connection);
        }
    }

    fn on_tick(&mut self, now: Instant) {
        self.cut_unwelcome(now);
        for peer in self.dials.take_late(now) {
            self.dial_failed(peer, DialFailure::TimedOut);
        }
        let finished = self.sessions.iter().filter(|(_, session)| session.is_finished());
        for (peer, connection) in
            finished.map(|(peer, session)| (*peer, session.link.connection)).collect::<Vec<_>>()
        {
            // That it is over may still be on its way here, or may have been lost with a task that panicked.
            self.on_session_over(peer, connection);
            self.sessions.remove(&peer);
        }
        self.swarm.behaviour_mut().frames.on_tick();
        self.punch(now);
        self.relays.on_tick(&mut self.swarm, &self.policy, now);
        self.publish_relaying();
    }

    /// Tries again to get through to those whose frames pass a relay.
    fn punch(&mut self, now: Instant) {
        let frames = &self.swarm.behaviour().frames;
        let relayed = self.sessions.iter().filter(|(peer, session)| {
            let by_relay = session.link.relayed && session.link.dialled && !session.is_over();
            by_relay && self.policy.standing(peer) == Standing::Friend && !frames.is_linked_directly(peer)
        });
        let relayed: Vec<PeerId> = relayed.map(|(peer, _)| *peer).collect();
        for peer in self.punches.due(&relayed, now) {
            let address = self.sessions[&peer].link.address.clone();
            tracing::debug!(%peer, "another try to get through directly");
            // It is tried again later, whatever comes of it.
            let _ = self.swarm.dial(dials::options(peer, vec![address]));
        }
    }

    /// Says goodbye to everybody, within a bounded time.
    async fn close(&mut self) {
        for session in self.sessions.values() {
            session.stop(Stop::Drain);
        }
        // A session that waits for the receiver of events is given up.
        let drained = async {
            while self.sessions.values().any(|session| !session.is_over() && !session.is_waiting()) {
                tokio::select! {
                    event = self.swarm.select_next_some() => drop(event),
                    Some((peer, _)) = self.over_queue.recv() => {
                        if let Some(session) = self.sessions.get_mut(&peer) {
                            session.set_over();
                        }
                    }
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIME, drained).await;
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            self.cut(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIME, closed).await;
    }
}

/// Dials and sessions.
impl Driver {
    fn dial(&mut self, peer: PeerKey, mut addresses: Vec<Multiaddr>) {
        addresses.truncate(super::limits::MAX_DIAL_ADDRESSES);
        let (key, peer) = (peer, peer.peer_id());
        // Whoever has heard of an end must not be told, by silence, that the peer is still connected.
        while let Ok((peer, connection)) = self.over_queue.try_recv() {
            self.on_session_over(peer, connection);
        }
        if self.policy.standing(&peer) != Standing::Friend {
            return self.hints.push(NetworkEvent::DialFailed { peer: key, reason: DialFailure::NotAllowed });
        }
        if self.dials.contains(&peer) {
            return;
        }
        let session = self.sessions.get_mut(&peer).filter(|session| !session.is_over());
        let connected = session.is_some();
        if let Some(session) = session {
            session.answer_dial();
            if !session.link.relayed || addresses.iter().all(is_relayed) {
                return;
            }
        } else {
            // There may be a connection without a substream. Since it may also be dead, another one is made as well.
            self.swarm.behaviour_mut().frames.retry(peer);
        }
        let options = dials::options(peer, addresses);
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            // A direct connection in place of a relayed one is welcome, and its failure is no news.
            Ok(()) if connected => {}
            Ok(()) => self.dials.insert(peer, Some(connection), Instant::now()),
            Err(error) => self.dial_failed(peer, dials::failure(&error)),
        }
    }

    /// Whether an event that had to wait still says something. A failed dial does not, once the peer is there.
    fn is_news(&mut self, event: &NetworkEvent) -> bool {
        let NetworkEvent::DialFailed { peer, .. } = event else { return true };
        let session = self.sessions.get_mut(&peer.peer_id()).filter(|session| !session.is_over());
        // Should the session end before it is reported, this would be the first that is heard of the dial.
        session.map(Session::answer_dial).is_none()
    }

    fn dial_failed(&mut self, peer: PeerId, reason: DialFailure) {
        if let Ok(peer) = PeerKey::try_from(peer) {
            tracing::debug!(%peer, %reason, "a dial failed");
            self.hints.push(NetworkEvent::DialFailed { peer, reason });
        }
    }

    fn on_opened(&mut self, peer: PeerId, link: Link, stream: libp2p::Stream) {
        let Ok(key) = PeerKey::try_from(peer) else { return };
        let mut answers_dial = self.dials.remove(&peer);
        let connection = link.connection;
        let previous = self.sessions.get_mut(&peer);
        let refuses = |previous: &&mut Session| previous.link.connection == connection || previous.is_waiting();
        if let Some(previous) = previous.filter(refuses) {
            if std::mem::take(&mut answers_dial) {
                previous.answer_dial();
            }
            // A second substream on one connection is against the rules. A third session, while the second one still
            // waits for the receiver to hear of the end of the first, would be the start of an endless queue.
            tracing::debug!(%peer, "a substream for frames too many");
            return self.close_connection(peer, connection);
        }
        let previous = self.sessions.remove(&peer);
        if let Some(previous) = &previous
            && (!previous.link.relayed || link.relayed)
        {
            // The peer has lost it, or there would be no reason for another one.
            previous.stop(Stop::Yield);
        }
        let surroundings = Surroundings {
            peer: key,
            trusted: self.policy.standing(&peer) == Standing::Friend,
            answers_dial,
            events: self.events.clone(),
            over: self.over.clone(),
            previous,
        };
        tracing::debug!(%peer, address = %link.address, relayed = link.relayed, "a substream for frames is open");
        let is_direct = !link.relayed;
        self.sessions.insert(peer, Session::start(stream, link, surroundings));
        if is_direct {
            self.close_relayed(peer);
        }
    }

    /// Closes relayed connections that were made to find a direct one. The one of the session before ends with that.
    fn close_relayed(&mut self, peer: PeerId) {
        let previous = self.sessions.get(&peer).and_then(Session::follows);
        for connection in self.swarm.behaviour().frames.relayed_beside(&peer) {
            if Some(connection) != previous {
                self.close_connection(peer, connection);
            }
        }
    }

    fn on_session_over(&mut self, peer: PeerId, connection: ConnectionId) {
        let session = self.sessions.get_mut(&peer).filter(|session| session.link.connection == connection);
        let session = session.filter(|session| !session.is_over());
        let owes = session.is_some_and(|session| {
            session.set_over();
            session.owes_an_answer()
        });
        if owes {
            self.dial_failed(peer, DialFailure::Refused);
        }
        self.close_connection(peer, connection);
    }

    fn close_connection(&mut self, peer: PeerId, connection: ConnectionId) {
        self.swarm.close_connection(connection);
        self.swarm.behaviour_mut().frames.ended(peer, connection);
    }
}

/// What the swarm reports.
impl Driver {
    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                if let Some(oldest) = self.swarm.behaviour().frames.superfluous(&peer_id) {
                    self.close_connection(peer_id, oldest);
                }
                self.relays.on_connected(&mut self.swarm, peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "a connection closed");
                self.on_connection_closed(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id: Some(peer), error } => {
                let is_linked = self.swarm.behaviour().frames.is_linked(&peer);
                if self.dials.take_failed(&peer, connection_id, is_linked) {
                    self.dial_failed(peer, dials::failure(&error));
                }
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "a connection from outside failed");
            }
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => self.publish_addresses(),
            SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } => {
                self.publish_addresses();
                self.relays.register(&mut self.swarm);
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                self.on_listener_closed(listener_id, &reason);
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "a listener has trouble"),
            // What is left precedes one of the above, or is for behaviours; libp2p may add more at any time.
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Frames(frames::Event::Opened { peer, link, stream }) => {
                self.on_opened(peer, link, stream);
            }
            BehaviourEvent::Frames(frames::Event::Declined { peer }) => {
                if self.dials.remove(&peer) {
                    self.dial_failed(peer, DialFailure::Refused);
                }
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, connection_id, info }) => {
                self.on_identified(peer_id, connection_id, &info);
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(failure) }) => match failure {
                ping::Failure::Unsupported => {}
                ping::Failure::Timeout | ping::Failure::Other { .. } => {
                    tracing::debug!(%peer, %failure, "no sign of life");
                    self.on_no_sign_of_life(peer, connection);
                }
            },
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.hints.discovered(found),
            BehaviourEvent::Rendezvous(event) => self.relays.on_rendezvous(event, &mut self.hints),
            BehaviourEvent::Relay(event) => {
                tracing::debug!(?event, "relay");
                if let relay::client::Event::ReservationReqAccepted { relay_peer_id, .. } = event {
                    self.relays.on_reserved(relay_peer_id);
                    self.publish_relaying();
                }
            }
            BehaviourEvent::RelayServer(event) => {
                tracing::debug!(?event, "relaying for others");
                self.relayed.on_event(&event, |peer| self.swarm.is_connected(peer));
                self.publish_relaying();
            }
            BehaviourEvent::Dcutr(event) => tracing::debug!(?event, "punching a hole"),
            BehaviourEvent::Reachability(event) => tracing::debug!(?event, "reachability"),
            BehaviourEvent::Identify(_)
            | BehaviourEvent::Ping(_)
            | BehaviourEvent::Mdns(mdns::Event::Expired(_))
            | BehaviourEvent::RendezvousPoint(_)
            | BehaviourEvent::ReachabilityServer(_) => {}
            BehaviourEvent::Gate(never) | BehaviourEvent::Limits(never) | BehaviourEvent::Memory(never) => {
                match never {}
            }
        }
    }

    fn on_identified(&mut self, peer: PeerId, connection: ConnectionId, info: &identify::Info) {
        if info.public_key.to_peer_id() != peer {
            tracing::debug!(%peer, "a peer identifies itself as another one");
            return self.cut(peer);
        }
        let relays = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
        if !relays || self.policy.standing(&peer) != Standing::Friend {
            return;
        }
        // Where it was reached it can be reached; where it says that it can be, perhaps.
        let dialled = self.swarm.behaviour().frames.dialled_at(&peer, connection);
        let told = info.listen_addrs.iter().filter(|address| !is_relayed(address));
        let named = |address: &Multiaddr| address.clone().with_p2p(peer).ok();
        let addresses = dialled.into_iter().chain(told).filter_map(named).collect();
        self.relays.offered(peer, addresses, Instant::now());
    }

    /// The end of a connection over TCP waits for what was written to be sent, which is never. Its session does not.
    fn on_no_sign_of_life(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(session) = self.sessions.get(&peer).filter(|session| session.link.connection == connection) {
            session.stop(Stop::Cut);
        }
        self.close_connection(peer, connection);
    }

    fn on_connection_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(session) = self.sessions.get(&peer).filter(|session| session.link.connection == connection) {
            // Its substream ends by itself, after what has arrived is read. This sees to it that it does.
            session.stop(Stop::Drain);
        }
        let is_linked = self.swarm.behaviour().frames.is_linked(&peer);
        if self.dials.take_failed(&peer, connection, is_linked) {
            self.dial_failed(peer, DialFailure::Refused);
        }
    }

    fn on_listener_closed(&mut self, listener: ListenerId, reason: &Result<(), std::io::Error>) {
        tracing::debug!(?reason, "a listener closed");
        self.relays.on_listener_closed(listener, Instant::now());
        self.publish_addresses();
    }

    fn publish_addresses(&self) {
        let all: BTreeSet<_> = self.swarm.listeners().chain(self.swarm.external_addresses()).cloned().collect();
        let all = Vec::from_iter(all);
        replace(&self.shown.addresses, all);
        self.publish_relaying();
    }

    fn publish_relaying(&self) {
        let relays = self.shown.relaying.borrow().relays;
        let own = *self.swarm.local_peer_id();
        let reached = self.swarm.external_addresses().filter(|address| relays && !is_relayed(address));
        // An address may have the name already.
        let mut addresses: Vec<_> = reached.filter_map(|address| address.clone().with_p2p(own).ok()).collect();
        addresses.sort();
        let (reservations, circuits) = (self.relayed.reservations(), self.relayed.circuits());
        let uses = self.relays.used();
        replace(&self.shown.relaying, Relaying { relays, addresses, reservations, circuits, uses });
    }
}

/// Tells those who wait only of what is new.
fn replace<T: PartialEq>(shown: &watch::Sender<T>, new: T) {
    shown.send_if_modified(|current| {
        let changed = *current != new;
        *current = new;
        changed
    });
}

fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}
