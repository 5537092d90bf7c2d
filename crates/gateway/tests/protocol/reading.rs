use cairn_proto::event_store::client::streams::read_req;
use cairn_proto::event_store::client::streams::read_req::options::{
    ControlOption, CountOption, ReadDirection, UuidOption, uuid_option,
};
use cairn_proto::event_store::client::{Empty, uuid as spelling};
use tonic::Code;

use crate::scene::{
    Begin, Content, Expect, Scene, all_options, event, events, filter, revisions, seen, stream_options, types,
};

const FORWARDS: ReadDirection = ReadDirection::Forwards;
const BACKWARDS: ReadDirection = ReadDirection::Backwards;
const ALL: CountOption = CountOption::Count(u64::MAX);

#[tokio::test]
async fn a_stream_is_read_in_both_directions_from_anywhere() {
    let scene = Scene::begin().await;
    scene.append("orders-1", Expect::NoStream, &events(5)).await;
    let read = async |begin, direction, count| {
        let options = stream_options("orders-1", begin, direction, CountOption::Count(count));
        revisions(&seen(scene.read(options).await.expect("read")))
    };
    assert_eq!(read(Begin::Start, FORWARDS, u64::MAX).await, [0, 1, 2, 3, 4]);
    assert_eq!(read(Begin::At(2), FORWARDS, 2).await, [2, 3]);
    assert!(read(Begin::At(9), FORWARDS, 2).await.is_empty());
    assert!(read(Begin::End, FORWARDS, 2).await.is_empty());
    assert_eq!(read(Begin::End, BACKWARDS, 2).await, [4, 3]);
    assert_eq!(read(Begin::At(2), BACKWARDS, u64::MAX).await, [2, 1, 0]);
    assert_eq!(read(Begin::At(u64::MAX), BACKWARDS, 1).await, [4]);
    assert_eq!(read(Begin::Start, BACKWARDS, 9).await, [0]);
    assert!(read(Begin::Start, FORWARDS, 0).await.is_empty());
}

