//! The primary's side: it answers machines it knows, and sends them the log.

mod files;
mod roster;
mod sending;
mod session;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_event_store::{EventStore, Sealed, SqliteStore};
use quinn::Endpoint;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::FollowError;
use crate::gate::{Gate, Synchrony};
use crate::key::{Machine, MachineKey, random};
use crate::keys::Keys;
use crate::link::FollowLink;
use crate::standby;
use crate::state::{Folder, Predecessor, PrimaryOf, Role, State, now};
use crate::tls;
pub(crate) use files::is_sent;
use roster::Roster;

/// The machines that may be connected at once.
const MAX_CONNECTIONS: usize = 16;
/// How often a machine that must know that it was replaced, or may know that this one was, is called.
const CALL_EVERY: Duration = Duration::from_secs(3);
/// How long a node that starts waits for word that it was replaced.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks whether everybody follows again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long followers get to go when the node stops.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is written down how far followers are.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// What a primary is told.
#[derive(Debug, Clone)]
pub struct PrimaryConfig {
    /// The brain.
    pub brain: Uuid,
    /// The brain's key, which followers get.
    pub brain_key: Zeroizing<[u8; 32]>,
    /// What this machine is called.
    pub name: String,
    /// Where to answer followers, if the configuration says.
    pub listen: Option<SocketAddr>,
    /// The port to answer at on this machine alone, where it does not.
    pub port: u16,
    /// How followers reach it, if not at the address it listens on.
    pub announce: Vec<String>,
}

/// A follower as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerView {
    /// Its key.
    pub key: String,
    /// What it is called.
    pub name: String,
    /// Whether it is connected.
    pub connected: bool,
    /// The position up to which it has the log on disk.
    pub position: u64,
    /// How many events it lacks.
    pub lag_events: u64,
    /// For how long it has lacked the oldest of them, in milliseconds, while it is connected.
    pub lag_ms: u64,
    /// When it last said how far it is, in milliseconds since 1970.
    pub heard_at: u64,
}

/// A primary and its followers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryView {
    /// `primary`, or `replaced`.
    pub role: String,
    /// How many times a follower has taken over.
    pub epoch: u64,
    /// The position of the last event.
    pub head: u64,
    /// Whether appends wait for a follower.
    pub synchrony: Synchrony,
    /// Who took over, where somebody did.
    pub replaced_by: Option<String>,
    /// Where followers are answered, if they are.
    pub listen: Option<String>,
    /// The followers.
    pub followers: Vec<FollowerView>,
}

/// Answers followers.
#[derive(Clone)]
pub struct Primary {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    config: PrimaryConfig,
    folder: Folder,
    machine: Machine,
    gate: Arc<Gate>,
    store: Arc<SqliteStore>,
    keys: Arc<dyn Keys>,
    roster: Roster,
    endpoint: Mutex<Option<Endpoint>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Primary {
    /// Begins to answer, where there are followers or the configuration says where. It ends with `stop`.
    ///
    /// # Errors
    /// When the folder or the network cannot be used.
    pub fn start<S: EventStore>(
        config: PrimaryConfig,
        folder: Folder,
        gate: Arc<Gate>,
        store: Arc<SqliteStore>,
        log: Arc<Sealed<S>>,
        stop: CancellationToken,
    ) -> Result<Self, FollowError> {
        let machine = folder.machine()?;
        let roster = Roster::open(folder.clone())?;
        let shared = Arc::new(Shared {
            config,
            folder,
            machine,
            gate,
            store,
            keys: log,
            roster,
            endpoint: Mutex::default(),
            stop,
            tasks: TaskTracker::new(),
        });
        let primary = Self { shared };
        let predecessor =
            matches!(primary.shared.gate.state().role, Role::Primary(of) if of.predecessor.is_some());
        if primary.shared.config.listen.is_some() || !primary.shared.roster.is_empty() || predecessor {
            primary.listen()?;
        }
        let shared = &primary.shared;
        shared.tasks.spawn(note(Arc::clone(shared)));
        shared.tasks.spawn(call_others(Arc::clone(shared)));
        Ok(primary)
    }

    /// Asks those who follow whether one of them has taken over, before the node takes its first write. Who does not answer in time has
    /// not, or cannot be told from one that is gone; one that follows again has not either.
    pub async fn look_around(&self) {
        let shared = &self.shared;
        let all_follow = async {
            while !shared.roster.addresses().is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = ask_all(shared) => {}
            () = all_follow => {}
            () = tokio::time::sleep(LOOK_PATIENCE) => {}
        }
    }

    /// Makes a link that one machine can follow by.
    ///
    /// # Errors
    /// When this node was replaced, or the folder or the network cannot be used.
    pub fn invite(&self, within: Duration) -> Result<FollowLink, FollowError> {
        if let Some(replaced) = self.shared.gate.replaced() {
            return Err(FollowError::Refused(replaced.reason()));
        }
        let bound = self.listen()?;
        let secret = Zeroizing::new(random()?);
        let expires_at = now() + u64::try_from(within.as_millis()).unwrap_or(u64::MAX / 2);
        self.shared.roster.invite(&secret, expires_at)?;
        let addresses = match self.shared.config.announce.as_slice() {
            [] => vec![bound.to_string()],
            announced => announced.to_vec(),
        };
        Ok(FollowLink {
            brain: self.shared.config.brain,
            key: self.shared.machine.key,
            secret,
            expires_at,
            addresses,
        })
    }

    /// Forgets a follower: it is answered no more. Says whether there was one.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn forget(&self, key: MachineKey) -> Result<bool, FollowError> {
        self.shared.roster.forget(key)
    }

