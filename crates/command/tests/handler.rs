//! What the handler promises: retries, idempotency, snapshots, provenance.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_command::{CommandError, Done, Execute, Handler, Idempotency};
use cairn_domain::body::Base;
use cairn_domain::field::FieldName;
use cairn_domain::id::{MemoryId, PrincipalId, memory_stream};
use cairn_domain::kind::Kind;
use cairn_domain::memory::command::{BodyText, Command, Outcome, Rejection};
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_event_store::memory::MemoryStore;
use cairn_event_store::port::SharedStore;
use cairn_event_store::{
    AppendError, Appended, Direction, Filter, NewAppend, Page, Position, RecordedEvent, Revision, Snapshot,
    StoreError,
};
use uuid::Uuid;

fn principal(ceiling: Truth) -> Principal {
    let id = PrincipalId::new(Uuid::from_u128(u128::from(ceiling.level())));
    Principal { id, ceiling, origin: Origin::of(ceiling, "tester") }
}

fn field(name: &str) -> FieldName {
    name.parse().expect("valid name")
}

fn claim(name: &str, value: &str) -> Command {
    Command::ChangeMemory { claims: vec![(field(name), Value::from(value))], body: None }
}

fn create(title: &str) -> Command {
    let claims = vec![(FieldName::title(), Value::from(title))];
    Command::CreateMemory { kind: Kind::Note, claims, body: "first".into() }
}

fn execute(memory: MemoryId, command: Command, principal: &Principal) -> Execute<'_> {
    Execute {
        memory,
        command,
        principal,
        truth: None,
        origin: None,
        expected: None,
        idempotency: None,
        causation: None,
    }
}

async fn handler() -> (Arc<Handler>, SharedStore) {
    let store: SharedStore = Arc::new(MemoryStore::new(Uuid::from_u128(1)));
    (Arc::new(Handler::open(Arc::clone(&store)).await.expect("opens")), store)
}

async fn created(handler: &Handler) -> (MemoryId, Done) {
    let memory = MemoryId::new(Uuid::now_v7());
    let done = handler.execute(execute(memory, create("Oak"), &principal(Truth::User))).await.expect("created");
    (memory, done)
}

