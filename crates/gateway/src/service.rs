//! The services, as the protocol names them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn_event_store::{Direction, ExpectedRevision, Position, Revision, SharedStore};
use cairn_proto::event_store::client::Empty;
use cairn_proto::event_store::client::gossip::gossip_server::Gossip;
use cairn_proto::event_store::client::gossip::member_info::VNodeState;
use cairn_proto::event_store::client::gossip::{ClusterInfo, EndPoint, MemberInfo};
use cairn_proto::event_store::client::server_features::server_features_server::ServerFeatures;
use cairn_proto::event_store::client::server_features::{SupportedMethod, SupportedMethods};
use cairn_proto::event_store::client::streams::streams_server::Streams;
use cairn_proto::event_store::client::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq, ReadResp,
    TombstoneReq, TombstoneResp, append_req, append_resp, delete_req, delete_resp, tombstone_req, tombstone_resp,
};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::authority::{Authority, Caller, Credentials};
use crate::batch::Session;
use crate::envelope::Proposal;
use crate::failure::Failure;
use crate::follow::LogFollower;
use crate::ids::{self, Spelling};
use crate::names;
use crate::plan::{Extent, Plan, Source};
use crate::read::{LogReader, Lots, ReplyStream};
use crate::remove::Removal;
use crate::reply::{self, Replies};
use crate::write::{Append, Writer, Written};

/// The version that the gateway answers clients with: the oldest that has all that is served here.
pub const SERVER_VERSION: &str = "23.10.0";

/// What is served, as clients look it up: services and their methods in lower case.
const METHODS: [(&str, &[&str]); 3] = [
    ("event_store.client.streams.streams", &["read", "append", "delete", "tombstone", "batchappend"]),
    ("event_store.client.gossip.gossip", &["read"]),
    ("event_store.client.server_features.serverfeatures", &["getsupportedmethods"]),
];

/// How often it is asked whether the caller of a read may go on.
const ADMISSION_CHECK: Duration = Duration::from_secs(1);

/// What all calls share.
pub(crate) struct Core {
    pub(crate) store: SharedStore,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) writer: Writer,
    pub(crate) end: CancellationToken,
    pub(crate) instance: Uuid,
    pub(crate) advertised: (String, u16),
}

impl Core {
    pub(crate) fn admit(&self, credentials: Option<&Credentials>) -> Result<Arc<Caller>, Failure> {
        Ok(Arc::new(self.authority.admit(credentials)?))
    }

    fn admit_call<T>(&self, request: &Request<T>) -> Result<Arc<Caller>, Failure> {
        self.admit(Credentials::of(request.metadata())?.as_ref())
    }

    async fn read(&self, plan: Plan) -> Result<ReplyStream, Failure> {
        let store = || Arc::clone(&self.store);
        let replies = Replies::new(plan.spelling);
        match (plan.source, plan.extent) {
            (Source::All { from, filter }, Extent::Count(count)) => {
                Ok(LogReader::new(store(), (plan.direction, from), filter, count, replies).replies())
            }
            (Source::All { from, filter }, Extent::Following) => {
                Ok(LogFollower::new(store(), from, filter, replies, self.end.clone()).replies())
            }
            (Source::Stream { stream, from }, Extent::Count(count)) => {
                let tells_last = plan.tells_ends && plan.direction == Direction::Forwards;
                let reader =
                    self.writer.reader(&stream, (plan.direction, from), count, replies, tells_last).await?;
                Ok(match reader {
                    Some(reader) => reader.replies(),
                    None => stream::once(std::future::ready(Ok(reply::not_found(&stream)))).boxed(),
                })
            }
            (Source::Stream { stream, from }, Extent::Following) => {
                Ok(self.writer.follow(stream, from, plan.spelling, self.end.clone()).await?.replies())
            }
        }
    }