    /// This node and its followers as they are.
    pub fn view(&self) -> PrimaryView {
        let shared = &self.shared;
        let head = shared.store.head().borrow().0;
        let state = shared.gate.state();
        let replaced_by = match &state.role {
            Role::Replaced(replaced) => Some(replaced.by.clone()),
            Role::Primary(_) | Role::Standby(_) => None,
        };
        let endpoint = shared.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        let listen = endpoint.as_ref().and_then(|endpoint| endpoint.local_addr().ok());
        PrimaryView {
            role: if replaced_by.is_some() { "replaced" } else { "primary" }.to_owned(),
            epoch: state.epoch,
            head,
            synchrony: shared.gate.synchrony().borrow().clone(),
            replaced_by,
            listen: listen.map(|address| address.to_string()),
            followers: shared.roster.view(head),
        }
    }

    /// Ends it: nobody is answered any more.
    pub async fn ended(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let endpoint = self.shared.endpoint.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gone = async {
            self.shared.tasks.wait().await;
            if let Some(endpoint) = endpoint {
                endpoint.wait_idle().await;
            }
        };
        if tokio::time::timeout(END_PATIENCE, gone).await.is_err() {
            warn!("followers did not go in time");
        }
    }

    /// Whether the brain must begin to speak anew to other brains.
    pub fn begins_sharing_anew(&self) -> bool {
        matches!(self.shared.gate.state().role, Role::Primary(of) if of.begin_sharing_anew)
    }

    /// The brain has begun to speak anew to other brains.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn sharing_began_anew(&self) -> Result<(), FollowError> {
        let begun = |state: &mut State| {
            if let Role::Primary(of) = &mut state.role {
                of.begin_sharing_anew = false;
            }
        };
        self.shared.gate.change(begun).map(drop)
    }

    /// Answers from now on, if it does not yet; gives the address.
    fn listen(&self) -> Result<SocketAddr, FollowError> {
        let shared = &self.shared;
        let mut endpoint = shared.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        let address =
            |endpoint: &Endpoint| endpoint.local_addr().map_err(|error| FollowError::Network(error.to_string()));
        if let Some(endpoint) = &*endpoint {
            return address(endpoint);
        }
        let bound = shared.bind()?;
        let at = address(&bound)?;
        shared.roster.set_port(at.port())?;
        info!(%at, "followers are answered");
        shared.tasks.spawn(answer(Arc::clone(shared), bound.clone()));
        *endpoint = Some(bound);
        Ok(at)
    }
}

impl Shared {
    /// Where followers know it, where the configuration says, or else on this machine alone.
    fn bind(&self) -> Result<Endpoint, FollowError> {
        if let Some(listen) = self.config.listen {
            return tls::listen(&self.machine, listen);
        }
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        match self.roster.port() {
            Some(known) => tls::listen(&self.machine, loopback(known)),
            // Nobody knows it yet, so any other will do.
            None => tls::listen(&self.machine, loopback(self.config.port))
                .or_else(|_| tls::listen(&self.machine, loopback(0))),
        }
    }

