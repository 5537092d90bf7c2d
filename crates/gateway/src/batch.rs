//! Many appends on one call, answered as they are made.
//!
//! A client sends batches in one or more messages each and tells them apart by correlation ids. They are appended in
//! the order in which they were completed, without waiting for each other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn_event_store::{ExpectedRevision, Revision};
use cairn_proto::event_store::client::streams::batch_append_req::options::{
    DeadlineOption, ExpectedStreamPosition,
};
use cairn_proto::event_store::client::streams::batch_append_req::{Options, ProposedMessage};
use cairn_proto::event_store::client::streams::batch_append_resp::success::{
    CurrentRevisionOption, PositionOption,
};
use cairn_proto::event_store::client::streams::batch_append_resp::{self, Success};
use cairn_proto::event_store::client::streams::{BatchAppendReq, BatchAppendResp};
use cairn_proto::event_store::client::{AllStreamPosition, StreamIdentifier};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt, stream};
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::authority::Credentials;
use crate::envelope::Proposal;
use crate::failure::Failure;
use crate::ids::{self, Spelling};
use crate::names;
use crate::service::Core;
use crate::write::{Append, Written};

/// The batches of a call that are appended at once. Further messages wait in the connection.
const MAX_RUNNING: usize = 512;
/// The batches of a call that may be incomplete at once.
const MAX_GATHERING: usize = 128;
/// The bytes that a call may hold at once, complete or not, before its messages have to wait.
const MAX_HELD_BYTES: usize = 32 * 1024 * 1024;
/// A deadline further away is none: some clients send a point in time where a length of time belongs.
const MAX_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// One call.
pub(crate) struct Session {
    core: Arc<Core>,
    credentials: Option<Credentials>,
    incoming: Streaming<BatchAppendReq>,
    state: State,
    gathering: HashMap<Uuid, Gathering>,
    running: FuturesUnordered<BoxFuture<'static, (BatchAppendResp, usize)>>,
    answers: VecDeque<BatchAppendResp>,
    held: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The client sends no more.
    Complete,
    /// The gateway takes no more.
    ShuttingDown,
}

/// A batch of which more messages may come.
enum Gathering {
    Good {
        batch: Batch,
        append: Append,
        bytes: usize,
    },
    /// Answered already; the rest of it is thrown away.
    Refused,
}

/// What an answer repeats.
struct Batch {
    correlation: Uuid,
    identifier: Option<StreamIdentifier>,
    expected: ExpectedRevision,
    deadline: Option<Duration>,
}

impl Session {
    pub(crate) fn begin(
        core: Arc<Core>,
        credentials: Option<Credentials>,
        incoming: Streaming<BatchAppendReq>,
    ) -> impl Stream<Item = Result<BatchAppendResp, Status>> + Send {
        let session = Self {
            core,
            credentials,
            incoming,
            state: State::Open,
            gathering: HashMap::new(),
            running: FuturesUnordered::new(),
            answers: VecDeque::new(),
            held: 0,
        };
        stream::try_unfold(session, |mut session| async move {
            Ok(session.next().await?.map(|answer| (answer, session)))
        })
    }

