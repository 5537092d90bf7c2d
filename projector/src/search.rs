//! The search index as a projection.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::value::Value;
use cairn_read_model::change::{Batch, MemoryChange};
use cairn_search::document::{Change, Document};
use cairn_search::embedder::Embedder;
use cairn_search::index::{Checkpoint, SearchError, SearchIndex, Server};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use tokio::runtime::Handle;

use crate::generations::{FolderGenerations, Generations, Place, PostgresGenerations, replace};
use crate::projection::{Digester, Generation, Projection, ProjectionError};

/// The projection's name.
const NAME: &str = "search";
/// Changes whenever what the index is told changes. (How it stores that is a matter of `cairn-search`.)
pub const VERSION: u32 = 1;
/// What is written is found so much later at most, while many commands come in.
const PACE: Duration = Duration::from_millis(50);
/// The index is made durable after this many events at the latest.
pub const FLUSH_EVENTS: u64 = 20_000;
/// The index is made durable after this long at the latest, while events come in.
pub const FLUSH_EVERY: Duration = Duration::from_secs(2);

/// The least time between two times that the index is put in order, which may rewrite much of it.
const ORDER_PAUSE: Duration = Duration::from_secs(5);
/// How long the end waits for what was erased to be taken out of the files; what is left is done after the next start.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// The file beside the index that holds its checkpoint.
const CHECKPOINT_FILE: &str = "checkpoint.json";
/// The folder of the index in that of its generation.
const INDEX_FOLDER: &str = "index";

/// Gives the index that serves. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SearchReader {
    index: Arc<RwLock<Option<SearchIndex>>>,
}

impl SearchReader {
    /// The index that serves; `None` while the first one is built.
    pub fn current(&self) -> Option<SearchIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(&self, index: SearchIndex) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(index);
    }
}

/// The search index, with the reader that answers from it.
pub struct SearchProjection {
    reader: SearchReader,
    embedder: Arc<dyn Embedder>,
    handle: Handle,
    home: Home,
}

/// Where the index is.
#[derive(Clone)]
enum Home {
    /// In the folder of its generation.
    Folder,
    /// On a server, in a collection for each generation.
    Server {
        server: Server,
        /// Where it is noted which generations there are, where that is not in a folder.
        register: Option<Register>,
    },
}

/// Opens the register of generations for a projection, given the root of the folders.
type Register = Arc<dyn Fn(&Path) -> Arc<dyn Generations> + Send + Sync>;

impl SearchProjection {
    /// A projection whose index serves through `reader`. Must be made inside of the runtime it is to run on.
    pub fn new(reader: SearchReader, embedder: Arc<dyn Embedder>) -> Self {
        Self { reader, embedder, handle: Handle::current(), home: Home::Folder }
    }

    /// One whose index is on a server. Where a database is given, it says which generations there are, so that several
    /// processes may share them. Must be made inside of the runtime it is to run on.
    pub fn on_server(
        reader: SearchReader,
        embedder: Arc<dyn Embedder>,
        server: Server,
        database: Option<cairn_read_model::postgres::Server>,
    ) -> Self {
        let register = database.map(|database| {
            let register: Register =
                Arc::new(move |root| Arc::new(PostgresGenerations::new(database.clone(), NAME, root)));
            register
        });
        Self { reader, embedder, handle: Handle::current(), home: Home::Server { server, register } }
    }

    async fn open_index(&self, place: &Place) -> Result<(SearchIndex, Checkpoint), ProjectionError> {
        let empty = Checkpoint { version: VERSION, position: 0 };
        match &self.home {
            Home::Folder => {
                let folder = &place.folder;
                let checkpoint = read(&folder.join(CHECKPOINT_FILE))?.unwrap_or(empty);
                check_version(place, checkpoint)?;
                let index = folder.join(INDEX_FOLDER);
                if checkpoint.position > 0 && !index.exists() {
                    return Err(unusable(place, "its index is gone"));
                }
                Ok((SearchIndex::open(&index, Arc::clone(&self.embedder)).await?, checkpoint))
            }
            Home::Server { server, .. } => {
                let index = SearchIndex::connect(server, place.number, Arc::clone(&self.embedder)).await?;
                let collection = index.collection().expect("it is on a server");
                let checkpoint = collection.load_checkpoint().await?.unwrap_or(empty);
                check_version(place, checkpoint)?;
                Ok((index, checkpoint))
            }
        }
    }
}

fn check_version(place: &Place, checkpoint: Checkpoint) -> Result<(), ProjectionError> {
    match checkpoint.version {
        VERSION => Ok(()),
        other => Err(unusable(place, &format!("it is of version {other}, this program needs {VERSION}"))),
    }
}

fn unusable(place: &Place, reason: &str) -> ProjectionError {
    ProjectionError::Unusable { folder: place.folder.clone(), reason: reason.to_owned() }
}

