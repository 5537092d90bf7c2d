//! Load, decide, append, and try again when somebody else was quicker.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use cairn_domain::claim::{Authorship, Standing};
use cairn_domain::clock::Hlc;
use cairn_domain::event::{Event, Metadata};
use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::{EventId, MemoryId, OWNED_STREAM_PREFIXES, memory_stream};
use cairn_domain::memory::command::{Command, Context, Decided, Decision, Outcome};
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_event_store::port::SharedStore;
use cairn_event_store::{
    AppendError, Direction, ExpectedRevision, Filter, NewAppend, Position, Revision, StoreError, StreamAppend,
};
use cairn_telemetry::{red, spans, trace};
use lru::LruCache;
use parking_lot::Mutex;
use tracing::Instrument;
use uuid::Uuid;

use crate::codec::{envelope, read_metadata};
use crate::error::CommandError;
use crate::idempotency::Idempotency;
use crate::repository::{Loaded, Repository};

/// How often a command is decided anew because others wrote to the same memory.
const MAX_ATTEMPTS: usize = 32;

/// How many memories are kept folded in memory.
const CACHED_MEMORIES: NonZeroUsize = NonZeroUsize::new(2_048).expect("not zero");

/// After how many events of a memory its snapshot is renewed.
const SNAPSHOT_EVERY: u64 = 500;

/// A command with all that is needed to carry it out.
#[derive(Debug, Clone)]
pub struct Execute<'a> {
    /// The memory.
    pub memory: MemoryId,
    /// What is to be done to it.
    pub command: Command,
    /// Who asks.
    pub principal: &'a Principal,
    /// The level to write at, if below the principal's ceiling.
    pub truth: Option<Truth>,
    /// Where the write comes from, if more precise than the principal's own origin.
    pub origin: Option<Origin>,
    /// The revision the caller saw; another one makes the command fail.
    pub expected: Option<Revision>,
    /// The caller's key, by which a repeat is recognised.
    pub idempotency: Option<Idempotency>,
    /// What made the command happen, if that is known.
    pub causation: Option<Uuid>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The memory.
    pub memory: MemoryId,
    /// The command's id, by which it can be undone.
    pub command: Uuid,
    /// What became of it as a whole.
    pub outcome: Outcome,
    /// What became of each field.
    pub fields: Vec<(FieldName, Outcome)>,
    /// The events it wrote.
    pub events: Vec<EventId>,
    /// A read at this position or later sees what it did.
    pub position: Position,
    /// The memory's revision after it; `None` while the memory has no events.
    pub revision: Option<Revision>,
    /// Whether it had been carried out before and this is the first answer again.
    pub repeated: bool,
}

/// Carries commands out. Cheap to share; one for a brain.
pub struct Handler {
    kept: Arc<Kept>,
    pub(crate) clock: Mutex<Hlc>,
}

/// The log, and the memories that are kept folded. What is kept may be behind the log, never ahead of it.
struct Kept {
    store: SharedStore,
    repository: Repository,
    cache: Mutex<LruCache<MemoryId, Arc<Loaded>>>,
}

impl Handler {
    /// A handler over a store; its clock goes on after the last event.
    ///
    /// # Errors
    /// When the store does not answer or the last event cannot be read.
    pub async fn open(store: SharedStore) -> Result<Self, CommandError> {
        let clock = last_clock(&store).await?;
        let repository = Repository::new(Arc::clone(&store));
        let cache = Mutex::new(LruCache::new(CACHED_MEMORIES));
        Ok(Self { kept: Arc::new(Kept { store, repository, cache }), clock: Mutex::new(clock) })
    }

    /// The log it appends to.
    pub fn store(&self) -> &SharedStore {
        &self.kept.store
    }

    /// Loads memories from the same log.
    pub fn repository(&self) -> &Repository {
        &self.kept.repository
    }

