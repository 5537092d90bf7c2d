//! Several nodes on one log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_event_store::{
    AppendError, EventStore, ExpectedRevision, KurrentStore, NewAppend, Position, Revision, Tracking,
};
use tokio::task::JoinSet;

use crate::server::{Site, assert_sound, event, log, note, on, until};

const WRITERS: u64 = 4;
const EACH: u64 = 20;

/// Wins so many revisions of a stream against others.
async fn contend(store: Arc<KurrentStore>) -> Vec<Revision> {
    let mut won = Vec::new();
    let mut expected = ExpectedRevision::NoStream;
    while (won.len() as u64) < EACH {
        let actual = match store.append(on("contended", expected, vec![event("x")])).await {
            Ok(appended) => {
                won.push(appended.revisions[0]);
                Some(appended.revisions[0])
            }
            Err(AppendError::WrongExpectedRevision { actual, .. }) => actual,
            Err(other) => panic!("{other}"),
        };
        expected = actual.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
    }
    won
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_on_two_nodes_win_each_revision_once() {
    let site = Site::begin().await;
    let nodes = [site.node("a.db").await, site.node("b.db").await];
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let node = &nodes[usize::try_from(writer % 2).expect("small")];
        writers.spawn(contend(Arc::clone(node)));
    }
    let mut won: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    won.sort();
    assert!(won.into_iter().eq((0..WRITERS * EACH).map(Revision)), "a revision was won twice, or never");
    for node in &nodes {
        until(node, Position(WRITERS * EACH)).await;
    }
    let [one, other] = [log(&nodes[0]).await, log(&nodes[1]).await];
    assert_sound(&one);
    assert_eq!(one, other);
    // One record more: the one that begins the log.
    assert_eq!(site.stream().await.len() as u64, WRITERS * EACH + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_appends_is_heard_at_once() {
    let site = Site::begin().await;
    let (one, other) = (site.node("a.db").await, site.node("b.db").await);
    // The subscription is at work as soon as the first is heard.
    note(&one, "x").await.expect("appended");
    until(&other, Position(1)).await;
    for n in 2..12 {
        let began = Instant::now();
        note(&one, "x").await.expect("appended");
        until(&other, Position(n)).await;
        assert!(began.elapsed() < Duration::from_millis(1_500), "it took {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_judges_by_what_the_server_has() {
    let site = Site::begin().await;
    let nodes = [site.node("a.db").await, site.node("b.db").await];
    note(&nodes[0], "x").await.expect("appended");
    // Each expects what the other has just written, whether its own copy has it or not.
    for n in 0..20 {
        let node = &nodes[(n + 1) % 2];
        let expected = ExpectedRevision::Exact(Revision(n as u64));
        let appended = node.append(on("x", expected, vec![event("x")])).await.expect("it is at that revision");
        assert_eq!(appended.revisions, [Revision(n as u64 + 1)]);
        // A mere check, and a refusal, too.
        let node = &nodes[n % 2];
        node.append(on("x", ExpectedRevision::Exact(Revision(n as u64 + 1)), vec![])).await.expect("it is there");
        let refused = node.append(on("x", ExpectedRevision::NoStream, vec![event("x")])).await;
        let actual = Some(Revision(n as u64 + 1));
        assert!(matches!(refused, Err(AppendError::WrongExpectedRevision { actual: at, .. }) if at == actual));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_is_seen_whole_by_other_nodes() {
    const EVENTS: usize = 30;
    let site = Site::begin().await;
    let (one, other) = (site.node("a.db").await, site.node("b.db").await);
    let mut head = other.head();
    let watching = tokio::spawn(async move {
        while head.borrow_and_update().0 < 20 * EVENTS as u64 {
            head.changed().await.expect("it lives");
            let seen = head.borrow_and_update().0;
            assert_eq!(seen % EVENTS as u64, 0, "a part of an append was seen: up to {seen}");
        }
    });
    for n in 0..20 {
        let mut whole = on(&format!("a{n}"), ExpectedRevision::NoStream, (0..10).map(|_| event("a")).collect());
        whole.streams.extend(on("b", ExpectedRevision::Any, (10..EVENTS).map(|_| event("b")).collect()).streams);
        one.append(whole).await.expect("appended");
    }
    tokio::time::timeout(crate::server::PATIENCE, watching).await.expect("in time").expect("nothing was cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracked_position_holds_for_all_nodes() {
    let site = Site::begin().await;
    let (one, other) = (site.node("a.db").await, site.node("b.db").await);
    let tracked = |position, events| {
        let tracking = Some(Tracking { source: "vault".into(), position });
        NewAppend { tracking, ..on("x", ExpectedRevision::Any, events) }
    };
    one.append(tracked(7, vec![event("x")])).await.expect("appended");
    let alone = NewAppend { streams: vec![], ..tracked(8, vec![]) };
    assert_eq!(other.append(alone).await.expect("tracked").position, Position(1));
    for node in [&one, &other] {
        let refused = node.append(tracked(8, vec![event("x")])).await;
        assert!(matches!(refused, Err(AppendError::TrackingConflict { recorded: 8, .. })), "{refused:?}");
    }
    assert_eq!(one.append(tracked(9, vec![event("x")])).await.expect("appended").position, Position(2));
    // A node that reads everything anew knows it too.
    let third = site.node("c.db").await;
    assert_eq!(third.tracking("vault").await.expect("read"), Some(9));
    assert_eq!(log(&third).await, log(&one).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_command_on_two_nodes_is_written_once() {
    let site = Site::begin().await;
    let nodes = [site.node("a.db").await, site.node("b.db").await];
    for round in 1..=20 {
        let whole = on("x", ExpectedRevision::Any, vec![event("x")]);
        let (one, other) = tokio::join!(nodes[0].append(whole.clone()), nodes[1].append(whole));
        let (one, other) = (one.expect("appended"), other.expect("appended"));
        assert_eq!((one.position, other.position), (Position(round), Position(round)));
        assert!(one.repeated != other.repeated, "both believe to have written it");
    }
    for node in &nodes {
        until(node, Position(20)).await;
    }
    assert_eq!(log(&nodes[0]).await, log(&nodes[1]).await);
}
