//! A running brain: everything a request needs, put together once at start.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use cairn_command::{CommandError, Handler, RegisterPrincipal};
use cairn_domain::id::{BrainId, PrincipalId};
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_event_store::keyring::{Keyring, KeyringError};
use cairn_event_store::kurrent::{InvalidServer, KurrentError, KurrentStore, Server as KurrentServer};
use cairn_event_store::notary::{Notary, Noted, VerifyingKey};
use cairn_event_store::sealed::Sealed;
use cairn_event_store::sqlite::{OpenError, SqliteStore};
use cairn_event_store::{Position, PostgresStore, SharedStore};
use cairn_federation::Relaying;
use cairn_follower::{Folder, FollowError, Gate, Guarded, Primary, Role as FolderRole, Shut, Standby};
use cairn_projector::{
    Leases, PostgresProjection, Projection, Projector, SearchProjection, SearchReader, SqliteProjection,
    StartError, Turns,
};
use cairn_read_model::memories::Stats;
use cairn_read_model::postgres::Server;
use cairn_read_model::{Memories, Timeline};
use cairn_search::embedder::{EmbedError, Embedder, HttpEmbedder, HttpEmbedderConfig, StaticEmbedder};
use cairn_search::index::{ApiKey, SearchError, Server as SearchServer, Settings, Timeouts};
use cairn_sharing::Sharing;
use cairn_telemetry::Metrics;
use chrono::{DateTime, Utc};
use ed25519_dalek::SigningKey;
use sqlx::PgPool;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{Config, EmbedderConfig, KurrentDbConfig, Projections, QdrantConfig};
use crate::data_folder::{DataFolder, DataFolderError, Identity, write_private};
use crate::database::{self, DatabaseError};
use crate::http::forward::{Forward, InvalidAddress};
use crate::importer::Imports;
use crate::kafka::Watched;
use crate::log::Log;
use crate::tokens::{Denied, Secret, Token, TokenError, Tokens};

/// The name of the owner's token and principal.
const OWNER: &str = "owner";

/// A running brain.
pub struct Brain {
    /// Its id: what the HTTP API calls the tenant.
    pub brain: Uuid,
    /// Its data folder.
    pub folder: DataFolder,
    /// Who may ask.
    pub tokens: Tokens,
    /// The sealed event log itself, for what only it can tell.
    pub log: Arc<Sealed<Log>>,
    /// The database it is in, if it is in one.
    pub database: Option<PgPool>,
    /// Signs the log.
    pub notary: Signing,
    /// Carries commands out.
    pub handler: Arc<Handler>,
    /// Keeps the read models up to date.
    pub projector: Projector,
    /// Answers about memories as they are.
    pub memories: Memories,
    /// Answers about what happened.
    pub timeline: Timeline,
    /// Answers searches.
    pub search: SearchReader,
    /// The imports that run or ran.
    pub imports: Imports,
    /// What answers followers, once it does.
    pub followers: OnceLock<Primary>,
    /// What follows another node, on a standby.
    pub standby: OnceLock<Arc<Standby>>,
    /// What publishes and reads Kafka, once it does.
    pub kafka: OnceLock<Watched>,
    /// Where requests about sharing go while another process does.
    pub forward: Forward,
    /// Shares memories with other brains, while this process does.
    sharing: Mutex<Option<Sharing>>,
    /// What it relays meanwhile.
    relaying: Mutex<Option<watch::Receiver<Relaying>>>,
    /// Where the key is that signs for the brain among others, once that is not its first any more.
    pub sharing_key: PathBuf,
    /// The brain's key.
    pub(crate) key: SigningKey,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the node begins to stop: what runs long ends early.
    pub stopping: CancellationToken,
    /// Held by the verification under way.
    pub verifying: Arc<tokio::sync::Mutex<()>>,
    /// What the memories added up to when it was last counted for the metrics.
    pub counted: Arc<tokio::sync::Mutex<Option<(Instant, Stats)>>>,
    /// When the process began to serve.
    pub started: Instant,
    /// The name of the model that makes vectors.
    pub embedder: String,
}

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves a brain.
    Node,
    /// It keeps the read models that several processes share up with the log, and nothing else.
    Projector,
    /// It meets other brains, and nothing else.
    Federation,
}

