use std::collections::HashMap;

use cairn_proto::event_store::client::streams::batch_append_req::options::ExpectedStreamPosition;
use cairn_proto::event_store::client::streams::batch_append_req::{Options, options::DeadlineOption};
use cairn_proto::event_store::client::streams::batch_append_resp::{self, success::CurrentRevisionOption};
use cairn_proto::event_store::client::streams::{BatchAppendReq, BatchAppendResp};
use cairn_proto::event_store::client::{self as wire_types, uuid as spelling};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use uuid::Uuid;

use crate::scene::{Event, Expect, Scene, event, events, name, revisions, types, wire, with_token};

/// Batches of 500 events: more bytes than the windows of a connection.
const LARGE_BATCHES: u64 = 200;

struct Call {
    sender: mpsc::Sender<BatchAppendReq>,
    answers: Streaming<BatchAppendResp>,
}

impl Call {
    async fn begin(scene: &Scene, token: &str) -> Self {
        let (sender, receiver) = mpsc::channel(1_000);
        let request = with_token(Some(token), ReceiverStream::new(receiver));
        let answers = scene.client.clone().batch_append(request).await.expect("begins").into_inner();
        Self { sender, answers }
    }

    async fn send(&self, message: BatchAppendReq) {
        self.sender.send(message).await.expect("the call goes on");
    }

    async fn answer(&mut self) -> (Uuid, batch_append_resp::Result) {
        let answer = self.answers.message().await.expect("no error").expect("an answer");
        (id(&answer), answer.result.expect("a result"))
    }

    async fn error(&mut self) -> prost_types::Any {
        match self.answer().await.1 {
            batch_append_resp::Result::Error(status) => status.details.expect("details"),
            other => panic!("{other:?}"),
        }
    }

    async fn revision(&mut self) -> u64 {
        match self.answer().await.1 {
            batch_append_resp::Result::Success(batch_append_resp::Success {
                current_revision_option: Some(CurrentRevisionOption::CurrentRevision(revision)),
                ..
            }) => revision,
            other => panic!("{other:?}"),
        }
    }
}

fn id(answer: &BatchAppendResp) -> Uuid {
    match answer.correlation_id.as_ref().and_then(|id| id.value.as_ref()) {
        Some(spelling::Value::String(text)) => text.parse().expect("an id"),
        other => panic!("{other:?}"),
    }
}

fn options(stream: &str, expect: Expect) -> Options {
    let expected = match expect {
        Expect::Any => ExpectedStreamPosition::Any(()),
        Expect::NoStream => ExpectedStreamPosition::NoStream(()),
        Expect::Exists => ExpectedStreamPosition::StreamExists(()),
        Expect::At(revision) => ExpectedStreamPosition::StreamPosition(revision),
    };
    Options {
        stream_identifier: Some(name(stream)),
        expected_stream_position: Some(expected),
        deadline_option: Some(DeadlineOption::Deadline(prost_types::Duration { seconds: 10, nanos: 0 })),
    }
}

fn batch(correlation: Uuid, options: Option<Options>, events: &[Event], is_final: bool) -> BatchAppendReq {
    BatchAppendReq {
        correlation_id: Some(wire(correlation)),
        options,
        proposed_messages: events.iter().map(Event::in_batch).collect(),
        is_final,
    }
}

fn whole(stream: &str, expect: Expect, events: &[Event]) -> BatchAppendReq {
    batch(Uuid::now_v7(), Some(options(stream, expect)), events, true)
}

#[tokio::test]
async fn a_batch_of_several_messages_is_one_append() {
    let scene = Scene::begin().await;
    let mut call = Call::begin(&scene, "owner").await;
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    call.send(batch(one, Some(options("orders-1", Expect::NoStream)), &[event("A")], false)).await;
    call.send(batch(two, Some(options("orders-2", Expect::NoStream)), &[event("X")], false)).await;
    call.send(batch(one, None, &[event("B")], false)).await;
    call.send(batch(two, None, &[event("Y")], true)).await;
    assert_eq!(call.answer().await.0, two);
    assert!(scene.stream("orders-1").await.is_empty(), "not before it is complete");
    call.send(batch(one, None, &[event("C")], true)).await;
    assert_eq!(call.answer().await.0, one);
    assert_eq!(types(&scene.stream("orders-1").await), ["A", "B", "C"]);
    assert_eq!(types(&scene.stream("orders-2").await), ["X", "Y"]);
    drop(call.sender);
    assert!(call.answers.message().await.expect("no error").is_none(), "the call ends when the client is done");
}

