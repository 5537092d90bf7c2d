use cairn_proto::event_store::client::streams::append_resp;
use cairn_proto::event_store::client::streams::read_req::options::{CountOption, ReadDirection};
use tonic::{Code, Status};

use crate::scene::{
    Begin, Content, Event, Expect, Scene, event, events, revisions, seen, stream_options, trailer, value,
};

async fn is_not_found(scene: &Scene, stream: &str) -> bool {
    let options = stream_options(stream, Begin::Start, ReadDirection::Forwards, CountOption::Count(9));
    let contents = scene.read(options).await.expect("read");
    matches!(contents[..], [Content::StreamNotFound(_)])
}

#[track_caller]
fn is_wrong_version(result: Result<(), Status>, actual: &str) {
    let status = result.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(trailer(&status, "exception"), Some("wrong-expected-version"));
    assert_eq!(trailer(&status, "actual-version"), Some(actual));
    assert_eq!(trailer(&status, "stream-name"), Some("orders-1"));
}

#[track_caller]
fn is_deleted<T: std::fmt::Debug>(result: Result<T, Status>) {
    let status = result.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(trailer(&status, "exception"), Some("stream-deleted"));
    assert_eq!(trailer(&status, "stream-name"), Some("orders-1"));
}

#[tokio::test]
async fn a_deleted_stream_is_gone_until_it_is_begun_anew() {
    let scene = Scene::begin().await;
    is_wrong_version(scene.delete("orders-1", Expect::Any).await, "-1");
    is_wrong_version(scene.delete("orders-1", Expect::At(4)).await, "-1");
    scene.append("orders-1", Expect::NoStream, &events(2)).await;
    is_wrong_version(scene.delete("orders-1", Expect::At(0)).await, "1");
    scene.delete("orders-1", Expect::At(1)).await.expect("deleted");
    assert!(is_not_found(&scene, "orders-1").await);
    scene.delete("orders-1", Expect::At(1)).await.expect("again without effect");
    scene.delete("orders-1", Expect::Any).await.expect("again without effect");
    is_wrong_version(scene.delete("orders-1", Expect::At(0)).await, "1");
    is_deleted(scene.delete("orders-1", Expect::Exists).await);
    let late = scene.append_as(Some("owner"), "orders-1", Expect::At(0), &events(1)).await.expect("answered");
    assert!(matches!(late.result, Some(append_resp::Result::WrongExpectedVersion(_))));
    is_deleted(scene.append_as(Some("owner"), "orders-1", Expect::Exists, &events(1)).await);
    let anew = [event("Anew")];
    let answered = scene.append("orders-1", Expect::NoStream, &anew).await;
    assert_eq!(answered.0, 2, "revisions go on");
    assert_eq!(scene.append("orders-1", Expect::NoStream, &anew).await, answered, "again without effect");
    let read = scene.stream("orders-1").await;
    assert_eq!((revisions(&read), read[0].commit_position), (vec![2], answered.1));
    scene.append("orders-1", Expect::At(2), &events(1)).await;
    assert_eq!(revisions(&scene.stream("orders-1").await), [2, 3]);
    scene.delete("orders-1", Expect::Exists).await.expect("deleted");
    assert!(is_not_found(&scene, "orders-1").await);
}

#[tokio::test]
async fn a_tombstone_is_for_ever() {
    let scene = Scene::begin().await;
    is_wrong_version(scene.tombstone("orders-1", Expect::Exists).await, "-1");
    scene.append("orders-1", Expect::NoStream, &events(2)).await;
    is_wrong_version(scene.tombstone("orders-1", Expect::At(7)).await, "1");
    scene.tombstone("orders-1", Expect::At(1)).await.expect("ended");
    is_deleted(scene.tombstone("orders-1", Expect::Any).await);
    is_deleted(scene.delete("orders-1", Expect::Any).await);
    is_deleted(scene.append_as(Some("owner"), "orders-1", Expect::Any, &events(1)).await);
    is_deleted(scene.append_as(Some("owner"), "$$orders-1", Expect::Any, &[event("$metadata")]).await);
    for stream in ["orders-1", "$$orders-1"] {
        let options = stream_options(stream, Begin::Start, ReadDirection::Forwards, CountOption::Count(9));
        is_deleted(scene.read(options).await);
    }
    scene.tombstone("never-was", Expect::Any).await.expect("ended before it began");
    assert!(scene.append_as(Some("owner"), "never-was", Expect::NoStream, &events(1)).await.is_err());
}

#[tokio::test]
async fn metadata_bound_what_is_read() {
    let scene = Scene::begin().await;
    scene.append("orders-1", Expect::NoStream, &events(6)).await;
    let metadata = |data: &str| Event { data: data.as_bytes().to_vec(), ..event("$metadata") };
    let first = metadata(r#"{"$tb":2,"mine":true}"#);
    assert_eq!(scene.append("$$orders-1", Expect::NoStream, &[first]).await.0, 0);
    assert_eq!(revisions(&scene.stream("orders-1").await), [2, 3, 4, 5]);
    scene.append("$$orders-1", Expect::At(0), &[metadata(r#"{"$maxCount":2}"#)]).await;
    assert_eq!(revisions(&scene.stream("orders-1").await), [4, 5]);
    let backwards = stream_options("orders-1", Begin::End, ReadDirection::Backwards, CountOption::Count(9));
    assert_eq!(revisions(&seen(scene.read(backwards).await.expect("read"))), [5, 4]);
    scene.append("$$orders-1", Expect::Any, &[metadata(r#"{"$maxAge":3600,"mine":[1]}"#)]).await;
    assert_eq!(scene.stream("orders-1").await.len(), 6);
    scene.delete("orders-1", Expect::Any).await.expect("deleted");
    let last = scene.stream("$$orders-1").await.pop().expect("metadata");
    assert_eq!(value(&last, "type"), "$metadata");
    let content: serde_json::Value = serde_json::from_slice(&last.data).expect("JSON");
    assert_eq!(content, serde_json::json!({ "$maxAge": 3600, "mine": [1], "$tb": i64::MAX }));
    for odd in [event("Other"), metadata("[]"), metadata("{")] {
        let refused =
            scene.append_as(Some("owner"), "$$orders-1", Expect::Any, &[odd]).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn appends_and_deletes_at_once_leave_the_stream_readable_or_gone() {
    let scene = Scene::begin().await;
    scene.append("orders-1", Expect::NoStream, &events(1)).await;
    let appends = async {
        for _ in 0..30 {
            scene.append("orders-1", Expect::Any, &events(1)).await;
        }
    };
    let deletes = async {
        for _ in 0..30 {
            scene.delete("orders-1", Expect::Any).await.expect("deleted");
        }
    };
    tokio::join!(appends, deletes);
    let last = scene.append("orders-1", Expect::Any, &[event("Last")]).await;
    assert_eq!(last.0, 31, "nothing was lost");
    let read = scene.stream("orders-1").await;
    assert_eq!(read.last().map(|event| value(event, "type")).as_deref(), Some("Last"));
}
