//! One connection of a machine that calls.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Incoming, RecvStream, SendStream};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::Shared;
use super::sending::Sending;
use crate::chain::{Mark, walk};
use crate::error::FollowError;
use crate::key::MachineKey;
use crate::tls;
use crate::wire::{Answer, Call, Hidden, MAX_MARKS, NOT_KNOWN, Refusal, UNKNOWN_KEY, receive, send};
use cairn_event_store::EventStore;

/// How long one who has called gets to say what it wants.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// How long a machine may take between two questions.
const NEXT_WORD: Duration = Duration::from_secs(60);

/// Answers one machine until it goes.
pub(super) async fn run(shared: &Arc<Shared>, incoming: Incoming) -> Result<(), FollowError> {
    let connection = tokio::time::timeout(FIRST_WORD, incoming).await.map_err(FollowError::cut)?;
    let connection = connection.map_err(FollowError::cut)?;
    let key = tls::peer(&connection).ok_or(FollowError::Unsound("no key"))?;
    if !shared.knows(key) && !shared.roster.awaits_somebody() {
        connection.close(UNKNOWN_KEY.into(), b"unknown key");
        return Err(FollowError::Unsound("a key that nobody knows, while nobody is invited"));
    }
    let done = tokio::select! {
        done = converse(shared, &connection, key) => done,
        () = shared.stop.cancelled() => return Ok(()),
    };
    // What was said last gets its time to arrive: the other side hangs up.
    let _ = tokio::time::timeout(FIRST_WORD, connection.closed()).await;
    connection.close(0_u32.into(), b"");
    done
}

async fn converse(shared: &Arc<Shared>, connection: &Connection, key: MachineKey) -> Result<(), FollowError> {
    let (to, mut from) = tokio::time::timeout(FIRST_WORD, connection.accept_bi())
        .await
        .map_err(FollowError::cut)?
        .map_err(FollowError::cut)?;
    let to = Arc::new(Mutex::new(to));
    let mut patience = FIRST_WORD;
    loop {
        let call =
            tokio::time::timeout(patience, receive::<Call>(&mut from)).await.map_err(FollowError::cut)??;
        patience = NEXT_WORD;
        if let Call::Follow { .. } = call {
            return follow(shared, connection, key, call, to, from).await;
        }
        let answer = one(shared, key, call).await?;
        let refused = matches!(answer, Answer::Refused { .. });
        send(&mut *to.lock().await, &answer).await?;
        if refused {
            return Ok(());
        }
    }
}

/// Answers what one answer suffices for.
async fn one(shared: &Arc<Shared>, key: MachineKey, call: Call) -> Result<Answer, FollowError> {
    let name = || shared.config.name.clone();
    if let Call::Pair { secret, name: theirs } = call {
        return pair(shared, key, &secret, &theirs);
    }
    if !shared.knows(key) {
        return Ok(refused(Refusal::Unknown, NOT_KNOWN));
    }
    Ok(match call {
        Call::Replace { epoch, name: by } => {
            shared.gate.replace(epoch, &by).await?;
            let own = shared.gate.state().epoch;
            if own == epoch {
                Answer::Replaced { head: shared.store.head().borrow().0 }
            } else {
                Answer::Epoch { epoch: own, name: name() }
            }
        }
        Call::Ask { epoch } => {
            // Who asks and knows of a later one says so with that.
            shared.gate.replace(epoch, "one of its followers").await?;
            Answer::Epoch { epoch: shared.gate.state().epoch, name: name() }
        }
        Call::Marks { after, step } => marks(shared, after, step).await?,
        Call::Pair { .. } | Call::Follow { .. } | Call::Have { .. } => refused(Refusal::Unsound, "not now"),
    })
}

fn pair(shared: &Shared, key: MachineKey, secret: &Hidden, name: &str) -> Result<Answer, FollowError> {
    let taken_in = match secret.bytes() {
        Some(shown) if shared.gate.replaced().is_none() => shared.roster.pair(&shown, key, name)?,
        Some(_) | None => false,
    };
    if !taken_in {
        return Ok(refused(
            Refusal::Unknown,
            "the link was used already, or has expired; `cairn follow invite` makes another",
        ));
    }
    info!(%key, name, "a machine follows from now on");
    shared.predecessor_knows(key);
    let brain_key = Hidden::of(&shared.config.brain_key[..]);
    Ok(Answer::Paired { brain_key, epoch: shared.gate.state().epoch, name: shared.config.name.clone() })
}

