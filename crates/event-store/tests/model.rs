//! Whatever is done to them, the log in a file and the log in memory answer alike, also across reopening.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use cairn_event_store::conformance::BRAIN;
use cairn_event_store::{
    AppendError, Appended, Direction, EventStore, ExpectedRevision, Filter, MemoryStore, NewAppend, NewEvent,
    Page, Position, RecordedEvent, Revision, Snapshot, SqliteStore, StreamAppend, Tracking,
};
use chrono::DateTime;
use proptest::prelude::*;
use uuid::Uuid;

/// Few of everything, so that collisions are common.
const STREAMS: [&str; 4] = ["memory-a", "memory-b", "space-a", "space-ab"];
const TYPES: [&str; 4] = ["memory.noted", "memory.field.set", "memory.field.cleared", "space.made"];

#[derive(Debug, Clone)]
enum Operation {
    Append(NewAppend),
    /// Makes an earlier append again, by its number.
    Repeat(usize),
    ReadAll(u64, Direction, Filter, usize),
    ReadStream(usize, u64, Direction, usize),
    FindEvent(u128),
    SaveSnapshot(usize, Option<u64>),
    Reopen,
}

fn event() -> impl Strategy<Value = NewEvent> {
    (0..60_u128, 0..TYPES.len(), 1..3_u16, 0..3_u8).prop_map(|(id, event_type, schema_version, data)| NewEvent {
        id: Uuid::from_u128(id),
        event_type: TYPES[event_type].into(),
        schema_version,
        data: vec![data; usize::from(data) * 700].into(),
        metadata: "{}".into(),
    })
}

/// Mostly with ids of their own: otherwise hardly anything would be written.
fn new_event() -> impl Strategy<Value = NewEvent> {
    (event(), any::<u128>(), prop::bool::weighted(0.85)).prop_map(|(mut event, id, fresh)| {
        if fresh {
            event.id = Uuid::from_u128(id);
        }
        event
    })
}

fn expected() -> impl Strategy<Value = ExpectedRevision> {
    prop_oneof![
        6 => Just(ExpectedRevision::Any),
        1 => Just(ExpectedRevision::NoStream),
        1 => Just(ExpectedRevision::StreamExists),
        2 => (0..12_u64).prop_map(|revision| ExpectedRevision::Exact(Revision(revision))),
    ]
}

fn append() -> impl Strategy<Value = NewAppend> {
    let entry = (0..STREAMS.len(), expected(), prop::collection::vec(new_event(), 0..4));
    let tracking = prop::option::weighted(0.2, 0..20_u64);
    (prop::collection::vec(entry, 0..3), tracking).prop_map(|(entries, tracking)| NewAppend {
        streams: entries
            .into_iter()
            .map(|(stream, expected, events)| StreamAppend { stream: STREAMS[stream].into(), expected, events })
            .collect(),
        tracking: tracking.map(|position| Tracking { source: "vault".into(), position }),
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    let prefixes = prop::sample::subsequence(vec!["memory-", "space-a", "space-ab", "none"], 0..3);
    let types = prop::sample::subsequence(vec!["memory.", "memory.field.", "space.made", "memory.field"], 0..3);
    (prefixes, types).prop_map(|(prefixes, types)| Filter {
        stream_prefixes: prefixes.into_iter().map(str::to_owned).collect(),
        event_types: types.into_iter().map(str::to_owned).collect(),
    })
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Forwards), Just(Direction::Backwards)]
}

fn start() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0..60_u64, 1 => Just(u64::MAX)]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => append().prop_map(Operation::Append),
        2 => (0..1_000_usize).prop_map(Operation::Repeat),
        3 => (start(), direction(), filter(), 0..20_usize).prop_map(|(a, b, c, d)| Operation::ReadAll(a, b, c, d)),
        3 => (0..STREAMS.len(), start(), direction(), 0..9_usize)
            .prop_map(|(a, b, c, d)| Operation::ReadStream(a, b, c, d)),
        1 => (0..60_u128).prop_map(Operation::FindEvent),
        1 => (0..STREAMS.len(), prop::option::of(0..9_u64)).prop_map(|(a, b)| Operation::SaveSnapshot(a, b)),
        1 => Just(Operation::Reopen),
    ]
}

