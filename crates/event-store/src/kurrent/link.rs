//! The connection to the server, and what can go wrong on it.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use eventstore::{
    AppendToStreamOptions, BatchAppendClient, BatchAppendOptions, Client, ClientSettings, Error, ExpectedRevision,
    ReadStreamOptions, StreamPosition, SubscribeToStreamOptions, Subscription,
};
use uuid::Uuid;

use super::keeper::BATCH_BYTES;
use super::record::{Foreign, Outgoing, Record};
use crate::port::StoreError;
use crate::sqlite::failure::{corrupt, unavailable};

/// How long one call may take: longer than a cluster takes to answer under load, shorter than people wait.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The most records read at once.
const READ_RECORDS: usize = 2_048;
/// The bytes of data and metadata after which no more is read at once.
const READ_BYTES: usize = 8 * 1024 * 1024;
/// How the names of the streams begin that hold logs.
const STREAM_PREFIX: &str = "cairn-";
/// The schemes of connection strings today, and what this client knows them as.
const SCHEMES: [(&str, &str); 4] = [
    ("kurrentdb+discover://", "esdb+discover://"),
    ("kurrentdb://", "esdb://"),
    ("kdb+discover://", "esdb+discover://"),
    ("kdb://", "esdb://"),
];
/// gRPC's numbers for what the client gives no names of its own.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Where a KurrentDB server is, and who calls it.
#[derive(Clone)]
pub struct Server {
    settings: Arc<ClientSettings>,
    prefix: String,
}

/// A connection string that is of no use. It is not shown, because it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum InvalidServer {
    /// It cannot be understood.
    #[error("it is no connection string of KurrentDB, such as kurrentdb://user:password@host:2113?tls=true")]
    Unknown,
    /// A certificate or key that it names cannot be read.
    #[error("{path}, which it names for TLS, cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Server {
    /// Reads a connection string.
    ///
    /// # Errors
    /// [`InvalidServer`] where it is none, or names files that are not there.
    pub fn parse(url: &str) -> Result<Self, InvalidServer> {
        let known = SCHEMES.iter().find_map(|(scheme, known)| Some((known, url.strip_prefix(scheme)?)));
        let url = known.map_or_else(|| url.to_owned(), |(known, rest)| format!("{known}{rest}"));
        let settings: ClientSettings = url.parse().map_err(|_| InvalidServer::Unknown)?;
        // The client opens them when it connects, and panics where it cannot.
        let identity = settings.user_certificate().map(|(certificate, key)| [certificate, key]);
        for path in settings.tls_ca_file().into_iter().chain(identity.into_iter().flatten()) {
            File::open(path).map_err(|source| InvalidServer::File { path: path.into(), source })?;
        }
        Ok(Self { settings: Arc::new(settings), prefix: STREAM_PREFIX.to_owned() })
    }

    /// Lets the names of streams begin with something else, so that tests on one server do not meet.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn with_prefix(self, prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..self }
    }
}

/// A password does not belong into logs.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(self.settings.hosts()).finish()
    }
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The stream is at another revision.
    #[error("others have appended to it")]
    Overtaken,
    /// The server takes no append of this size.
    #[error("it takes no append as large as this")]
    TooLarge,
    /// The server does not let the caller do this.
    #[error("it refuses the credentials; see the user and password in its URL, and the rights on the stream")]
    Denied,
    /// The stream was deleted for good.
    #[error("its stream was deleted")]
    Deleted,
    /// What the server gave was not written by Cairn.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// The server does not do this at all.
    #[error("it refused the call: {0}")]
    Refused(String),
    /// There was no answer. What was asked for may have been done.
    #[error("it does not answer: {0}")]
    Lost(String),
}

impl LinkError {
    /// What it means to the callers of the port.
    pub(super) fn store(&self) -> StoreError {
        match self {
            Self::Overtaken | Self::TooLarge | Self::Denied | Self::Refused(_) | Self::Lost(_) => {
                unavailable(format!("KurrentDB: {self}"))
            }
            Self::Deleted | Self::Foreign(_) => {
                corrupt(format!("KurrentDB: {self}; restore a backup of the server"))
            }
        }
    }
}

/// Records that follow one another.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub(super) records: Vec<Record>,
    /// Whether there are more behind them, as far as it was told.
    pub(super) is_cut: bool,
}

/// A connection to one brain's stream.
pub(super) struct Link {
    server: Server,
    brain: Uuid,
    stream: String,
    client: Option<Client>,
    /// A call that takes one append after the other.
    session: Option<BatchAppendClient>,
}