    async fn next(&mut self) -> Result<Option<BatchAppendResp>, Status> {
        let core = Arc::clone(&self.core);
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(Some(answer));
            }
            let takes =
                self.state == State::Open && self.running.len() < MAX_RUNNING && self.held < MAX_HELD_BYTES;
            tokio::select! {
                biased;
                Some((answer, bytes)) = self.running.next() => {
                    self.held -= bytes;
                    return Ok(Some(answer));
                }
                message = self.incoming.message(), if takes => match message? {
                    Some(message) => self.take(message).await,
                    None => self.state = State::Complete,
                },
                () = core.end.cancelled(), if self.state == State::Open => self.state = State::ShuttingDown,
                else => break,
            }
        }
        if self.state == State::ShuttingDown { Err(Failure::ShuttingDown.into()) } else { Ok(None) }
    }

    /// Takes a message in; whatever is wrong with it becomes an answer.
    async fn take(&mut self, message: BatchAppendReq) {
        let correlation = ids::parse(message.correlation_id.as_ref()).unwrap_or_default();
        let is_final = message.is_final;
        let mut gathering = match self.gathering.remove(&correlation) {
            Some(gathering) => gathering,
            None => self.open(correlation, message.options),
        };
        gathering = self.gather(gathering, message.proposed_messages);
        match gathering {
            Gathering::Good { batch, append, bytes } if is_final => self.run(batch, append, bytes).await,
            Gathering::Refused if is_final => {}
            unfinished => {
                self.gathering.insert(correlation, unfinished);
            }
        }
    }

    fn open(&mut self, correlation: Uuid, options: Option<Options>) -> Gathering {
        let full = self.gathering.len() >= MAX_GATHERING;
        let identifier = options.as_ref().and_then(|options| options.stream_identifier.clone());
        match options.map(|options| opened(correlation, options)) {
            Some(Ok((batch, append))) if !full => Gathering::Good { batch, append, bytes: 0 },
            Some(Ok((batch, _))) => {
                let reason = format!("more than {MAX_GATHERING} batches are incomplete");
                self.refuse(&batch, &Failure::Invalid(reason))
            }
            Some(Err(failure)) => self.refuse(&Batch::unknown(correlation, identifier), &failure),
            None => {
                let failure = Failure::Invalid("the first message of a batch must have options".into());
                self.refuse(&Batch::unknown(correlation, None), &failure)
            }
        }
    }

    fn gather(&mut self, gathering: Gathering, messages: Vec<ProposedMessage>) -> Gathering {
        let Gathering::Good { batch, mut append, mut bytes } = gathering else { return gathering };
        let before = bytes;
        for message in messages {
            let proposal =
                Proposal::new(message.id.as_ref(), message.metadata, message.custom_metadata, message.data);
            if let Err(failure) = proposal.and_then(|proposal| append.push(proposal, &mut bytes)) {
                self.held -= before;
                return self.refuse(&batch, &failure);
            }
        }
        self.held += bytes - before;
        Gathering::Good { batch, append, bytes }
    }

    fn refuse(&mut self, batch: &Batch, failure: &Failure) -> Gathering {
        self.answers.push_back(batch.answer(Err(failure)));
        Gathering::Refused
    }

    async fn run(&mut self, batch: Batch, append: Append, bytes: usize) {
        // Asked for each batch: a call may outlive the token it began with.
        let permitted = match self.core.admit(self.credentials.as_ref()) {
            // Past before it began: then nothing is appended for certain.
            Ok(_) if batch.deadline == Some(Duration::ZERO) => Err(Failure::Timeout),
            Ok(caller) => self.core.writer.permit(caller, append).await,
            Err(failure) => Err(failure),
        };
        let permitted = match permitted {
            Ok(permitted) => permitted,
            Err(failure) => {
                self.held -= bytes;
                self.answers.push_back(batch.answer(Err(&failure)));
                return;
            }
        };
        let core = Arc::clone(&self.core);
        let running = async move {
            let appending = core.writer.append(permitted);
            let written = match batch.deadline {
                Some(deadline) => match tokio::time::timeout(deadline, appending).await {
                    Ok(written) => written,
                    Err(_) => Err(Failure::Timeout),
                },
                None => appending.await,
            };
            (batch.answer(written.as_ref()), bytes)
        };
        self.running.push(running.boxed());
    }
}

impl Batch {
    fn unknown(correlation: Uuid, identifier: Option<StreamIdentifier>) -> Self {
        Self { correlation, identifier, expected: ExpectedRevision::Any, deadline: None }
    }