impl Projection for SearchProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn entries(&self) -> bool {
        false
    }

    fn pace(&self) -> Duration {
        PACE
    }

    fn is_urgent(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        matches!(&self.home, Home::Server { register: Some(_), .. })
    }

    fn served(&self) -> Result<Option<u64>, ProjectionError> {
        let Home::Server { server, .. } = &self.home else { return Ok(None) };
        self.handle.block_on(async {
            let index = match self.reader.current() {
                Some(index) => index,
                None => match SearchIndex::connect_serving(server, Arc::clone(&self.embedder)).await? {
                    Some(index) => {
                        self.reader.serve(index.clone());
                        index
                    }
                    None => return Ok(None),
                },
            };
            let checkpoint = match index.collection() {
                Some(collection) => collection.load_checkpoint().await?,
                None => None,
            };
            Ok(checkpoint.map(|checkpoint| checkpoint.position))
        })
    }

    fn generations(&self, root: &Path) -> std::io::Result<Arc<dyn Generations>> {
        match &self.home {
            Home::Server { register: Some(register), .. } => Ok(register(root)),
            Home::Folder | Home::Server { register: None, .. } => {
                Ok(Arc::new(FolderGenerations::open(root, NAME)?))
            }
        }
    }

    fn open(&self, place: &Place) -> Result<Box<dyn Generation>, ProjectionError> {
        let (index, checkpoint) = self.handle.block_on(self.open_index(place))?;
        Ok(Box::new(SearchGeneration {
            index,
            reader: self.reader.clone(),
            embedder: Arc::clone(&self.embedder),
            handle: self.handle.clone(),
            home: self.home.clone(),
            place: place.clone(),
            durable: checkpoint.position,
            flushed: Instant::now(),
            ordered: None,
            reached: Arc::new(Mutex::new(checkpoint.position)),
        }))
    }

    fn delete(&self, place: &Place) -> Result<(), ProjectionError> {
        match &self.home {
            Home::Folder => Ok(()),
            Home::Server { server, .. } => Ok(self.handle.block_on(server.delete(place.number))?),
        }
    }
}

struct SearchGeneration {
    index: SearchIndex,
    reader: SearchReader,
    embedder: Arc<dyn Embedder>,
    handle: Handle,
    home: Home,
    place: Place,
    /// The position of the checkpoint.
    durable: u64,
    flushed: Instant,
    /// When it was last begun to be put in order.
    ordered: Option<Instant>,
    /// The position applied. Held while a batch is applied or a digest taken, so that the two never overlap.
    reached: Arc<Mutex<u64>>,
}

/// Takes out what was erased, and builds the vector graphs that are due.
async fn in_order(index: &SearchIndex) -> Result<(), SearchError> {
    index.purge().await?;
    index.optimize().await?;
    Ok(())
}

impl SearchGeneration {
    fn save(&self, checkpoint: Checkpoint) -> Result<(), ProjectionError> {
        if let Some(collection) = self.index.collection() {
            return Ok(self.handle.block_on(collection.save_checkpoint(checkpoint))?);
        }
        let file = self.place.folder.join(CHECKPOINT_FILE);
        let json = serde_json::to_vec(&checkpoint).expect("numbers are plain JSON");
        replace(&file, &json).map_err(|source| ProjectionError::Checkpoint { path: file, source })
    }

    /// Whether other processes follow the checkpoint, so that it must not lag behind what they could find.
    fn is_followed(&self) -> bool {
        matches!(&self.home, Home::Server { register: Some(_), .. })
    }

    /// Makes everything durable, then moves the checkpoint.
    fn flush(&mut self) -> Result<(), ProjectionError> {
        let position = *lock(&self.reached);
        if position > self.durable {
            self.handle.block_on(self.index.flush())?;
            self.save(Checkpoint { version: VERSION, position })?;
            self.durable = position;
        }
        self.flushed = Instant::now();
        Ok(())
    }
}

impl Generation for SearchGeneration {
    fn checkpoint(&self) -> u64 {
        self.durable
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), ProjectionError> {
        let reached = {
            let mut reached = lock(&self.reached);
            if batch.position > *reached {
                let changes = batch.memories.iter().filter_map(change).collect();
                self.handle.block_on(self.index.apply(changes))?;
                *reached = batch.position;
            }
            *reached
        };
        let due = reached - self.durable >= FLUSH_EVENTS || self.flushed.elapsed() >= FLUSH_EVERY;
        if due || self.is_followed() {
            self.flush()?;
        }
        Ok(())
    }

    fn make_ready(&mut self) -> Result<(), ProjectionError> {
        self.flush()?;
        self.handle.block_on(self.index.optimize())?;
        Ok(())
    }