    /// Carries a command out. Returns when its events are durable.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn execute(&self, execute: Execute<'_>) -> Result<Done, CommandError> {
        let (name, began) = (execute.command.name(), Instant::now());
        let span = spans::command(name);
        // On the heap: with its span around it the future is large, and so would be those of all callers.
        let done = Box::pin(self.carry_out(execute)).instrument(span.clone()).await;
        let outcome = observed(&done);
        spans::outcome(&span, outcome, done.as_ref().ok().map(|done| done.position.0));
        red::command(name, outcome, began.elapsed());
        done
    }

    async fn carry_out(&self, execute: Execute<'_>) -> Result<Done, CommandError> {
        let truth = Truth::limited(execute.principal.ceiling, execute.truth);
        let origin = origin(&execute, truth)?;
        let command = match &execute.idempotency {
            None => Uuid::now_v7(),
            Some(key) => {
                if let Some(done) = self.repeated(key, &execute).await? {
                    return Ok(done);
                }
                key.command_id(execute.principal.id)
            }
        };
        let mut known_to_be_current = false;
        for attempt in 0..MAX_ATTEMPTS {
            let loaded = match (&execute.command, attempt) {
                // A new memory has nothing to load; if it is not new after all, the log refuses the append.
                (Command::CreateMemory { .. }, 0) => self.kept.load_new(execute.memory),
                _ => self.kept.load(execute.memory).await?,
            };
            let metadata = Metadata {
                causation_id: execute.causation,
                request: execute.idempotency.as_ref().map(|key| key.request.clone()),
                ..self.metadata(execute.principal, truth, origin.clone(), command)
            };
            let decided = check_revision(execute.expected, &loaded)
                .and_then(|()| decide(&loaded, execute.command.clone(), &metadata, execute.idempotency.is_some()));
            let writes = decided.as_ref().is_ok_and(|decision| !decision.events.is_empty());
            if !writes && !known_to_be_current {
                // What the log would have refused, had it been asked, is not told from a memory that may be behind it.
                self.kept.catch_up(loaded).await?;
                known_to_be_current = true;
                continue;
            }
            let decision = decided?;
            let events = decision.events.iter().map(|decided| decided.id).collect();
            let outcome = decision.outcome();
            let fields = decision.fields.clone();
            // In a task of its own: a caller who goes away must not leave the log ahead of what is kept.
            let kept = Arc::clone(&self.kept);
            let span = spans::append(decision.events.len());
            let writing = async move { kept.write(loaded, decision, metadata).await };
            let writing = tokio::spawn(writing.instrument(span));
            match writing.await.map_err(|error| interrupted(&error))? {
                Ok((position, revision)) => {
                    let memory = execute.memory;
                    return Ok(Done {
                        memory,
                        command,
                        outcome,
                        fields,
                        events,
                        position,
                        revision,
                        repeated: false,
                    });
                }
                Err(Failure::Overtaken(loaded)) => drop(self.kept.catch_up(loaded).await?),
                Err(Failure::Command(error)) => return Err(error),
                Err(Failure::Append(error @ AppendError::EventIdReused { .. })) => {
                    // The same key was carried out by somebody else between looking and appending.
                    let Some(key) = &execute.idempotency else { return Err(CommandError::from_append(error)) };
                    return match self.repeated(key, &execute).await? {
                        Some(done) => Ok(done),
                        None => Err(CommandError::from_append(error)),
                    };
                }
                Err(Failure::Append(error)) => return Err(CommandError::from_append(error)),
            }
        }
        Err(CommandError::Contended { attempts: MAX_ATTEMPTS })
    }

    /// The memory as the log has it now.
    ///
    /// # Errors
    /// When the store does not answer or the log is damaged.
    pub async fn load(&self, memory: MemoryId) -> Result<Arc<Loaded>, CommandError> {
        let kept = self.kept.load(memory).await?;
        self.kept.catch_up(kept).await
    }

    /// What every event of a command says about its making.
    pub(crate) fn metadata(&self, principal: &Principal, truth: Truth, origin: Origin, command: Uuid) -> Metadata {
        let hlc = {
            let mut clock = self.clock.lock();
            *clock = clock.tick(chrono::Utc::now().timestamp_millis().unsigned_abs());
            *clock
        };
        Metadata {
            principal: principal.id,
            truth,
            origin,
            hlc,
            correlation_id: command,
            causation_id: None,
            request: None,
            traceparent: trace::current(),
            standing: Standing::Full,
            memory: None,
            entry: None,
        }
    }

    /// The first answer to a command that was carried out before under the same key.
    async fn repeated(&self, key: &Idempotency, execute: &Execute<'_>) -> Result<Option<Done>, CommandError> {
        let command = key.command_id(execute.principal.id);
        let Some(first) = self.kept.store.event(command).await? else { return Ok(None) };
        if read_metadata(&first)?.request.as_deref() != Some(key.request.as_str()) {
            return Err(CommandError::KeyReused);
        }
        let memory = cairn_domain::id::memory_of_stream(&first.stream).ok_or(CommandError::KeyReused)?;
        let tail = self
            .kept
            .store
            .read_stream(
                &first.stream,
                first.revision,
                Direction::Forwards,
                cairn_event_store::event::MAX_APPEND_EVENTS,
            )
            .await?;
        let mut own = Vec::new();
        for event in tail {
            if read_metadata(&event)?.correlation_id != command {
                break;
            }
            own.push(event);
        }
        let last = own.last().unwrap_or(&first);
        let after = self.kept.repository.load_at_revision(memory, last.revision).await?;
        let events: Vec<EventId> = own.iter().map(|event| EventId::new(event.id)).collect();
        let mut fields = outcomes(&after, &events);
        if own.first().is_some_and(|event| &*event.event_type == "memory.created") {
            // Claimed by being created; the first answer did not name them either.
            fields.retain(|(name, _)| !matches!(name.role(), FieldRole::Kind | FieldRole::Archived));
        }
        Ok(Some(Done {
            memory,
            command,
            outcome: fields.iter().map(|(_, outcome)| *outcome).max().unwrap_or(Outcome::Applied),
            fields,
            position: last.position,
            revision: Some(last.revision),
            events,
            repeated: true,
        }))
    }
}

