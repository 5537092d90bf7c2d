//! What becomes of the log's file: reopening, refusal, damage, a full disk, shutdown.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_event_store::conformance::{BRAIN, Scene, append, event, ids, new_ids};
use cairn_event_store::sqlite::OpenError;
use cairn_event_store::{
    AppendError, Direction, EventStore, ExpectedRevision, Filter, NewAppend, Position, Revision, Snapshot,
    SqliteStore, StoreError, Tracking,
};
use rusqlite::Connection;
use uuid::Uuid;

fn open(path: &Path) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(path, BRAIN).unwrap())
}

fn scene(store: &Arc<SqliteStore>) -> Scene {
    Scene { store: store.clone(), prefix: "space-" }
}

fn log() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.db");
    (folder, path)
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let (_folder, path) = log();
    let store = open(&path);
    // More than the index by stream keeps in memory, so that both of its parts are met again.
    let bulk = (0..9_000).map(|_| event("bulk")).collect::<Vec<_>>();
    scene(&store).append("a", ExpectedRevision::NoStream, bulk.clone()).await.unwrap();
    scene(&store)
        .append("b", ExpectedRevision::NoStream, bulk.iter().map(|_| event("b")).collect())
        .await
        .unwrap();
    let last = scene(&store).fill("a", 5).await;
    let tracking = Some(Tracking { source: "vault".into(), position: 9 });
    store.append(NewAppend { streams: vec![], tracking }).await.unwrap();
    let snapshot = Snapshot { revision: Revision(4), format: 1, data: "folded".into() };
    store.save_snapshot("space-a", Some(snapshot.clone())).await.unwrap();
    let before = scene(&store).log().await;
    drop(store);

    let store = open(&path);
    assert_eq!(*store.head().borrow(), Position(18_005));
    assert_eq!(scene(&store).log().await, before);
    let a = scene(&store).stream("a").await;
    assert_eq!(ids(&a), [new_ids(&bulk), new_ids(&last)].concat());
    assert_eq!(store.tracking("vault").await.unwrap(), Some(9));
    assert_eq!(store.load_snapshot("space-a").await.unwrap(), Some(snapshot));
    let repeated = scene(&store).append("a", ExpectedRevision::NoStream, bulk).await.unwrap();
    assert_eq!((repeated.position, repeated.repeated), (Position(9_000), true));
    let next =
        scene(&store).append("a", ExpectedRevision::Exact(Revision(9_004)), vec![event("next")]).await.unwrap();
    assert_eq!(next.position, Position(18_006));
    assert_eq!(store.verify(|_| {}).await.unwrap().damage, None);
}

/// The index by stream is written in runs; reads begin and end anywhere in them, and go on in what is not written yet.
#[tokio::test]
async fn a_stream_is_read_across_the_runs_of_its_index() {
    let (_folder, path) = log();
    let store = open(&path);
    let mut a = Vec::new();
    for round in 0..90 {
        let events: Vec<_> = (0..500).map(|_| event("bulk")).collect();
        if round % 3 == 1 {
            scene(&store).append("b", ExpectedRevision::Any, events).await.unwrap();
        } else {
            a.extend(new_ids(&events));
            scene(&store).append("a", ExpectedRevision::Any, events).await.unwrap();
        }
    }
    drop(store);
    let store = open(&path);
    let edges = [0, 1, 499, 500, 10_000, 10_922, 10_923, 11_000, 21_845, 29_998, 29_999, 30_000];
    for from in edges {
        for limit in [1, 3, 700, 40_000] {
            let read = |direction| store.read_stream("space-a", Revision(from as u64), direction, limit);
            let forwards = ids(&read(Direction::Forwards).await.unwrap());
            let expected: Vec<_> = a.iter().skip(from).take(limit).copied().collect();
            assert_eq!(forwards, expected, "from {from}, {limit} forwards");
            let backwards = ids(&read(Direction::Backwards).await.unwrap());
            let expected: Vec<_> = a.iter().take(from + 1).rev().take(limit).copied().collect();
            assert_eq!(backwards, expected, "from {from}, {limit} backwards");
        }
    }
    assert_eq!(store.verify(|_| {}).await.unwrap().damage, None);
}

/// What is acknowledged is on disk, also when the process gets no chance to close anything.
#[tokio::test]
async fn acknowledged_appends_survive_a_killed_process() {
    let (_folder, path) = log();
    let store = open(&path);
    let written = scene(&store).fill("a", 200).await;
    let (_copied, copy) = log();
    for suffix in ["", "-wal"] {
        let name = |path: &Path| std::path::PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(name(&path), name(&copy)).unwrap();
    }
    let survivor = open(&copy);
    assert_eq!(ids(&scene(&survivor).stream("a").await), new_ids(&written));
}

#[tokio::test]
async fn a_log_in_use_is_refused() {
    let (_folder, path) = log();
    let store = open(&path);
    let second = SqliteStore::open(&path, BRAIN);
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    store.close().await;
    open(&path);
}

