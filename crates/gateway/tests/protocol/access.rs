use cairn_proto::event_store::client::Empty;
use cairn_proto::event_store::client::gossip::gossip_client::GossipClient;
use cairn_proto::event_store::client::gossip::member_info::VNodeState;
use cairn_proto::event_store::client::server_features::server_features_client::ServerFeaturesClient;
use cairn_proto::event_store::client::streams::ReadReq;
use cairn_proto::event_store::client::streams::read_req::options::{CountOption, ReadDirection};
use tonic::Code;

use crate::scene::{
    Begin, Content, Expect, Scene, all_options, event, events, following, trailer, value, with_token,
};

#[tokio::test]
async fn only_who_is_known_gets_in() {
    let scene = Scene::begin().await;
    for (token, code) in [
        (None, Code::Unauthenticated),
        (Some("guessed"), Code::Unauthenticated),
        (Some("former"), Code::PermissionDenied),
    ] {
        let refused = scene.append_as(token, "orders-1", Expect::Any, &events(1)).await.expect_err("refused");
        assert_eq!(refused.code(), code);
        let options = all_options(Begin::Start, ReadDirection::Forwards, CountOption::Count(1), None);
        let read = scene.client.clone().read(with_token(token, ReadReq { options: Some(options) })).await;
        assert_eq!(read.expect_err("refused").code(), code);
        let batch = scene.client.clone().batch_append(with_token(token, tokio_stream::empty())).await;
        assert_eq!(batch.expect_err("refused").code(), code);
    }
    assert_eq!(*scene.store.head().borrow(), cairn_event_store::Position::START);
}

#[tokio::test]
async fn a_subscription_does_not_outlive_its_token() {
    let scene = Scene::begin().await;
    let options = || all_options(Begin::Start, ReadDirection::Forwards, following(), None);
    let (mut silent, mut busy) = (scene.subscribe(options()).await, scene.subscribe(options()).await);
    scene.revoke();
    let refused = loop {
        match silent.message().await {
            Ok(message) => assert!(message.is_some(), "it says why it ends"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::Unauthenticated);
    scene.append_as(Some("agent"), "orders-1", Expect::Any, &events(1)).await.expect("others go on");
    loop {
        match busy.message().await {
            Ok(message) => {
                let content = message.and_then(|message| message.content);
                assert!(!matches!(content, Some(Content::Event(_))), "it shows an event to nobody");
            }
            Err(status) => break assert_eq!(status.code(), Code::Unauthenticated),
        }
    }
}

#[tokio::test]
async fn a_password_is_a_token() {
    let scene = Scene::begin().await;
    let options = all_options(Begin::Start, ReadDirection::Forwards, CountOption::Count(1), None);
    let mut request = tonic::Request::new(ReadReq { options: Some(options) });
    // "anyone:owner"
    request.metadata_mut().insert("authorization", "Basic YW55b25lOm93bmVy".parse().expect("plain"));
    scene.client.clone().read(request).await.expect("let in");
}

#[tokio::test]
async fn memories_can_be_read_and_not_written() {
    let scene = Scene::begin().await;
    scene.append_own("memory-1", "memory.created", r#"{"principal":"p","truth":1}"#).await;
    let seen = scene.stream("memory-1").await;
    assert_eq!(value(&seen[0], "type"), "memory.created");
    assert_eq!(&*seen[0].custom_metadata, br#"{"principal":"p","truth":1}"#, "all of what the log says");
    for stream in ["memory-1", "memory-2", "principal-1", "$$memory-1", "$settings", "$$$settings"] {
        let refused =
            scene.append_as(Some("owner"), stream, Expect::Any, &[event("$metadata")]).await.expect_err("refused");
        assert_eq!(
            (refused.code(), trailer(&refused, "exception")),
            (Code::PermissionDenied, Some("access-denied"))
        );
        let deleted = scene.delete(stream, Expect::Any).await.expect_err("refused");
        assert_eq!(trailer(&deleted, "exception"), Some("access-denied"));
        let ended = scene.tombstone(stream, Expect::Any).await.expect_err("refused");
        assert_eq!(trailer(&ended, "exception"), Some("access-denied"));
    }
    assert_eq!(scene.store.head().borrow().0, 1);
}

#[tokio::test]
async fn clients_learn_what_is_served_and_where() {
    let scene = Scene::begin().await;
    let url = format!("http://{}", scene.address);
    let mut features = ServerFeaturesClient::connect(url.clone()).await.expect("connects");
    let supported = features.get_supported_methods(Empty {}).await.expect("answered").into_inner();
    assert_eq!(supported.event_store_server_version, "23.10.0");
    let serves = |service: &str, method: &str| {
        supported.methods.iter().any(|found| found.service_name == service && found.method_name == method)
    };
    assert!(serves("event_store.client.streams.streams", "batchappend"));
    assert!(!serves("event_store.client.persistent_subscriptions.persistentsubscriptions", "create"));
    assert!(supported.methods.iter().all(|found| found.method_name.to_lowercase() == found.method_name));
    let mut gossip = GossipClient::connect(url).await.expect("connects");
    let members = gossip.read(Empty {}).await.expect("answered").into_inner().members;
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].state(), VNodeState::Leader);
    assert!(members[0].is_alive);
    let endpoint = members[0].http_end_point.as_ref().expect("an address");
    assert_eq!((endpoint.address.as_str(), endpoint.port), ("127.0.0.1", u32::from(scene.address.port())));
}