impl Link {
    pub(super) fn new(server: Server, brain: Uuid) -> Self {
        let stream = format!("{}{}", server.prefix, brain.simple());
        Self { server, brain, stream, client: None, session: None }
    }

    /// The name of the stream.
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    /// Begins the stream, which must not exist yet.
    pub(super) async fn begin(&mut self, first: &Outgoing) -> Result<(), LinkError> {
        self.append_alone(ExpectedRevision::NoStream, std::slice::from_ref(first)).await
    }

    /// Appends at exactly this revision, all or nothing.
    pub(super) async fn append(&mut self, at: u64, records: &[Outgoing]) -> Result<(), LinkError> {
        let expected = ExpectedRevision::Exact(at);
        // A message has a limit of its own, which one of a session's would meet first.
        match records.iter().map(Outgoing::size).sum::<usize>() > BATCH_BYTES {
            true => self.append_alone(expected, records).await,
            false => self.append_in_session(expected, records).await,
        }
    }

    /// Appends by the call that is open. The head of a call leaves before its content, which the client then holds back until
    /// the server has acknowledged the head, by default after 40 ms. Within a call there is no such head.
    async fn append_in_session(
        &mut self,
        expected: ExpectedRevision,
        records: &[Outgoing],
    ) -> Result<(), LinkError> {
        if self.session.is_none() {
            let (client, options) = (self.client()?, BatchAppendOptions::default().requires_leader(true));
            let opened = in_time(client.batch_append(&options)).await;
            self.session = Some(opened.map_err(|error| self.failed(error))?);
        }
        let Some(session) = &self.session else { return Err(LinkError::Lost("the call was not opened".into())) };
        let events = records.iter().map(Outgoing::data).collect();
        let appended = in_time(session.append_to_stream(&self.stream, expected, events)).await;
        appended.map(drop).map_err(|error| {
            // The client ends the call at every failure.
            self.session = None;
            self.failed(error)
        })
    }

    async fn append_alone(&mut self, expected: ExpectedRevision, records: &[Outgoing]) -> Result<(), LinkError> {
        let options = AppendToStreamOptions::default()
            .expected_revision(expected)
            .requires_leader(true)
            .deadline(CALL_TIMEOUT);
        let events: Vec<_> = records.iter().map(Outgoing::data).collect();
        let (client, stream) = (self.client()?, self.stream.clone());
        let appended = in_time(async move { client.append_to_stream(stream, &options, events).await }).await;
        appended.map(drop).map_err(|error| self.failed(error))
    }

    /// Reads forwards, at most [`READ_RECORDS`] or [`READ_BYTES`]. Empty where there is nothing.
    pub(super) async fn read(&mut self, from: u64) -> Result<Stretch, LinkError> {
        self.stretch(StreamPosition::Position(from), READ_RECORDS).await
    }

    /// The record at a revision.
    pub(super) async fn at(&mut self, revision: u64) -> Result<Option<Record>, LinkError> {
        Ok(self.stretch(StreamPosition::Position(revision), 1).await?.records.pop())
    }

    /// The last record.
    pub(super) async fn last(&mut self) -> Result<Option<Record>, LinkError> {
        Ok(self.stretch(StreamPosition::End, 1).await?.records.pop())
    }