#[tokio::test]
async fn other_files_are_refused_and_left_alone() {
    let (_folder, path) = log();
    drop(open(&path));
    let other = Uuid::now_v7();
    let refused = SqliteStore::open(&path, other);
    assert!(
        matches!(&refused, Err(OpenError::OtherBrain { found, expected, .. }) if (*found, *expected) == (BRAIN, other)),
        "{refused:?}"
    );

    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = SqliteStore::open(&path, BRAIN);
    assert!(matches!(refused, Err(OpenError::Newer { found: 99, known: 1, .. })), "{refused:?}");

    let (_folder, foreign) = log();
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let (_folder, text) = log();
    std::fs::write(&text, "no database at all, ".repeat(100)).unwrap();
    for path in [foreign, text] {
        let before = std::fs::read(&path).unwrap();
        let refused = SqliteStore::open(&path, BRAIN);
        assert!(matches!(refused, Err(OpenError::Foreign { .. })), "{refused:?}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

/// Overwrites the first place after the middle of the file where these bytes are.
fn overwrite(path: &Path, needle: &[u8], with: &[u8]) {
    let content = std::fs::read(path).unwrap();
    let start = content.len() / 2;
    let at = start + content[start..].windows(needle.len()).position(|window| window == needle).unwrap();
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(with).unwrap();
}

#[tokio::test]
async fn a_changed_byte_is_found_and_named() {
    let (_folder, path) = log();
    let store = open(&path);
    scene(&store).append("a", ExpectedRevision::Any, (0..2_000).map(|_| event("needle")).collect()).await.unwrap();
    drop(store);
    overwrite(&path, b"needle", b"NEEDLE");

    let store = open(&path);
    let told = Arc::new(AtomicU64::new(0));
    let verified = store.verify({
        let told = told.clone();
        move |progress| told.store(progress.total, Ordering::SeqCst)
    });
    let verified = verified.await.unwrap();
    let damage = verified.damage.expect("damage");
    let position = damage.position.expect("a position");
    assert_eq!(verified.events, position.0 - 1);
    let read = store.read_all(position, Direction::Forwards, &Filter::default(), 1).await;
    assert!(
        matches!(&read, Err(StoreError::Corrupt { reason }) if reason.contains(&position.to_string())),
        "{read:?}"
    );
    assert!(
        matches!(store.read_all(Position(1), Direction::Forwards, &Filter::default(), 10).await, Ok(page) if page.events.len() == 10)
    );
}

/// Overwrites the page that holds the first of these bytes after this part of the file.
fn tear(path: &Path, numerator: usize, denominator: usize, needle: &[u8]) {
    let content = std::fs::read(path).unwrap();
    let start = content.len() * numerator / denominator;
    let at = start + content[start..].windows(needle.len()).position(|window| window == needle).unwrap();
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at as u64 / 4_096 * 4_096)).unwrap();
    file.write_all(&[0xff; 4_096]).unwrap();
}

#[tokio::test]
async fn a_torn_page_is_found() {
    let (_folder, path) = log();
    let store = open(&path);
    for _ in 0..2 {
        scene(&store)
            .append("a", ExpectedRevision::Any, (0..9_000).map(|_| event("old")).collect())
            .await
            .unwrap();
    }
    // From here on the newest events count: a start must read them.
    scene(&store).append("a", ExpectedRevision::Any, (0..9_000).map(|_| event("new")).collect()).await.unwrap();
    let sound = store.verify(|_| {}).await.unwrap();
    assert_eq!((sound.events, sound.damage), (27_000, None));
    drop(store);

    tear(&path, 1, 8, b"old");
    let store = open(&path);
    let verified = store.verify(|_| {}).await.unwrap();
    // A torn page that holds no event, such as one of an index, is damage without a position.
    let position = verified.damage.expect("damage").position;
    if let Some(damaged) = position {
        let read = store.read_all(damaged, Direction::Forwards, &Filter::default(), 1).await;
        assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    }
    // Elsewhere life goes on.
    scene(&store).fill("b", 1).await;
    drop(store);

    tear(&path, 7, 8, b"new");
    let refused = SqliteStore::open(&path, BRAIN);
    assert!(matches!(refused, Err(OpenError::Store { source: StoreError::Corrupt { .. }, .. })), "{refused:?}");
    let verified = SqliteStore::verify_file(&path, |_| {}).unwrap();
    assert_eq!(verified.damage.expect("damage").position, position);
}

/// Rows that only a fault of ours, or another program, could have changed.
#[tokio::test]
async fn gaps_and_foreign_changes_are_found() {
    for (fault, position) in [
        ("UPDATE events SET position = 1000 WHERE position = 5", Some(5)),
        ("DELETE FROM events WHERE position = 7", Some(7)),
        ("UPDATE events SET revision = 90 WHERE position = 4", Some(4)),
        ("UPDATE events SET checksum = checksum + 1 WHERE position = 2", Some(2)),
        ("UPDATE event_types SET name = 'memory.other'", Some(1)),
        ("DELETE FROM streams", Some(1)),
        ("INSERT INTO stream_index VALUES (1, 500, x'0300000000000000')", None),
    ] {
        let (_folder, path) = log();
        let store = open(&path);
        scene(&store).fill("a", 10).await;
        drop(store);
        Connection::open(&path).unwrap().execute_batch(fault).unwrap();
        let verified = open(&path).verify(|_| {}).await.unwrap();
        let found = verified.damage.unwrap_or_else(|| panic!("{fault}: not found"));
        assert_eq!(found.position, position.map(Position), "{fault}: {found:?}");
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_heals() {
    let (_folder, path) = log();
    let store = open(&path);
    let mut acknowledged = new_ids(&scene(&store).fill("a", 20).await);
    store.limit_pages(60).await;
    let large = "x".repeat(3_000);
    let mut refused = Vec::new();
    while refused.len() < 5 {
        let given = event(&large);
        let whole = append([scene(&store).on("a", ExpectedRevision::Any, vec![given.clone()])]);
        match store.append(whole.clone()).await {
            Ok(_) => acknowledged.push(given.id),
            Err(AppendError::Store(StoreError::Unavailable { reason })) => {
                assert!(reason.contains("full"), "{reason}");
                refused.push(whole);
            }
            Err(other) => panic!("{other:?}"),
        }
        assert!(acknowledged.len() < 1_000, "the disk never fills up");
    }
    assert_eq!(*store.head().borrow(), Position(acknowledged.len() as u64));
    assert_eq!(ids(&scene(&store).log().await), acknowledged);

    // With space again, what was refused goes through, once.
    store.limit_pages(1_000_000).await;
    for whole in refused {
        acknowledged.push(whole.streams[0].events[0].id);
        assert!(!store.append(whole.clone()).await.unwrap().repeated);
        assert!(store.append(whole).await.unwrap().repeated);
    }
    drop(store);
    let store = open(&path);
    assert_eq!(ids(&scene(&store).log().await), acknowledged);
    assert_eq!(store.verify(|_| {}).await.unwrap().damage, None);
}

/// In one commit with appends that fit, one that does not must not spoil them.
#[tokio::test(flavor = "multi_thread")]
async fn one_append_too_large_for_the_disk_spoils_no_other() {
    let (_folder, path) = log();
    let store = open(&path);
    scene(&store).fill("a", 1).await;
    store.limit_pages(200).await;
    for _ in 0..10 {
        let huge = event(&"x".repeat(2_000_000));
        let (scene_a, scene_b) = (scene(&store), scene(&store));
        let (huge, _) = tokio::join!(
            tokio::spawn(async move { scene_a.append("huge", ExpectedRevision::Any, vec![huge]).await }),
            tokio::spawn(async move { scene_b.fill("small", 3).await }),
        );
        assert!(matches!(huge.unwrap(), Err(AppendError::Store(StoreError::Unavailable { .. }))));
    }
    assert_eq!(scene(&store).stream("small").await.len(), 30);
    assert!(scene(&store).stream("huge").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_finishes_what_waits_and_refuses_the_rest() {
    let (_folder, path) = log();
    let store = open(&path);
    let mut appending = tokio::task::JoinSet::new();
    for n in 0..500 {
        let scene = scene(&store);
        appending.spawn(async move {
            let given = event("closing");
            let answer = scene.append(&n.to_string(), ExpectedRevision::Any, vec![given.clone()]).await;
            (given.id, answer)
        });
    }
    tokio::task::yield_now().await;
    store.close().await;
    store.close().await;
    let mut acknowledged = Vec::new();
    for (id, answer) in appending.join_all().await {
        match answer {
            Ok(_) => acknowledged.push(id),
            Err(AppendError::Store(StoreError::Unavailable { .. })) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(matches!(store.event(Uuid::now_v7()).await, Err(StoreError::Unavailable { .. })));
    let wal = std::fs::metadata(format!("{}-wal", path.display())).map_or(0, |wal| wal.len());
    assert_eq!(wal, 0, "the write-ahead log is not empty");

    let mut kept = ids(&scene(&open(&path)).log().await);
    kept.sort();
    acknowledged.sort();
    assert_eq!(kept, acknowledged);
}

#[tokio::test]
async fn a_subscription_ends_with_its_store() {
    let (_folder, path) = log();
    let store = open(&path);
    scene(&store).fill("a", 1).await;
    let mut subscription = cairn_event_store::subscribe(store.clone(), Position(1), Filter::default());
    let (batch, ()) = tokio::join!(subscription.next_batch(10), store.close());
    assert!(matches!(batch, Err(StoreError::Unavailable { .. })));
}
