//! Sealing keeps the rules over either adapter, leaves no plaintext on disk, and erases for good.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use cairn_event_store::conformance::{BRAIN, Fixture, Scene, append, event, typed};
use cairn_event_store::keyring::{KeyringError, SLOT_BLOCK};
use cairn_event_store::sealed::ERASED_TYPE;
use cairn_event_store::{
    AppendError, Direction, EventStore, ExpectedRevision, Keyring, MemoryStore, Position, Revision, Sealed,
    Snapshot, SqliteStore, StoreError,
};

const WRAPPING_KEY: [u8; 32] = [7; 32];

mod over_memory {
    use super::*;

    async fn sealed() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(folder.path().join("keys.db"), WRAPPING_KEY).unwrap();
        let store = Sealed::open(MemoryStore::new(BRAIN), keyring).await.unwrap();
        Fixture { store: Arc::new(store), keep: Box::new(folder) }
    }

    cairn_event_store::conformance_suite!(sealed);
}

mod over_sqlite {
    use super::*;

    async fn sealed() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        Fixture { store, keep: Box::new(folder) }
    }

    cairn_event_store::conformance_suite!(sealed);
}

async fn open(folder: &Path) -> Arc<Sealed<SqliteStore>> {
    let store = SqliteStore::open(folder.join("events.db"), BRAIN).unwrap();
    let keyring = Keyring::open(folder.join("keys.db"), WRAPPING_KEY).unwrap();
    Arc::new(Sealed::open(store, keyring).await.unwrap())
}

fn scene(store: &Arc<Sealed<SqliteStore>>) -> Scene {
    Scene { store: store.clone(), prefix: "memory-" }
}

async fn erase(scene: &Scene, stream: &str) {
    scene.append(stream, ExpectedRevision::Any, vec![typed(ERASED_TYPE, "by request")]).await.unwrap();
}

fn snapshot(data: &'static str) -> Snapshot {
    Snapshot { revision: Revision(0), format: 1, data: data.into() }
}

/// The names of the folder's files that hold these bytes.
fn files_with(folder: &Path, needle: &[u8]) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| std::fs::read(entry.path()).unwrap().windows(needle.len()).any(|window| window == needle))
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn plaintext_is_nowhere_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let scene = scene(&store);
    scene.append("a", ExpectedRevision::Any, vec![event("a-secret-of-mine")]).await.unwrap();
    store.save_snapshot("memory-a", Some(snapshot("a-secret-of-mine"))).await.unwrap();
    let open_stream = Scene { prefix: "space-", ..scene.clone() };
    open_stream.append("a", ExpectedRevision::Any, vec![event("a-public-notice")]).await.unwrap();

    // The search finds what is not sealed, so it would find what is.
    assert!(!files_with(folder.path(), b"a-public-notice").is_empty());
    assert!(files_with(folder.path(), b"a-secret-of-mine").is_empty());
    erase(&scene, "a").await;
    assert!(files_with(folder.path(), b"a-secret-of-mine").is_empty());
    store.store().close().await;
    assert!(files_with(folder.path(), b"a-secret-of-mine").is_empty());
}

#[tokio::test]
async fn an_erased_stream_stays_erased_and_others_stay_readable() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).await;
    let first = scene(&store);
    for stream in ["a", "b"] {
        first.fill(stream, 3).await;
        store.save_snapshot(&first.name(stream), Some(snapshot("folded"))).await.unwrap();
    }
    let before = first.stream("b").await;
    erase(&first, "a").await;
    drop(first);

    for _ in 0..3 {
        let scene = scene(&store);
        let (a, b) = (scene.stream("a").await, scene.stream("b").await);
        assert_eq!(b, before);
        let sealed: Vec<_> = a.iter().map(|event| (&*event.event_type, &event.data[..], event.erased)).collect();
        let gone = ("memory.noted", &b"null"[..], true);
        let tombstone = (ERASED_TYPE, &b"{\"text\":\"by request\"}"[..], false);
        assert_eq!(sealed, [gone, gone, gone, tombstone]);
        assert_eq!(store.load_snapshot("memory-a").await.unwrap(), None);
        assert_eq!(store.load_snapshot("memory-b").await.unwrap(), Some(snapshot("folded")));

        // Nothing can be added that would have to be sealed, and a snapshot is not kept.
        let refused = scene.append("a", ExpectedRevision::Any, vec![event("more")]).await;
        assert!(matches!(refused, Err(AppendError::Invalid(_))), "{refused:?}");
        store.save_snapshot("memory-a", Some(snapshot("late"))).await.unwrap();
        assert_eq!(store.store().load_snapshot("memory-a").await.unwrap(), None);
        // Erasing again is no error.
        let again =
            store.append(append([scene.on("c", ExpectedRevision::Any, vec![typed(ERASED_TYPE, "x")])])).await;
        again.unwrap();

        drop((scene, store));
        store = open(folder.path()).await;
    }
}