    fn switch(&self) -> Result<(), ProjectionError> {
        match &self.home {
            Home::Folder => Ok(()),
            Home::Server { server, .. } => Ok(self.handle.block_on(server.serve(self.place.number))?),
        }
    }

    fn serve(&self) {
        let Home::Server { server, .. } = &self.home else { return self.reader.serve(self.index.clone()) };
        // Through the alias, so that this process goes on finding should another one take over.
        let opened = self.handle.block_on(SearchIndex::connect_serving(server, Arc::clone(&self.embedder)));
        match opened {
            Ok(Some(index)) => self.reader.serve(index),
            Ok(None) | Err(_) => self.reader.serve(self.index.clone()),
        }
    }

    fn settle(&mut self) -> Result<bool, ProjectionError> {
        self.flush()?;
        if self.ordered.is_some_and(|began| began.elapsed() < ORDER_PAUSE) {
            return Ok(self.index.purge_due());
        }
        self.ordered = Some(Instant::now());
        // It returns at once where there is nothing to do, and nobody need wait for it where there is.
        let index = self.index.clone();
        self.handle.spawn(async move {
            if let Err(error) = in_order(&index).await {
                tracing::warn!(%error, "the search index could not be put in order");
            }
        });
        Ok(self.index.purge_due())
    }

    fn close(&mut self) -> Result<(), ProjectionError> {
        self.flush()?;
        if self.index.purge_due() {
            let purging = async { tokio::time::timeout(CLOSE_PATIENCE, self.index.purge()).await };
            if let Ok(purged) = self.handle.block_on(purging) {
                purged?;
            }
        }
        Ok(())
    }

    fn digester(&self) -> Digester {
        let (index, handle, reached) = (self.index.clone(), self.handle.clone(), Arc::clone(&self.reached));
        Arc::new(move || {
            let position = lock(&reached);
            let digest = handle.block_on(index.digest())?;
            Ok((*position, digest))
        })
    }
}

/// A poisoned lock is taken all the same: the position is written after the last step that could panic.
fn lock(reached: &Mutex<u64>) -> MutexGuard<'_, u64> {
    reached.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a checkpoint file.
fn read(file: &Path) -> Result<Option<Checkpoint>, ProjectionError> {
    match std::fs::read(file) {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| ProjectionError::Unusable {
            folder: file.to_owned(),
            reason: format!("its checkpoint cannot be read: {error}"),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ProjectionError::Checkpoint { path: file.to_owned(), source }),
    }
}

fn change(change: &MemoryChange) -> Option<Change> {
    let memory = &change.memory;
    if !memory.is_present() {
        return Some(Change::Remove(memory.id()));
    }
    document(memory).map(|document| Change::Put(Box::new(document)))
}

/// What the index is told of a memory; `None` for one that was never created.
fn document(memory: &Memory) -> Option<Document> {
    let (event, source) = memory.source()?;
    let created = memory.created()?;
    Some(Document {
        memory: memory.id(),
        kind: memory.kind(),
        title: memory.title().to_owned(),
        body: memory.body().text().to_owned(),
        extra: extra(memory),
        tags: memory.tags().map(|(tag, _)| tag.to_owned()).collect(),
        links: memory.links().map(|(_, target, _)| target).collect(),
        truth: source.truth,
        origin: source.origin.clone(),
        event,
        created_at: time(created.hlc.millis),
        updated_at: time(memory.updated().millis),
        when: about(memory),
        archived: memory.is_archived(),
    })
}

/// The words in the other fields. Dates, numbers and states are filtered by, not searched for.
fn extra(memory: &Memory) -> String {
    let mut words = Vec::new();
    for (name, claims) in memory.fields() {
        let FieldRole::Attribute(_) = name.role() else { continue };
        match claims.effective().map(|claim| &claim.value) {
            Some(Value::Text(text)) => words.push(text.clone()),
            Some(list @ Value::List(_)) => words.push(list.display()),
            _ => {}
        }
    }
    words.join("\n")
}

fn about(memory: &Memory) -> Option<DateTime<Utc>> {
    let text = |name: &str| {
        let name: FieldName = name.parse().expect("the names of typed fields are field names");
        memory.value(&name)?.as_text().map(str::to_owned)
    };
    let day = |name| {
        let day: NaiveDate = text(name)?.parse().ok()?;
        Some(day.and_time(NaiveTime::MIN).and_utc())
    };
    match memory.kind() {
        Kind::Task => day("due_date"),
        Kind::Project => day("start_date"),
        Kind::Event => Some(DateTime::parse_from_rfc3339(&text("start_time")?).ok()?.to_utc()),
        Kind::Daily => day("log_date"),
        Kind::Note | Kind::Person | Kind::Place => None,
    }
}

fn time(millis: u64) -> DateTime<Utc> {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
