//! One connection to the primary.

use std::time::Duration;

use cairn_event_store::EventStore;
use cairn_event_store::sealed::ERASED_TYPE;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{Mutex, watch};
use tracing::{debug, info};

use super::calls::{Line, refusal};
use super::{Standby, StandbyConfig};
use crate::chain::Mark;
use crate::error::FollowError;
use crate::primary::is_sent;
use crate::state::{make_private, write_private};
use crate::wire::{Answer, Call, Events, MAX_SEGMENT_BYTES, Segment, SentFile, read_segment, receive, send};

impl Standby {
    /// Follows over one connection until it ends; or takes over, with an epoch, and ends when everything is here.
    pub(super) async fn session(&self, take_over: Option<u64>) -> Result<(), FollowError> {
        let (of, epoch, at) = {
            let held = self.held();
            (super::standby_of(&held.state)?.clone(), held.state.epoch, held.status.has)
        };
        let mut line = Line::to(&self.machine, of.key, &of.addresses).await?;
        let slots = self.keys.keyring().end_slot().await?;
        let StandbyConfig { brain, name, listen } = self.config.clone();
        let call = Call::Follow { brain, epoch, name, listen, at, slots };
        let answer = line.ask(&call).await.map_err(|error| match error {
            FollowError::Diverged { .. } => FollowError::Diverged { position: at.position },
            error => error,
        })?;
        let Answer::Following { epoch: theirs, head } = answer else {
            return Err(FollowError::Unsound("another answer"));
        };
        self.adopt_epoch(theirs)?;
        {
            let mut held = self.held();
            (held.status.connected, held.status.problem) = (true, None);
        }
        self.heard(head)?;
        info!(primary = of.name, position = at.position, head, "connected");
        let Line { connection, to, from, .. } = &mut line;
        let to = Mutex::new(to);
        if let Some(epoch) = take_over {
            send(&mut **to.lock().await, &Call::Replace { epoch, name: self.config.name.clone() }).await?;
        }
        let end = watch::channel(None).0;
        tokio::select! {
            ended = self.take_in(connection, &to) => ended,
            ended = self.listen_to(from, &to, &end) => ended,
            ended = self.reached(end.subscribe()) => ended,
        }
    }

    fn adopt_epoch(&self, epoch: u64) -> Result<(), FollowError> {
        let mut held = self.held();
        if held.state.epoch != epoch {
            held.state.epoch = epoch;
            held.status.epoch = epoch;
            self.folder.set_state(&held.state)?;
        }
        Ok(())
    }

    /// Ends when everything up to the end of a primary that was replaced is here.
    async fn reached(&self, mut end: watch::Receiver<Option<u64>>) -> Result<(), FollowError> {
        let end = end.wait_for(Option::is_some).await.map_err(FollowError::cut)?.unwrap_or_default();
        let mut head = self.store.head();
        head.wait_for(|head| head.0 >= end).await.map_err(FollowError::cut)?;
        // What is visible is durable, but noted only a moment later.
        while self.held().status.has.position < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.heard(end)
    }

    async fn listen_to(
        &self,
        from: &mut RecvStream,
        to: &Mutex<&mut SendStream>,
        end: &watch::Sender<Option<u64>>,
    ) -> Result<(), FollowError> {
        loop {
            match receive::<Answer>(from).await? {
                Answer::Beat { head, synchronous } => {
                    self.held().status.synchronous = synchronous;
                    self.heard(head)?;
                    self.say_what_it_has(to).await?;
                }
                Answer::Replaced { head } => {
                    self.heard(head)?;
                    end.send_replace(Some(head));
                }
                Answer::Refused { reason, message } => return Err(refusal(reason, message)),
                Answer::Epoch { epoch, .. } => {
                    return Err(FollowError::Refused(format!("the primary is at epoch {epoch} already")));
                }
                Answer::Paired { .. } | Answer::Following { .. } | Answer::Marks { .. } => {
                    return Err(FollowError::Unsound("not while it is followed"));
                }
            }
        }
    }

    async fn say_what_it_has(&self, to: &Mutex<&mut SendStream>) -> Result<(), FollowError> {
        let mut to = to.lock().await;
        // Under the lock, so that it never says less than before.
        let position = self.held().status.has.position;
        send(&mut to, &Call::Have { position }).await
    }

    async fn take_in(&self, connection: &Connection, to: &Mutex<&mut SendStream>) -> Result<(), FollowError> {
        loop {
            let mut stream = connection.accept_uni().await.map_err(FollowError::cut)?;
            let bytes = stream.read_to_end(MAX_SEGMENT_BYTES).await.map_err(|error| match error {
                quinn::ReadToEndError::TooLong => FollowError::Unsound("a segment that is too long"),
                quinn::ReadToEndError::Read(error) => FollowError::cut(error),
            })?;
            match read_segment(&bytes, self.config.brain)? {
                Segment::Events(events) => {
                    self.take_events(events).await?;
                    self.say_what_it_has(to).await?;
                }
                Segment::Keys(wrapped) => {
                    debug!(first = wrapped.first, end = wrapped.end, "keys");
                    self.keys.keyring().adopt(wrapped).await?;
                }
                Segment::File(file) => self.take_file(file).await?,
            }
        }
    }

    /// Writes events; when it returns they are on disk, and what they erase is erased.
    async fn take_events(&self, segment: Events) -> Result<(), FollowError> {
        let Events { after, chain, events, tracked } = segment;
        let has = self.held().status.has;
        if after != has {
            return Err(FollowError::Diverged { position: has.position });
        }
        let mark = Mark { position: after.position + events.len() as u64, chain };
        let erases = events.iter().any(|event| &*event.event_type == ERASED_TYPE);
        self.store.replicate(events, tracked.unwrap_or_default()).await?;
        if erases {
            self.keys.complete_erasures().await?;
        }
        self.has(mark);
        Ok(())
    }

    async fn take_file(&self, SentFile { name, content }: SentFile) -> Result<(), FollowError> {
        if !is_sent(&name) {
            return Err(FollowError::Unsound("a file that is none of a primary's business"));
        }
        let path = self.folder.data().join(&name);
        let write = move || {
            if let Some(folder) = path.parent() {
                make_private(folder)?;
            }
            write_private(&path, &content)
        };
        tokio::task::spawn_blocking(write).await.map_err(FollowError::cut)??;
        self.files.send_modify(|files| *files += 1);
        Ok(())
    }
}
