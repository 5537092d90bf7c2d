use std::collections::HashMap;

use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::event::{ExpectedRevision, NewAppend, StreamAppend};

const BRAIN: Uuid = Uuid::from_u128(7);

/// What the server would give back.
fn arrived(outgoing: &Outgoing, revision: u64) -> eventstore::RecordedEvent {
    eventstore::RecordedEvent {
        stream_id: "cairn-x".into(),
        id: outgoing.id,
        revision,
        event_type: outgoing.event_type.to_string(),
        data: outgoing.data.clone(),
        metadata: HashMap::new(),
        custom_metadata: outgoing.metadata.clone(),
        is_json: true,
        position: eventstore::Position { commit: 0, prepare: 0 },
        created: DateTime::UNIX_EPOCH,
    }
}

fn view() -> View {
    View::new(BRAIN, 4, DateTime::UNIX_EPOCH, HashMap::new(), HashMap::new(), Vec::new())
}

fn append(events: Vec<NewEvent>, tracking: Option<Tracking>) -> NewAppend {
    let entry = StreamAppend { stream: "memory-1".into(), expected: ExpectedRevision::Any, events };
    NewAppend { streams: vec![entry], tracking }
}

fn event(data: &[u8], metadata: &[u8]) -> NewEvent {
    NewEvent {
        id: Uuid::now_v7(),
        event_type: "memory.noted".into(),
        schema_version: 3,
        data: data.to_vec().into(),
        metadata: metadata.to_vec().into(),
    }
}

#[test]
fn a_batch_says_how_far_each_append_goes_and_where_tracking_belongs() {
    let mut view = view();
    let tracking = |position| Some(Tracking { source: "vault".into(), position });
    view.write(&append(vec![event(b"{}", b"{}"), event(b"{}", b"{}")], tracking(7)));
    view.write(&append(vec![], tracking(8)));
    view.write(&append(vec![event(b"{}", b"{}")], None));
    let read = |(index, outgoing): (usize, &Outgoing)| {
        Record::read(BRAIN, &arrived(outgoing, index as u64 + 9)).expect("ours")
    };
    let records: Vec<_> = Outgoing::batch(&view).iter().enumerate().map(read).collect();
    assert_eq!(records.iter().map(Record::more).collect::<Vec<_>>(), [1, 0, 0, 0]);
    let told: Vec<_> = records
        .iter()
        .map(|record| match &record.content {
            Content::Event { tracking, .. } => tracking.as_ref().map(|tracking| tracking.position),
            Content::Tracked(tracking) => Some(tracking.position + 100),
            Content::Begun(_) => None,
        })
        .collect();
    assert_eq!(told, [None, Some(7), Some(108), None]);
    assert_eq!(records[3].mark.revision, 12);
}

#[test]
fn what_another_program_wrote_is_refused() {
    let outgoing = Outgoing::new("OrderPlaced".into(), Bytes::from_static(b"{}"), Bytes::new());
    assert!(Record::read(BRAIN, &arrived(&outgoing, 3)).is_err());
    let outgoing =
        Outgoing::new("OrderPlaced".into(), Bytes::from_static(b"{}"), Bytes::from_static(b"{\"a\":1}"));
    let error = Record::read(BRAIN, &arrived(&outgoing, 3)).expect_err("foreign");
    assert!(error.to_string().contains("revision 3"), "{error}");
}

#[test]
fn the_beginning_is_read_back() {
    let begun = Begun { format: FORMAT, brain: BRAIN, keys: "k".into() };
    let record = Record::read(BRAIN, &arrived(&Outgoing::begun(&begun), 0)).expect("ours");
    assert_eq!(record.content, Content::Begun(begun));
}

proptest! {
    #[test]
    fn an_event_comes_back_byte_for_byte(
        data in prop_oneof![Just(b"null".to_vec()), Just(b"{\"a\": 1.50}".to_vec()), prop::collection::vec(any::<u8>(), 0..64)],
        metadata in prop_oneof![Just(b"null".to_vec()), Just(b" {}".to_vec()), Just(b"{\"b\":\"\\u00e9\"}".to_vec()),
            prop::collection::vec(any::<u8>(), 0..64)],
    ) {
        let mut view = view();
        view.write(&append(vec![event(&data, &metadata)], None));
        let outgoing = Outgoing::batch(&view);
        let record = Record::read(BRAIN, &arrived(&outgoing[0], 9)).expect("ours");
        let expected = Content::Event { event: Box::new(view.written[0].clone()), tracking: None, more: 0 };
        prop_assert_eq!(record.content, expected);
        prop_assert!(outgoing[0].size() > data.len() + metadata.len());
    }
}
