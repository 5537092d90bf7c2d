use cairn_proto::event_store::client::streams::read_req::options::ReadDirection;
use tonic::Code;

use crate::scene::{
    Begin, Content, Expect, Scene, all_options, event, events, filter, following, stream_options, trailer, value,
};

const FORWARDS: ReadDirection = ReadDirection::Forwards;

#[tokio::test]
async fn the_log_is_followed_without_a_gap() {
    let scene = Scene::begin().await;
    scene.append("orders-1", Expect::Any, &events(3_000)).await;
    let mut subscription = scene.subscribe(all_options(Begin::Start, FORWARDS, following(), None)).await;
    for number in 0..10 {
        scene.append(&format!("orders-{number}"), Expect::Any, &events(100)).await;
    }
    for position in 1..=4_000 {
        assert_eq!(subscription.event().await.commit_position, position);
    }
}

#[tokio::test]
async fn a_subscription_says_when_it_has_caught_up() {
    let scene = Scene::begin().await;
    scene.append("orders-1", Expect::Any, &events(2)).await;
    let mut all = scene.subscribe(all_options(Begin::At(1), FORWARDS, following(), None)).await;
    assert_eq!(all.event().await.commit_position, 2, "after the position");
    let Content::CaughtUp(caught_up) = all.next().await else { panic!("caught up") };
    assert_eq!(caught_up.position.map(|position| position.commit_position), Some(2));
    assert!(caught_up.timestamp.is_some());
    let mut stream = scene.subscribe(stream_options("orders-1", Begin::At(0), FORWARDS, following())).await;
    assert_eq!(stream.event().await.stream_revision, 1, "after the revision");
    let Content::CaughtUp(caught_up) = stream.next().await else { panic!("caught up") };
    assert_eq!(caught_up.stream_revision, Some(1));
    let mut end = scene.subscribe(all_options(Begin::End, FORWARDS, following(), None)).await;
    assert!(matches!(end.next().await, Content::CaughtUp(_)));
    let last = event("Last");
    scene.append("orders-1", Expect::Any, &[last]).await;
    for subscription in [&mut all, &mut stream, &mut end] {
        assert_eq!(value(&subscription.event().await, "type"), "Last");
    }
}

#[tokio::test]
async fn a_stream_is_followed_before_it_exists_and_apart_from_others() {
    let scene = Scene::begin().await;
    let mut subscription = scene.subscribe(stream_options("orders-1", Begin::Start, FORWARDS, following())).await;
    let mut end = scene.subscribe(stream_options("orders-1", Begin::End, FORWARDS, following())).await;
    for number in 0..50_u64 {
        scene.append("orders-10", Expect::Any, &events(3)).await;
        scene.append("orders-1", Expect::Any, &events(1)).await;
        assert_eq!(subscription.event().await.stream_revision, number);
        assert_eq!(end.event().await.stream_revision, number);
    }
    let mut late = scene.subscribe(stream_options("orders-1", Begin::Start, FORWARDS, following())).await;
    for number in 0..50_u64 {
        assert_eq!(late.event().await.stream_revision, number);
    }
}

#[tokio::test]
async fn a_filtered_subscription_gets_checkpoints() {
    let scene = Scene::begin().await;
    scene.append("noise", Expect::Any, &events(25)).await;
    scene.append("orders-1", Expect::Any, &[event("Placed")]).await;
    let wanted = filter(true, "", &["orders-"], 10);
    let mut subscription = scene.subscribe(all_options(Begin::Start, FORWARDS, following(), Some(wanted))).await;
    assert_eq!(value(&subscription.event().await, "type"), "Placed");
    let Content::Checkpoint(checkpoint) = subscription.next().await else { panic!("a checkpoint") };
    assert_eq!((checkpoint.commit_position, checkpoint.prepare_position), (26, 26));
    assert!(matches!(subscription.next().await, Content::CaughtUp(_)));
    scene.append("noise", Expect::Any, &events(25)).await;
    let Content::Checkpoint(checkpoint) = subscription.next().await else { panic!("a checkpoint") };
    assert_eq!(checkpoint.commit_position, 51, "also where nothing passes");
    let nothing = filter(false, "^nothing$", &[], 1);
    let mut empty = scene.subscribe(all_options(Begin::Start, FORWARDS, following(), Some(nothing))).await;
    assert!(matches!(empty.next().await, Content::Checkpoint(checkpoint) if checkpoint.commit_position == 1));
}

#[tokio::test]
async fn memories_are_followed() {
    let scene = Scene::begin().await;
    let memories = filter(true, "", &["memory-"], 32);
    let mut subscription = scene.subscribe(all_options(Begin::Start, FORWARDS, following(), Some(memories))).await;
    scene.append("orders-1", Expect::Any, &events(1)).await;
    let id = scene.append_own("memory-7", "memory.created", r#"{"truth":1}"#).await;
    let seen = subscription.event().await;
    assert_eq!(seen.id, Some(crate::scene::wire(id)));
    assert_eq!(value(&seen, "content-type"), "application/json");
}

#[tokio::test]
async fn subscriptions_end_with_the_stream_and_with_the_gateway() {
    let mut scene = Scene::begin().await;
    scene.append("orders-1", Expect::Any, &events(1)).await;
    let mut stream = scene.subscribe(stream_options("orders-1", Begin::Start, FORWARDS, following())).await;
    stream.event().await;
    let mut all = scene.subscribe(all_options(Begin::End, FORWARDS, following(), None)).await;
    scene.tombstone("orders-1", Expect::Any).await.expect("ended");
    let ended = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "it ends with an error"),
            Err(status) => break status,
        }
    };
    assert_eq!(trailer(&ended, "exception"), Some("stream-deleted"));
    all.event().await;
    scene.stop().await;
    let ended = loop {
        match all.message().await {
            Ok(message) => assert!(message.is_some(), "it ends with an error"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_subscription_goes_forwards() {
    let scene = Scene::begin().await;
    let backwards = all_options(Begin::End, ReadDirection::Backwards, following(), None);
    assert_eq!(scene.read(backwards).await.expect_err("refused").code(), Code::InvalidArgument);
}
