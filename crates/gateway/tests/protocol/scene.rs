//! A gateway of its own for each test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_event_store::{ExpectedRevision, NewAppend, NewEvent, SharedStore, SqliteStore, StreamAppend};
use cairn_gateway::{Authority, Caller, Credentials, Gateway, Level, Options, Refusal};
use cairn_proto::event_store::client::streams::streams_client::StreamsClient;
use cairn_proto::event_store::client::streams::{
    AppendReq, AppendResp, DeleteReq, MetadataEntry, ReadReq, ReadResp, TombstoneReq, append_req, append_resp,
    delete_req, read_req, read_resp, tombstone_req,
};
use cairn_proto::event_store::client::{Empty, StreamIdentifier, Uuid as WireUuid, uuid as spelling};
use read_req::options::{
    AllOptions, CountOption, FilterOption, FilterOptions, ReadDirection, StreamOption, StreamOptions,
    SubscriptionOptions, UuidOption, all_options, filter_options, stream_options, uuid_option,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use uuid::Uuid;

pub type Client = StreamsClient<Channel>;
pub use read_resp::Content;
pub use read_resp::read_event::RecordedEvent as Seen;

/// How long a test waits for a message that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store, a gateway to it, and a client of the owner's.
pub struct Scene {
    pub store: SharedStore,
    pub address: SocketAddr,
    pub client: Client,
    revoked: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    _folder: TempDir,
}

/// Knows three tokens: `owner` of level 1, `agent` of level 5 and `former`, who may not do anything. The owner's may be
/// revoked.
struct Doorman {
    revoked: Arc<AtomicBool>,
}

impl Authority for Doorman {
    fn admit(&self, credentials: Option<&Credentials>) -> Result<Caller, Refusal> {
        let (principal, ceiling, origin) = match credentials.map(Credentials::token) {
            Some("owner") if self.revoked.load(Ordering::Relaxed) => {
                return Err(Refusal::Unauthenticated("the token was revoked".into()));
            }
            Some("owner") => (1, 1, "user:owner"),
            Some("agent") => (5, 5, "ai-cloud:agent"),
            Some("former") => return Err(Refusal::Forbidden("the token was revoked".into())),
            Some(_) => return Err(Refusal::Unauthenticated("the token is not known".into())),
            None => return Err(Refusal::Unauthenticated("send a token".into())),
        };
        let ceiling = Level::new(ceiling).expect("a level");
        Ok(Caller { principal: Uuid::from_u128(principal), ceiling, origin: origin.into() })
    }
}

/// What a client sends of an event.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: Uuid,
    pub event_type: String,
    pub content_type: String,
    pub metadata: Vec<u8>,
    pub data: Vec<u8>,
}

/// What a stream is expected to be at.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    Any,
    NoStream,
    Exists,
    At(u64),
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub enum Begin {
    Start,
    End,
    At(u64),
}

/// An event of JSON.
pub fn event(event_type: &str) -> Event {
    Event {
        id: Uuid::now_v7(),
        event_type: event_type.into(),
        content_type: "application/json".into(),
        metadata: Vec::new(),
        data: br#"{"a": 1}"#.to_vec(),
    }
}

pub fn events(count: usize) -> Vec<Event> {
    (0..count).map(|number| event(&format!("Event{number}"))).collect()
}