#[tokio::test]
async fn many_pages_come_in_order() {
    let scene = Scene::begin().await;
    for _ in 0..5 {
        scene.append("orders-1", Expect::Any, &events(700)).await;
    }
    let forwards = revisions(&scene.stream("orders-1").await);
    assert_eq!(forwards, (0..3_500).collect::<Vec<_>>());
    let options = stream_options("orders-1", Begin::End, BACKWARDS, ALL);
    let backwards = revisions(&seen(scene.read(options).await.expect("read")));
    assert_eq!(backwards, (0..3_500).rev().collect::<Vec<_>>());
    let log = seen(scene.read(all_options(Begin::Start, FORWARDS, ALL, None)).await.expect("read"));
    assert_eq!(log.iter().map(|event| event.commit_position).collect::<Vec<_>>(), (1..=3_500).collect::<Vec<_>>());
    let some = all_options(Begin::End, BACKWARDS, CountOption::Count(2_500), None);
    let some = seen(scene.read(some).await.expect("read"));
    assert_eq!((some.len(), some[0].commit_position, some[2_499].commit_position), (2_500, 3_500, 1_001));
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_told_by_a_message() {
    let scene = Scene::begin().await;
    for direction in [FORWARDS, BACKWARDS] {
        let contents = scene.read(stream_options("none", Begin::Start, direction, ALL)).await.expect("no error");
        assert!(matches!(&contents[..], [Content::StreamNotFound(stream)]
            if &*stream.stream_identifier.as_ref().expect("named").stream_name == b"none"));
    }
}

#[tokio::test]
async fn a_newer_client_is_told_the_streams_end() {
    let scene = Scene::begin().await;
    scene.append("orders-1", Expect::NoStream, &events(3)).await;
    let mut options = stream_options("orders-1", Begin::Start, FORWARDS, ALL);
    options.control_option = Some(ControlOption { compatibility: 1 });
    let contents = scene.read(options).await.expect("read");
    assert!(matches!(contents.last(), Some(Content::LastStreamPosition(2))));
}

#[tokio::test]
async fn the_log_is_read_in_both_directions_from_anywhere() {
    let scene = Scene::begin().await;
    for stream in ["a", "b", "c"] {
        scene.append(stream, Expect::NoStream, &events(2)).await;
    }
    let read = async |begin, direction, count| {
        let options = all_options(begin, direction, CountOption::Count(count), None);
        let events = seen(scene.read(options).await.expect("read"));
        assert!(events.iter().all(|event| event.commit_position == event.prepare_position));
        events.iter().map(|event| event.commit_position).collect::<Vec<_>>()
    };
    assert_eq!(read(Begin::Start, FORWARDS, u64::MAX).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(read(Begin::At(3), FORWARDS, 2).await, [3, 4], "forwards with the event at the position");
    assert_eq!(read(Begin::At(3), BACKWARDS, 9).await, [2, 1], "backwards without it");
    assert_eq!(read(Begin::End, BACKWARDS, 2).await, [6, 5]);
    assert_eq!(read(Begin::At(u64::MAX), BACKWARDS, 1).await, [6]);
    assert!(read(Begin::At(99), FORWARDS, 9).await.is_empty());
    assert!(read(Begin::At(0), BACKWARDS, 9).await.is_empty());
}

#[tokio::test]
async fn filters_pick_by_stream_and_by_type() {
    let scene = Scene::begin().await;
    for (stream, event_type) in [
        ("orders-1", "Placed"),
        ("orders-2", "Paid"),
        ("bills-1", "Placed"),
        ("bills-1", "$odd"),
        ("bills-2", "Sent"),
    ] {
        scene.append(stream, Expect::Any, &[event(event_type)]).await;
    }
    let read = async |of_stream, regex: &str, prefixes: &[&str]| {
        let filter = filter(of_stream, regex, prefixes, 32);
        let options = all_options(Begin::Start, FORWARDS, ALL, Some(filter));
        types(&seen(scene.read(options).await.expect("read")))
    };
    assert_eq!(read(true, "", &["orders-"]).await, ["Placed", "Paid"]);
    assert_eq!(read(true, "^bills-1$", &[]).await, ["Placed", "$odd"]);
    assert_eq!(read(false, "", &["P"]).await, ["Placed", "Paid", "Placed"]);
    assert_eq!(read(false, r"^[^\$].*", &[]).await, ["Placed", "Paid", "Placed", "Sent"]);
    assert_eq!(read(false, r"^(?!(\$.+$|Placed$))", &[]).await, ["Paid", "Sent"]);
    let limited =
        all_options(Begin::End, BACKWARDS, CountOption::Count(1), Some(filter(false, "", &["Placed"], 32)));
    assert_eq!(seen(scene.read(limited).await.expect("read"))[0].commit_position, 3);
    let broken = all_options(Begin::Start, FORWARDS, ALL, Some(filter(false, "(", &[], 32)));
    assert_eq!(scene.read(broken).await.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn ids_are_spelt_as_the_client_wants() {
    let scene = Scene::begin().await;
    let sent = event("x");
    scene.append("orders-1", Expect::Any, std::slice::from_ref(&sent)).await;
    let mut options = stream_options("orders-1", Begin::Start, FORWARDS, ALL);
    options.uuid_option = Some(UuidOption { content: Some(uuid_option::Content::Structured(Empty {})) });
    let found = seen(scene.read(options).await.expect("read")).remove(0).id.expect("an id");
    let (most, least) = sent.id.as_u64_pair();
    let Some(spelling::Value::Structured(halves)) = found.value else { panic!("{found:?}") };
    assert_eq!(
        (halves.most_significant_bits, halves.least_significant_bits),
        (most.cast_signed(), least.cast_signed())
    );
    let mut without = stream_options("orders-1", Begin::Start, FORWARDS, ALL);
    without.uuid_option = None;
    assert_eq!(scene.read(without).await.expect_err("refused").code(), Code::InvalidArgument);
    let nothing = scene.read(read_req::Options::default()).await.expect_err("refused");
    assert_eq!(nothing.code(), Code::InvalidArgument);
}
