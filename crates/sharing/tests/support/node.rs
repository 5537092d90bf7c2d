//! Brains with a log of their own each, and wires in memory between them.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_command::{Execute, Handler};
use cairn_domain::event::SelectionChanged;
use cairn_domain::field::FieldName;
use cairn_domain::id::{MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::memory::command::{BodyText, Command};
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_event_store::{Keyring, Sealed, SharedStore, SqliteStore};
use cairn_sharing::{
    Happening, Incoming, Offering, Resume, Sharing, SharingConfig, SharingError, SharingKey, Transport, View,
};
use cairn_sync::control::{Decision, Role};
use cairn_sync::engine::{BYTES_A_DAY, Offer};
use cairn_sync::key::{BrainKey, DeviceKey, SpaceId};
use ed25519_dalek::SigningKey;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Wires between devices, by the device they lead to.
#[derive(Default)]
pub struct Hub {
    pub ends: Mutex<BTreeMap<DeviceKey, mpsc::UnboundedSender<Happening>>>,
    pub links: Mutex<BTreeSet<(DeviceKey, DeviceKey)>>,
    pub cut: Mutex<bool>,
    /// Devices that do not reach each other.
    pub apart: Mutex<BTreeSet<(DeviceKey, DeviceKey)>>,
    /// Everything that was ever sent.
    pub sent: Mutex<Vec<Bytes>>,
}

pub fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub fn tell(&self, device: DeviceKey, happening: Happening) {
        if let Some(end) = locked(&self.ends).get(&device) {
            let _ = end.send(happening);
        }
    }

    pub fn disconnect(&self, one: DeviceKey, other: DeviceKey) {
        let was_there = {
            let mut links = locked(&self.links);
            let there = links.remove(&(one, other));
            links.remove(&(other, one)) || there
        };
        if was_there {
            self.tell(one, Happening::Disconnected { device: other });
            self.tell(other, Happening::Disconnected { device: one });
        }
    }

    pub fn set_cut(&self, cut: bool) {
        *locked(&self.cut) = cut;
        let links: Vec<_> = locked(&self.links).iter().copied().collect();
        links.into_iter().filter(|_| cut).for_each(|(one, other)| self.disconnect(one, other));
    }
}

impl Hub {
    /// All reach each other again.
    pub fn meet_again(&self) {
        locked(&self.apart).clear();
    }

    /// Two brains do not reach each other any more.
    pub fn part(&self, one: &Node, other: &Node) {
        let [one, other] = [one, other].map(Node::device);
        locked(&self.apart).extend([(one, other), (other, one)]);
        self.disconnect(one, other);
    }
}

struct Wire {
    hub: Arc<Hub>,
    own: DeviceKey,
}

impl Transport for Wire {
    fn send(&self, device: DeviceKey, frame: Bytes) {
        if locked(&self.hub.links).contains(&(self.own, device)) {
            locked(&self.hub.sent).push(frame.clone());
            self.hub.tell(device, Happening::Frame { device: self.own, frame: Incoming::of(frame) });
        }
    }

    fn dial(&self, device: DeviceKey, _: Vec<String>) {
        let apart = locked(&self.hub.apart).contains(&(self.own, device));
        let reachable = !*locked(&self.hub.cut) && !apart && locked(&self.hub.ends).contains_key(&device);
        if !reachable {
            self.hub.tell(self.own, Happening::Disconnected { device });
        } else if locked(&self.hub.links).insert((self.own, device)) {
            locked(&self.hub.links).insert((device, self.own));
            let address = String::new();
            self.hub.tell(self.own, Happening::Connected { device, address: address.clone() });
            self.hub.tell(device, Happening::Connected { device: self.own, address });
        }
    }

    fn close(&self, device: DeviceKey) {
        self.hub.disconnect(self.own, device);
    }

    fn admit(&self, _: Vec<DeviceKey>, _: bool) {}

    fn addresses(&self) -> Vec<String> {
        vec![format!("wire:{}", self.own)]
    }
}

/// Where a node keeps its brain's later key.
struct KeyFile(std::path::PathBuf);