    async fn stretch(&mut self, from: StreamPosition<u64>, count: usize) -> Result<Stretch, LinkError> {
        let options = ReadStreamOptions::default().position(from).max_count(count).requires_leader(true);
        let (client, stream) = (self.client()?, self.stream.clone());
        let mut reading = match in_time(async move { client.read_stream(stream, &options).await }).await {
            Ok(reading) => reading,
            Err(Error::ResourceNotFound) => return Ok(Stretch::default()),
            Err(error) => return Err(self.failed(error)),
        };
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < READ_BYTES {
            match in_time(reading.next()).await {
                Ok(Some(event)) => {
                    let event = event.get_original_event();
                    bytes += event.data.len() + event.custom_metadata.len();
                    records.push(Record::read(self.brain, event)?);
                }
                Ok(None) | Err(Error::ResourceNotFound) => {
                    let is_cut = records.len() == count;
                    return Ok(Stretch { records, is_cut });
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(Stretch { records, is_cut: true })
    }

    /// What is appended after this revision, from now on and without end.
    pub(super) async fn subscribe(&mut self, after: u64) -> Result<Following, LinkError> {
        let options = SubscribeToStreamOptions::default().start_from(StreamPosition::Position(after));
        let subscription = self.client()?.subscribe_to_stream(self.stream.clone(), &options).await;
        Ok(Following { subscription, brain: self.brain })
    }

    /// Takes note of why a subscription ended.
    pub(super) fn failed(&mut self, error: Error) -> LinkError {
        let several = self.server.settings.is_dns_discovery_enabled() || self.server.settings.hosts().len() > 1;
        match error {
            // It has been told where the leader is, and goes there by itself.
            Error::NotLeaderException(_) => {}
            Error::ConnectionClosed | Error::GrpcConnectionError(_) => self.client = None,
            // With one host it connects again by itself; of several it goes on asking the one that is gone.
            _ if several && is_lost(&error) => self.client = None,
            _ => {}
        }
        explain(error)
    }

    fn client(&mut self) -> Result<Client, LinkError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = Client::new((*self.server.settings).clone()).map_err(explain)?;
        Ok(self.client.insert(client).clone())
    }
}

/// A subscription.
pub(super) struct Following {
    subscription: Subscription,
    brain: Uuid,
}

impl Following {
    /// The next record. Must be awaited to its end: what is dropped on the way is lost.
    pub(super) async fn next(&mut self) -> Result<Result<Record, Foreign>, Error> {
        let event = self.subscription.next().await?;
        Ok(Record::read(self.brain, event.get_original_event()))
    }
}

async fn in_time<T>(call: impl Future<Output = eventstore::Result<T>>) -> eventstore::Result<T> {
    tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or(Err(Error::DeadlineExceeded))
}

fn is_lost(error: &Error) -> bool {
    match error {
        Error::ServerError(_) | Error::DeadlineExceeded | Error::InternalClientError => true,
        Error::Grpc { code, .. } => matches!(*code as i32, code::DEADLINE_EXCEEDED | code::UNAVAILABLE),
        _ => false,
    }
}

fn explain(error: Error) -> LinkError {
    match error {
        Error::WrongExpectedVersion { .. } => LinkError::Overtaken,
        Error::AccessDenied => LinkError::Denied,
        Error::ResourceDeleted => LinkError::Deleted,
        Error::Grpc { code, message } => by_code(code as i32, message),
        error @ (Error::ResourceAlreadyExists
        | Error::ResourceNotFound
        | Error::UnsupportedFeature
        | Error::InternalParsingError(_)
        | Error::InitializationError(_)
        | Error::IllegalStateError(_)) => LinkError::Refused(error.to_string()),
        Error::ConnectionClosed => LinkError::Lost("the connection could not be made".into()),
        Error::NotLeaderException(leader) => {
            LinkError::Lost(format!("the leader is now {}:{}", leader.host, leader.port))
        }
        error @ (Error::ServerError(_)
        | Error::GrpcConnectionError(_)
        | Error::InternalClientError
        | Error::DeadlineExceeded) => LinkError::Lost(error.to_string()),
    }
}

fn by_code(code: i32, message: String) -> LinkError {
    match code {
        // The status has no number of its own for it, and the client drops what tells.
        code::INVALID_ARGUMENT if message.to_ascii_lowercase().contains("append size") => LinkError::TooLarge,
        code::INVALID_ARGUMENT => LinkError::Refused(message),
        code::PERMISSION_DENIED | code::UNAUTHENTICATED => LinkError::Denied,
        // A stream that was deleted says the same, and reading on tells.
        code::FAILED_PRECONDITION => LinkError::Overtaken,
        _ => LinkError::Lost(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_of_all_names_are_understood() {
        for url in
            ["kurrentdb://u:secret@host:2113?tls=false", "kdb://host", "esdb+discover://host:1", "esdb://a:1,b:2"]
        {
            assert!(Server::parse(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_there_is_told_of_at_once() {
        let missing = "kurrentdb://host:2113?tls=true&tlsCAFile=/nowhere/ca.pem";
        let error = Server::parse(missing).expect_err("it is not there");
        assert!(error.to_string().starts_with("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn a_password_is_never_shown() {
        let shown = format!("{:?}", Server::parse("kurrentdb://user:secret@host").expect("valid"));
        assert!(shown.contains("host") && !shown.contains("secret"), "{shown}");
        let refused = Server::parse("http://user:secret@host").expect_err("another scheme");
        assert!(!format!("{refused} {refused:?}").contains("secret"));
    }
}