/// Hashes at every so many positions, beginning anew after one.
async fn marks(shared: &Shared, after: u64, step: u64) -> Result<Answer, FollowError> {
    let head = shared.store.head().borrow().0;
    let step = step.max(1);
    let to = head.min(after.saturating_add(step.saturating_mul(MAX_MARKS)));
    let mut hashes = Vec::new();
    let from = Mark { position: after, ..Mark::default() };
    let collect = |mark: Mark| {
        if (mark.position - after).is_multiple_of(step) {
            hashes.push(mark.chain);
        }
    };
    walk(&shared.store, from, to, collect).await?;
    Ok(Answer::Marks { head, hashes })
}

/// Sends the log to a follower until one of the two goes.
async fn follow(
    shared: &Arc<Shared>,
    connection: &Connection,
    key: MachineKey,
    call: Call,
    to: Arc<Mutex<SendStream>>,
    from: RecvStream,
) -> Result<(), FollowError> {
    let Call::Follow { brain, epoch, name, listen, at, slots } = call else {
        return Err(FollowError::Unsound("another call"));
    };
    let refuse = async |reason, message: &str| send(&mut *to.lock().await, &refused(reason, message)).await;
    if !shared.roster.knows(key) {
        return refuse(Refusal::Unknown, NOT_KNOWN).await;
    }
    if brain != shared.config.brain {
        return refuse(Refusal::Unsound, "this node has another brain").await;
    }
    if epoch > shared.gate.state().epoch {
        shared.gate.replace(epoch, &name).await?;
        return refuse(Refusal::Replaced, "this node was replaced by you").await;
    }
    if !is_beginning(shared, key, at).await? {
        warn!(%key, name, position = at.position, "a follower's log is not the beginning of this one");
        return refuse(Refusal::Diverged, "your log is not the beginning of this one").await;
    }
    let cut = shared.roster.connected(key, &name, listen, at)?;
    info!(%key, name, position = at.position, "a follower is connected");
    let head = shared.store.head().borrow().0;
    send(&mut *to.lock().await, &Answer::Following { epoch: shared.gate.state().epoch, head }).await?;
    let mut sending = Sending::new(Arc::clone(shared), connection.clone(), key, Arc::clone(&to), at, slots);
    let beat = sending.beaten();
    let ended = tokio::select! {
        ended = sending.run() => ended,
        ended = listen_to(shared, key, to, from, beat) => ended,
        () = cut.cancelled() => Ok(()),
    };
    shared.roster.disconnected(key, &cut);
    info!(%key, name, "a follower is gone");
    ended
}

/// Takes in how far a follower is.
async fn listen_to(
    shared: &Arc<Shared>,
    key: MachineKey,
    to: Arc<Mutex<SendStream>>,
    mut from: RecvStream,
    beat: tokio::sync::watch::Receiver<u64>,
) -> Result<(), FollowError> {
    loop {
        match receive::<Call>(&mut from).await? {
            Call::Have { position } => {
                if position > shared.store.head().borrow().0 {
                    return Err(FollowError::Unsound("it has more than there is"));
                }
                shared.roster.has(key, position);
                shared.gate.has(position, position >= *beat.borrow());
            }
            call @ (Call::Replace { .. } | Call::Ask { .. }) => {
                let answer = one(shared, key, call).await?;
                send(&mut *to.lock().await, &answer).await?;
            }
            Call::Pair { .. } | Call::Follow { .. } | Call::Marks { .. } => {
                return Err(FollowError::Unsound("not while it follows"));
            }
        }
    }
}

/// Whether what a follower has is the beginning of this log.
async fn is_beginning(shared: &Shared, key: MachineKey, at: Mark) -> Result<bool, FollowError> {
    if at.position > shared.store.head().borrow().0 {
        return Ok(false);
    }
    let known = shared.roster.had(key);
    let from = if known.position <= at.position { known } else { Mark::default() };
    Ok(walk(&shared.store, from, at.position, |_| {}).await? == at)
}

fn refused(reason: Refusal, message: &str) -> Answer {
    Answer::Refused { reason, message: message.to_owned() }
}
