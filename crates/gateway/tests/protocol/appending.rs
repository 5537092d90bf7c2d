use cairn_event_store::{Direction, Revision};
use cairn_proto::event_store::client::streams::append_resp;
use tonic::Code;
use uuid::Uuid;

use crate::scene::{Event, Expect, Scene, event, events, revisions, success, trailer, types, value};

#[tokio::test]
async fn every_expectation_is_held_to() {
    let scene = Scene::begin().await;
    let refused = async |expect| {
        let answer = scene.append_as(Some("owner"), "orders-1", expect, &events(1)).await.expect("answered");
        match answer.result {
            Some(append_resp::Result::WrongExpectedVersion(wrong)) => wrong,
            other => panic!("{other:?}"),
        }
    };
    use append_resp::wrong_expected_version::{
        CurrentRevisionOption as Current, CurrentRevisionOption2060 as OldCurrent,
        ExpectedRevisionOption as Expected,
    };
    assert!(matches!(refused(Expect::Exists).await.current_revision_option, Some(Current::CurrentNoStream(_))));
    assert!(matches!(refused(Expect::At(3)).await.expected_revision_option, Some(Expected::ExpectedRevision(3))));
    assert_eq!(scene.append("orders-1", Expect::NoStream, &events(2)).await, (1, 2));
    let wrong = refused(Expect::NoStream).await;
    assert!(matches!(wrong.current_revision_option, Some(Current::CurrentRevision(1))));
    assert!(matches!(wrong.current_revision_option_20_6_0, Some(OldCurrent::CurrentRevision2060(1))));
    assert!(matches!(wrong.expected_revision_option, Some(Expected::ExpectedNoStream(_))));
    assert_eq!(scene.append("orders-1", Expect::At(1), &events(1)).await, (2, 3));
    assert_eq!(scene.append("orders-1", Expect::Exists, &events(1)).await, (3, 4));
    assert_eq!(scene.append("orders-1", Expect::Any, &events(1)).await, (4, 5));
    assert_eq!(scene.append("orders-2", Expect::Any, &events(1)).await, (0, 6));
    assert_eq!(revisions(&scene.stream("orders-1").await), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn the_same_events_are_appended_once() {
    let scene = Scene::begin().await;
    let (first, second) = (events(2), events(1));
    let answered = scene.append("orders-1", Expect::NoStream, &first).await;
    scene.append("orders-1", Expect::At(1), &second).await;
    assert_eq!(scene.append("orders-1", Expect::NoStream, &first).await, answered);
    assert_eq!(scene.append("orders-1", Expect::Any, &first).await, answered);
    let mixed = [second[0].clone(), event("New")];
    let late = scene.append_as(Some("owner"), "orders-1", Expect::At(1), &mixed).await.expect("answered");
    assert!(matches!(late.result, Some(append_resp::Result::WrongExpectedVersion(_))), "{late:?}");
    let other = Event { data: b"{}".to_vec(), ..second[0].clone() };
    let refused = scene.append_as(Some("owner"), "orders-1", Expect::Any, &[other]).await.expect_err("refused");
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(scene.stream("orders-1").await.len(), 3);
}

#[tokio::test]
async fn an_id_may_be_used_once_in_every_stream() {
    let scene = Scene::begin().await;
    let both = events(2);
    scene.append("orders-1", Expect::NoStream, &both).await;
    let answered = scene.append("orders-2", Expect::NoStream, &both).await;
    assert_eq!(answered, (1, 4));
    assert_eq!(scene.append("orders-2", Expect::NoStream, &both).await, answered, "again without effect");
    let ids = |events: Vec<crate::scene::Seen>| events.into_iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(ids(scene.stream("orders-1").await), ids(scene.stream("orders-2").await));
}

#[tokio::test]
async fn what_was_sent_comes_back_byte_for_byte() {
    let scene = Scene::begin().await;
    let mut sent = events(4);
    sent[0].metadata = b"{\"$correlationId\" : \"x\",\n \"n\": 1.0}".to_vec();
    sent[1].content_type = "application/octet-stream".into();
    (sent[1].data, sent[1].metadata) = (vec![0, 255, 1, 2], vec![255, 254]);
    (sent[2].data, sent[2].metadata) = (b"{not json".to_vec(), b" {} ".to_vec());
    sent[3].data = Vec::new();
    scene.append("orders-1", Expect::NoStream, &sent).await;
    for (sent, seen) in sent.iter().zip(scene.stream("orders-1").await) {
        assert_eq!((&seen.data[..], &seen.custom_metadata[..]), (&sent.data[..], &sent.metadata[..]));
        assert_eq!(value(&seen, "type"), sent.event_type);
        assert_eq!(value(&seen, "content-type"), sent.content_type);
        let ticks: i64 = value(&seen, "created").parse().expect("a number");
        assert!(ticks > 17_000_000_000_000_000 && ticks % 10 == 0, "{ticks}");
    }
}

#[tokio::test]
async fn the_log_says_who_wrote_at_which_truth() {
    let scene = Scene::begin().await;
    let mut asking = event("Claimed");
    asking.metadata = br#"{"$truth":1,"$correlationId":"00000000-0000-0000-0000-0000000000aa"}"#.to_vec();
    success(scene.append_as(Some("agent"), "notes-1", Expect::Any, &[asking]).await.expect("answered"));
    let mut lower = event("Claimed");
    lower.metadata = br#"{"$truth":3}"#.to_vec();
    scene.append("notes-1", Expect::Any, &[lower]).await;
    let logged = scene.store.read_stream("notes-1", Revision(0), Direction::Forwards, 9).await.expect("read");
    let metadata = |index: usize| -> serde_json::Value {
        serde_json::from_slice(&logged[index].metadata).expect("the log's metadata are JSON")
    };
    assert_eq!(metadata(0)["truth"], 5, "never above the ceiling");
    assert_eq!(metadata(0)["principal"], Uuid::from_u128(5).to_string());
    assert_eq!(metadata(0)["origin"], "ai-cloud:agent");
    assert_eq!(metadata(0)["correlation_id"], Uuid::from_u128(0xaa).to_string());
    assert_eq!((&metadata(1)["truth"], &metadata(1)["origin"]), (&3.into(), &"ai-local:owner".into()));
    assert_eq!(&*logged[0].data, br#"{"a": 1}"#, "JSON stays as it is");
}

#[tokio::test]
async fn what_is_too_large_is_refused_the_protocols_way() {
    let scene = Scene::begin().await;
    let mut large = event("Large");
    large.content_type = "application/octet-stream".into();
    large.data = vec![1; 4 * 1024 * 1024];
    let refused = scene.append_as(Some("owner"), "orders-1", Expect::Any, &[large.clone()]).await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(trailer(&refused, "exception"), Some("maximum-append-size-exceeded"));
    assert_eq!(trailer(&refused, "maximum-append-size"), Some("4194304"));
    let many: Vec<_> = (0..5).map(|_| Event { id: Uuid::now_v7(), ..large.clone() }).collect();
    let refused = scene.append_as(Some("owner"), "orders-1", Expect::Any, &many).await.expect_err("refused");
    assert_eq!(trailer(&refused, "maximum-append-size"), Some("16777216"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let scene = Scene::begin().await;
    let untyped = Event { event_type: String::new(), ..event("x") };
    let refused = scene.append_as(Some("owner"), "orders-1", Expect::Any, &[untyped]).await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    for stream in ["", &"x".repeat(513)] {
        let refused = scene.append_as(Some("owner"), stream, Expect::Any, &events(1)).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let twice = event("x");
    let twice = [twice.clone(), twice];
    let refused = scene.append_as(Some("owner"), "orders-1", Expect::Any, &twice).await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn nothing_at_all_can_be_appended() {
    let scene = Scene::begin().await;
    let answer = scene.append_as(Some("owner"), "orders-1", Expect::Any, &[]).await.expect("answered");
    let Some(append_resp::Result::Success(success)) = answer.result else { panic!("{answer:?}") };
    assert!(matches!(success.position_option, Some(append_resp::success::PositionOption::NoPosition(_))));
    let last = scene.append("orders-1", Expect::Any, &events(3)).await;
    assert_eq!(scene.append("orders-1", Expect::Exists, &[]).await, last);
    assert_eq!(types(&scene.stream("orders-1").await).len(), 3);
}
