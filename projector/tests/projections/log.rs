//! Writes a log by the rules of the domain, as commands would.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use cairn_domain::body::Base;
use cairn_domain::claim::{Authorship, Standing};
use cairn_domain::clock::Hlc;
use cairn_domain::event::{Event, Metadata, PrincipalEvent, PrincipalRegistered, PrincipalRevoked};
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId, PrincipalId, memory_stream};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::memory::command::{BodyText, Command, Context, Decided};
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_event_store::{
    AppendError, Appended, Direction, EventStore, ExpectedRevision, Filter, NewAppend, NewEvent, Page, Position,
    RecordedEvent, Revision, SharedStore, Snapshot, StoreError, StreamAppend,
};
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

/// A brain's log as it is written.
pub struct Log {
    pub store: SharedStore,
    memories: HashMap<MemoryId, (Memory, u64)>,
    principals: HashMap<Truth, PrincipalId>,
    clock: Hlc,
    /// Events not appended yet, by stream in the order of first use.
    waiting: Vec<StreamAppend>,
}

impl Log {
    pub fn new(store: SharedStore) -> Self {
        let principals = Truth::ALL.into_iter().map(|truth| (truth, PrincipalId::new(Uuid::now_v7()))).collect();
        let clock = Hlc { millis: 1_790_000_000_000, counter: 0 };
        Self { store, memories: HashMap::new(), principals, clock, waiting: Vec::new() }
    }

    /// Who writes at a level.
    pub fn principal(&self, truth: Truth) -> PrincipalId {
        self.principals[&truth]
    }

    /// The memory as the domain folds it.
    pub fn memory(&self, id: MemoryId) -> &Memory {
        &self.memories[&id].0
    }

    /// Decides on a command and appends its events; gives these.
    pub async fn command(&mut self, id: MemoryId, truth: Truth, command: Command) -> Vec<EventId> {
        let events = self.decide(id, truth, command);
        self.append().await;
        events
    }

    /// Decides on a command and keeps its events for the next append.
    pub fn decide(&mut self, id: MemoryId, truth: Truth, command: Command) -> Vec<EventId> {
        self.clock = self.clock.tick(self.clock.millis + 7);
        let author = Authorship {
            principal: self.principals[&truth],
            truth,
            origin: Origin::of(truth, "test"),
            hlc: self.clock,
            command: Uuid::now_v7(),
            standing: Standing::Full,
        };
        let (memory, next) = self.memories.entry(id).or_insert_with(|| (Memory::new(id), 0));
        let mut ids = || EventId::new(Uuid::now_v7());
        let decision =
            memory.decide(command, &mut Context { author, ids: &mut ids }).expect("the command is valid");
        let mut events = Vec::new();
        for Decided { id: event, author, event: data } in decision.events {
            events.push((event, author.clone(), Event::Memory(data.clone())));
            memory.apply(event, author, data).expect("the event fits");
        }
        let first = *next;
        *next += events.len() as u64;
        let given = events.iter().map(|(id, ..)| *id).collect();
        self.put(
            memory_stream(id).into(),
            first,
            events.iter().map(|(id, author, event)| envelope(*id, author, event)),
        );
        given
    }

    fn put(&mut self, stream: Arc<str>, first: u64, events: impl Iterator<Item = NewEvent>) {
        // What came last is what is added to most.
        if let Some(entry) = self.waiting.iter_mut().rev().find(|entry| entry.stream == stream) {
            entry.events.extend(events);
            return;
        }
        let expected = match first {
            0 => ExpectedRevision::NoStream,
            next => ExpectedRevision::Exact(Revision(next - 1)),
        };
        self.waiting.push(StreamAppend { stream, expected, events: events.collect() });
    }