/// The time of recording is the only thing that may differ.
fn timeless(mut events: Vec<RecordedEvent>) -> Vec<RecordedEvent> {
    for event in &mut events {
        event.recorded_at = DateTime::UNIX_EPOCH;
    }
    events
}

fn told(answer: Result<Appended, AppendError>) -> Result<Appended, String> {
    answer.map_err(|refusal| refusal.to_string())
}

async fn everything(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let mut events = Vec::new();
    let mut from = Some(Position::START);
    while let Some(position) = from {
        let page = store.read_all(position, Direction::Forwards, &Filter::default(), 1_000).await.unwrap();
        events.extend(page.events);
        from = page.next;
    }
    timeless(events)
}

async fn check(operations: Vec<Operation>, path: &Path) -> Result<(), TestCaseError> {
    let mut file = SqliteStore::open(path, BRAIN).unwrap();
    let memory = MemoryStore::new(BRAIN);
    let mut made = Vec::new();
    for operation in operations {
        match operation {
            Operation::Append(append) => {
                made.push(append.clone());
                let answer = told(file.append(append.clone()).await);
                prop_assert_eq!(answer, told(memory.append(append).await));
            }
            Operation::Repeat(number) if !made.is_empty() => {
                let append = made[number % made.len()].clone();
                prop_assert_eq!(told(file.append(append.clone()).await), told(memory.append(append).await));
            }
            Operation::Repeat(_) => {}
            Operation::ReadAll(from, direction, filter, limit) => {
                let page = |page: Page| (timeless(page.events), page.next);
                let answer = page(file.read_all(Position(from), direction, &filter, limit).await.unwrap());
                let wanted = page(memory.read_all(Position(from), direction, &filter, limit).await.unwrap());
                prop_assert_eq!(answer, wanted);
            }
            Operation::ReadStream(stream, from, direction, limit) => {
                let (stream, from) = (STREAMS[stream], Revision(from));
                let answer = timeless(file.read_stream(stream, from, direction, limit).await.unwrap());
                prop_assert_eq!(
                    answer,
                    timeless(memory.read_stream(stream, from, direction, limit).await.unwrap())
                );
            }
            Operation::FindEvent(id) => {
                let id = Uuid::from_u128(id);
                let answer = timeless(file.event(id).await.unwrap().into_iter().collect());
                prop_assert_eq!(answer, timeless(memory.event(id).await.unwrap().into_iter().collect()));
            }
            Operation::SaveSnapshot(stream, revision) => {
                let snapshot =
                    revision.map(|n| Snapshot { revision: Revision(n), format: 1, data: vec![7; 20].into() });
                file.save_snapshot(STREAMS[stream], snapshot.clone()).await.unwrap();
                memory.save_snapshot(STREAMS[stream], snapshot).await.unwrap();
            }
            Operation::Reopen => {
                file.close().await;
                drop(file);
                file = SqliteStore::open(path, BRAIN).unwrap();
            }
        }
        prop_assert_eq!(*file.head().borrow(), *memory.head().borrow());
    }
    prop_assert_eq!(everything(&file).await, everything(&memory).await);
    prop_assert_eq!(file.tracking("vault").await.unwrap(), memory.tracking("vault").await.unwrap());
    for stream in STREAMS {
        prop_assert_eq!(file.load_snapshot(stream).await.unwrap(), memory.load_snapshot(stream).await.unwrap());
    }
    prop_assert_eq!(file.verify(|_| {}).await.unwrap().damage, None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_file_answers_as_the_memory_does(operations in prop::collection::vec(operation(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(operations, &folder.path().join("events.db")))?;
    }
}