    async fn append(&self, request: Request<Streaming<AppendReq>>) -> Result<Written, Failure> {
        let caller = self.admit_call(&request)?;
        let mut messages = request.into_inner();
        let cut = |status: Status| Failure::Invalid(format!("the append was cut short: {}", status.message()));
        let options = match messages.message().await.map_err(cut)?.and_then(|message| message.content) {
            Some(append_req::Content::Options(options)) => options,
            _ => return Err(Failure::Invalid("the options come first".into())),
        };
        let expected = match options.expected_stream_revision {
            Some(append_req::options::ExpectedStreamRevision::Revision(revision)) => {
                ExpectedRevision::Exact(Revision(revision))
            }
            Some(append_req::options::ExpectedStreamRevision::NoStream(_)) => ExpectedRevision::NoStream,
            Some(append_req::options::ExpectedStreamRevision::StreamExists(_)) => ExpectedRevision::StreamExists,
            Some(append_req::options::ExpectedStreamRevision::Any(_)) | None => ExpectedRevision::Any,
        };
        let stream = names::parse(options.stream_identifier)?;
        let (mut append, mut bytes) = (Append { stream, expected, events: Vec::new() }, 0);
        while let Some(message) = messages.message().await.map_err(cut)? {
            let Some(append_req::Content::ProposedMessage(event)) = message.content else {
                return Err(Failure::Invalid("after the options come events".into()));
            };
            let event = Proposal::new(event.id.as_ref(), event.metadata, event.custom_metadata, event.data)?;
            append.push(event, &mut bytes)?;
        }
        let permitted = self.writer.permit(caller, append).await?;
        self.writer.append(permitted).await
    }
}

/// A read that ends once its caller is let in no longer: it may go on for ever, and must not outlive the token it began with.
struct Admitted {
    core: Arc<Core>,
    credentials: Option<Credentials>,
    replies: ReplyStream,
    checked: Instant,
}

impl Admitted {
    async fn next(&mut self) -> Option<Result<ReadResp, Status>> {
        loop {
            let reply = timeout_at(self.checked + ADMISSION_CHECK, self.replies.next()).await;
            if self.checked.elapsed() >= ADMISSION_CHECK {
                self.checked = Instant::now();
                if let Err(failure) = self.core.admit(self.credentials.as_ref()) {
                    self.replies = stream::empty().boxed();
                    return Some(Err(failure.into()));
                }
            }
            if let Ok(reply) = reply {
                return reply;
            }
        }
    }

    fn replies(self) -> ReplyStream {
        stream::unfold(self, |mut read| async move { read.next().await.map(|reply| (reply, read)) }).boxed()
    }
}

/// The services over what they share.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Streams for Service {
    type ReadStream = ReplyStream;
    type BatchAppendStream = BoxStream<'static, Result<BatchAppendResp, Status>>;

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        let credentials = Credentials::of(request.metadata()).map_err(Failure::from)?;
        self.0.admit(credentials.as_ref())?;
        let plan = Plan::parse(request.into_inner())?;
        let replies = self.0.read(plan).await?;
        let read = Admitted { core: Arc::clone(&self.0), credentials, replies, checked: Instant::now() };
        Ok(Response::new(read.replies()))
    }

    async fn append(&self, request: Request<Streaming<AppendReq>>) -> Result<Response<AppendResp>, Status> {
        let result = match self.0.append(request).await {
            Ok(written) => append_resp::Result::Success(appended(written)),
            Err(Failure::WrongExpectedVersion { expected, actual, .. }) => {
                append_resp::Result::WrongExpectedVersion(wrong_expected_version(expected, actual))
            }
            Err(failure) => return Err(failure.into()),
        };
        Ok(Response::new(AppendResp { result: Some(result) }))
    }

    async fn delete(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        use delete_req::options::ExpectedStreamRevision as Expected;
        let caller = self.0.admit_call(&request)?;
        let options = request.into_inner().options.unwrap_or_default();
        let expected = match options.expected_stream_revision {
            Some(Expected::Revision(revision)) => ExpectedRevision::Exact(Revision(revision)),
            Some(Expected::NoStream(_)) => ExpectedRevision::NoStream,
            Some(Expected::StreamExists(_)) => ExpectedRevision::StreamExists,
            Some(Expected::Any(_)) | None => ExpectedRevision::Any,
        };
        let stream = names::parse(options.stream_identifier)?;
        let position = self.0.writer.remove(&caller, Removal::Delete, &stream, expected).await?;
        let position_option = Some(match position {
            Some(Position(at)) => delete_resp::PositionOption::Position(delete_resp::Position {
                commit_position: at,
                prepare_position: at,
            }),
            None => delete_resp::PositionOption::NoPosition(Empty {}),
        });
        Ok(Response::new(DeleteResp { position_option }))
    }

    async fn tombstone(&self, request: Request<TombstoneReq>) -> Result<Response<TombstoneResp>, Status> {
        use tombstone_req::options::ExpectedStreamRevision as Expected;
        let caller = self.0.admit_call(&request)?;
        let options = request.into_inner().options.unwrap_or_default();
        let expected = match options.expected_stream_revision {
            Some(Expected::Revision(revision)) => ExpectedRevision::Exact(Revision(revision)),
            Some(Expected::NoStream(_)) => ExpectedRevision::NoStream,
            Some(Expected::StreamExists(_)) => ExpectedRevision::StreamExists,
            Some(Expected::Any(_)) | None => ExpectedRevision::Any,
        };
        let stream = names::parse(options.stream_identifier)?;
        let position = self.0.writer.remove(&caller, Removal::Tombstone, &stream, expected).await?;
        let position_option = Some(match position {
            Some(Position(at)) => tombstone_resp::PositionOption::Position(tombstone_resp::Position {
                commit_position: at,
                prepare_position: at,
            }),
            None => tombstone_resp::PositionOption::NoPosition(Empty {}),
        });
        Ok(Response::new(TombstoneResp { position_option }))
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        self.0.admit_call(&request)?;
        let credentials = Credentials::of(request.metadata()).map_err(Failure::from)?;
        let session = Session::begin(Arc::clone(&self.0), credentials, request.into_inner());
        Ok(Response::new(session.boxed()))
    }
}