#[tokio::test]
async fn concurrent_writers_of_one_memory_all_get_through() {
    let (handler, store) = handler().await;
    let (memory, _) = created(&handler).await;
    let writers = (0..24).map(|writer| {
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let user = principal(Truth::User);
            handler
                .execute(execute(memory, claim(&format!("f{writer}"), "x"), &user))
                .await
                .map(|done| done.outcome)
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        assert_eq!(writer.await.expect("no panic").expect("written"), Outcome::Applied);
    }
    let events =
        store.read_stream(&memory_stream(memory), Revision(0), Direction::Forwards, 100).await.expect("reads");
    assert_eq!(events.len(), 3 + 24);
    let loaded = handler.load(memory).await.expect("loads");
    let fresh = handler.repository().load_as_of(memory, loaded.position).await.expect("folds");
    assert!(loaded.memory == fresh.memory, "the cached memory is the fold of the log");
}

#[tokio::test]
async fn the_ceiling_decides_the_level_and_the_origin_follows() {
    let (handler, _) = handler().await;
    let (memory, _) = created(&handler).await;
    let agent = principal(Truth::CloudAi);
    let asked = Execute { truth: Some(Truth::User), ..execute(memory, claim("title", "Elm"), &agent) };
    let done = handler.execute(asked).await.expect("kept");
    assert_eq!(done.outcome, Outcome::Suggested);
    let loaded = handler.load(memory).await.expect("loads");
    assert_eq!(loaded.memory.title(), "Oak");
    let claims = loaded.memory.field(&FieldName::title()).expect("claimed");
    assert_eq!(claims.suggestions()[0].author.truth, Truth::CloudAi);
    let forged = Execute {
        origin: Some("user:web".parse().expect("valid")),
        ..execute(memory, claim("title", "Ash"), &agent)
    };
    assert!(matches!(handler.execute(forged).await, Err(CommandError::ForeignOrigin { .. })));
}

#[tokio::test]
async fn a_repeated_key_is_carried_out_once_and_answers_alike() {
    let (handler, store) = handler().await;
    let user = principal(Truth::User);
    let memory = MemoryId::new(Uuid::now_v7());
    let keyed = |request: &str, command: Command| Execute {
        idempotency: Some(Idempotency { key: "k1".into(), request: request.into() }),
        ..execute(memory, command, &user)
    };
    let first = handler.execute(keyed("a", create("Oak"))).await.expect("created");
    let again = handler.execute(keyed("a", create("Oak"))).await.expect("recognised");
    assert!(again.repeated && !first.repeated);
    assert_eq!((again.events, again.position, again.revision), (first.events, first.position, first.revision));
    assert_eq!((again.outcome, again.fields.len()), (first.outcome, first.fields.len()));
    assert_eq!(store.head().borrow().0, 3);
    let other = handler.execute(keyed("b", create("Elm"))).await;
    assert!(matches!(other, Err(CommandError::KeyReused)));
}

#[tokio::test]
async fn the_same_key_at_the_same_time_is_carried_out_once() {
    let (handler, store) = handler().await;
    let memory = MemoryId::new(Uuid::now_v7());
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let handler = Arc::clone(&handler);
            tokio::spawn(async move {
                let user = principal(Truth::User);
                let key = Idempotency { key: "k".into(), request: "r".into() };
                let execute = Execute { idempotency: Some(key), ..execute(memory, create("Oak"), &user) };
                handler.execute(execute).await
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic").expect("carried out or recognised");
    }
    assert_eq!(store.head().borrow().0, 3);
}

#[tokio::test]
async fn a_stale_revision_is_refused_and_nothing_written() {
    let (handler, store) = handler().await;
    let user = principal(Truth::User);
    let (memory, done) = created(&handler).await;
    handler.execute(execute(memory, claim("a", "1"), &user)).await.expect("written");
    let stale = Execute { expected: done.revision, ..execute(memory, claim("a", "2"), &user) };
    assert!(matches!(handler.execute(stale).await, Err(CommandError::StaleRevision { .. })));
    assert_eq!(store.head().borrow().0, 4);
}

#[tokio::test]
async fn what_does_not_exist_is_not_changed() {
    let (handler, _) = handler().await;
    let memory = MemoryId::new(Uuid::now_v7());
    let changed = handler.execute(execute(memory, claim("a", "1"), &principal(Truth::User))).await;
    assert!(matches!(changed, Err(CommandError::Rejected(Rejection::NotFound { .. }))));
}

#[tokio::test]
async fn another_handler_over_the_same_log_writes_as_well() {
    let (first, store) = handler().await;
    let second = Handler::open(Arc::clone(&store)).await.expect("opens");
    let user = principal(Truth::User);
    let (memory, _) = created(&first).await;
    for round in 0..10 {
        let handler = if round % 2 == 0 { &second } else { &*first };
        let done =
            handler.execute(execute(memory, claim("round", &round.to_string()), &user)).await.expect("written");
        assert_eq!(done.outcome, Outcome::Applied);
    }
    assert_eq!(first.load(memory).await.expect("loads").memory.value(&field("round")), Some(&Value::from("9")));
}

/// A store whose appends take a while.
struct Slow(SharedStore);

#[async_trait::async_trait]
impl cairn_event_store::EventStore for Slow {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.0.append(append).await
    }
    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.0.read_all(from, direction, filter, limit).await
    }
    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.0.read_stream(stream, from, direction, limit).await
    }
    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        self.0.event(id).await
    }
    async fn position_at(&self, time: chrono::DateTime<chrono::Utc>) -> Result<Position, StoreError> {
        self.0.position_at(time).await
    }
    fn head(&self) -> tokio::sync::watch::Receiver<Position> {
        self.0.head()
    }
    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.0.tracking(source).await
    }
    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        self.0.load_snapshot(stream).await
    }
    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        self.0.save_snapshot(stream, snapshot).await
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_nothing_stale_behind() {
    let (_, store) = handler().await;
    let handler = Handler::open(Arc::new(Slow(store))).await.expect("opens");
    let user = principal(Truth::User);
    let (memory, _) = created(&handler).await;
    handler.execute(execute(memory, claim("a", "1"), &user)).await.expect("written");
    let gone = handler.execute(execute(memory, claim("a", "2"), &user));
    assert!(tokio::time::timeout(Duration::from_millis(10), gone).await.is_err(), "it is given up on the way");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(handler.load(memory).await.expect("loads").memory.value(&field("a")), Some(&Value::from("2")));
    let back = handler.execute(execute(memory, claim("a", "1"), &user)).await.expect("written");
    assert_eq!(back.outcome, Outcome::Applied, "it was 2 meanwhile");
}