impl SharingKey for KeyFile {
    fn load(&self) -> std::io::Result<Option<Zeroizing<[u8; 32]>>> {
        match std::fs::read(&self.0) {
            Ok(seed) => Ok(Some(Zeroizing::new(seed.try_into().expect("a seed")))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn keep(&self, seed: &[u8; 32]) -> std::io::Result<()> {
        std::fs::write(&self.0, seed)
    }
}

pub struct Node {
    pub folder: tempfile::TempDir,
    pub number: u8,
    pub hub: Arc<Hub>,
    pub handler: Arc<Handler>,
    pub sharing: Sharing,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub fn user() -> Principal {
    Principal {
        id: PrincipalId::new(Uuid::from_u128(1)),
        ceiling: Truth::User,
        origin: Origin::of(Truth::User, "test"),
    }
}

impl Node {
    pub async fn start(hub: &Arc<Hub>, number: u8) -> Self {
        Self::start_with(hub, number, BYTES_A_DAY).await
    }

    /// One that takes no more than so many bytes of another brain's in a day.
    pub async fn start_with(hub: &Arc<Hub>, number: u8, bytes_a_day: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start_in(hub, number, folder, bytes_a_day).await
    }

    pub async fn start_in(hub: &Arc<Hub>, number: u8, folder: tempfile::TempDir, bytes_a_day: u64) -> Self {
        let (brain, device) = (SigningKey::from_bytes(&[number; 32]), SigningKey::from_bytes(&[number + 100; 32]));
        let store =
            SqliteStore::open(folder.path().join("events.db"), Uuid::from_u128(number.into())).expect("opens");
        let keyring = Keyring::open(folder.path().join("keys.db"), [number; 32]).expect("opens");
        let store: SharedStore = Arc::new(Sealed::open(store, keyring).await.expect("opens"));
        let handler = Arc::new(Handler::open(store).await.expect("opens"));
        let own = DeviceKey::of(&device);
        let (sender, mut received) = mpsc::unbounded_channel();
        locked(&hub.ends).insert(own, sender);
        let (happenings, bounded) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(happening) = received.recv().await {
                if happenings.send(happening).await.is_err() {
                    return;
                }
            }
        });
        let transport = Arc::new(Wire { hub: Arc::clone(hub), own });
        let later = Arc::new(KeyFile(folder.path().join("sharing.key")));
        let name = format!("Brain {number}");
        let config = SharingConfig { brain, later, device, name, resume: Resume::Here, bytes_a_day };
        let stop = CancellationToken::new();
        let (sharing, task) =
            Sharing::start(config, Arc::clone(&handler), transport, bounded, stop.clone()).await.expect("starts");
        Self { folder, number, hub: Arc::clone(hub), handler, sharing, stop, task }
    }

    /// Stops, and starts again from what is on the disk.
    pub async fn restart(self) -> Self {
        self.restart_after(|_| {}).await
    }

    /// Stops, has something done to the folder, and starts again.
    pub async fn restart_after(self, done: impl FnOnce(&std::path::Path)) -> Self {
        let Self { folder, number, hub, stop, task, handler, .. } = self;
        stop.cancel();
        task.await.expect("it ends");
        let device = DeviceKey::of(&SigningKey::from_bytes(&[number + 100; 32]));
        locked(&hub.ends).remove(&device);
        let others: Vec<_> = locked(&hub.links).iter().filter(|(one, _)| *one == device).copied().collect();
        others.into_iter().for_each(|(one, other)| hub.disconnect(one, other));
        drop(handler);
        done(folder.path());
        Self::start_in(&hub, number, folder, BYTES_A_DAY).await
    }

    pub fn device(&self) -> DeviceKey {
        DeviceKey::of(&SigningKey::from_bytes(&[self.number + 100; 32]))
    }

    pub fn brain(&self) -> BrainKey {
        self.sharing.brain()
    }

    pub async fn run(&self, memory: MemoryId, command: Command) {
        let by = user();
        let execute = Execute {
            memory,
            command,
            principal: &by,
            truth: None,
            origin: None,
            expected: None,
            idempotency: None,
            causation: None,
        };
        self.handler.execute(execute).await.expect("it is carried out");
    }

    pub async fn note(&self, title: &str, tags: &[&str], body: &str) -> MemoryId {
        let memory = MemoryId::new(Uuid::now_v7());
        let mut claims = vec![(FieldName::title(), Value::from(title))];
        claims.extend(tags.iter().map(|tag| (FieldName::tag(tag).expect("a tag"), Value::Flag(true))));
        self.run(memory, Command::CreateMemory { kind: Kind::Note, claims, body: body.into() }).await;
        memory
    }

    pub async fn set(&self, memory: MemoryId, field: &str, value: Value) {
        let claims = vec![(field.parse().expect("a field"), value)];
        self.run(memory, Command::ChangeMemory { claims, body: None }).await;
    }

    pub async fn write(&self, memory: MemoryId, text: &str) {
        let body = BodyText { text: text.into(), base: cairn_domain::body::Base::Effective };
        self.run(memory, Command::ChangeMemory { claims: vec![], body: Some(body) }).await;
    }

    pub async fn memory(&self, memory: MemoryId) -> Memory {
        self.handler.load(memory).await.expect("it loads").memory.clone()
    }

    /// Waits until a memory is as it is wanted.
    pub async fn until(&self, memory: MemoryId, what: &str, wanted: impl Fn(&Memory) -> bool) {
        let began = Instant::now();
        loop {
            let state = self.memory(memory).await;
            if wanted(&state) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "brain {} waits for {what}: {state:#?}", self.number);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn shows(&self, what: &str, wanted: impl Fn(&View) -> bool) -> View {
        let began = Instant::now();
        loop {
            let view = self.sharing.view().await.expect("it answers");
            if wanted(&view) {
                return view;
            }
            assert!(began.elapsed() < PATIENCE, "brain {} waits for {what}: {view:#?}", self.number);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn share(&self, with: &Node, name: &str, tag: &str, role: Role) -> SpaceId {
        let selection = SelectionChanged { tag: Some(tag.into()), memories: vec![] };
        let space = self.sharing.create(name.into(), selection).await.expect("it begins");
        self.offer(with, space, role).await;
        with.shows("the offer", |view| view.spaces.iter().any(|offered| offered.id == space)).await;
        with.sharing.decide(space, Decision::Accepted).await.expect("it is kept");
        space
    }

    pub async fn offer(&self, to: &Node, space: SpaceId, role: Role) {
        let offer = Offer { to: to.brain(), role, expires_at: None, reshare: false };
        self.sharing.offer(Offering { space, offer }).await.expect("it is offered");
    }
}

pub fn title(memory: &Memory) -> &str {
    memory.title()
}

pub async fn pair(one: &Node, other: &Node) {
    let invitation = one.sharing.invite(Duration::from_secs(600)).await.expect("it is made");
    let inviter = other.sharing.accept(&invitation.link).await.expect("it is taken up");
    assert_eq!(inviter, one.brain());
    let online = |view: &View, brain| view.peers.iter().any(|peer| peer.brain == brain && peer.online);
    one.shows("the other", |view| online(view, other.brain())).await;
    other.shows("the other", |view| online(view, one.brain())).await;
}

pub async fn two() -> (Node, Node) {
    let hub = Arc::new(Hub::default());
    let (one, other) = (Node::start(&hub, 1).await, Node::start(&hub, 2).await);
    pair(&one, &other).await;
    (one, other)
}

/// Anna's node, her other device, and Bert, with whom she shares a space and a memory in it.
pub async fn three() -> (Node, Node, Node, SpaceId, MemoryId) {
    let hub = Arc::new(Hub::default());
    let (anna, phone, bert) = (Node::start(&hub, 1).await, Node::start(&hub, 5).await, Node::start(&hub, 2).await);
    pair(&anna, &bert).await;
    let memory = anna.note("Roses", &["garden"], "").await;
    let space = anna.share(&bert, "Garden", "garden", Role::Write).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Roses").await;
    join(&anna, &phone).await;
    phone.until(memory, "the memory", |memory| title(memory) == "Roses").await;
    (anna, phone, bert, space, memory)
}

pub async fn join(first: &Node, other: &Node) {
    let link = first.sharing.invite_device(Duration::from_secs(600)).await.expect("it is made").link;
    let accepted = other.sharing.accept(&link).await;
    assert!(matches!(accepted, Err(SharingError::OtherInvitation(_))), "{accepted:?}");
    other.sharing.join(&link).await.expect("it is taken up");
    let both = |view: &View| {
        view.brain == first.brain() && view.devices.len() == 2 && view.devices.iter().all(|device| device.online)
    };
    other.shows("the first device", both).await;
    first.shows("the other device", both).await;
}