impl Scene {
    pub async fn begin() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store: SharedStore =
            Arc::new(SqliteStore::open(folder.path().join("log.db"), Uuid::now_v7()).expect("opens"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let revoked = Arc::new(AtomicBool::new(false));
        let doorman = Doorman { revoked: Arc::clone(&revoked) };
        let gateway = Gateway::new(Arc::clone(&store), Arc::new(doorman), Options::plain(address));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            gateway.serve(listener, stopped).await.expect("serves");
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let client = StreamsClient::new(endpoint.connect().await.expect("connects"));
        Self { store, address, client, revoked, stop: Some(stop), serving: Some(serving), _folder: folder }
    }

    /// Revokes the owner's token.
    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::Relaxed);
    }

    /// Tells the gateway to end, and waits until it has.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        let serving = self.serving.take().expect("stopped once");
        tokio::time::timeout(PATIENCE, serving).await.expect("it ends in time").expect("it ends well");
    }

    /// Appends what Cairn's own commands would, past the gateway.
    pub async fn append_own(&self, stream: &str, event_type: &str, metadata: &'static str) -> Uuid {
        let id = Uuid::now_v7();
        let event = NewEvent {
            id,
            event_type: event_type.into(),
            schema_version: 1,
            data: "{}".into(),
            metadata: metadata.into(),
        };
        let entry = StreamAppend { stream: stream.into(), expected: ExpectedRevision::Any, events: vec![event] };
        let append = NewAppend { streams: vec![entry], tracking: None };
        self.store.append(append).await.expect("appended");
        id
    }

    pub async fn append_as(
        &self,
        token: Option<&str>,
        stream: &str,
        expect: Expect,
        events: &[Event],
    ) -> Result<AppendResp, Status> {
        let options = append_req::Options {
            stream_identifier: Some(name(stream)),
            expected_stream_revision: Some(expect.of_append()),
        };
        let mut contents = vec![append_req::Content::Options(options)];
        contents.extend(events.iter().map(|event| append_req::Content::ProposedMessage(event.proposed())));
        let messages: Vec<_> = contents.into_iter().map(|content| AppendReq { content: Some(content) }).collect();
        let answer = self.client.clone().append(with_token(token, tokio_stream::iter(messages))).await?;
        Ok(answer.into_inner())
    }

    /// Appends as the owner; gives the stream's revision and the position.
    #[track_caller]
    pub fn append(
        &self,
        stream: &str,
        expect: Expect,
        events: &[Event],
    ) -> impl Future<Output = (u64, u64)> + use<'_> {
        let (stream, events) = (stream.to_owned(), events.to_vec());
        async move {
            let answer = self.append_as(Some("owner"), &stream, expect, &events).await.expect("answered");
            success(answer)
        }
    }

    /// Reads; gives all messages.
    pub async fn read(&self, options: read_req::Options) -> Result<Vec<Content>, Status> {
        let request = with_token(Some("owner"), ReadReq { options: Some(options) });
        let mut answers = self.client.clone().read(request).await?.into_inner();
        let mut contents = Vec::new();
        while let Some(answer) = answers.message().await? {
            contents.push(answer.content.expect("no message is empty"));
        }
        Ok(contents)
    }

    /// The events of a stream, forwards.
    pub async fn stream(&self, stream: &str) -> Vec<Seen> {
        let options = stream_options(stream, Begin::Start, ReadDirection::Forwards, CountOption::Count(u64::MAX));
        seen(self.read(options).await.expect("read"))
    }

    /// Subscribes; the confirmation has been taken.
    pub async fn subscribe(&self, options: read_req::Options) -> Subscription {
        let request = with_token(Some("owner"), ReadReq { options: Some(options) });
        let answers = self.client.clone().read(request).await.expect("begins").into_inner();
        let mut subscription = Subscription(answers);
        assert!(matches!(subscription.next().await, Content::Confirmation(_)), "the confirmation comes first");
        subscription
    }

    pub async fn delete(&self, stream: &str, expect: Expect) -> Result<(), Status> {
        let options = delete_req::Options {
            stream_identifier: Some(name(stream)),
            expected_stream_revision: Some(expect.of_delete()),
        };
        let request = with_token(Some("owner"), DeleteReq { options: Some(options) });
        self.client.clone().delete(request).await.map(drop)
    }

    pub async fn tombstone(&self, stream: &str, expect: Expect) -> Result<(), Status> {
        let options = tombstone_req::Options {
            stream_identifier: Some(name(stream)),
            expected_stream_revision: Some(expect.of_tombstone()),
        };
        let request = with_token(Some("owner"), TombstoneReq { options: Some(options) });
        self.client.clone().tombstone(request).await.map(drop)
    }
}

/// The messages of a subscription.
pub struct Subscription(Streaming<ReadResp>);

impl Subscription {
    pub async fn next(&mut self) -> Content {
        self.message().await.expect("a message").expect("not the end").content.expect("not empty")
    }

    pub async fn message(&mut self) -> Result<Option<ReadResp>, Status> {
        tokio::time::timeout(PATIENCE, self.0.message()).await.expect("a message in time")
    }

    /// The next event, past what is not one.
    pub async fn event(&mut self) -> Seen {
        loop {
            if let Content::Event(event) = self.next().await {
                return event.event.expect("an event");
            }
        }
    }
}

impl Event {
    fn entries(&self) -> Vec<MetadataEntry> {
        let entry = |key: &str, value: &str| MetadataEntry {
            key: key.as_bytes().to_vec().into(),
            value: value.as_bytes().to_vec().into(),
        };
        vec![entry("type", &self.event_type), entry("content-type", &self.content_type)]
    }

    fn proposed(&self) -> append_req::ProposedMessage {
        append_req::ProposedMessage {
            id: Some(wire(self.id)),
            metadata: self.entries(),
            custom_metadata: self.metadata.clone().into(),
            data: self.data.clone().into(),
        }
    }

    pub fn in_batch(&self) -> cairn_proto::event_store::client::streams::batch_append_req::ProposedMessage {
        cairn_proto::event_store::client::streams::batch_append_req::ProposedMessage {
            id: Some(wire(self.id)),
            metadata: self.entries(),
            custom_metadata: self.metadata.clone().into(),
            data: self.data.clone().into(),
        }
    }
}

impl Expect {
    fn of_append(self) -> append_req::options::ExpectedStreamRevision {
        use append_req::options::ExpectedStreamRevision as Expected;
        match self {
            Self::Any => Expected::Any(Empty {}),
            Self::NoStream => Expected::NoStream(Empty {}),
            Self::Exists => Expected::StreamExists(Empty {}),
            Self::At(revision) => Expected::Revision(revision),
        }
    }

    fn of_delete(self) -> delete_req::options::ExpectedStreamRevision {
        use delete_req::options::ExpectedStreamRevision as Expected;
        match self {
            Self::Any => Expected::Any(Empty {}),
            Self::NoStream => Expected::NoStream(Empty {}),
            Self::Exists => Expected::StreamExists(Empty {}),
            Self::At(revision) => Expected::Revision(revision),
        }
    }

