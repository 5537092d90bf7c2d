use cairn_event_store::{Position, Revision};

use super::*;

fn caller(ceiling: u8) -> Caller {
    Caller {
        principal: Uuid::from_u128(1),
        ceiling: Level::new(ceiling).expect("a level"),
        origin: "automation:importer".into(),
    }
}

fn proposal(content_type: &'static str, custom: &'static [u8], data: &'static [u8]) -> Proposal {
    Proposal {
        id: Uuid::from_u128(2),
        event_type: "OrderPlaced".into(),
        content_type: Bytes::from_static(content_type.as_bytes()),
        custom: Bytes::from_static(custom),
        data: Bytes::from_static(data),
    }
}

fn recorded(event: NewEvent) -> RecordedEvent {
    RecordedEvent {
        position: Position(1),
        stream: "orders-1".into(),
        revision: Revision(0),
        id: event.id,
        event_type: event.event_type,
        schema_version: event.schema_version,
        brain: Uuid::nil(),
        recorded_at: chrono::DateTime::UNIX_EPOCH,
        data: event.data,
        metadata: event.metadata,
        erased: false,
    }
}

#[test]
fn everything_comes_back_byte_for_byte() {
    let cases: [(&str, &[u8], &[u8]); 9] = [
        (JSON, b"", b"{}"),
        (JSON, b"{\"a\" : 1.0, \"a\":2}", b" { \"x\":\n 1e5 } "),
        (JSON, b" {} ", b"not json"),
        (JSON, b"\xff\x00", b""),
        (JSON, b"null", b"null"),
        (JSON, b"\"text\"", b"\"text\""),
        ("application/octet-stream", b"[1]", b"\x00\xff\x01"),
        ("application/octet-stream", b"", b""),
        ("text/plain; charset=\"x\"", b"plain", b"{}"),
    ];
    for (content_type, custom, data) in cases {
        let proposal = proposal(content_type, custom, data);
        for id in [proposal.id, Uuid::from_u128(77)] {
            let event = proposal.envelope(&caller(2), proposal.id, id);
            assert_eq!(event.id, id);
            assert!(is_json(&event.data), "the log holds JSON: {:?}", event.data);
            assert!(is_json(&event.metadata), "the log holds JSON: {:?}", event.metadata);
            let shown = Shown::of(&recorded(event));
            assert_eq!(&*shown.content_type, content_type.as_bytes());
            assert_eq!((&*shown.custom, &*shown.data, shown.id), (custom, data, proposal.id));
        }
    }
}

#[test]
fn the_same_proposal_makes_the_same_envelope() {
    let proposal = proposal(JSON, b"{}", b"{}");
    let envelope = || proposal.envelope(&caller(2), proposal.id, proposal.id);
    assert_eq!(envelope(), envelope());
}

#[test]
fn the_metadata_says_who_wrote_at_which_truth() {
    let metadata = |ceiling, custom| {
        let event =
            proposal(JSON, custom, b"{}").envelope(&caller(ceiling), Uuid::from_u128(2), Uuid::from_u128(2));
        serde_json::from_slice::<serde_json::Value>(&event.metadata).expect("JSON")
    };
    let plain = metadata(2, b"");
    assert_eq!(plain["principal"], Uuid::from_u128(1).to_string());
    assert_eq!(plain["truth"], 2);
    assert_eq!(plain["origin"], "automation:importer");
    assert_eq!(plain["correlation_id"], Uuid::from_u128(2).to_string());
    assert_eq!(metadata(2, b"{\"$truth\":1}")["truth"], 2, "never above the ceiling");
    let lower = metadata(2, b"{\"$truth\":5}");
    assert_eq!((&lower["truth"], &lower["origin"]), (&5.into(), &"ai-cloud:importer".into()));
    assert_eq!(metadata(2, b"{\"$truth\":9}")["truth"], 2);
    assert_eq!(metadata(2, b"{\"$truth\":\"x\",\"$correlationId\":7}")["truth"], 2);
    let linked = metadata(2, b"{\"$correlationId\":\"00000000-0000-0000-0000-000000000009\"}");
    assert_eq!(linked["correlation_id"], Uuid::from_u128(9).to_string());
}

#[test]
fn events_of_cairns_own_and_erased_ones_are_shown_as_they_are() {
    let mut event = recorded(proposal(JSON, b"{}", b"{}").envelope(&caller(2), Uuid::nil(), Uuid::from_u128(2)));
    event.stream = "memory-1".into();
    assert_eq!(Shown::of(&event).custom, event.metadata);
    event.stream = "orders-1".into();
    event.metadata = Bytes::from_static(b"{\"principal\":\"x\"}");
    assert_eq!(Shown::of(&event).custom, event.metadata);
    let coded = proposal("application/octet-stream", b"", b"\x01").envelope(&caller(2), Uuid::nil(), Uuid::nil());
    let mut erased = recorded(coded);
    (erased.data, erased.erased) = (Bytes::from_static(b"null"), true);
    assert_eq!(&*Shown::of(&erased).data, b"null");
}

#[test]
fn a_type_and_a_content_type_are_required() {
    let id = ids::write(Uuid::from_u128(2), ids::Spelling::Text);
    let entry =
        |key: &'static str, value: &'static str| streams::MetadataEntry { key: key.into(), value: value.into() };
    let missing = |entries| match Proposal::new(Some(&id), entries, Bytes::new(), Bytes::new()) {
        Err(Failure::MissingProperty { property }) => property,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(vec![entry("content-type", JSON)]), "type");
    assert_eq!(missing(vec![entry("type", "x"), entry("other", "y")]), "content-type");
}
