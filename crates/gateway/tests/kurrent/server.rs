//! A server for each test: a gateway over a log of its own, behind a wire that can be cut.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_event_store::conformance::BRAIN;
use cairn_event_store::kurrent::{KurrentError, Server};
use cairn_event_store::{
    AppendError, Appended, Direction, EventStore, ExpectedRevision, Filter, KurrentStore, MemoryStore, NewAppend,
    NewEvent, Position, RecordedEvent, SharedStore, StreamAppend,
};
use cairn_gateway::{Authority, Caller, Credentials, Gateway, Level, Options, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// What a test's keyring is known by.
pub const KEYS: &str = "the keys of the test";
/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The URL of a real server, where there is one.
pub fn real() -> Option<String> {
    std::env::var("KURRENTDB_URL").ok().filter(|url| !url.is_empty())
}

/// Lets everybody in.
struct Anybody;

impl Authority for Anybody {
    fn admit(&self, _: Option<&Credentials>) -> Result<Caller, Refusal> {
        let ceiling = Level::new(2).expect("a level");
        Ok(Caller { principal: Uuid::nil(), ceiling, origin: "automation:test".into() })
    }
}

/// A gateway that serves until it is dropped.
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    pub address: SocketAddr,
}

impl Serving {
    pub async fn start(store: SharedStore) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let gateway = Gateway::new(store, Arc::new(Anybody), Options::plain(address));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            gateway.serve(listener, stopped).await.expect("serves");
        });
        Self { stop: Some(stop), task: Some(task), address }
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        let task = self.task.take().expect("stopped once");
        tokio::time::timeout(PATIENCE, task).await.expect("it ends in time").expect("it ends well");
    }
}

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// It arrives.
    Open,
    /// What the client sends arrives, what the server answers does not.
    Deaf,
    /// Connections end, and no new ones are made.
    Cut,
}

/// A gateway behind a wire.
pub struct Site {
    pub store: SharedStore,
    serving: Option<Serving>,
    behind: watch::Sender<SocketAddr>,
    wire: watch::Sender<(Wire, u64)>,
    front: SocketAddr,
    pub folder: tempfile::TempDir,
}

impl Site {
    /// Over a log in memory.
    pub async fn begin() -> Self {
        Self::over(Arc::new(MemoryStore::new(Uuid::now_v7()))).await
    }

    pub async fn over(store: SharedStore) -> Self {
        let serving = Serving::start(Arc::clone(&store)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let front = listener.local_addr().expect("bound");
        let (behind, wire) = (watch::Sender::new(serving.address), watch::Sender::new((Wire::Open, 0)));
        tokio::spawn(relay(listener, behind.subscribe(), wire.subscribe()));
        let folder = tempfile::tempdir().expect("a folder");
        Self { store, serving: Some(serving), behind, wire, front, folder }
    }

    pub fn server(&self) -> Server {
        Server::parse(&format!("kurrentdb://anybody:secret@{}?tls=false", self.front)).expect("valid")
    }

    pub fn set(&self, wire: Wire) {
        // Cuts are counted, so that one is noticed however short it is.
        self.wire.send_modify(|now| *now = (wire, now.1 + u64::from(wire == Wire::Cut)));
    }

    /// Ends the gateway and begins another one over the same log, or another log.
    pub async fn restart(&mut self, store: SharedStore) {
        self.set(Wire::Cut);
        self.serving.take().expect("it runs").stop().await;
        let serving = Serving::start(Arc::clone(&store)).await;
        self.behind.send_replace(serving.address);
        (self.serving, self.store) = (Some(serving), store);
        self.set(Wire::Open);
    }

    /// A node of the test's brain, with a copy of this name.
    pub async fn node(&self, name: &str) -> Arc<KurrentStore> {
        self.try_node(name).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub async fn try_node(&self, name: &str) -> Result<Arc<KurrentStore>, KurrentError> {
        KurrentStore::open(self.server(), self.copy(name), BRAIN, KEYS).await.map(Arc::new)
    }

    pub fn copy(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The stream as the server has it.
    pub async fn stream(&self) -> Vec<RecordedEvent> {
        let name = stream_name();
        let all = usize::MAX;
        self.store
            .read_stream(&name, cairn_event_store::Revision(0), Direction::Forwards, all)
            .await
            .expect("read")
    }
}

pub fn stream_name() -> String {
    format!("cairn-{}", BRAIN.simple())
}

async fn relay(listener: TcpListener, behind: watch::Receiver<SocketAddr>, wire: watch::Receiver<(Wire, u64)>) {
    while let Ok((client, _)) = listener.accept().await {
        let (now, cuts) = *wire.borrow();
        if now == Wire::Cut {
            continue;
        }
        let (behind, mut cut, wire) = (*behind.borrow(), wire.clone(), wire.clone());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(behind).await else { return };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let answering = async {
                let mut buffer = [0; 16_384];
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    if wire.borrow().0 == Wire::Open && to_client.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                () = answering => {}
                _ = cut.wait_for(|wire| wire.1 != cuts) => {}
            }
        });
    }
}

pub fn event(text: &str) -> NewEvent {
    cairn_event_store::conformance::event(text)
}

pub fn on(stream: &str, expected: ExpectedRevision, events: Vec<NewEvent>) -> NewAppend {
    let entry = StreamAppend { stream: stream.into(), expected, events };
    NewAppend { streams: vec![entry], tracking: None }
}

/// Appends one event.
pub async fn note(store: &KurrentStore, stream: &str) -> Result<Appended, AppendError> {
    store.append(on(stream, ExpectedRevision::Any, vec![event(stream)])).await
}

pub async fn log(store: &impl EventStore) -> Vec<RecordedEvent> {
    let mut events = Vec::new();
    let mut from = Some(Position::START);
    while let Some(position) = from {
        let page = store.read_all(position, Direction::Forwards, &Filter::default(), 1_000).await.expect("read");
        events.extend(page.events);
        from = page.next;
    }
    events
}

/// Waits until the copy has this position.
pub async fn until(store: &KurrentStore, position: Position) {
    let mut head = store.head();
    let reached = head.wait_for(|head| *head >= position);
    tokio::time::timeout(PATIENCE, reached).await.expect("in time").expect("it lives");
}

/// Positions from 1, revisions from 0, none missing and none twice.
pub fn assert_sound(log: &[RecordedEvent]) {
    let mut revisions = std::collections::HashMap::new();
    let mut ids = std::collections::HashSet::new();
    for (index, event) in log.iter().enumerate() {
        assert_eq!(event.position.0, index as u64 + 1);
        let next: &mut u64 = revisions.entry(event.stream.clone()).or_default();
        assert_eq!(event.revision.0, *next, "{}", event.stream);
        *next += 1;
        assert!(ids.insert(event.id), "an event is there twice");
    }
    assert!(log.is_sorted_by_key(|event| event.recorded_at), "time runs back");
}

/// Waits until something holds.
pub async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "it never came to hold");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Copies a database with what lies beside it.
pub fn duplicate(from: &Path, to: &Path) {
    for end in ["", "-wal"] {
        let name = |path: &Path| format!("{}{end}", path.display());
        match std::fs::copy(name(from), name(to)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
    }
}