#[tokio::test]
async fn batches_are_appended_in_order_and_answered_each() {
    let scene = Scene::begin().await;
    let mut call = Call::begin(&scene, "owner").await;
    let mut sent = HashMap::new();
    for number in 0..500_u64 {
        let correlation = Uuid::now_v7();
        let expect = if number == 0 { Expect::NoStream } else { Expect::At(number - 1) };
        call.send(batch(correlation, Some(options("orders-1", expect)), &events(1), true)).await;
        sent.insert(correlation, number);
    }
    for _ in 0..500 {
        let (correlation, result) = call.answer().await;
        let number = sent.remove(&correlation).expect("each is answered once");
        assert!(
            matches!(&result, batch_append_resp::Result::Success(success)
                if success.current_revision_option == Some(CurrentRevisionOption::CurrentRevision(number))),
            "{number}: {result:?}"
        );
    }
    assert_eq!(revisions(&scene.stream("orders-1").await), (0..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_windows_hold_goes_through_one_call() {
    let scene = Scene::begin().await;
    let mut call = Call::begin(&scene, "owner").await;
    let data = format!("\"{}\"", "x".repeat(256)).into_bytes();
    let sender = call.sender.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..LARGE_BATCHES {
            let padded = events(500).into_iter().map(|event| Event { data: data.clone(), ..event });
            let padded: Vec<Event> = padded.collect();
            sender.send(whole("orders-1", Expect::Any, &padded)).await.expect("the call goes on");
        }
    });
    for batch in 1..=LARGE_BATCHES {
        assert_eq!(call.revision().await, batch * 500 - 1);
    }
    sending.await.expect("all were sent");
}

#[tokio::test]
async fn errors_are_told_in_the_answer_and_the_call_goes_on() {
    let scene = Scene::begin().await;
    let mut call = Call::begin(&scene, "owner").await;
    call.send(whole("orders-1", Expect::Exists, &events(1))).await;
    let details = call.error().await;
    assert_eq!(details.type_url, "type.googleapis.com/event_store.client.WrongExpectedVersion");
    let wrong = wire_types::WrongExpectedVersion::decode(&*details.value).expect("decodes");
    use wire_types::wrong_expected_version::{CurrentStreamRevisionOption, ExpectedStreamPositionOption};
    assert_eq!(wrong.current_stream_revision_option, Some(CurrentStreamRevisionOption::CurrentNoStream(())));
    assert_eq!(
        wrong.expected_stream_position_option,
        Some(ExpectedStreamPositionOption::ExpectedStreamExists(()))
    );
    call.send(whole("memory-1", Expect::Any, &events(1))).await;
    assert_eq!(call.error().await.type_url, "type.googleapis.com/event_store.client.AccessDenied");
    scene.tombstone("gone", Expect::Any).await.expect("ended");
    call.send(whole("gone", Expect::Any, &events(1))).await;
    assert_eq!(call.error().await.type_url, "type.googleapis.com/event_store.client.StreamDeleted");
    let large: Vec<_> = (0..6).map(|_| Event { data: vec![b' '; 3 * 1024 * 1024], ..event("Large") }).collect();
    let correlation = Uuid::now_v7();
    call.send(batch(correlation, Some(options("orders-1", Expect::Any)), &large[..3], false)).await;
    call.send(batch(correlation, None, &large[3..], false)).await;
    let details = call.error().await;
    assert_eq!(details.type_url, "type.googleapis.com/event_store.client.MaximumAppendSizeExceeded");
    let limit = wire_types::MaximumAppendSizeExceeded::decode(&*details.value).expect("decodes");
    assert_eq!(limit.max_append_size, 16 * 1024 * 1024);
    call.send(batch(correlation, None, &events(1), true)).await;
    call.send(batch(Uuid::now_v7(), None, &events(1), true)).await;
    assert_eq!(call.error().await.type_url, "type.googleapis.com/event_store.client.BadRequest");
    let mut late = options("orders-1", Expect::Any);
    late.deadline_option = Some(DeadlineOption::Deadline21100(prost_types::Timestamp { seconds: 1, nanos: 0 }));
    call.send(batch(Uuid::now_v7(), Some(late), &events(1), true)).await;
    assert_eq!(call.error().await.type_url, "type.googleapis.com/event_store.client.Timeout");
    call.send(whole("orders-2", Expect::NoStream, &events(2))).await;
    assert_eq!(call.revision().await, 1);
}

#[tokio::test]
async fn a_deadline_written_as_a_point_in_time_is_understood() {
    let scene = Scene::begin().await;
    let mut call = Call::begin(&scene, "owner").await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let seconds = now.as_secs().cast_signed() + 10;
    let mut epoch = options("orders-1", Expect::Any);
    epoch.deadline_option = Some(DeadlineOption::Deadline(prost_types::Duration { seconds, nanos: 0 }));
    call.send(batch(Uuid::now_v7(), Some(epoch), &events(1), true)).await;
    assert_eq!(call.revision().await, 0);
}

#[tokio::test]
async fn a_call_is_ended_with_the_gateway() {
    let mut scene = Scene::begin().await;
    let mut call = Call::begin(&scene, "owner").await;
    call.send(whole("orders-1", Expect::Any, &events(1))).await;
    assert_eq!(call.revision().await, 0);
    scene.stop().await;
    let ended = call.answers.message().await.expect_err("it ends with an error");
    assert_eq!(ended.code(), tonic::Code::Unavailable);
}