    fn answer(&self, written: Result<&Written, &Failure>) -> BatchAppendResp {
        use batch_append_resp::ExpectedStreamPosition as Expected;
        BatchAppendResp {
            correlation_id: Some(ids::write(self.correlation, Spelling::Text)),
            stream_identifier: self.identifier.clone(),
            expected_stream_position: Some(match self.expected {
                ExpectedRevision::Any => Expected::Any(()),
                ExpectedRevision::NoStream => Expected::NoStream(()),
                ExpectedRevision::StreamExists => Expected::StreamExists(()),
                ExpectedRevision::Exact(revision) => Expected::StreamPosition(revision.0),
            }),
            result: Some(match written {
                Ok(written) => batch_append_resp::Result::Success(success(written)),
                Err(failure) => batch_append_resp::Result::Error(failure.in_batch()),
            }),
        }
    }
}

fn opened(correlation: Uuid, options: Options) -> Result<(Batch, Append), Failure> {
    let identifier = options.stream_identifier;
    let stream = names::parse(identifier.clone())?;
    let expected = match options.expected_stream_position {
        Some(ExpectedStreamPosition::StreamPosition(revision)) => ExpectedRevision::Exact(Revision(revision)),
        Some(ExpectedStreamPosition::NoStream(())) => ExpectedRevision::NoStream,
        Some(ExpectedStreamPosition::StreamExists(())) => ExpectedRevision::StreamExists,
        Some(ExpectedStreamPosition::Any(())) | None => ExpectedRevision::Any,
    };
    let deadline = deadline(options.deadline_option);
    Ok((Batch { correlation, identifier, expected, deadline }, Append { stream, expected, events: Vec::new() }))
}

/// How long the batch may take. It was written either as a point in time or as a length of time, and some clients
/// write the point in time, since 1970, into the field of the length.
fn deadline(option: Option<DeadlineOption>) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let of = |seconds: i64, nanos: i32| {
        Duration::new(seconds.max(0).cast_unsigned(), u32::try_from(nanos).unwrap_or(0).min(999_999_999))
    };
    let left = match option? {
        DeadlineOption::Deadline21100(point) => of(point.seconds, point.nanos).saturating_sub(now),
        DeadlineOption::Deadline(length) => {
            let length = of(length.seconds, length.nanos);
            let is_point = length > MAX_DEADLINE && length < now + MAX_DEADLINE;
            if is_point { length.saturating_sub(now) } else { length }
        }
    };
    (left < MAX_DEADLINE).then_some(left)
}

fn success(written: &Written) -> Success {
    let position = |position: u64| AllStreamPosition { commit_position: position, prepare_position: position };
    Success {
        current_revision_option: Some(match written.revision {
            Some(revision) => CurrentRevisionOption::CurrentRevision(revision.0),
            None => CurrentRevisionOption::NoStream(()),
        }),
        position_option: Some(match written.position {
            Some(at) => PositionOption::Position(position(at.0)),
            None => PositionOption::NoPosition(()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_deadline_are_understood() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed();
        let length =
            |seconds| deadline(Some(DeadlineOption::Deadline(prost_types::Duration { seconds, nanos: 0 })));
        let point =
            |seconds| deadline(Some(DeadlineOption::Deadline21100(prost_types::Timestamp { seconds, nanos: 0 })));
        assert_eq!(deadline(None), None);
        assert_eq!(length(10), Some(Duration::from_secs(10)));
        assert_eq!(length(315_576_000_000), None, "the longest there is");
        assert_eq!(length(-1), Some(Duration::ZERO));
        let epoch = length(now + 10).expect("a deadline");
        assert!(epoch > Duration::from_secs(5) && epoch <= Duration::from_secs(10), "{epoch:?}");
        let point_left = point(now + 10).expect("a deadline");
        assert!(point_left > Duration::from_secs(5) && point_left <= Duration::from_secs(10), "{point_left:?}");
        assert_eq!(point(now - 10), Some(Duration::ZERO));
    }
}