#[tokio::test]
async fn what_is_kept_is_compared_with_the_log_before_anything_is_refused() {
    let (first, store) = handler().await;
    let second = Handler::open(Arc::clone(&store)).await.expect("opens");
    let user = principal(Truth::User);
    let (memory, _) = created(&first).await;
    first.execute(execute(memory, claim("a", "1"), &user)).await.expect("written");
    second.load(memory).await.expect("loads");
    // The second handler is not told of this.
    let done = first.execute(execute(memory, claim("a", "2"), &user)).await.expect("written");
    let again = second.execute(execute(memory, claim("a", "1"), &user)).await.expect("written");
    assert_eq!(again.outcome, Outcome::Applied, "to the second it looked as if it were so already");
    first.execute(execute(memory, claim("a", "3"), &user)).await.expect("written");
    let seen = first.load(memory).await.expect("loads").revision;
    assert!(seen > done.revision);
    let expecting = Execute { expected: seen, ..execute(memory, claim("a", "4"), &user) };
    second.execute(expecting).await.expect("the revision is right");
}

#[tokio::test]
async fn a_memory_that_exists_is_not_made_again() {
    let (first, store) = handler().await;
    // Opened before the memory is there, and never told of it.
    let second = Handler::open(Arc::clone(&store)).await.expect("opens");
    let user = principal(Truth::User);
    let (memory, done) = created(&first).await;
    let again = second.execute(execute(memory, create("Elm"), &user)).await;
    assert!(matches!(again, Err(CommandError::Rejected(Rejection::AlreadyExists { .. }))), "{again:?}");
    assert_eq!(*store.head().borrow(), done.position, "nothing was written");
    let changed = second.execute(execute(memory, claim("a", "1"), &user)).await.expect("written");
    assert_eq!(changed.outcome, Outcome::Applied);
    assert_eq!(second.load(memory).await.expect("loads").memory.title(), "Oak");
}

#[tokio::test]
async fn a_memory_of_ten_thousand_edits_loads_from_its_snapshot() {
    let (handler, store) = handler().await;
    let user = principal(Truth::User);
    let (memory, _) = created(&handler).await;
    for edit in 0..5_000 {
        handler
            .execute(execute(memory, claim(&format!("f{}", edit % 20), &edit.to_string()), &user))
            .await
            .expect("ok");
        let text = format!("edit {edit}");
        let body = Some(BodyText { text, base: Base::Effective });
        let command = Command::ChangeMemory { claims: Vec::new(), body };
        handler.execute(execute(memory, command, &user)).await.expect("ok");
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while store.load_snapshot(&memory_stream(memory)).await.expect("reads").is_none_or(|s| s.revision.0 < 9_400) {
        assert!(Instant::now() < deadline, "no recent snapshot was saved");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let loaded = handler.repository().load(memory).await.expect("loads");
    let folded = handler.repository().load_as_of(memory, loaded.position).await.expect("folds");
    assert!(handler.load(memory).await.expect("loads").memory == folded.memory, "the cached memory is the fold");
    assert!(loaded.memory == folded.memory, "a snapshot and its tail are the whole fold");
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        handler.repository().load(memory).await.expect("loads");
        times.push(start.elapsed());
    }
    times.sort();
    // The figure itself is measured by the bench, in a release build on a quiet machine; folding takes far longer.
    assert!(times[4] < Duration::from_millis(100), "median {:?}", times[4]);
}
