//! The rules that every adapter keeps, as tests: `conformance_suite!` makes one test of each.
//!
//! Each rule gets an empty store twice, once with streams that hold personal data and once with others, because a
//! wrapper may treat them differently and must not let it show.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "tests: they panic, and their names say why"
)]

pub mod appending;
pub mod concurrency;
pub mod following;
pub mod keeping;
pub mod reading;

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::event::{
    Appended, Direction, ExpectedRevision, Filter, NewAppend, NewEvent, Position, RecordedEvent, Revision,
    StreamAppend,
};
use crate::port::{AppendError, EventStore};

/// The brain that a store under test is opened for.
pub const BRAIN: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

/// An empty store, and whatever must live as long as it does.
pub struct Fixture {
    pub store: Arc<dyn EventStore>,
    pub keep: Box<dyn Any + Send>,
}

/// A store under test, and how the names of its streams begin.
#[derive(Clone)]
pub struct Scene {
    pub store: Arc<dyn EventStore>,
    pub prefix: &'static str,
}

/// The prefixes of stream names that each rule is tried with.
pub const PREFIXES: [&str; 2] = ["memory-", "space-"];

/// Makes a test of each rule. The argument is an async function that makes a [`Fixture`].
#[macro_export]
macro_rules! conformance_suite {
    ($factory:path) => {
        $crate::conformance_suite! { $factory;
            appending::append_tells_position_and_revisions,
            appending::expected_revisions_are_enforced,
            appending::several_streams_are_all_or_nothing,
            appending::checks_alone_write_nothing,
            appending::a_repeated_append_returns_the_first_result,
            appending::a_reused_id_is_refused,
            appending::a_partly_known_append_is_refused,
            appending::limits_are_enforced,
            appending::tracking_is_recorded_with_the_events,
            appending::entries_about_memories_are_kept_and_recognised,
            reading::the_log_reads_in_both_directions,
            reading::a_stream_reads_in_both_directions,
            reading::a_long_stream_reads_as_a_whole,
            reading::filters_pass_streams_and_types,
            reading::pages_lead_through_the_whole_log,
            reading::events_are_found_by_id,
            reading::positions_are_found_by_time,
            keeping::snapshots_are_kept_replaced_and_deleted,
            concurrency::readers_never_miss_an_event,
            concurrency::one_writer_wins_each_revision,
            concurrency::a_published_head_is_readable,
            concurrency::a_cancelled_append_is_all_or_nothing,
            concurrency::simultaneous_repetitions_write_once,
            following::a_subscription_catches_up_and_goes_live,
            following::a_filtered_subscription_tells_its_progress,
            following::a_slow_subscription_misses_nothing,
            following::a_cancelled_wait_loses_nothing,
        }
    };
    ($factory:path; $($module:ident :: $rule:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                for prefix in $crate::conformance::PREFIXES {
                    let fixture = $factory().await;
                    let scene = $crate::conformance::Scene { store: fixture.store, prefix };
                    $crate::conformance::$module::$rule(scene).await;
                    drop(fixture.keep);
                }
            }
        )+
    };
}

impl Scene {
    pub fn name(&self, stream: &str) -> Arc<str> {
        format!("{}{stream}", self.prefix).into()
    }

    pub fn on(&self, stream: &str, expected: ExpectedRevision, events: Vec<NewEvent>) -> StreamAppend {
        StreamAppend { stream: self.name(stream), expected, events }
    }

    pub async fn append(
        &self,
        stream: &str,
        expected: ExpectedRevision,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        self.store.append(append([self.on(stream, expected, events)])).await
    }

    /// Appends new events, each in an append of its own.
    pub async fn fill(&self, stream: &str, count: usize) -> Vec<NewEvent> {
        let events: Vec<_> = (0..count).map(|n| event(&format!("{stream} {n}"))).collect();
        for event in &events {
            self.append(stream, ExpectedRevision::Any, vec![event.clone()]).await.unwrap();
        }
        events
    }

    pub async fn stream(&self, stream: &str) -> Vec<RecordedEvent> {
        let name = self.name(stream);
        self.store.read_stream(&name, Revision(0), Direction::Forwards, usize::MAX).await.unwrap()
    }

    /// The whole log, page by page.
    pub async fn log(&self) -> Vec<RecordedEvent> {
        self.log_through(&Filter::default(), Direction::Forwards, 100).await
    }

    pub async fn log_through(&self, filter: &Filter, direction: Direction, limit: usize) -> Vec<RecordedEvent> {
        let mut events = Vec::new();
        let mut from = match direction {
            Direction::Forwards => Some(Position::START),
            Direction::Backwards => Some(Position(u64::MAX)),
        };
        while let Some(position) = from {
            let page = self.store.read_all(position, direction, filter, limit).await.unwrap();
            assert!(page.events.len() <= limit, "{} events on a page of {limit}", page.events.len());
            assert_ne!(page.next, Some(position), "a page that makes no progress");
            events.extend(page.events);
            from = page.next;
        }
        events
    }
}

pub fn append(streams: impl IntoIterator<Item = StreamAppend>) -> NewAppend {
    NewAppend { streams: streams.into_iter().collect(), tracking: None }
}

pub fn event(text: &str) -> NewEvent {
    typed("memory.noted", text)
}

pub fn typed(event_type: &str, text: &str) -> NewEvent {
    NewEvent {
        id: Uuid::now_v7(),
        event_type: event_type.into(),
        schema_version: 3,
        data: Bytes::from(format!("{{\"text\":\"{text}\"}}")),
        metadata: Bytes::from_static(b"{\"truth\":1}"),
    }
}

pub fn ids(events: &[RecordedEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}

pub fn new_ids(events: &[NewEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}
