//! A double of a Qdrant server: it speaks the real protocol over a loopback connection, keeps its points in memory, and
//! compares them one by one. It can be told to fail in every way that a server or the network does.
//!
//! It is stricter than a server where that shows mistakes: a filter on a value without an index, a write that is not
//! waited for, and a message above the size that is taken by default are refused.

mod collections;
mod compare;
mod points;

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::{ChangeAliases, CreateCollection, CreateFieldIndexCollection, PointStruct};
use tokio::runtime::Runtime;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};
use uuid::Uuid;

/// What goes wrong with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is refused as though the server were about to stop.
    Unavailable,
    /// It is refused because there is too much to do.
    Overloaded,
    /// Nothing is done and nothing answered.
    Silence,
    /// It is done, but the answer is lost.
    LostAnswer,
    /// It is done, but never answered.
    LateAnswer,
    /// It is noted, and not yet done when the server is tired of waiting for it.
    NotYetDone,
    /// Half of it is done, then the server fails.
    Half,
}

/// A server that runs, or is gone for a while and keeps what it holds.
pub struct Double {
    held: Arc<Mutex<Held>>,
    address: SocketAddr,
    running: Mutex<Option<Runtime>>,
}

/// What the server holds, and what it was asked.
#[derive(Default)]
pub struct Held {
    /// The collections, by name.
    pub collections: BTreeMap<String, Kept>,
    /// What each alias stands for.
    pub aliases: BTreeMap<String, String>,
    /// Every request to change aliases.
    pub alias_requests: Vec<ChangeAliases>,
    /// What goes wrong with the writes to come.
    pub faults: VecDeque<Fault>,
    /// How many writes of points were asked for.
    pub writes: usize,
    /// How many points the largest write had.
    pub largest_write: usize,
    /// The key that is demanded.
    pub api_key: Option<String>,
}

/// A collection.
pub struct Kept {
    /// The request that made it.
    pub made: CreateCollection,
    /// The requests for indexes on it.
    pub indexes: Vec<CreateFieldIndexCollection>,
    /// Its points.
    pub points: BTreeMap<Uuid, PointStruct>,
}

impl Double {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When the machine has none.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let double = Self { held: Arc::default(), address, running: Mutex::new(None) };
        double.run(listener);
        double
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The server is gone: its connections break, and new ones are refused.
    pub fn stop(&self) {
        if let Some(runtime) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }

    /// The server is back, with all it held.
    ///
    /// # Panics
    /// When somebody else has taken its port.
    pub fn resume(&self) {
        self.run(listen(self.address));
    }

    fn run(&self, listener: TcpListener) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        listener.set_nonblocking(true).expect("a socket of our own");
        let incoming = {
            let _inside = runtime.enter();
            TcpIncoming::from(tokio::net::TcpListener::from_std(listener).expect("a listening socket"))
        };
        let (held, demanded) = (Arc::clone(&self.held), Arc::clone(&self.held));
        let authenticate = move |request| authenticated(&demanded, request);
        let server = Server::builder()
            .add_service(CollectionsServer::with_interceptor(Shared(Arc::clone(&held)), authenticate.clone()))
            .add_service(PointsServer::with_interceptor(Shared(held), authenticate));
        runtime.spawn(server.serve_with_incoming(incoming));
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
    }

    /// The next writes of points go wrong in these ways, one after the other.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.held().faults.extend(faults);
    }

    /// What it holds.
    pub fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The one that answers requests.
#[derive(Clone)]
struct Shared(Arc<Mutex<Held>>);

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.0)
    }
}

impl Held {
    /// The collection with a name or an alias.
    fn collection(&mut self, name: &str) -> Result<&mut Kept, Status> {
        let name = self.aliases.get(name).cloned().unwrap_or_else(|| name.to_owned());
        self.collections
            .get_mut(&name)
            .ok_or_else(|| Status::not_found(format!("Not found: Collection `{name}` doesn't exist!")))
    }
}

/// A failed assertion in one request must not hide what the next ones say.
fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::result_large_err, reason = "the protocol's own type")]
fn authenticated(held: &Mutex<Held>, request: Request<()>) -> Result<Request<()>, Status> {
    let Some(demanded) = lock(held).api_key.clone() else { return Ok(request) };
    let given = request.metadata().get("api-key").and_then(|key| key.to_str().ok());
    if given == Some(&demanded) { Ok(request) } else { Err(Status::unauthenticated("Must provide an API key")) }
}

/// The port may still be held by the connections of the server before.
fn listen(address: SocketAddr) -> TcpListener {
    let began = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) if began.elapsed() > Duration::from_secs(10) => panic!("{address}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
