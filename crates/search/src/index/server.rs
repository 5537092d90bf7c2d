//! A Qdrant server, spoken to over gRPC: its connection, and which generations of a brain's index it holds.
//!
//! A brain has one collection for each generation, `cairn-<brain>-<generation>`, and an alias, `cairn-<brain>`, that
//! names the one that serves. Collections are not shared between brains: how rare a word is, which BM25 weighs by, is
//! counted over a whole collection, so one brain's words would change what another one finds.

mod collection;
mod layout;
mod wire;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use cairn_domain::id::BrainId;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::{
    ChangeAliases, CollectionInfo, CollectionOperationResponse, DeleteCollection, GetCollectionInfoRequest,
    ListAliasesRequest, ListCollectionsRequest,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};
use tonic::{Code, Request, Response, Status};

use super::SearchError;

pub use collection::{Checkpoint, Collection, DELETE_POINTS, UPSERT_BYTES, UPSERT_POINTS};

/// How many searches a process runs on a server at once; more wait for their turn.
pub const SEARCHES: usize = 64;

/// The largest answer that is taken from a server, in bytes. A thousand points of the largest chunks are a few
/// megabytes.
pub const MESSAGE_BYTES: usize = 256 * 1024 * 1024;

/// How often a connection is asked whether it still lives, and how long it has to answer, so that a server that is
/// gone without a word is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The most of what a server says that an error repeats, in characters.
const REASON_CHARS: usize = 300;

/// The name that a server finds the key under.
const API_KEY_HEADER: &str = "api-key";

/// The key of a server, which is never shown.
#[derive(Clone)]
pub struct ApiKey(MetadataValue<Ascii>);

impl ApiKey {
    /// Takes a key as the server's operator gave it.
    ///
    /// # Errors
    /// When it is empty or holds what no key can, such as a line break.
    pub fn new(key: &str) -> Result<Self, SearchError> {
        let mut value = MetadataValue::try_from(key.trim()).ok().filter(|value| !value.is_empty()).ok_or(
            SearchError::Settings("API key of the Qdrant server is empty or holds other than plain letters"),
        )?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// How long a server is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For an answer to a search.
    pub read: Duration,
    /// For a write to be applied, a collection to be made, or a page of a digest.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), read: Duration::from_secs(5), write: Duration::from_secs(60) }
    }
}

/// Where a server is and how to speak to it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URL of its gRPC port, such as `http://localhost:6334`; with `https`, the system's certificates are trusted.
    pub url: String,
    /// Its key, if it demands one.
    pub api_key: Option<ApiKey>,
    /// How long it is waited for.
    pub timeouts: Timeouts,
}

/// A server that holds the index of one brain. Cloning it is cheap; the clones share the connection, which is made
/// when it is first needed and made again whenever it is lost.
#[derive(Debug, Clone)]
pub struct Server {
    url: String,
    brain: BrainId,
    timeouts: Timeouts,
    channel: Channel,
    key: Key,
}

/// Sends the key with each request.
#[derive(Debug, Clone)]
struct Key(Option<ApiKey>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(ApiKey(key)) = &self.0 {
            request.metadata_mut().insert(API_KEY_HEADER, key.clone());
        }
        Ok(request)
    }
}

type Keyed = InterceptedService<Channel, Key>;

impl Server {
    /// A server for one brain. Must be called inside of the runtime that it is used on; nothing is sent yet.
    ///
    /// # Errors
    /// When the URL cannot be one of a server.
    pub fn new(settings: Settings, brain: BrainId) -> Result<Self, SearchError> {
        let Settings { url, api_key, timeouts } = settings;
        let endpoint = endpoint(&url, timeouts.connect)?;
        Ok(Self { url, brain, timeouts, channel: endpoint.connect_lazy(), key: Key(api_key) })
    }

    /// The brain whose index it holds.
    pub fn brain(&self) -> BrainId {
        self.brain
    }

    /// The alias that names the generation that serves.
    pub fn alias(&self) -> String {
        format!("cairn-{}", self.brain)
    }

    /// The name of a generation's collection.
    pub fn collection(&self, generation: u64) -> String {
        format!("{}-{generation}", self.alias())
    }

    /// The generations that the server holds, finished or not, in rising order.
    ///
    /// # Errors
    /// When the server cannot be had.
    pub async fn generations(&self) -> Result<Vec<u64>, SearchError> {
        let mut client = self.collections();
        let list = client.list(ListCollectionsRequest {});
        let listed = self.manage("listing collections", &self.alias(), list).await?;
        let mut generations: Vec<u64> =
            listed.collections.iter().filter_map(|collection| self.generation(&collection.name)).collect();
        generations.sort_unstable();
        Ok(generations)
    }

    /// The generation that serves; `None` when none does.
    ///
    /// # Errors
    /// When the server cannot be had.
    pub async fn serving(&self) -> Result<Option<u64>, SearchError> {
        Ok(self.aliased().await?.and_then(|collection| self.generation(&collection)))
    }

    /// Has a generation serve from now on: the alias goes over to it in one step, so every search finds either the
    /// one before or this one.
    ///
    /// # Errors
    /// When the server cannot be had, or has no such generation.
    pub async fn serve(&self, generation: u64) -> Result<(), SearchError> {
        let collection = self.collection(generation);
        let aliased = self.aliased().await?;
        if aliased.as_ref() == Some(&collection) {
            return Ok(());
        }
        // The steps of one request are taken together, but not taken back when a later one fails.
        self.info(&collection).await?;
        let actions = wire::alias_switch(&self.alias(), aliased.is_some(), &collection);
        let mut client = self.collections();
        let switch = client.update_aliases(ChangeAliases { actions, timeout: None });
        let done = self.manage("switching the alias", &collection, switch).await?;
        self.done("switching the alias", &done)
    }

