//! What a chain says of a memory is sealed with the memory's key, and erased with the memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use cairn_event_store::conformance::{BRAIN, append, event, typed};
use cairn_event_store::sealed::{ENTRY_TYPE, ERASED_TYPE};
use cairn_event_store::{
    AppendError, Appended, Direction, EventStore, ExpectedRevision, Filter, Keyring, MemoryStore, NewAppend,
    NewEvent, Page, Position, PostgresStore, RecordedEvent, Revision, Sealed, SharedStore, Snapshot, SqliteStore,
    StoreError, StreamAppend, postgres, verify,
};
use cairn_testkit::postgres::{Database, database};
use chrono::{DateTime, Utc};
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore, watch};
use uuid::Uuid;

use ExpectedRevision::{Any, NoStream};

const WRAPPING_KEY: [u8; 32] = [7; 32];
const CHAIN: &str = "space-1-author-0";

type Store = Arc<Sealed<SharedStore>>;

/// Where a log and its keys are kept from one opening to the next.
enum Place {
    Memory(Arc<MemoryStore>, TempDir),
    Sqlite(TempDir),
    Postgres(Database),
}

impl Place {
    async fn open(&self) -> Store {
        let in_folder = |folder: &TempDir| Keyring::open(folder.path().join("keys.db"), WRAPPING_KEY).unwrap();
        let (store, keyring): (SharedStore, _) = match self {
            Self::Memory(log, folder) => (log.clone(), in_folder(folder)),
            Self::Sqlite(folder) => {
                let store = SqliteStore::open(folder.path().join("events.db"), BRAIN).unwrap();
                (Arc::new(store), in_folder(folder))
            }
            Self::Postgres(database) => {
                let pool = postgres::connect(database.url(), 4).await.unwrap();
                postgres::migrate(&pool).await.unwrap();
                let keyring = Keyring::open_postgres(pool.clone(), BRAIN, WRAPPING_KEY).await.unwrap();
                (Arc::new(PostgresStore::open(pool, BRAIN).await.unwrap()), keyring)
            }
        };
        Arc::new(Sealed::open(store, keyring).await.unwrap())
    }
}

/// Makes each rule a test over each place.
macro_rules! everywhere {
    ($($rule:ident),+ $(,)?) => {
        mod over_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() {
                let folder = tempfile::tempdir().unwrap();
                let log = std::sync::Arc::new(cairn_event_store::MemoryStore::new(super::BRAIN));
                super::$rule(super::Place::Memory(log, folder)).await;
            })+
        }
        mod over_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() {
                super::$rule(super::Place::Sqlite(tempfile::tempdir().unwrap())).await;
            })+
        }
        mod over_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() {
                super::$rule(super::Place::Postgres(super::database().await)).await;
            })+
        }
    };
}

everywhere! {
    entries_are_sealed_with_the_keys_of_their_memories,
    entries_are_erased_with_their_memory,
    an_erasure_cut_short_takes_the_entries_with_it,
    nothing_can_be_said_of_an_erased_memory,
    an_entry_without_anything_sealed_in_its_memory_is_refused,
    a_repetition_is_recognised,
    only_entries_that_name_a_memory_are_sealed,
    an_entry_whose_memory_cannot_be_told_is_refused,
    the_longest_append_seals_all_that_it_holds,
    damage_is_told_from_erasure,
}

fn on(stream: &str, expected: ExpectedRevision, events: Vec<NewEvent>) -> StreamAppend {
    StreamAppend { stream: stream.into(), expected, events }
}

fn stream_of(memory: Uuid) -> String {
    format!("memory-{memory}")
}

/// An entry with the metadata of one that is about a memory, or about none.
fn entry(memory: Option<Uuid>, text: &str) -> NewEvent {
    let named = memory.map(|memory| format!(",\"memory\":\"{memory}\"")).unwrap_or_default();
    with_metadata(
        &format!("{{\"header\":{{\"memory\":7,\"sequence\":\"{text}\"}}{named},\"signature\":\"ab\"}}"),
        text,
    )
}