    fn of_tombstone(self) -> tombstone_req::options::ExpectedStreamRevision {
        use tombstone_req::options::ExpectedStreamRevision as Expected;
        match self {
            Self::Any => Expected::Any(Empty {}),
            Self::NoStream => Expected::NoStream(Empty {}),
            Self::Exists => Expected::StreamExists(Empty {}),
            Self::At(revision) => Expected::Revision(revision),
        }
    }
}

pub fn with_token<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let header = format!("Bearer {token}").parse().expect("plain text");
        request.metadata_mut().insert("authorization", header);
    }
    request
}

pub fn wire(id: Uuid) -> WireUuid {
    WireUuid { value: Some(spelling::Value::String(id.to_string())) }
}

pub fn name(stream: &str) -> StreamIdentifier {
    StreamIdentifier { stream_name: stream.as_bytes().to_vec().into() }
}

#[track_caller]
pub fn success(answer: AppendResp) -> (u64, u64) {
    use append_resp::success::{CurrentRevisionOption, PositionOption};
    let Some(append_resp::Result::Success(success)) = answer.result else { panic!("{answer:?}") };
    let Some(CurrentRevisionOption::CurrentRevision(revision)) = success.current_revision_option else {
        panic!("{success:?}")
    };
    let Some(PositionOption::Position(position)) = success.position_option else { panic!("{success:?}") };
    assert_eq!(position.commit_position, position.prepare_position);
    (revision, position.commit_position)
}

fn uuids() -> Option<UuidOption> {
    Some(UuidOption { content: Some(uuid_option::Content::String(Empty {})) })
}

pub fn stream_options(
    stream: &str,
    begin: Begin,
    direction: ReadDirection,
    count: CountOption,
) -> read_req::Options {
    use stream_options::RevisionOption;
    let from = match begin {
        Begin::Start => RevisionOption::Start(Empty {}),
        Begin::End => RevisionOption::End(Empty {}),
        Begin::At(revision) => RevisionOption::Revision(revision),
    };
    read_req::Options {
        stream_option: Some(StreamOption::Stream(StreamOptions {
            stream_identifier: Some(name(stream)),
            revision_option: Some(from),
        })),
        read_direction: direction.into(),
        count_option: Some(count),
        filter_option: Some(FilterOption::NoFilter(Empty {})),
        uuid_option: uuids(),
        ..read_req::Options::default()
    }
}

pub fn all_options(
    begin: Begin,
    direction: ReadDirection,
    count: CountOption,
    filter: Option<FilterOptions>,
) -> read_req::Options {
    use all_options::AllOption;
    let position = |at| read_req::options::Position { commit_position: at, prepare_position: at };
    let from = match begin {
        Begin::Start => AllOption::Start(Empty {}),
        Begin::End => AllOption::End(Empty {}),
        Begin::At(at) => AllOption::Position(position(at)),
    };
    read_req::Options {
        stream_option: Some(StreamOption::All(AllOptions { all_option: Some(from) })),
        read_direction: direction.into(),
        count_option: Some(count),
        filter_option: Some(match filter {
            Some(filter) => FilterOption::Filter(filter),
            None => FilterOption::NoFilter(Empty {}),
        }),
        uuid_option: uuids(),
        ..read_req::Options::default()
    }
}

pub fn following() -> CountOption {
    CountOption::Subscription(SubscriptionOptions {})
}

/// A filter with a window of this many events.
pub fn filter(of_stream: bool, regex: &str, prefixes: &[&str], window: u32) -> FilterOptions {
    let expression = filter_options::Expression {
        regex: regex.into(),
        prefix: prefixes.iter().map(ToString::to_string).collect(),
    };
    FilterOptions {
        filter: Some(if of_stream {
            filter_options::Filter::StreamIdentifier(expression)
        } else {
            filter_options::Filter::EventType(expression)
        }),
        window: Some(filter_options::Window::Max(window)),
        checkpoint_interval_multiplier: 1,
    }
}

pub fn seen(contents: Vec<Content>) -> Vec<Seen> {
    let event = |content| match content {
        Content::Event(event) => event.event,
        _ => None,
    };
    contents.into_iter().filter_map(event).collect()
}

pub fn types(events: &[Seen]) -> Vec<String> {
    events.iter().map(|event| value(event, "type")).collect()
}

pub fn revisions(events: &[Seen]) -> Vec<u64> {
    events.iter().map(|event| event.stream_revision).collect()
}

/// What the protocol's own metadata say of an event.
#[track_caller]
pub fn value(event: &Seen, key: &str) -> String {
    let entry = event.metadata.iter().find(|entry| &*entry.key == key.as_bytes()).expect("the key is there");
    String::from_utf8(entry.value.to_vec()).expect("text")
}

/// A trailer of a failure.
pub fn trailer<'a>(status: &'a Status, key: &str) -> Option<&'a str> {
    status.metadata().get(key).and_then(|value| value.to_str().ok())
}