    /// The primary that this one took over from, while it does not know.
    fn ignorant_predecessor(&self) -> Option<Predecessor> {
        match self.gate.state().role {
            Role::Primary(of) => of.predecessor.filter(|predecessor| !predecessor.knows),
            Role::Standby(_) | Role::Replaced(_) => None,
        }
    }

    /// The primary that this one took over from knows that it was replaced, if that is whose key it is.
    fn predecessor_knows(&self, key: MachineKey) {
        if self.ignorant_predecessor().is_none_or(|predecessor| predecessor.key != key) {
            return;
        }
        info!("the primary before this one knows that it was replaced");
        let known = |state: &mut State| {
            if let Role::Primary(PrimaryOf { predecessor: Some(predecessor), .. }) = &mut state.role {
                predecessor.knows = true;
            }
        };
        if let Err(error) = self.gate.change(known) {
            warn!(%error, "that the primary before this one knows could not be written down");
        }
    }

    /// Another node has this epoch; if it is higher, this one is replaced.
    async fn replaced(&self, epoch: u64, by: &str) {
        if let Err(error) = self.gate.replace(epoch, by).await {
            warn!(%error, "this node was replaced, and cannot write that down");
        }
    }

    /// Whether a machine is one of one's own: a follower, or the primary that this one took over from.
    fn knows(&self, key: MachineKey) -> bool {
        let predecessor = match self.gate.state().role {
            Role::Primary(of) => of.predecessor.is_some_and(|predecessor| predecessor.key == key),
            Role::Standby(_) | Role::Replaced(_) => false,
        };
        predecessor || self.roster.knows(key)
    }
}

async fn answer(shared: Arc<Shared>, endpoint: Endpoint) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = shared.stop.cancelled() => break,
        };
        let Some(incoming) = incoming else { break };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let answering = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            let _permit = permit;
            if let Err(error) = session::run(&answering, incoming).await {
                debug!(%error, "a follower's connection ended");
            }
        });
    }
    endpoint.close(0_u32.into(), b"the node stops");
}

/// Writes down how far followers are, as long as the node runs.
async fn note(shared: Arc<Shared>) {
    loop {
        let last = tokio::select! {
            () = shared.stop.cancelled() => true,
            () = tokio::time::sleep(NOTE_EVERY) => false,
        };
        if let Err(error) = shared.roster.note() {
            warn!(%error, "how far followers are could not be written down");
        }
        shared.roster.measure(shared.store.head().borrow().0, &shared.gate.synchrony().borrow());
        if last {
            return;
        }
    }
}

/// Tells the node that this one took over from, until it knows; and asks followers that are away whether one of them has taken over,
/// as long as this one is a primary.
async fn call_others(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.stop.cancelled() => {}
        _ = async { tokio::join!(tell_predecessor(&shared), ask_again_and_again(&shared)) } => {}
    }
}

async fn tell_predecessor(shared: &Shared) {
    while let Some(predecessor) = shared.ignorant_predecessor() {
        let epoch = shared.gate.state().epoch;
        let (addresses, name) = (&predecessor.addresses, &shared.config.name);
        match standby::fence(&shared.machine, predecessor.key, addresses, epoch, name).await {
            // While this one was away, another has taken over from it.
            Ok(theirs) if theirs > epoch => shared.replaced(theirs, "another of its followers").await,
            Ok(_) => shared.predecessor_knows(predecessor.key),
            Err(error) => debug!(%error, "the primary before this one cannot be told yet"),
        }
        tokio::time::sleep(CALL_EVERY).await;
    }
}

async fn ask_again_and_again(shared: &Shared) {
    while shared.gate.replaced().is_none() {
        ask_all(shared).await;
        tokio::time::sleep(CALL_EVERY).await;
    }
}

/// Asks every follower that is away at once.
async fn ask_all(shared: &Shared) {
    let epoch = shared.gate.state().epoch;
    let asked = shared.roster.addresses().into_iter().map(|(key, address)| ask(shared, key, address, epoch));
    futures::future::join_all(asked).await;
}

async fn ask(shared: &Shared, key: MachineKey, address: String, epoch: u64) {
    match standby::ask(&shared.machine, key, &[address], epoch).await {
        Ok((theirs, name)) => shared.replaced(theirs, &name).await,
        Err(error) => debug!(%error, "a follower does not answer, so it has not taken over, or cannot be reached"),
    }
}