/// Why a decision was not written.
enum Failure {
    /// Somebody else wrote to the memory first; here is what it was decided upon.
    Overtaken(Arc<Loaded>),
    /// The log refused or failed.
    Append(AppendError),
    /// What was written does not fold.
    Command(CommandError),
}

impl Kept {
    /// The memory as it is kept, else as the log has it.
    async fn load(&self, memory: MemoryId) -> Result<Arc<Loaded>, CommandError> {
        if let Some(loaded) = self.cache.lock().get(&memory) {
            return Ok(Arc::clone(loaded));
        }
        let loaded = Arc::new(self.repository.load(memory).await?);
        Ok(self.keep(loaded))
    }

    /// The memory as it is kept, or an empty one, which is a guess and therefore not kept.
    fn load_new(&self, memory: MemoryId) -> Arc<Loaded> {
        let cached = self.cache.lock().get(&memory).map(Arc::clone);
        cached.unwrap_or_else(|| Arc::new(Loaded::empty(memory)))
    }

    /// Keeps what was loaded, unless something newer was kept meanwhile; returns what is kept.
    fn keep(&self, loaded: Arc<Loaded>) -> Arc<Loaded> {
        let mut cache = self.cache.lock();
        match cache.get(&loaded.memory.id()) {
            Some(newer) if newer.revision >= loaded.revision => Arc::clone(newer),
            _ => {
                cache.put(loaded.memory.id(), Arc::clone(&loaded));
                loaded
            }
        }
    }