    /// How many events wait for the next append.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(|entry| entry.events.len()).sum()
    }

    /// Appends what waits.
    pub async fn append(&mut self) -> Position {
        let streams = std::mem::take(&mut self.waiting);
        let streams: Vec<_> = streams.into_iter().filter(|entry| !entry.events.is_empty()).collect();
        if streams.is_empty() {
            return self.head();
        }
        self.store.append(NewAppend { streams, tracking: None }).await.expect("appends").position
    }

    pub fn head(&self) -> Position {
        *self.store.head().borrow()
    }

    /// Appends an event of any type to a stream.
    pub async fn raw(&self, stream: &str, event_type: &str, data: &str) -> Position {
        let author = Authorship {
            principal: self.principals[&Truth::User],
            truth: Truth::User,
            origin: Origin::of(Truth::User, "test"),
            hlc: self.clock,
            command: Uuid::now_v7(),
            standing: Standing::Full,
        };
        let event = NewEvent {
            id: Uuid::now_v7(),
            event_type: event_type.into(),
            schema_version: 1,
            data: data.to_owned().into(),
            metadata: metadata(&author).into(),
        };
        let entry = StreamAppend { stream: stream.into(), expected: ExpectedRevision::Any, events: vec![event] };
        self.store.append(NewAppend { streams: vec![entry], tracking: None }).await.expect("appends").position
    }

    /// Registers a principal, or revokes it.
    pub async fn register(&self, id: PrincipalId, name: &str, ceiling: Truth) -> Position {
        let origin = Origin::of(ceiling, name);
        let event = PrincipalEvent::Registered(PrincipalRegistered { name: name.into(), ceiling, origin });
        self.raw_event(&format!("principal-{id}"), &Event::Principal(event)).await
    }

    pub async fn revoke(&self, id: PrincipalId) -> Position {
        let event = Event::Principal(PrincipalEvent::Revoked(PrincipalRevoked {}));
        self.raw_event(&format!("principal-{id}"), &event).await
    }

    async fn raw_event(&self, stream: &str, event: &Event) -> Position {
        let data = String::from_utf8(event.data()).expect("JSON is text");
        self.raw(stream, event.event_type(), &data).await
    }

    // Commands, in short.

    pub async fn create(&mut self, kind: Kind, title: &str, body: &str, claims: &[(&str, Value)]) -> MemoryId {
        let id = MemoryId::new(Uuid::now_v7());
        let mut claims = fields(claims);
        claims.insert(0, (FieldName::title(), title.into()));
        self.command(id, Truth::User, Command::CreateMemory { kind, claims, body: body.into() }).await;
        id
    }

    pub async fn set(&mut self, id: MemoryId, truth: Truth, claims: &[(&str, Value)]) -> Vec<EventId> {
        self.command(id, truth, change(claims)).await
    }

    pub async fn write(&mut self, id: MemoryId, truth: Truth, text: &str) -> Vec<EventId> {
        self.command(id, truth, edit(text)).await
    }
}

pub fn fields(claims: &[(&str, Value)]) -> Vec<(FieldName, Value)> {
    claims.iter().map(|(name, value)| (name.parse().expect("a field name"), value.clone())).collect()
}

pub fn change(claims: &[(&str, Value)]) -> Command {
    Command::ChangeMemory { claims: fields(claims), body: None }
}

pub fn edit(text: &str) -> Command {
    Command::ChangeMemory { claims: Vec::new(), body: Some(BodyText { text: text.into(), base: Base::Effective }) }
}

fn envelope(id: EventId, author: &Authorship, event: &Event) -> NewEvent {
    NewEvent {
        id: id.uuid(),
        event_type: event.event_type().into(),
        schema_version: event.schema_version(),
        data: event.data().into(),
        metadata: metadata(author).into(),
    }
}

fn metadata(author: &Authorship) -> Vec<u8> {
    let metadata = Metadata {
        principal: author.principal,
        truth: author.truth,
        origin: author.origin.clone(),
        hlc: author.hlc,
        correlation_id: author.command,
        causation_id: None,
        request: None,
        traceparent: None,
        standing: Standing::Full,
        memory: None,
        entry: None,
    };
    serde_json::to_vec(&metadata).expect("plain JSON")
}

impl Log {
    /// Reckons with events that were appended to a memory's stream by [`Log::raw`].
    pub fn skip_known(&mut self, id: MemoryId, events: u64) {
        self.memories.get_mut(&id).expect("is known").1 += events;
    }

    /// The same log with the data of one memory's events gone, as after the destruction of its key.
    pub fn emptied(&self, id: MemoryId) -> Log {
        Log::new(Arc::new(Emptied { inner: self.store.clone(), stream: memory_stream(id) }))
    }
}

/// A store in which the data of one stream is gone.
struct Emptied {
    inner: SharedStore,
    stream: String,
}

impl Emptied {
    fn empty(&self, mut event: RecordedEvent) -> RecordedEvent {
        if *event.stream == *self.stream {
            event.data = "null".into();
            event.erased = true;
        }
        event
    }
}

#[async_trait]
impl EventStore for Emptied {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        self.inner.append(append).await
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let mut page = self.inner.read_all(from, direction, filter, limit).await?;
        page.events = page.events.into_iter().map(|event| self.empty(event)).collect();
        Ok(page)
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let events = self.inner.read_stream(stream, from, direction, limit).await?;
        Ok(events.into_iter().map(|event| self.empty(event)).collect())
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        Ok(self.inner.event(id).await?.map(|event| self.empty(event)))
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        self.inner.position_at(time).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.inner.head()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.inner.tracking(source).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        self.inner.load_snapshot(stream).await
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        self.inner.save_snapshot(stream, snapshot).await
    }
}
