//! Calls of other machines that are over with an answer.

use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use zeroize::Zeroizing;

use crate::chain::Chain;
use crate::error::FollowError;
use crate::key::{Machine, MachineKey};
use crate::link::FollowLink;
use crate::state::now;
use crate::tls;
use crate::wire::{Answer, Call, Hidden, NOT_KNOWN, Refusal, UNKNOWN_KEY, receive, send};

/// How long an answer may take. Comparing logs reads much of them.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer about who took over may take, where it is tried again anyway.
const TELL_PATIENCE: Duration = Duration::from_secs(5);

/// What an invited machine gets.
#[derive(Clone)]
pub struct Paired {
    /// The brain's key.
    pub brain_key: Zeroizing<[u8; 32]>,
    /// The primary's key.
    pub key: MachineKey,
    /// What the primary is called.
    pub name: String,
    /// Where it is.
    pub addresses: Vec<String>,
    /// Its epoch.
    pub epoch: u64,
    /// The hash of the link.
    pub link: String,
}

/// A machine that was called.
pub(crate) struct Line {
    pub(crate) connection: Connection,
    pub(crate) to: SendStream,
    pub(crate) from: RecvStream,
    _endpoint: Endpoint,
}

impl Line {
    pub(crate) async fn to(machine: &Machine, key: MachineKey, addresses: &[String]) -> Result<Self, FollowError> {
        let (endpoint, connection) = tls::call(machine, key, addresses).await?;
        let (to, from) = connection.open_bi().await.map_err(FollowError::cut)?;
        Ok(Self { connection, to, from, _endpoint: endpoint })
    }

    pub(crate) async fn ask(&mut self, call: &Call) -> Result<Answer, FollowError> {
        self.ask_within(call, ANSWER_PATIENCE).await
    }

    async fn ask_within(&mut self, call: &Call, patience: Duration) -> Result<Answer, FollowError> {
        let asking = async {
            send(&mut self.to, call).await?;
            receive::<Answer>(&mut self.from).await
        };
        let answer = tokio::time::timeout(patience, asking).await.map_err(FollowError::cut)?;
        match answer.map_err(|error| self.why(error))? {
            Answer::Refused { reason, message } => Err(refusal(reason, message)),
            answer => Ok(answer),
        }
    }
}

impl Line {
    /// Why nothing was answered: the error, unless the other side has said something more.
    fn why(&self, error: FollowError) -> FollowError {
        match self.connection.close_reason() {
            Some(ConnectionError::ApplicationClosed(closed)) if closed.error_code == UNKNOWN_KEY.into() => {
                FollowError::Refused(NOT_KNOWN.to_owned())
            }
            _ => error,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.connection.close(0_u32.into(), b"");
    }
}

/// What a refusal comes to. The position up to which the log goes that is refused is not known here.
pub(crate) fn refusal(reason: Refusal, message: String) -> FollowError {
    match reason {
        Refusal::Diverged => FollowError::Diverged { position: 0 },
        Refusal::Unknown | Refusal::Replaced | Refusal::Unsound => FollowError::Refused(message),
    }
}

/// Uses an invitation.
///
/// # Errors
/// When the link has expired or was used, or the primary cannot be reached.
pub async fn pair(machine: &Machine, link: &FollowLink, name: &str) -> Result<Paired, FollowError> {
    if link.expires_at <= now() {
        return Err(FollowError::Expired);
    }
    let mut line = Line::to(machine, link.key, &link.addresses).await?;
    let call = Call::Pair { secret: Hidden::of(&link.secret[..]), name: name.to_owned() };
    let Answer::Paired { brain_key, epoch, name } = line.ask(&call).await? else {
        return Err(FollowError::Unsound("another answer"));
    };
    let brain_key = brain_key.bytes().ok_or(FollowError::Unsound("no key of a brain"))?;
    Ok(Paired { brain_key, key: link.key, name, addresses: link.addresses.clone(), epoch, link: link.hash() })
}

/// Tells a machine that a node with this epoch is the primary now. Gives the epoch that the machine knows then.
///
/// # Errors
/// When it cannot be reached, or does not know this one.
pub(crate) async fn fence(
    machine: &Machine,
    key: MachineKey,
    addresses: &[String],
    epoch: u64,
    name: &str,
) -> Result<u64, FollowError> {
    let mut line = Line::to(machine, key, addresses).await?;
    match line.ask_within(&Call::Replace { epoch, name: name.to_owned() }, TELL_PATIENCE).await? {
        Answer::Replaced { .. } => Ok(epoch),
        Answer::Epoch { epoch, .. } => Ok(epoch),
        _ => Err(FollowError::Unsound("another answer")),
    }
}

/// Asks a machine for its epoch, and what it is called.
pub(crate) async fn ask(
    machine: &Machine,
    key: MachineKey,
    addresses: &[String],
    epoch: u64,
) -> Result<(u64, String), FollowError> {
    let mut line = Line::to(machine, key, addresses).await?;
    match line.ask_within(&Call::Ask { epoch }, TELL_PATIENCE).await? {
        Answer::Epoch { epoch, name } => Ok((epoch, name)),
        _ => Err(FollowError::Unsound("another answer")),
    }
}

/// Asks for hashes of the primary's log: how far it goes, and the hash at every so many positions after one.
pub(crate) async fn marks(line: &mut Line, after: u64, step: u64) -> Result<(u64, Vec<Chain>), FollowError> {
    match line.ask(&Call::Marks { after, step }).await? {
        Answer::Marks { head, hashes } => Ok((head, hashes)),
        _ => Err(FollowError::Unsound("another answer")),
    }
}