/// The notary at work.
pub struct Signing {
    /// How far it is.
    pub noted: watch::Receiver<Noted>,
    /// What it signs with, for whoever checks.
    pub key: VerifyingKey,
    ended: CancellationToken,
    notary: Mutex<Option<Notary<Log>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Signing {
    fn new(log: &Arc<Sealed<Log>>, key: SigningKey, folder: &DataFolder) -> Self {
        let verifying = key.verifying_key();
        let (notary, noted) = Notary::new(Arc::clone(log), key, folder.notary());
        let notary = Mutex::new(Some(notary));
        Self { noted, key: verifying, ended: CancellationToken::new(), notary, task: Mutex::default() }
    }

    fn start(&self) {
        let notary = self.notary.lock().unwrap_or_else(PoisonError::into_inner).take();
        let task = notary.map(|notary| tokio::spawn(notary.run(self.ended.clone().cancelled_owned())));
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }

    /// Signs what is not signed yet, and ends.
    async fn stop(&self) {
        self.ended.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // Its panic, if any, has been reported by the panic hook.
            let _ = task.await;
        }
    }
}

/// Why a brain does not start.
#[derive(Debug, thiserror::Error)]
pub enum BrainError {
    /// Its data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    /// The database cannot be used.
    #[error("the database cannot be used")]
    Database(#[from] DatabaseError),
    /// Its event log cannot be used.
    #[error("the event log cannot be opened")]
    Log(#[from] OpenError),
    /// `KURRENTDB_URL` cannot be understood.
    #[error("KURRENTDB_URL cannot be used")]
    KurrentUrl(#[from] InvalidServer),
    /// Its event log in KurrentDB cannot be used.
    #[error("the event log in KurrentDB cannot be opened")]
    Kurrent(#[from] KurrentError),
    /// Its keys cannot be used.
    #[error("the keys of the memories cannot be opened")]
    Keys(#[from] KeyringError),
    /// An erasure that was cut short could not be finished.
    #[error("the sealed log cannot be opened")]
    Sealed(#[from] cairn_event_store::StoreError),
    /// Its tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// What the folder is to its followers, or its primary, cannot be read.
    #[error("what the folder is to other machines cannot be read")]
    Follow(#[from] FollowError),
    /// The folder follows another machine's, and is told to use a server's log.
    #[error(
        "this folder is a standby of {0}, with the log in it; the configuration names a database, which nobody follows"
    )]
    Standby(String),
    /// The log cannot be read.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The read models cannot be used.
    #[error("the read models cannot be opened")]
    Projector(#[from] StartError),
    /// The search index's server cannot be used.
    #[error("the Qdrant server cannot be used")]
    Search(#[from] SearchError),
    /// The address of the process that meets other brains cannot be understood.
    #[error("`answered_at` in [federation] cannot be used")]
    Forward(#[from] InvalidAddress),
    /// The embedder cannot be used.
    #[error("the embedder cannot be used")]
    Embedder(#[from] EmbedError),
}

impl Brain {
    /// Opens everything a brain needs; at the first start also makes its identity and the owner's token.
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn open(config: &Config, metrics: Arc<Metrics>) -> Result<Arc<Self>, BrainError> {
        Self::open_as(Role::Node, config, metrics).await
    }

    /// Opens what a process of this role needs of a brain.
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn open_as(role: Role, config: &Config, metrics: Arc<Metrics>) -> Result<Arc<Self>, BrainError> {
        let forward = Forward::to(&config.federation.answered_at)?;
        let folder = DataFolder::open(&config.data)?;
        let standby = make_way(&folder, config)?;
        let identity = folder.identity(config.brain_key.as_deref(), standby || role != Role::Node)?;
        folder.own_read_models(identity.brain)?;
        let Storage { log, memories, timeline, mut projections, database } =
            storage(config, &folder, &identity).await?;
        let store: SharedStore = log.clone();
        let handler = Arc::new(Handler::open(Arc::clone(&store)).await?);
        let tokens = match &database {
            Some(pool) => Tokens::in_database(pool.clone(), identity.brain).await?,
            None => Tokens::in_file(&folder.tokens())?,
        };
        let embedder = embedder(&config.embedder).await?;
        let name = embedder.model().to_owned();
        let search = SearchReader::default();
        let read_models = database.clone().map(|pool| Server::new(pool, identity.brain, Handle::current()));
        projections.push(Arc::new(match &config.qdrant {
            Some(qdrant) => {
                let server = search_server(qdrant, identity.brain)?;
                SearchProjection::on_server(search.clone(), embedder, server, read_models)
            }
            None => SearchProjection::new(search.clone(), embedder),
        }));
        match role {
            Role::Node => {}
            Role::Projector => projections.retain(|projection| projection.is_shared()),
            Role::Federation => projections.clear(),
        }
        let leases = database.clone().map(|pool| Leases::new(pool, identity.brain));
        let turns = match (leases, role, config.projections) {
            (None, ..) => Turns::Alone,
            (Some(_), Role::Node, Projections::External) => Turns::Others,
            (Some(leases), ..) => Turns::Shared(leases),
        };
        let projector = Projector::start_in_turns(store, folder.read(), projections, turns).await?;
        let key = identity.key.clone();
        let sharing_key = config.sharing_key.clone().unwrap_or_else(|| folder.sharing_key());
        let notary = Signing::new(&log, identity.key, &folder);
        if role == Role::Node {
            notary.start();
        }
        let brain = Self {
            brain: identity.brain,
            folder,
            tokens,
            log,
            database,
            notary,
            handler,
            projector,
            memories,
            timeline,
            search,
            imports: Imports::default(),
            followers: OnceLock::new(),
            standby: OnceLock::new(),
            kafka: OnceLock::new(),
            forward,
            sharing: Mutex::default(),
            sharing_key,
            relaying: Mutex::default(),
            key,
            metrics,
            stopping: CancellationToken::new(),
            verifying: Arc::default(),
            counted: Arc::default(),
            started: Instant::now(),
            embedder: name,
        };
        if !standby {
            brain.ensure_owner().await?;
        }
        Ok(Arc::new(brain))
    }

    /// Makes a token and registers the principal it stands for.
    ///
    /// # Errors
    /// When the token or the event cannot be written.
    pub async fn create_token(
        &self,
        name: &str,
        ceiling: Truth,
        origin: Option<Origin>,
        expires_at: Option<DateTime<Utc>>,
        by: Option<&Principal>,
    ) -> Result<(Token, Secret), BrainError> {
        let origin = origin.unwrap_or_else(|| Origin::of(ceiling, name));
        let (token, secret) = self.tokens.add(name, ceiling, origin.clone(), expires_at, Utc::now()).await?;
        let own = token.principal();
        let register =
            RegisterPrincipal { id: PrincipalId::new(token.id), name: name.to_owned(), ceiling, origin };
        self.handler.register_principal(register, by.unwrap_or(&own)).await?;
        Ok((token, secret))
    }

    /// Why it takes no writes, if it takes none.
    pub fn shut(&self) -> Option<Shut> {
        self.log.store().guarded().and_then(|guarded| guarded.gate().shut().borrow().clone())
    }

    /// What shares memories with other brains, while this process does.
    pub fn sharing(&self) -> Option<Sharing> {
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what shares memories from now on.
    pub(crate) fn set_sharing(&self, sharing: Option<Sharing>) {
        *self.sharing.lock().unwrap_or_else(PoisonError::into_inner) = sharing;
    }

    /// What this process relays for other brains, and which relays it uses: nothing while it meets none over libp2p.
    pub fn relaying(&self) -> Relaying {
        let relaying = self.relaying.lock().unwrap_or_else(PoisonError::into_inner);
        relaying.as_ref().map(|shown| shown.borrow().clone()).unwrap_or_default()
    }

    /// Says what it relays from now on.
    pub(crate) fn set_relaying(&self, relaying: Option<watch::Receiver<Relaying>>) {
        *self.relaying.lock().unwrap_or_else(PoisonError::into_inner) = relaying;
    }

    /// How far a projection has got, as its queries see it.
    pub fn position(&self, projection: &str) -> u64 {
        self.projector.position(projection).unwrap_or(Position::START).0
    }

    /// Stops in order: projections finish their batch, the log is closed last.
    pub async fn close(&self) {
        self.stopping.cancel();
        self.projector.shutdown().await;
        self.notary.stop().await;
        self.log.keyring().close().await;
        self.log.store().close().await;
        self.folder.withdraw();
    }

    /// Makes sure that whoever can read the data folder finds the owner's token in it, and that it works.
    async fn ensure_owner(&self) -> Result<(), BrainError> {
        let path = self.folder.owner_token();
        let kept = match std::fs::read_to_string(&path) {
            Ok(secret) => secret,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(DataFolderError::Io { path, source }.into()),
        };
        match self.tokens.authenticate(kept.trim(), Utc::now()).await {
            Ok(token) if token.ceiling == Truth::User => return Ok(()),
            Err(Denied::Unavailable) => return Err(TokenError::from(Denied::Unavailable).into()),
            // A new one also when the file was lost: whoever can write the data folder owns the brain anyway.
            Ok(_) | Err(Denied::Unknown | Denied::Revoked | Denied::Expired) => {}
        }
        let (_, secret) = self.create_token(OWNER, Truth::User, None, None, None).await?;
        write_private(&path, format!("{}\n", secret.expose()).as_bytes())?;
        Ok(())
    }
}

/// What the configuration chose to keep the brain in.
struct Storage {
    log: Arc<Sealed<Log>>,
    memories: Memories,
    timeline: Timeline,
    projections: Vec<Arc<dyn Projection>>,
    /// The database it is in, if it is in one.
    database: Option<PgPool>,
}

/// Whether the folder is a standby's. What it held as a primary is put away then, before anything is opened.
fn make_way(folder: &DataFolder, config: &Config) -> Result<bool, BrainError> {
    let control = Folder::of(folder.path());
    let FolderRole::Standby(of) = control.state()?.role else { return Ok(false) };
    if config.database.is_some() || config.kurrentdb.is_some() {
        return Err(BrainError::Standby(of.name));
    }
    control.make_way()?;
    Ok(true)
}

async fn storage(config: &Config, folder: &DataFolder, identity: &Identity) -> Result<Storage, BrainError> {
    match &config.database {
        Some(database) => {
            if folder.events().exists() {
                let unused = folder.events();
                tracing::warn!(unused = %unused.display(), "there is a log in SQLite too; it is not used");
            }
            let pool = database::open(database).await?;
            let keyring = Keyring::open_postgres(pool.clone(), identity.brain, identity.wrapping_key()).await?;
            let log = match &config.kurrentdb {
                Some(kurrentdb) => Log::Kurrent(kurrent(kurrentdb, folder, identity, &keyring).await?),
                None => Log::Postgres(PostgresStore::open(pool.clone(), identity.brain).await?),
            };
            let server = Server::new(pool.clone(), identity.brain, Handle::current());
            Ok(Storage {
                log: Arc::new(Sealed::open(log, keyring).await?),
                memories: Memories::postgres(server.clone()),
                timeline: Timeline::postgres(server.clone()),
                projections: vec![
                    Arc::new(PostgresProjection::memories(server.clone())),
                    Arc::new(PostgresProjection::timeline(server)),
                ],
                database: Some(pool),
            })
        }
        None => {
            let keyring = Keyring::open(folder.keys(), identity.wrapping_key())?;
            let log = match &config.kurrentdb {
                Some(kurrentdb) => Log::Kurrent(kurrent(kurrentdb, folder, identity, &keyring).await?),
                None => {
                    let gate = Gate::open(Folder::of(folder.path()), config.follower.synchronous)?;
                    let store = Arc::new(SqliteStore::open(folder.events(), identity.brain)?);
                    Log::Sqlite(Guarded::new(store, gate))
                }
            };
            let (memories, timeline) = (Memories::default(), Timeline::default());
            let projections: Vec<Arc<dyn Projection>> = vec![
                Arc::new(SqliteProjection::memories(memories.clone())),
                Arc::new(SqliteProjection::timeline(timeline.clone())),
            ];
            let log = Arc::new(Sealed::open(log, keyring).await?);
            Ok(Storage { log, memories, timeline, projections, database: None })
        }
    }
}

async fn kurrent(
    config: &KurrentDbConfig,
    folder: &DataFolder,
    identity: &Identity,
    keyring: &Keyring,
) -> Result<Box<KurrentStore>, BrainError> {
    let server = KurrentServer::parse(config.url.expose())?;
    let keys = keyring.fingerprint().await?;
    Ok(Box::new(KurrentStore::open(server, folder.kurrentdb_copy(), identity.brain, &keys).await?))
}

fn search_server(config: &QdrantConfig, brain: Uuid) -> Result<SearchServer, BrainError> {
    let api_key = config.api_key.as_ref().map(|key| ApiKey::new(key.expose())).transpose()?;
    let settings = Settings { url: config.url.clone(), api_key, timeouts: Timeouts::default() };
    Ok(SearchServer::new(settings, BrainId::new(brain))?)
}

async fn embedder(config: &EmbedderConfig) -> Result<Arc<dyn Embedder>, BrainError> {
    if config.url.is_empty() {
        return Ok(Arc::new(StaticEmbedder::new()));
    }
    let api_key = match &config.key_file {
        None => None,
        Some(path) => {
            let failed = |source| DataFolderError::Io { path: path.clone(), source };
            Some(std::fs::read_to_string(path).map_err(failed)?.trim().to_owned())
        }
    };
    let connect = HttpEmbedderConfig {
        url: config.url.clone(),
        model: config.model.clone(),
        api_key,
        dimensions: (config.dimensions > 0).then_some(config.dimensions),
    };
    Ok(Arc::new(HttpEmbedder::connect(connect).await?))
}

/// The names of the projections.
pub mod projection {
    /// Memories as they are.
    pub const MEMORIES: &str = "memories";
    /// What happened.
    pub const TIMELINE: &str = "timeline";
    /// The search index.
    pub const SEARCH: &str = "search";
}
