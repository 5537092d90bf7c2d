//! The copy beside a node: made anew, out of date, of something else; and what a server does not take.

use std::sync::Arc;

use cairn_event_store::conformance::BRAIN;
use cairn_event_store::kurrent::{KurrentError, KurrentStore};
use cairn_event_store::sqlite::OpenError;
use cairn_event_store::{
    AppendError, EventStore, ExpectedRevision, MemoryStore, NewEvent, Position, SharedStore, SqliteStore,
    StoreError,
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::server::{KEYS, Site, assert_sound, duplicate, event, log, note, on, stream_name};

fn empty() -> SharedStore {
    Arc::new(MemoryStore::new(Uuid::now_v7()))
}

async fn fill(node: &KurrentStore, count: usize) {
    for n in 0..count {
        note(node, &format!("s{}", n % 3)).await.expect("appended");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_deleted_is_made_anew() {
    let site = Site::begin().await;
    let node = site.node("a.db").await;
    fill(&node, 40).await;
    let many = (0..6_000).map(|n| event(&n.to_string())).collect();
    node.append(on("many", ExpectedRevision::NoStream, many)).await.expect("appended");
    let before = log(&node).await;
    node.close().await;
    let again = site.node("another.db").await;
    assert_eq!(log(&again).await, before);
    assert_sound(&before);
    assert_eq!(note(&again, "x").await.expect("appended").position, Position(6_041));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_older_catches_up() {
    let site = Site::begin().await;
    let node = site.node("a.db").await;
    fill(&node, 10).await;
    node.close().await;
    duplicate(&site.copy("a.db"), &site.copy("old.db"));
    let node = site.node("a.db").await;
    fill(&node, 10).await;
    let old = site.node("old.db").await;
    assert_eq!(log(&old).await, log(&node).await);
    assert_eq!(log(&old).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_another_brain_is_refused() {
    let site = Site::begin().await;
    let other = KurrentStore::open(site.server(), site.copy("a.db"), Uuid::now_v7(), KEYS).await.expect("opens");
    other.close().await;
    let refused = site.try_node("a.db").await.expect_err("another brain's");
    assert!(matches!(refused, KurrentError::Copy(OpenError::OtherBrain { .. })), "{refused:?}");
    // A log that is nobody's copy is not taken for one either.
    drop(SqliteStore::open(site.copy("log.db"), BRAIN).expect("opens"));
    let refused = site.try_node("log.db").await.expect_err("a log");
    assert!(matches!(refused, KurrentError::Copy(OpenError::Foreign { .. })), "{refused:?}");
}

#[track_caller]
fn assert_contradiction(error: &StoreError) {
    assert!(matches!(error, StoreError::Corrupt { reason } if reason.contains("log/kurrentdb.db")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_the_log_is_not_written_to() {
    let mut site = Site::begin().await;
    let node = site.node("a.db").await;
    fill(&node, 5).await;
    node.close().await;
    site.restart(empty()).await;
    let Err(KurrentError::Store(error)) = site.try_node("a.db").await else { panic!("opened") };
    assert_contradiction(&error);
    assert!(site.stream().await.is_empty(), "it began the log a second time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_past_is_not_written_to() {
    let mut site = Site::begin().await;
    let node = site.node("a.db").await;
    fill(&node, 5).await;
    let before = site.stream().await;
    // As if a backup had been restored, and others had gone on from there.
    for others in [0, 9] {
        let restored = empty();
        for event in &before[..4] {
            restored
                .append(on(&stream_name(), ExpectedRevision::Any, vec![content(event)]))
                .await
                .expect("restored");
        }
        site.restart(restored).await;
        if others > 0 {
            let other = site.node("other.db").await;
            fill(&other, others).await;
            other.close().await;
        }
        let length = site.stream().await.len();
        // While it runs, and at a start.
        let Err(AppendError::Store(error)) = note(&node, "x").await else { panic!("appended") };
        assert_contradiction(&error);
        duplicate(&site.copy("a.db"), &site.copy(&format!("a{others}.db")));
        let Err(KurrentError::Store(error)) = site.try_node(&format!("a{others}.db")).await else {
            panic!("opened")
        };
        assert_contradiction(&error);
        assert_eq!(site.stream().await.len(), length);
    }
}

fn content(event: &cairn_event_store::RecordedEvent) -> NewEvent {
    NewEvent {
        id: event.id,
        event_type: event.event_type.clone(),
        schema_version: event.schema_version,
        data: event.data.clone(),
        metadata: event.metadata.clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_other_keys_is_refused() {
    let site = Site::begin().await;
    site.node("a.db").await;
    let refused =
        KurrentStore::open(site.server(), site.copy("b.db"), BRAIN, "other keys").await.expect_err("refused");
    assert!(matches!(refused, KurrentError::OtherKeys { .. }) && refused.to_string().contains("DATABASE_URL"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_others_write_to_is_named() {
    let site = Site::begin().await;
    let node = site.node("a.db").await;
    fill(&node, 2).await;
    site.store.append(on(&stream_name(), ExpectedRevision::Any, vec![event("foreign")])).await.expect("appended");
    let Err(AppendError::Store(StoreError::Corrupt { reason })) = note(&node, "x").await else {
        panic!("appended")
    };
    assert!(reason.contains("revision 3"), "{reason}");
    assert_eq!(log(&node).await.len(), 2, "what was sound stays readable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_appends_are_sent_in_parts_and_one_too_large_is_refused() {
    let site = Site::begin().await;
    let node = site.node("a.db").await;
    let large = |bytes: usize| {
        let mut event = event("large");
        event.data = format!("\"{}\"", "x".repeat(bytes)).into();
        event
    };
    let mut appends = JoinSet::new();
    for n in 0..64 {
        let (node, event) = (Arc::clone(&node), large(100_000));
        appends.spawn(
            async move { node.append(on(&format!("s{n}"), ExpectedRevision::NoStream, vec![event])).await },
        );
    }
    appends.join_all().await.into_iter().for_each(|appended| drop(appended.expect("appended")));
    assert_sound(&log(&node).await);
    // The gateway takes 16 MiB.
    let whole = on("x", ExpectedRevision::Any, (0..6).map(|_| large(3_000_000)).collect());
    let refused = node.append(whole).await;
    assert!(
        matches!(&refused, Err(AppendError::Invalid(reason)) if reason.contains("MAX_APPEND_SIZE")),
        "{refused:?}"
    );
    note(&node, "x").await.expect("others go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verification_compares_the_copy_with_the_server() {
    let site = Site::begin().await;
    let node = site.node("a.db").await;
    fill(&node, 30).await;
    let verified = node.verify(|_| {}).await.expect("verified");
    assert_eq!((verified.events, verified.damage), (30, None));
    let id = log(&node).await[16].id;
    node.close().await;
    drop(node);
    let copy = rusqlite::Connection::open(site.copy("a.db")).expect("opens");
    copy.execute("UPDATE events SET metadata = x'7b7d' WHERE id = ?1", [id.as_bytes()]).expect("changed");
    drop(copy);
    let node = site.node("a.db").await;
    let damage = node.verify(|_| {}).await.expect("verified").damage.expect("found");
    assert_eq!(damage.position, Some(Position(17)));
}