    /// Deletes a generation with its files; the alias with it, if it serves. One that is not there is as good as
    /// deleted.
    ///
    /// # Errors
    /// When the server cannot be had.
    pub async fn delete(&self, generation: u64) -> Result<(), SearchError> {
        let collection_name = self.collection(generation);
        let mut client = self.collections();
        let delete = client.delete(DeleteCollection { collection_name: collection_name.clone(), timeout: None });
        // Its answer says `false` when there was nothing to delete.
        match self.manage("deleting a collection", &collection_name, delete).await {
            Ok(_) | Err(SearchError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What the server says of a collection.
    async fn info(&self, collection: &str) -> Result<CollectionInfo, SearchError> {
        let mut client = self.collections();
        let get = client.get(GetCollectionInfoRequest { collection_name: collection.to_owned() });
        let answer = self.manage("opening a collection", collection, get).await?;
        answer.result.ok_or_else(|| self.unavailable("opening a collection", "an empty answer".to_owned()))
    }

    /// The collection that the alias names.
    async fn aliased(&self) -> Result<Option<String>, SearchError> {
        let alias = self.alias();
        let mut client = self.collections();
        let list = client.list_aliases(ListAliasesRequest {});
        let listed = self.manage("listing aliases", &alias, list).await?;
        let found = listed.aliases.into_iter().find(|listed| listed.alias_name == alias);
        Ok(found.map(|found| found.collection_name))
    }

    /// The generation that a collection of this brain holds.
    fn generation(&self, collection: &str) -> Option<u64> {
        collection.strip_prefix(&self.alias())?.strip_prefix('-')?.parse().ok()
    }

    fn points(&self) -> PointsClient<Keyed> {
        PointsClient::with_interceptor(self.channel.clone(), self.key.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
    }

    fn collections(&self) -> CollectionsClient<Keyed> {
        CollectionsClient::with_interceptor(self.channel.clone(), self.key.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
    }

    /// Waits for the answer to a search.
    async fn read<T>(
        &self,
        doing: &'static str,
        collection: &str,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, SearchError> {
        self.wait(self.timeouts.read, doing, collection, answer).await
    }

    /// Waits for the answer to what may take longer.
    async fn manage<T>(
        &self,
        doing: &'static str,
        collection: &str,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, SearchError> {
        self.wait(self.timeouts.write, doing, collection, answer).await
    }

    async fn wait<T>(
        &self,
        patience: Duration,
        doing: &'static str,
        collection: &str,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, SearchError> {
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failed(doing, collection, &status)),
            Err(_) => Err(self.unavailable(doing, format!("no answer within {} s", patience.as_secs_f32()))),
        }
    }

    /// Whether trying again may help depends on what went wrong. A server that only stopped, or is only overloaded,
    /// says so in several ways, and so does a connection that broke.
    fn failed(&self, doing: &'static str, collection: &str, status: &Status) -> SearchError {
        let reason: String =
            format!("{}: {}", status.code(), status.message()).chars().take(REASON_CHARS).collect();
        match status.code() {
            Code::NotFound => SearchError::Gone { server: self.url.clone(), collection: collection.to_owned() },
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => self.unavailable(doing, reason),
            Code::InvalidArgument
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => SearchError::Refused { server: self.url.clone(), doing, reason },
        }
    }

    fn unavailable(&self, doing: &'static str, reason: String) -> SearchError {
        SearchError::Unavailable { server: self.url.clone(), doing, reason }
    }

    /// Checks that the server did what it answered to.
    fn done(&self, doing: &'static str, answer: &CollectionOperationResponse) -> Result<(), SearchError> {
        if answer.result { Ok(()) } else { Err(self.unavailable(doing, "it was not done".to_owned())) }
    }
}

/// How the connection is made.
fn endpoint(url: &str, connect: Duration) -> Result<Endpoint, SearchError> {
    let refused = |reason| Err(SearchError::Settings(reason));
    let Ok(uri) = url.parse::<Uri>() else {
        return refused("URL of the Qdrant server cannot be read; write one such as http://localhost:6334");
    };
    let Some(authority) = uri.authority() else {
        return refused("URL of the Qdrant server names no host; write one such as http://localhost:6334");
    };
    if authority.as_str().contains('@') {
        return refused("URL of the Qdrant server holds a user or a password; it takes an API key instead");
    }
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return refused("URL of the Qdrant server begins with neither http:// nor https://"),
    };
    let endpoint = Endpoint::from(uri)
        .connect_timeout(connect)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    if !tls {
        return Ok(endpoint);
    }
    let trusting = endpoint.tls_config(ClientTlsConfig::new().with_native_roots());
    trusting.map_err(|_| SearchError::Settings("URL of the Qdrant server asks for TLS, which cannot be set up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_work_is_refused_before_anything_is_sent() {
        for url in ["", "localhost:6334", "ftp://localhost", "/index", "http://me:secret@localhost:6334"] {
            let error = endpoint(url, Duration::from_secs(1)).unwrap_err();
            assert!(matches!(error, SearchError::Settings(_)), "{url}: {error}");
            assert!(!error.to_string().contains("secret"));
        }
        for url in ["http://localhost:6334", "https://qdrant.example.org:6334", "http://[::1]:6334/"] {
            endpoint(url, Duration::from_secs(1)).unwrap();
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = ApiKey::new(" s3cret \n").unwrap();
        assert!(!format!("{key:?} {:?}", Key(Some(key.clone()))).contains("s3cret"));
        for bad in ["", "  ", "two\nlines"] {
            assert!(!ApiKey::new(bad).unwrap_err().to_string().contains("two"));
        }
    }
}