fn with_metadata(metadata: &str, text: &str) -> NewEvent {
    NewEvent { metadata: metadata.to_owned().into(), ..typed(ENTRY_TYPE, &format!("secret {text}")) }
}

async fn add(store: &Store, stream: &str, event: NewEvent) -> Result<Appended, AppendError> {
    store.append(append([on(stream, Any, vec![event])])).await
}

async fn erase(store: &Store, memory: Uuid) {
    add(store, &stream_of(memory), typed(ERASED_TYPE, "by request")).await.unwrap();
}

async fn read(store: &dyn EventStore, stream: &str) -> Vec<RecordedEvent> {
    store.read_stream(stream, Revision(0), Direction::Forwards, 100_000).await.unwrap()
}

/// The same events as the log inside holds them.
async fn raw(store: &Store, stream: &str) -> Vec<RecordedEvent> {
    read(store.store(), stream).await
}

fn slot(sealed: &RecordedEvent) -> u32 {
    assert_eq!(sealed.data[0], 1, "it is not sealed: {:?}", sealed.data);
    u32::from_le_bytes(sealed.data[1..5].try_into().unwrap())
}

fn holds(event: &RecordedEvent, text: &str) -> bool {
    event.data.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Two memories that begin in one append with entries about each and one about none.
struct Begun {
    memories: [Uuid; 2],
    /// About the first, about none, about the second, about the first.
    entries: [NewEvent; 4],
    append: NewAppend,
}

fn begun() -> Begun {
    let memories @ [a, b] = [Uuid::now_v7(), Uuid::now_v7()];
    let entries = [entry(Some(a), "1"), entry(None, "2"), entry(Some(b), "3"), entry(Some(a), "4")];
    // The chain comes first: it does not matter in which order they are given.
    let append = append([
        on(CHAIN, NoStream, entries.to_vec()),
        on(&stream_of(a), NoStream, vec![event("secret a"), event("secret a again")]),
        on(&stream_of(b), NoStream, vec![event("secret b")]),
    ]);
    Begun { memories, entries, append }
}

/// The entries read the same in their stream, in the log and by id: those at `gone` are erased, the others as they were
/// given; of all of them the metadata is there.
async fn assert_entries(store: &Store, entries: &[NewEvent], gone: &[usize]) {
    let filter = Filter { stream_prefixes: vec![CHAIN.into()], event_types: vec![] };
    let all = store.read_all(Position::START, Direction::Forwards, &filter, 1_000).await.unwrap().events;
    let mut by_id = Vec::new();
    for entry in entries {
        by_id.push(store.event(entry.id).await.unwrap().unwrap());
    }
    for read in [read(store, CHAIN).await, all, by_id] {
        assert_eq!(read.len(), entries.len());
        for (index, (read, given)) in read.iter().zip(entries).enumerate() {
            let is_gone = gone.contains(&index);
            let data = if is_gone { &b"null"[..] } else { &given.data[..] };
            assert_eq!((read.id, &read.data[..], read.erased), (given.id, data, is_gone), "entry {index}");
            assert_eq!(read.metadata, given.metadata, "entry {index}");
        }
    }
}

async fn entries_are_sealed_with_the_keys_of_their_memories(place: Place) {
    let mut store = place.open().await;
    let Begun { memories: [a, b], entries, append } = begun();
    store.append(append).await.unwrap();
    let mut entries = entries.to_vec();
    for _ in 0..2 {
        assert_entries(&store, &entries, &[]).await;
        let (in_a, in_b) = (raw(&store, &stream_of(a)).await, raw(&store, &stream_of(b)).await);
        let chain = raw(&store, CHAIN).await;
        assert_ne!(slot(&in_a[0]), slot(&in_b[0]));
        for (index, keyed) in [(0, &in_a), (2, &in_b), (3, &in_a)] {
            assert_eq!(slot(&chain[index]), slot(&keyed[0]), "entry {index}");
            assert!(!holds(&chain[index], "secret"), "entry {index} lies there in the clear");
        }
        assert_eq!(chain[1].data, entries[1].data, "what is about no memory is not sealed");
        assert!(chain.iter().zip(&entries).all(|(event, given)| event.metadata == given.metadata));

        // After the store was opened anew, it is still the slots of the memories' streams.
        drop(store);
        store = place.open().await;
        for memory in [a, b] {
            let more = entry(Some(memory), &format!("later {}", entries.len()));
            add(&store, CHAIN, more.clone()).await.unwrap();
            let added = raw(&store, CHAIN).await.pop().unwrap();
            assert_eq!(slot(&added), slot(&raw(&store, &stream_of(memory)).await[0]));
            entries.push(more);
        }
    }
    assert_entries(&store, &entries, &[]).await;
}

async fn entries_are_erased_with_their_memory(place: Place) {
    let mut store = place.open().await;
    let Begun { memories: [a, b], entries, append } = begun();
    store.append(append).await.unwrap();
    let other = entry(Some(a), "in another chain");
    add(&store, "space-2", other.clone()).await.unwrap();
    let before = raw(&store, CHAIN).await;
    assert_eq!(read(&store, "space-2").await[0].data, other.data);
    erase(&store, a).await;
    for _ in 0..2 {
        assert_entries(&store, &entries, &[0, 3]).await;
        let in_other = read(&store, "space-2").await.remove(0);
        assert_eq!(
            (&in_other.data[..], in_other.erased, in_other.metadata),
            (&b"null"[..], true, other.metadata.clone())
        );
        let log =
            store.read_all(Position::START, Direction::Forwards, &Filter::default(), 100).await.unwrap().events;
        let gone = log.iter().filter(|event| event.erased).count();
        assert_eq!((log.len(), gone), (9, 5), "two events of the memory and three entries are gone");
        assert_eq!(read(&store, &stream_of(b)).await[0].data, event("secret b").data);
        // What is signed and hashed is what it was.
        assert_eq!(raw(&store, CHAIN).await, before);
        let sound = verify::verify(store.store(), |_| {}).await.unwrap();
        assert_eq!((sound.events, sound.damage), (9, None));

        drop(store);
        store = place.open().await;
    }
}

async fn an_erasure_cut_short_takes_the_entries_with_it(place: Place) {
    let store = place.open().await;
    let Begun { memories: [a, _], entries, append: given } = begun();
    store.append(given).await.unwrap();
    // What a crash leaves: the event is in the log, the key is still there.
    let tombstone = on(&stream_of(a), Any, vec![typed(ERASED_TYPE, "by request")]);
    store.store().append(append([tombstone])).await.unwrap();
    drop(store);
    let store = place.open().await;
    assert_entries(&store, &entries, &[0, 3]).await;
}

async fn nothing_can_be_said_of_an_erased_memory(place: Place) {
    let mut store = place.open().await;
    let Begun { memories: [a, b], entries, append: given } = begun();
    store.append(given).await.unwrap();
    erase(&store, a).await;
    for _ in 0..2 {
        let late = append([
            on(CHAIN, Any, vec![entry(Some(b), "not erased"), entry(Some(a), "late")]),
            on("space-2", Any, vec![entry(None, "control")]),
        ]);
        let reason = format!("stream {} was erased", stream_of(a));
        let refused = store.append(late).await;
        assert!(matches!(&refused, Err(AppendError::Invalid(text)) if *text == reason), "{refused:?}");
        // Nor does it help to add to the memory again.
        let again =
            append([on(&stream_of(a), Any, vec![event("again")]), on(CHAIN, Any, vec![entry(Some(a), "late")])]);
        let refused = store.append(again).await;
        assert!(matches!(&refused, Err(AppendError::Invalid(text)) if *text == reason), "{refused:?}");
        assert_entries(&store, &entries, &[0, 3]).await;
        drop(store);
        store = place.open().await;
    }
}

async fn an_entry_without_anything_sealed_in_its_memory_is_refused(place: Place) {
    let store = place.open().await;
    let memory = Uuid::now_v7();
    let stream = stream_of(memory);
    let lone = entry(Some(memory), "lone");
    let assert_refused = async |streams: Vec<StreamAppend>| {
        let refused = store.append(append(streams)).await;
        let Err(AppendError::Invalid(reason)) = &refused else { panic!("{refused:?}") };
        assert!(reason.contains(&stream) && reason.contains("nothing is sealed yet"), "{reason}");
        assert_eq!(*store.head().borrow(), Position::START);
    };
    assert_refused(vec![on(CHAIN, Any, vec![lone.clone()])]).await;
    // An erasure is not sealed, a mere check writes nothing, and another memory's events name another key.
    let unsealed = vec![typed(ERASED_TYPE, "x")];
    assert_refused(vec![on(&stream, Any, unsealed), on(CHAIN, Any, vec![lone.clone()])]).await;
    assert_refused(vec![on(&stream, NoStream, vec![]), on(CHAIN, Any, vec![lone.clone()])]).await;
    let other = on(&stream_of(Uuid::now_v7()), NoStream, vec![event("other")]);
    assert_refused(vec![other, on(CHAIN, Any, vec![lone.clone()])]).await;
    // A slot that was given out and of which nothing came is named by nothing.
    let wrong = on(&stream, ExpectedRevision::StreamExists, vec![event("refused")]);
    assert!(store.append(append([wrong])).await.is_err());
    assert_refused(vec![on(CHAIN, Any, vec![lone.clone()])]).await;
    let folded = Snapshot { revision: Revision(0), format: 1, data: "folded".into() };
    store.save_snapshot(&stream, Some(folded)).await.unwrap();
    assert_refused(vec![on(CHAIN, Any, vec![lone.clone()])]).await;

    let together = append([on(CHAIN, Any, vec![lone.clone()]), on(&stream, Any, vec![event("first")])]);
    store.append(together).await.unwrap();
    assert_entries(&store, &[lone], &[]).await;
    erase(&store, memory).await;
    assert!(read(&store, CHAIN).await[0].erased);
}

async fn a_repetition_is_recognised(place: Place) {
    let mut store = place.open().await;
    let Begun { memories: [a, _], append: given, .. } = begun();
    let later = append([on(CHAIN, Any, vec![entry(Some(a), "later"), entry(None, "control")])]);
    let first = [store.append(given.clone()).await.unwrap(), store.append(later.clone()).await.unwrap()];
    for _ in 0..2 {
        for (given, first) in [&given, &later].into_iter().zip(&first) {
            let again = store.append(given.clone()).await.unwrap();
            assert!(again.repeated);
            assert_eq!((again.position, &again.revisions), (first.position, &first.revisions));
            for changed in [0, 1] {
                let mut other = given.clone();
                other.streams[0].events[changed].data = "{}".into();
                let refused = store.append(other).await;
                assert!(matches!(refused, Err(AppendError::EventIdReused { .. })), "{refused:?}");
            }
        }
        drop(store);
        store = place.open().await;
    }
    assert_eq!(*store.head().borrow(), first[1].position);
}

async fn only_entries_that_name_a_memory_are_sealed(place: Place) {
    let store = place.open().await;
    let memory = Uuid::now_v7();
    store.append(append([on(&stream_of(memory), NoStream, vec![event("first")])])).await.unwrap();
    let nil = Uuid::nil();
    let named = format!("{{\"memory\":\"{memory}\"}}");
    let other_type = NewEvent { event_type: "space.granted".into(), ..with_metadata(&named, "other type") };
    let plain = [
        (CHAIN, with_metadata("{}", "empty")),
        (CHAIN, with_metadata("{\"memory\":null}", "null")),
        (CHAIN, with_metadata(&format!("{{\"memory\":\"{nil}\"}}"), "nil")),
        (CHAIN, with_metadata(&format!("{{\"header\":{named}}}"), "nested")),
        (CHAIN, other_type),
        ("grant-1", with_metadata(&named, "other stream")),
    ];
    for (stream, event) in plain {
        add(&store, stream, event.clone()).await.unwrap();
        let inside = store.store().event(event.id).await.unwrap().unwrap();
        assert_eq!(inside.data, event.data, "it is not sealed");
        assert_eq!(store.event(event.id).await.unwrap().unwrap(), inside);
    }
    for metadata in [&*named, &format!(" {{ \"a\":[{{}}], \"\\u006demory\" : \"{memory}\" }}\n")] {
        let event = with_metadata(metadata, "named");
        add(&store, CHAIN, event.clone()).await.unwrap();
        assert!(!holds(&store.store().event(event.id).await.unwrap().unwrap(), "secret"), "{metadata}");
        assert_eq!(store.event(event.id).await.unwrap().unwrap().data, event.data);
    }
}

async fn an_entry_whose_memory_cannot_be_told_is_refused(place: Place) {
    let store = place.open().await;
    let memory = Uuid::now_v7();
    store.append(append([on(&stream_of(memory), NoStream, vec![event("first")])])).await.unwrap();
    let twice = format!("{{\"memory\":null,\"memory\":\"{memory}\"}}");
    for metadata in ["", "{", "7", "{\"memory\":7}", "{\"memory\":\"\"}", "{\"memory\":{}}", &twice] {
        let unclear = with_metadata(metadata, "unclear");
        let refused = add(&store, CHAIN, unclear.clone()).await;
        let Err(AppendError::Invalid(reason)) = &refused else { panic!("{metadata}: {refused:?}") };
        assert!(reason.contains(&unclear.id.to_string()) && reason.contains("which memory"), "{reason}");
    }
    assert_eq!(*store.head().borrow(), Position(1));
    // In a log that was written past the encryption, such an entry is damage.
    store.store().append(append([on(CHAIN, Any, vec![with_metadata("{\"memory\":7}", "x")])])).await.unwrap();
    let read = store.read_stream(CHAIN, Revision(0), Direction::Forwards, 1).await;
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
}

async fn the_longest_append_seals_all_that_it_holds(place: Place) {
    const MEMORIES: usize = 400;
    const ENTRIES: usize = 9_600;
    let store = place.open().await;
    let memories: Vec<_> = (0..MEMORIES).map(|_| Uuid::now_v7()).collect();
    let padding = "x".repeat(100);
    let entries: Vec<_> =
        (0..ENTRIES).map(|n| entry(Some(memories[n * 7 % MEMORIES]), &format!("{n} {padding}"))).collect();
    let begins = memories.iter().map(|memory| on(&stream_of(*memory), NoStream, vec![event("begins")]));
    let whole: Vec<_> = [on(CHAIN, NoStream, entries.clone())].into_iter().chain(begins).collect();
    store.append(append(whole)).await.unwrap();
    let mut inside = Vec::new();
    let mut outside = Vec::new();
    while outside.len() < ENTRIES {
        let from = Revision(outside.len() as u64);
        inside.extend(store.store().read_stream(CHAIN, from, Direction::Forwards, 1_000).await.unwrap());
        outside.extend(store.read_stream(CHAIN, from, Direction::Forwards, 1_000).await.unwrap());
    }
    assert_eq!((inside.len(), outside.len()), (ENTRIES, ENTRIES));
    assert!(outside.iter().zip(&entries).all(|(read, given)| read.id == given.id && read.data == given.data));
    assert!(!inside.iter().any(|event| holds(event, "secret")));
    assert_eq!(inside.iter().map(slot).collect::<HashSet<_>>().len(), MEMORIES);
    for memory in [0, MEMORIES - 1] {
        let of_stream = slot(&raw(&store, &stream_of(memories[memory])).await[0]);
        let entries = (0..ENTRIES).filter(|n| n * 7 % MEMORIES == memory);
        assert!(entries.map(|n| slot(&inside[n])).all(|slot| slot == of_stream));
    }
}

async fn damage_is_told_from_erasure(place: Place) {
    let store = place.open().await;
    let Begun { memories: [a, _], append: given, .. } = begun();
    store.append(given).await.unwrap();
    let sealed = raw(&store, CHAIN).await.remove(0);
    // A ciphertext is good in its own stream and for its own event only; and what must be sealed is not taken unsealed.
    let moved = NewEvent { data: sealed.data.clone(), ..entry(Some(a), "moved") };
    let plain = entry(Some(a), "plain");
    for (stream, damaged) in [("space-moved", moved), ("space-plain", plain)] {
        store.store().append(append([on(stream, Any, vec![damaged])])).await.unwrap();
        let read = store.read_stream(stream, Revision(0), Direction::Forwards, 1).await;
        assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{stream}: {read:?}");
    }
}

/// An entry's ciphertext is bound to the name of its stream, also where everything else is the same.
#[tokio::test]
async fn an_entry_moved_to_another_chain_is_damage() {
    let place = Place::Memory(Arc::new(MemoryStore::new(BRAIN)), tempfile::tempdir().unwrap());
    let store = place.open().await;
    let Begun { append: given, entries, .. } = begun();
    store.append(given).await.unwrap();
    let sealed = raw(&store, CHAIN).await.remove(0);
    let Place::Memory(_, folder) = place else { unreachable!() };
    drop(store);
    let moved = NewEvent { data: sealed.data, ..entries[0].clone() };
    for (stream, is_whole) in [(CHAIN, true), ("space-other", false)] {
        let other = Place::Memory(Arc::new(MemoryStore::new(BRAIN)), tempfile::tempdir().unwrap());
        let Place::Memory(log, _) = &other else { unreachable!() };
        log.append(append([on(stream, Any, vec![moved.clone()])])).await.unwrap();
        let keyring = Keyring::open(folder.path().join("keys.db"), WRAPPING_KEY).unwrap();
        let store = Sealed::open(log.clone(), keyring).await.unwrap();
        let read = store.event(moved.id).await;
        assert_eq!(read.is_ok(), is_whole, "{stream}: {read:?}");
    }
}

#[tokio::test]
async fn plaintext_is_nowhere_on_disk() {
    let place = Place::Sqlite(tempfile::tempdir().unwrap());
    let store = place.open().await;
    let Begun { append: given, .. } = begun();
    store.append(given).await.unwrap();
    let Place::Sqlite(folder) = &place else { unreachable!() };
    let found = |needle: &str| {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let mut bytes = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        bytes.any(|bytes| bytes.windows(needle.len()).any(|window| window == needle.as_bytes()))
    };
    // The search finds what is not sealed, so it would find what is.
    assert!(found("\"secret 2\""), "the entry about no memory");
    assert!(found("\"sequence\":\"1\""), "the metadata of the one about a memory");
    for sealed in ["\"secret 1\"", "\"secret 3\"", "\"secret 4\""] {
        assert!(!found(sealed), "{sealed}");
    }
}

/// Keys are shared there, so a process must hear of what another erases, also if it reads chains only.
#[tokio::test]
async fn what_another_process_erases_is_gone_from_the_chains() {
    let place = Place::Postgres(database().await);
    let (one, other) = (place.open().await, place.open().await);
    let Begun { memories: [a, b], entries, append: given } = begun();
    let appended = one.append(given).await.unwrap();
    other.head().wait_for(|head| *head >= appended.position).await.unwrap();
    assert_entries(&other, &entries, &[]).await;
    erase(&one, a).await;
    other.head().wait_for(|head| *head > appended.position).await.unwrap();
    assert_entries(&other, &entries, &[0, 3]).await;
    assert_entries(&one, &entries, &[0, 3]).await;
    // Also by one entry alone, and again.
    erase(&one, b).await;
    other.head().wait_for(|head| head.0 > appended.position.0 + 1).await.unwrap();
    assert!(other.event(entries[2].id).await.unwrap().unwrap().erased);
    // It is not in the other's power to add what would be erased already.
    let late = add(&other, CHAIN, entry(Some(a), "late")).await;
    assert!(matches!(late, Err(AppendError::Invalid(_))), "{late:?}");
}

/// A log that keeps appends which begin a stream waiting, once it is told to.
struct Gate {
    log: Arc<MemoryStore>,
    arrived: Notify,
    open: Semaphore,
}

#[async_trait]
impl EventStore for Gate {
    async fn append(&self, append: NewAppend) -> Result<Appended, AppendError> {
        if append.streams.iter().any(|entry| entry.expected == NoStream) {
            self.arrived.notify_one();
            self.open.acquire().await.unwrap().forget();
        }
        self.log.append(append).await
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.log.read_all(from, direction, filter, limit).await
    }

    async fn read_stream(
        &self,
        stream: &str,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.log.read_stream(stream, from, direction, limit).await
    }

    async fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
        self.log.event(id).await
    }

    async fn position_at(&self, time: DateTime<Utc>) -> Result<Position, StoreError> {
        self.log.position_at(time).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.log.head()
    }

    async fn tracking(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.log.tracking(source).await
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Option<Snapshot>, StoreError> {
        self.log.load_snapshot(stream).await
    }

    async fn save_snapshot(&self, stream: &str, snapshot: Option<Snapshot>) -> Result<(), StoreError> {
        self.log.save_snapshot(stream, snapshot).await
    }
}

/// An append that says wrongly that a stream is new is given a slot on a guess. Until it is refused, nobody else may take
/// that for the stream's: erasing the stream would not find it, and an erased stream would take more.
#[tokio::test]
async fn a_slot_given_on_a_guess_seals_nothing_of_others() {
    let log = Arc::new(MemoryStore::new(BRAIN));
    let place = Place::Memory(log.clone(), tempfile::tempdir().unwrap());
    let Place::Memory(_, folder) = &place else { unreachable!() };
    let [kept, erased, new] = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    let store = place.open().await;
    for memory in [kept, erased] {
        add(&store, &stream_of(memory), event("begins")).await.unwrap();
    }
    erase(&store, erased).await;
    drop(store);

    let keyring = Keyring::open(folder.path().join("keys.db"), WRAPPING_KEY).unwrap();
    let gate = Arc::new(Gate { log, arrived: Notify::new(), open: Semaphore::new(0) });
    let shared: SharedStore = gate.clone();
    let store = Arc::new(Sealed::open(shared, keyring).await.unwrap());
    let mut waiting = Vec::new();
    for memory in [kept, erased, new] {
        let guess = append([on(&stream_of(memory), NoStream, vec![event("a guess")])]);
        let store = store.clone();
        waiting.push(tokio::spawn(async move { store.append(guess).await }));
        gate.arrived.notified().await;
    }
    add(&store, CHAIN, entry(Some(kept), "meanwhile")).await.unwrap();
    assert_eq!(slot(&raw(&store, CHAIN).await[0]), slot(&raw(&store, &stream_of(kept)).await[0]));
    for (stream, late) in [(stream_of(erased), event("late")), (CHAIN.to_owned(), entry(Some(erased), "late"))] {
        let refused = add(&store, &stream, late).await;
        assert!(matches!(&refused, Err(AppendError::Invalid(text)) if text.contains("erased")), "{refused:?}");
    }
    // Whether the new one's first append goes through is not known yet.
    let refused = add(&store, CHAIN, entry(Some(new), "too early")).await;
    assert!(matches!(&refused, Err(AppendError::Invalid(text)) if text.contains("sealed yet")), "{refused:?}");

    gate.open.add_permits(3);
    let mut answers = Vec::new();
    for waiting in waiting {
        answers.push(waiting.await.unwrap().is_ok());
    }
    assert_eq!(answers, [false, false, true]);
    add(&store, CHAIN, entry(Some(new), "after it")).await.unwrap();
    erase(&store, kept).await;
    let erased: Vec<_> = read(&store, CHAIN).await.iter().map(|event| event.erased).collect();
    assert_eq!(erased, [true, false]);
}