#[tokio::test]
async fn an_erasure_cut_short_is_completed_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let (a, b) = (scene(&store).fill("a", 2).await, scene(&store).fill("b", 1).await);
    store.save_snapshot("memory-a", Some(snapshot("folded"))).await.unwrap();
    // What a crash leaves: the event is in the log, the key is still there.
    let tombstone = scene(&store).on("a", ExpectedRevision::Any, vec![typed(ERASED_TYPE, "by request")]);
    store.store().append(append([tombstone])).await.unwrap();
    assert!(!store.event(a[0].id).await.unwrap().unwrap().erased);
    drop(store);

    let store = open(folder.path()).await;
    assert!(store.event(a[0].id).await.unwrap().unwrap().erased);
    assert!(store.event(a[1].id).await.unwrap().unwrap().erased);
    assert_eq!(store.event(b[0].id).await.unwrap().unwrap().data, b[0].data);
    assert_eq!(store.store().load_snapshot("memory-a").await.unwrap(), None);
}

#[tokio::test]
async fn a_repetition_is_recognised_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let given = append([
        scene(&store).on("a", ExpectedRevision::NoStream, vec![event("1"), event("2")]),
        scene(&store).on("b", ExpectedRevision::NoStream, vec![event("3")]),
    ]);
    let first = store.append(given.clone()).await.unwrap();
    drop(store);

    let store = open(folder.path()).await;
    let again = store.append(given.clone()).await.unwrap();
    assert!(again.repeated);
    assert_eq!((again.position, again.revisions), (first.position, first.revisions));
    let mut other = given;
    other.streams[0].events[0].data = "{}".into();
    assert!(matches!(store.append(other).await, Err(AppendError::EventIdReused { .. })));
}

/// A process that is killed notes nothing: what it leaves is what is on disk while it runs.
#[tokio::test]
async fn no_slot_is_used_twice() {
    let mut folder = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let store = open(folder.path()).await;
        let scene = scene(&store);
        for stream in 0..10 {
            scene.fill(&format!("{round}-{stream}"), 2).await;
        }
        if round % 2 == 0 {
            let copy = tempfile::tempdir().unwrap();
            for file in std::fs::read_dir(folder.path()).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
            }
            drop((scene, store));
            folder = copy;
        }
    }
    let store = open(folder.path()).await;
    let page =
        store.store().read_all(Position::START, Direction::Forwards, &Default::default(), 1_000).await.unwrap();
    let slot = |data: &[u8]| u32::from_le_bytes(data[1..5].try_into().unwrap());
    let slots: HashMap<_, _> = page.events.iter().map(|event| (event.stream.clone(), slot(&event.data))).collect();
    assert_eq!((page.events.len(), slots.len()), (120, 60));
    assert_eq!(slots.values().collect::<HashSet<_>>().len(), 60, "a slot serves two streams: {slots:?}");
    // An orderly shutdown burns none.
    let max = slots.values().max().unwrap();
    assert!(*max < 4 * SLOT_BLOCK, "slot {max}");
}

#[tokio::test]
async fn more_streams_than_a_block_of_slots_holds() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Keyring::open(folder.path().join("keys.db"), WRAPPING_KEY).unwrap();
    let store: Arc<dyn EventStore> = Arc::new(Sealed::open(MemoryStore::new(BRAIN), keyring).await.unwrap());
    let scene = Scene { store, prefix: "memory-" };
    for n in 0..9_000 {
        scene.append(&n.to_string(), ExpectedRevision::NoStream, vec![event(&n.to_string())]).await.unwrap();
    }
    let log = scene.log().await;
    assert!((0..9_000).all(|n| log[n].data == format!("{{\"text\":\"{n}\"}}")));
}

#[tokio::test]
async fn damage_is_told_from_erasure() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.db");
    let inner = Arc::new(MemoryStore::new(BRAIN));
    let store = Sealed::open(inner.clone(), Keyring::open(&keys, WRAPPING_KEY).unwrap()).await.unwrap();
    let scene = Scene { store: Arc::new(store), prefix: "memory-" };
    scene.fill("a", 1).await;
    let sealed = inner.read_stream("memory-a", Revision(0), Direction::Forwards, 1).await.unwrap().remove(0);

    let mut moved = event("moved");
    moved.data = sealed.data.clone();
    let mut foreign = event("foreign");
    foreign.data = [&[1, 255, 255, 0, 0][..], &[0; 60]].concat().into();
    let mut plain = event("plain");
    plain.data = "{}".into();
    for (stream, damaged) in [("b", moved), ("c", foreign), ("d", plain)] {
        inner.append(append([scene.on(stream, ExpectedRevision::Any, vec![damaged])])).await.unwrap();
        let read = scene.store.read_stream(&scene.name(stream), Revision(0), Direction::Forwards, 1).await;
        assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{stream}: {read:?}");
    }
}

#[tokio::test]
async fn a_keyring_opens_with_its_own_key_only_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let keyring = Keyring::open(&path, WRAPPING_KEY).unwrap();
    assert!(matches!(Keyring::open(&path, WRAPPING_KEY), Err(KeyringError::Open(_))));
    drop(keyring);
    assert!(matches!(Keyring::open(&path, [8; 32]), Err(KeyringError::WrongKey { .. })));
    assert!(Keyring::open(&path, WRAPPING_KEY).is_ok());

    let foreign = folder.path().join("foreign.db");
    std::fs::write(&foreign, "something else, and long enough to be taken for a database by its size alone")
        .unwrap();
    assert!(matches!(Keyring::open(&foreign, WRAPPING_KEY), Err(KeyringError::Foreign { .. })));
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