/// A client asks this before it has shown who it is.
#[tonic::async_trait]
impl ServerFeatures for Service {
    async fn get_supported_methods(&self, _: Request<Empty>) -> Result<Response<SupportedMethods>, Status> {
        let method = |service: &str, method: &&str| SupportedMethod {
            method_name: (*method).to_owned(),
            service_name: service.to_owned(),
            features: Vec::new(),
        };
        let methods =
            METHODS.iter().flat_map(|(service, methods)| methods.iter().map(move |name| method(service, name)));
        Ok(Response::new(SupportedMethods {
            methods: methods.collect(),
            event_store_server_version: SERVER_VERSION.to_owned(),
        }))
    }
}

/// A client asks this before it has shown who it is.
#[tonic::async_trait]
impl Gossip for Service {
    async fn read(&self, _: Request<Empty>) -> Result<Response<ClusterInfo>, Status> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (address, port) = &self.0.advertised;
        let state = if self.0.end.is_cancelled() { VNodeState::ShuttingDown } else { VNodeState::Leader };
        let member = MemberInfo {
            instance_id: Some(ids::write(self.0.instance, Spelling::Text)),
            time_stamp: seconds.cast_signed(),
            state: state.into(),
            is_alive: true,
            http_end_point: Some(EndPoint { address: address.clone(), port: u32::from(*port) }),
        };
        Ok(Response::new(ClusterInfo { members: vec![member] }))
    }
}

fn appended(written: Written) -> append_resp::Success {
    use append_resp::success::{CurrentRevisionOption as Current, PositionOption};
    append_resp::Success {
        current_revision_option: Some(match written.revision {
            Some(revision) => Current::CurrentRevision(revision.0),
            None => Current::NoStream(Empty {}),
        }),
        position_option: Some(match written.position {
            Some(Position(at)) => {
                PositionOption::Position(append_resp::Position { commit_position: at, prepare_position: at })
            }
            None => PositionOption::NoPosition(Empty {}),
        }),
    }
}

fn wrong_expected_version(
    expected: ExpectedRevision,
    actual: Option<Revision>,
) -> append_resp::WrongExpectedVersion {
    use append_resp::wrong_expected_version::{
        CurrentRevisionOption as Current, CurrentRevisionOption2060 as OldCurrent,
        ExpectedRevisionOption as Expected, ExpectedRevisionOption2060 as OldExpected,
    };
    append_resp::WrongExpectedVersion {
        current_revision_option: Some(match actual {
            Some(revision) => Current::CurrentRevision(revision.0),
            None => Current::CurrentNoStream(Empty {}),
        }),
        current_revision_option_20_6_0: Some(match actual {
            Some(revision) => OldCurrent::CurrentRevision2060(revision.0),
            None => OldCurrent::NoStream2060(Empty {}),
        }),
        expected_revision_option: Some(match expected {
            ExpectedRevision::Exact(revision) => Expected::ExpectedRevision(revision.0),
            ExpectedRevision::Any => Expected::ExpectedAny(Empty {}),
            ExpectedRevision::StreamExists => Expected::ExpectedStreamExists(Empty {}),
            ExpectedRevision::NoStream => Expected::ExpectedNoStream(Empty {}),
        }),
        // The old fields had no word for "no stream".
        expected_revision_option_20_6_0: match expected {
            ExpectedRevision::Exact(revision) => Some(OldExpected::ExpectedRevision2060(revision.0)),
            ExpectedRevision::Any => Some(OldExpected::Any2060(Empty {})),
            ExpectedRevision::StreamExists => Some(OldExpected::StreamExists2060(Empty {})),
            ExpectedRevision::NoStream => None,
        },
    }
}
