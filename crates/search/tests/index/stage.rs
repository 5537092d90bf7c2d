//! Where a scenario takes place: somewhere an index can be made, opened again and made once more.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_domain::id::BrainId;
use cairn_search::embedder::{Embedder, StaticEmbedder};
use cairn_search::index::{ApiKey, SearchError, SearchIndex, Server, Settings, Timeouts};
use cairn_testkit::qdrant::Double;
use tempfile::TempDir;
use uuid::Uuid;

/// The variable that names a real server, and the one that holds its key.
const URL: &str = "QDRANT_URL";
const KEY: &str = "QDRANT_API_KEY";

/// The address of a real server, if one is named.
pub fn real_url() -> Option<String> {
    std::env::var(URL).ok().filter(|url| !url.is_empty())
}

#[derive(Clone)]
pub struct Stage {
    place: Arc<Place>,
    /// How many indexes were made here; they are numbered from 1.
    made: Arc<AtomicU64>,
}

enum Place {
    Folder(TempDir),
    Double { _running: Double, server: Server },
    Real(Server),
}

impl Stage {
    pub fn folder() -> Self {
        Self::at(Place::Folder(tempfile::tempdir().unwrap()))
    }

    pub fn double() -> Self {
        let double = Double::start();
        let server = server(&double.url());
        Self::at(Place::Double { _running: double, server })
    }

    /// A brain of its own on the real server; none when no server is named.
    pub fn real() -> Option<Self> {
        let api_key = std::env::var(KEY).ok().map(|key| ApiKey::new(&key).unwrap());
        let settings = Settings { url: real_url()?, api_key, timeouts: Timeouts::default() };
        Some(Self::at(Place::Real(Server::new(settings, new_brain()).unwrap())))
    }

    fn at(place: Place) -> Self {
        Self { place: Arc::new(place), made: Arc::new(AtomicU64::new(0)) }
    }

    /// A new index.
    pub async fn index(&self) -> SearchIndex {
        let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        self.open(number, Arc::new(StaticEmbedder::new())).await.unwrap()
    }

    /// The last index again.
    pub async fn reopen(&self) -> Result<SearchIndex, SearchError> {
        self.open(self.made.load(Ordering::SeqCst), Arc::new(StaticEmbedder::new())).await
    }

    /// The index with a number, made if there is none.
    pub async fn open(&self, number: u64, embedder: Arc<dyn Embedder>) -> Result<SearchIndex, SearchError> {
        match &*self.place {
            Place::Folder(folder) => SearchIndex::open(&folder.path().join(format!("{number}")), embedder).await,
            Place::Double { server, .. } | Place::Real(server) => {
                SearchIndex::connect(server, number, embedder).await
            }
        }
    }

    /// Runs a scenario and leaves nothing of it on the server, also when it fails.
    pub async fn clear_after(&self, scenario: impl Future<Output = ()> + Send + 'static) {
        let ended = tokio::spawn(scenario).await;
        if let Place::Real(server) = &*self.place {
            for generation in server.generations().await.unwrap() {
                server.delete(generation).await.unwrap();
            }
        }
        ended.unwrap();
    }
}

/// A server for a brain of its own, which is given up on soon.
pub fn server(url: &str) -> Server {
    server_of(url, new_brain())
}

pub fn server_of(url: &str, brain: BrainId) -> Server {
    Server::new(settings(url), brain).unwrap()
}

pub fn settings(url: &str) -> Settings {
    let timeouts = Timeouts { write: Duration::from_secs(20), ..Timeouts::default() };
    Settings { url: url.to_owned(), api_key: None, timeouts }
}

pub fn new_brain() -> BrainId {
    BrainId::new(Uuid::now_v7())
}