    /// Folds in what the log has beyond what was loaded.
    async fn catch_up(&self, loaded: Arc<Loaded>) -> Result<Arc<Loaded>, CommandError> {
        let from = loaded.revision.map_or(Revision(0), Revision::next);
        let stream = memory_stream(loaded.memory.id());
        if self.store.read_stream(&stream, from, Direction::Forwards, 1).await?.is_empty() {
            return Ok(loaded);
        }
        let mut fresh = Arc::unwrap_or_clone(loaded);
        self.repository.catch_up(&mut fresh).await?;
        Ok(self.keep(Arc::new(fresh)))
    }

    async fn write(
        &self,
        loaded: Arc<Loaded>,
        decision: Decision,
        metadata: Metadata,
    ) -> Result<(Position, Option<Revision>), Failure> {
        match self.append(&loaded, &decision, &metadata).await {
            Ok((position, revision)) => {
                self.remember(loaded, decision, position, revision).map_err(Failure::Command)?;
                Ok((position, revision))
            }
            Err(AppendError::WrongExpectedRevision { .. }) => Err(Failure::Overtaken(loaded)),
            Err(error) => Err(Failure::Append(error)),
        }
    }

    async fn append(
        &self,
        loaded: &Loaded,
        decision: &Decision,
        metadata: &Metadata,
    ) -> Result<(Position, Option<Revision>), AppendError> {
        if decision.events.is_empty() {
            // Nothing to write; a reader at the log's end sees all that this command saw.
            return Ok((*self.store.head().borrow(), loaded.revision));
        }
        let events = decision.events.iter().map(|decided| {
            let event = Event::Memory(decided.event.clone());
            let Authorship { principal, truth, origin, hlc, command, standing } = decided.author.clone();
            let correlation_id = command;
            let metadata =
                Metadata { principal, truth, origin, hlc, correlation_id, standing, ..metadata.clone() };
            envelope(decided.id, &event, &metadata)
        });
        let streams = vec![StreamAppend {
            stream: memory_stream(loaded.memory.id()).into(),
            expected: loaded.revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact),
            events: events.collect(),
        }];
        let appended = self.store.append(NewAppend { streams, tracking: None }).await?;
        Ok((appended.position, appended.revisions.first().copied()))
    }

    /// Folds what was just written into the cached memory, and renews its snapshot when one is due.
    fn remember(
        &self,
        loaded: Arc<Loaded>,
        decision: Decision,
        position: Position,
        revision: Option<Revision>,
    ) -> Result<(), CommandError> {
        if decision.events.is_empty() {
            return Ok(());
        }
        let memory = loaded.memory.id();
        let mut cache = self.cache.lock();
        // Without a second owner the memory is changed in place instead of being copied.
        let base = loaded.revision;
        let mut cached = match cache.pop(&memory) {
            Some(cached) if cached.revision == base => {
                drop(loaded);
                cached
            }
            // It was new, and now it has been written.
            None if base.is_none() => loaded,
            _ => return Ok(()),
        };
        let fresh = Arc::make_mut(&mut cached);
        for Decided { id, author, event } in decision.events {
            fresh.memory.apply(id, author, event).map_err(cairn_domain::memory::command::Rejection::Corrupt)?;
        }
        fresh.position = position;
        fresh.revision = revision;
        let since = fresh.snapshot.map_or(Some(0), |snapshot| Some(snapshot.0 + 1));
        let due = revision.zip(since).is_some_and(|(last, since)| last.0 + 1 >= since + SNAPSHOT_EVERY);
        if due && fresh.memory.is_present() {
            fresh.snapshot = revision;
            let (repository, frozen) = (self.repository.clone(), cached.clone());
            tokio::spawn(async move { repository.save_snapshot(&frozen).await });
        }
        cache.put(memory, cached);
        Ok(())
    }
}

/// How a command's end is counted.
fn observed(done: &Result<Done, CommandError>) -> red::Outcome {
    match done {
        Ok(done) if done.repeated => red::Outcome::Repeated,
        Ok(done) if done.outcome == Outcome::Suggested => red::Outcome::Suggested,
        Ok(_) => red::Outcome::Applied,
        Err(CommandError::StaleRevision { .. } | CommandError::Contended { .. } | CommandError::KeyReused) => {
            red::Outcome::Conflict
        }
        Err(CommandError::Store(_) | CommandError::Damaged(_)) => red::Outcome::Failed,
        Err(
            CommandError::Rejected(_)
            | CommandError::ForeignOrigin { .. }
            | CommandError::Principal { .. }
            | CommandError::Invalid(_),
        ) => red::Outcome::Rejected,
    }
}

/// The clock of the last event that a command has written. Other programs' events have none.
async fn last_clock(store: &SharedStore) -> Result<Hlc, CommandError> {
    let filter = Filter { stream_prefixes: OWNED_STREAM_PREFIXES.map(str::to_owned).into(), ..Filter::default() };
    let mut from = Some(Position(u64::MAX));
    while let Some(position) = from {
        let page = store.read_all(position, Direction::Backwards, &filter, 1).await?;
        if let Some(event) = page.events.first() {
            return Ok(read_metadata(event)?.hlc);
        }
        from = page.next;
    }
    Ok(Hlc::default())
}

fn interrupted(error: &tokio::task::JoinError) -> CommandError {
    let reason = format!("a command was cut short ({error}); repeat it with the same Idempotency-Key");
    StoreError::Unavailable { reason }.into()
}

fn origin(execute: &Execute<'_>, truth: Truth) -> Result<Origin, CommandError> {
    let own = &execute.principal.origin;
    let origin = execute.origin.as_ref().unwrap_or(own);
    let class =
        |origin: &Origin| origin.as_str().split_once(':').and_then(|(class, _)| class.parse::<Truth>().ok());
    match (class(origin), &execute.origin) {
        (Some(level), _) if level == truth => Ok(origin.clone()),
        (None, None) => Ok(origin.clone()),
        (_, Some(foreign)) => Err(CommandError::ForeignOrigin { origin: foreign.clone(), truth }),
        // Written below the principal's own ceiling: the origin follows the level.
        (Some(_), None) => {
            let detail = own.as_str().split_once(':').map_or("unknown", |(_, detail)| detail);
            Ok(Origin::of(truth, detail))
        }
    }
}

fn check_revision(expected: Option<Revision>, loaded: &Loaded) -> Result<(), CommandError> {
    match (expected, loaded.revision) {
        (Some(expected), Some(actual)) if expected != actual => {
            Err(CommandError::StaleRevision { expected, actual })
        }
        _ => Ok(()),
    }
}

fn decide(loaded: &Loaded, command: Command, metadata: &Metadata, keyed: bool) -> Result<Decision, CommandError> {
    // With a key, the first event is named after the command, so that the log recognises a repeat.
    let mut first = keyed.then_some(metadata.correlation_id);
    let mut ids = || EventId::new(first.take().unwrap_or_else(Uuid::now_v7));
    let mut context = Context { author: metadata.authorship(), ids: &mut ids };
    Ok(loaded.memory.decide(command, &mut context)?)
}

/// What became of each field that some events wrote to, told from the memory right after them.
fn outcomes(after: &Loaded, events: &[EventId]) -> Vec<(FieldName, Outcome)> {
    let told = |applied: bool| if applied { Outcome::Applied } else { Outcome::Suggested };
    let memory = &after.memory;
    let mut outcomes = Vec::new();
    for (name, claims) in memory.fields() {
        let Some(claim) = claims.all().iter().rev().find(|claim| events.contains(&claim.id)) else { continue };
        outcomes.push((name.clone(), told(claims.effective().is_some_and(|winner| winner.id == claim.id))));
    }
    let edit = memory.body().edits().iter().rev().find(|edit| events.contains(&edit.id));
    if let Some(edit) = edit {
        outcomes.push((FieldName::body(), told(!memory.body().is_suggestion(edit.id))));
    }
    outcomes
}
